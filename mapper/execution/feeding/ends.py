"""The parent's ends of a run's rings: calls of the program go in here, and their outputs come out in the same order."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence

import torch

from mapper.backends.core import zeros
from mapper.execution.feeding.micro_batches import Tensors, split
from mapper.execution.rings.layout import Layout
from mapper.execution.rings.memory import Memory
from mapper.execution.rings.ring import FEEDER_ID, Consumer, Producer, Wait

KEPT_LATENCIES = 100_000


class Clock:
    """When an item was begun, in nanoseconds, 0 before: its first call was put in, or, with a single stage, taken by a
    worker, which is known when it is out. Its calls share one."""

    __slots__ = ("begun_ns",)

    def __init__(self) -> None:
        self.begun_ns = 0


class Call:
    """One call of the program: its tensors in the order of the inputs, and whether it is the `first` and the `last` of
    its item."""

    __slots__ = ("clock", "first", "last", "tensors")

    def __init__(self, tensors: Tensors, clock: Clock, first: bool, last: bool) -> None:
        self.tensors, self.clock, self.first, self.last = tensors, clock, first, last


def calls_of(item: Sequence[torch.Tensor], calls: int) -> list[Call]:
    """The `calls` calls that `item` comes to: one for each micro-batch."""
    clock = Clock()
    if calls == 1:
        return [Call(item, clock, True, True)]
    return [Call(part, clock, i == 0, i == calls - 1) for i, part in enumerate(split(item, calls))]


class Ends:
    """What puts calls in and takes outputs out. One thread at a time puts, one at a time takes.

    A call may be staged: it lies in its slot, and is handed on later. Who stages one while others are at work, and
    hands it on as soon as the oldest of these is done, before he takes its outputs out, keeps no worker waiting while
    he copies. With a single stage nothing needs to be staged: `ahead` calls beside the window wait for their workers.

    `homes` says for each output of the model which stage hands it out, and where among that stage's outputs it is.
    """

    def __init__(self, memory: Memory, layout: Layout, homes: Sequence[tuple[int, int]], wait: Wait) -> None:
        self._feed = Producer(memory, layout.written_by(FEEDER_ID, 0), wait)
        self._feed.touch([zeros(field.type) for field in self._feed.channel.fields])
        producers = layout.read_by(FEEDER_ID)
        self._collect = [Consumer(memory, channels, FEEDER_ID, 0, wait) for channels in producers]
        flat = [
            (channels[0].stage, field)
            for channels, consumer in zip(producers, self._collect, strict=True)
            for field in consumer.fields
        ]
        self._order = [flat.index(home) for home in homes]
        self.ahead = layout.ahead
        self._inside: deque[Call] = deque()
        self._staged: Call | None = None
        self._room = False  # the slot of the next call was waited for
        self.next_in = self.next_out = 0
        self.latencies_s: deque[float] = deque(maxlen=KEPT_LATENCIES)
        """Of the last items, from when each was begun (`Clock`) to when the outputs of its last call were taken out."""

    @property
    def in_flight(self) -> int:
        """How many calls have been put in and not taken out."""
        return self.next_in - self.next_out

    def inside(self) -> list[Call]:
        """The calls in flight, oldest first."""
        return list(self._inside)

    def ready(self) -> bool:
        """Whether the oldest call in flight is done, so that `get` does not wait."""
        if self.next_in == self.next_out:
            return False
        return all(consumer.ready(self.next_out) for consumer in self._collect)

    @property
    def staged(self) -> bool:
        """Whether a call lies in its slot and has not been handed on."""
        return self._staged is not None

    def put(self, call: Call) -> None:
        """Puts `call` in; its tensors may change afterwards. With no more in flight than the plan's window and what
        may be `ahead`, it does not wait."""
        self.stage(call)
        self.hand_on()

    def stage(self, call: Call) -> None:
        """Writes `call` into its slot; its tensors may change afterwards. None may be staged before. With no more in
        flight than the plan's window, it does not wait."""
        if not self._room:
            self._feed.acquire(self.next_in)
            self._room = True
        self._feed.write(self.next_in, call.tensors)
        call.tensors = ()
        self._staged = call

    def hand_on(self) -> None:
        """Puts in what is staged, if there is something."""
        call = self._staged
        if call is not None:
            call.clock.begun_ns = call.clock.begun_ns or time.monotonic_ns()
            self._inside.append(call)
            self._feed.publish(self.next_in)
            self._staged, self._room = None, False
            self.next_in += 1

    def unstage(self) -> None:
        """Drops what is staged."""
        self._staged = None

    def wait(self) -> None:
        """Waits for the oldest call in flight."""
        for consumer in self._collect:
            consumer.wait(self.next_out)

    def get(self, *, dropped: bool = False) -> Tensors:
        """Waits for the oldest call in flight, and takes its outputs out; the latency of what is `dropped` does not
        count."""
        number = self.next_out
        views = [view for consumer in self._collect for view in consumer.take(number)]
        outputs = tuple(views[i].clone() for i in self._order)
        taken_ns = self._collect[0].taken_ns(number)
        for consumer in self._collect:
            consumer.release(number)
        call = self._inside.popleft()
        if call.first and self.ahead:
            call.clock.begun_ns = taken_ns
        if call.last and not dropped:
            self.latencies_s.append((time.monotonic_ns() - call.clock.begun_ns) / 1e9)
        self.next_out += 1
        return outputs
