"""Rings: how items pass from one worker to others without a copy on the reading side.

Each replica of a stage owns one *channel*: a few slots in shared memory, each holding every tensor of one item that
later stages read. A tensor is written once however many stages read it. Item n is produced by replica n mod r of its
stage, in slot (n div r) mod slots, and read by replica n mod r' of each reading stage.

For every channel and reading replica a semaphore counts the slots *filled* for it; for every slot a semaphore counts
the reading stages that have left it *free*. So channels are bounded, and keep the order of items. They are also what
orders memory: what the producer (or its back end, into the slot) wrote before the post is seen after the wait, and what
a reader read before it left the slot was read before it is written again, on every processor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch

from mapper.execution.rings.memory import LINE_BYTES, Memory, Semaphore
from mapper.jsonio import Record
from mapper.program.model import TensorType

FEEDER_ID = -1
"""The process that feeds and collects, as producer or reader."""
HEADER_BYTES = LINE_BYTES
"""In front of each slot: the number of the item that it holds, and when its producer took it in."""

Wait = Callable[[Semaphore], None]
"""Waits for a semaphore, and raises when the run is over."""
Targets = Sequence[torch.Tensor | None]
"""Tensors of a slot that a back end may write into, None where it may not."""


class Field(Record):
    """A tensor in a slot, `offset` bytes after the slot's start."""

    name: str
    type: TensorType
    offset: int


class Reader(Record):
    """A stage that reads a channel: item n goes to its replica n mod `replicas`."""

    stage: int
    replicas: int
    fields: tuple[int, ...]


class Channel(Record):
    """What one replica of a stage hands to later stages, and where in the shared memory (bytes)."""

    stage: int
    replica: int
    replicas: int
    fields: tuple[Field, ...]
    readers: tuple[Reader, ...]
    slots: int
    slot_bytes: int
    base: int
    semaphores: int

    def start(self, slot: int) -> int:
        """Where `slot` begins in the shared memory."""
        return self.base + slot * self.slot_bytes

    def free(self, slot: int) -> int:
        """Where the semaphore is that counts the reading stages that have left `slot`."""
        return self.semaphores + slot * LINE_BYTES

    def filled(self, reader: int, replica: int) -> int:
        """Where the semaphore is that counts the slots filled for a replica of reader number `reader`."""
        before = sum(r.replicas for r in self.readers[:reader])
        return self.semaphores + (self.slots + before + replica) * LINE_BYTES

    @property
    def semaphore_count(self) -> int:
        """How many semaphores it needs."""
        return self.slots + sum(r.replicas for r in self.readers)

    def initialise(self, memory: Memory) -> None:
        """Sets up its semaphores: every slot free, none filled."""
        for slot in range(self.slots):
            memory.semaphore(self.free(slot)).initialise(len(self.readers))
        for i, reader in enumerate(self.readers):
            for replica in range(reader.replicas):
                memory.semaphore(self.filled(i, replica)).initialise(0)

    def wake(self, memory: Memory) -> None:
        """Posts every semaphore, so that whoever waits at one sees that the run is over."""
        for i in range(self.semaphore_count):
            memory.semaphore(self.semaphores + i * LINE_BYTES).post()


def slot_fields(tensors: Sequence[tuple[str, TensorType]]) -> tuple[tuple[Field, ...], int]:
    """Places `tensors` one after the other in a slot, each at a multiple of 64 bytes; the fields, and bytes a slot."""
    fields, offset = [], HEADER_BYTES
    for name, kind in tensors:
        fields.append(Field(name=name, type=kind, offset=offset))
        offset += kind.extent_bytes + -kind.extent_bytes % LINE_BYTES
    return tuple(fields), offset


class Producer:
    """The writing end of a channel: `acquire` a slot, let a back end write into its `targets`, `write`, `publish`."""

    def __init__(self, memory: Memory, channel: Channel, wait: Wait) -> None:
        self.channel = channel
        self._wait = wait
        self._memory, self._words = memory, memory.words
        self._replicas, self._slots, self._readers = channel.replicas, channel.slots, range(len(channel.readers))
        self._free = [memory.semaphore(channel.free(slot)) for slot in range(channel.slots)]
        self._filled = [
            [memory.semaphore(channel.filled(i, replica)) for replica in range(reader.replicas)]
            for i, reader in enumerate(channel.readers)
        ]
        self._headers = [channel.start(slot) // 8 for slot in range(channel.slots)]
        self._expanded = [_expanded(field.type) for field in channel.fields]
        self._views = [
            [_view(memory, field, channel.start(slot), distinct=True) for field in channel.fields]
            for slot in range(channel.slots)
        ]
        whole = [_dense(view) and not expanded for view, expanded in zip(self._views[0], self._expanded, strict=True)]
        self._targets: list[Targets] = [
            [view if one else None for view, one in zip(views, whole, strict=True)] for views in self._views
        ]

    def acquire(self, number: int) -> None:
        """Waits until every reading stage has left the slot of item `number`."""
        free = self._free[number // self._replicas % self._slots]
        for _ in self._readers:
            self._wait(free)

    def targets(self, number: int) -> Targets:
        """Where the tensors of item `number` belong, in the order of the channel's fields, to be written once the slot
        is acquired; None for those that only `write` can put there, as they do not lie row by row in one piece."""
        return self._targets[number // self._replicas % self._slots]

    @property
    def tensors(self) -> list[torch.Tensor]:
        """The targets of all slots: the same tensors each time."""
        return [target for targets in self._targets for target in targets if target is not None]

    def write(self, number: int, tensors: Sequence[torch.Tensor], taken_ns: int = 0) -> bool:
        """Puts `tensors`, in the order of the channel's fields, into the slot of item `number`: what is the slot's own
        target is there already, all else is copied. Whether anything was. `taken_ns` is when the item was taken in, for
        who asks when it was begun."""
        slot, copied = number // self._replicas % self._slots, False
        for view, tensor, expanded in zip(self._views[slot], tensors, self._expanded, strict=True):
            if tensor is view:
                continue
            for dimension in expanded:
                tensor = tensor.narrow(dimension, 0, 1)
            view.copy_(tensor)
            copied = True
        header = self._headers[slot]
        self._words[header], self._words[header + 1] = number, taken_ns
        return copied

    def publish(self, number: int) -> None:
        """Hands the slot of item `number` to its readers."""
        for replicas in self._filled:
            replicas[number % len(replicas)].post()

    def touch(self, tensors: Sequence[torch.Tensor]) -> None:
        """Writes `tensors` to every slot, so that its pages are there, on the node of this process where none was
        asked for, and huge where the kernel lets us. Before any reader runs.

        Huge pages: tensors of MBs are copied and read with far fewer misses of the TLB (3 MB in a virtual machine:
        read in 0.12 ms instead of 0.21, copied in 0.33 instead of 0.44); at 150 KB it makes no difference.
        """
        channel = self.channel
        for slot in range(channel.slots):
            self.write(slot * channel.replicas + channel.replica, tensors)
        self._memory.make_huge(channel.base, channel.slots * channel.slot_bytes)


class Consumer:
    """The reading end, for one replica of one reading stage, of the channels of all replicas of one producer.

    `fields` are the positions, among the channels' fields, of the tensors that `take` gives; `names` their names.
    """

    def __init__(self, memory: Memory, channels: Sequence[Channel], stage: int, replica: int, wait: Wait) -> None:
        self.channels = channels
        self._wait = wait
        self._words = memory.words
        self._ends = [_End(memory, channel, stage, replica) for channel in channels]
        self._replicas, self._slots = len(channels), channels[0].slots
        self.fields = self._ends[0].reader.fields
        self.names = [channels[0].fields[i].name for i in self.fields]

    @property
    def tensors(self) -> list[torch.Tensor]:
        """What `take` gives, of all slots: the same tensors each time."""
        return [view for end in self._ends for views in end.views for view in views]

    def ready(self, number: int) -> bool:
        """Whether item `number` is there; if so, the next `take` of it does not wait."""
        end = self._ends[number % self._replicas]
        end.taken = end.taken or end.filled.try_wait()
        return end.taken

    def wait(self, number: int) -> None:
        """Waits for item `number`; the next `take` of it does not."""
        end = self._ends[number % self._replicas]
        if not end.taken:
            self._wait(end.filled)
            end.taken = True

    def take(self, number: int) -> list[torch.Tensor]:
        """Waits for item `number` and gives its tensors: views of the slot, good until `release`."""
        end = self._ends[number % self._replicas]
        if not end.taken:
            self._wait(end.filled)
        end.taken = False
        slot = number // self._replicas % self._slots
        if (found := self._words[end.headers[slot]]) != number:
            raise RuntimeError(f"slot {slot} holds item {found} where {number} was expected")
        return end.views[slot]

    def taken_ns(self, number: int) -> int:
        """When the producer took item `number` in, by its word; asked between `take` and `release`."""
        end = self._ends[number % self._replicas]
        return self._words[end.headers[number // self._replicas % self._slots] + 1]

    def release(self, number: int) -> None:
        """Leaves the slot of item `number` to its producer."""
        self._ends[number % self._replicas].free[number // self._replicas % self._slots].post()


class _End:
    """What a consumer knows of one channel. `taken` says that its next item was waited for already."""

    def __init__(self, memory: Memory, channel: Channel, stage: int, replica: int) -> None:
        index = next(i for i, reader in enumerate(channel.readers) if reader.stage == stage)
        self.reader = channel.readers[index]
        self.filled = memory.semaphore(channel.filled(index, replica))
        self.taken = False
        self.free = [memory.semaphore(channel.free(slot)) for slot in range(channel.slots)]
        self.headers = [channel.start(slot) // 8 for slot in range(channel.slots)]
        self.views = [
            [_view(memory, channel.fields[i], channel.start(slot)) for i in self.reader.fields]
            for slot in range(channel.slots)
        ]


def _view(memory: Memory, field: Field, start: int, *, distinct: bool = False) -> torch.Tensor:
    """The tensor of `field` in the slot at `start`; with `distinct`, expanded dimensions have length 1 for writing."""
    kind, dtype = field.type, getattr(torch, field.type.dtype)
    shape = kind.distinct_shape if distinct else kind.shape
    if kind.elements == 0:
        return torch.empty_strided(shape, kind.strides, dtype=dtype)
    count = kind.extent_bytes // kind.item_bytes
    flat = torch.frombuffer(memory.map, dtype=dtype, count=count, offset=start + field.offset)
    return flat.as_strided(shape, kind.strides)


def _dense(view: torch.Tensor) -> bool:
    """Whether `view` has elements, one behind the other in the order of its dimensions."""
    return view.numel() > 0 and view.is_contiguous()


def _expanded(kind: TensorType) -> list[int]:
    """The dimensions that repeat what is there once."""
    return list(_repeats(kind)) if kind.elements else []


def _repeats(kind: TensorType) -> Iterator[int]:
    for dimension, (n, stride) in enumerate(zip(kind.shape, kind.strides, strict=True)):
        if stride == 0 and n > 1:
            yield dimension
