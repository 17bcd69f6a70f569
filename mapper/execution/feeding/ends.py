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
    """When the first call of an item was put in, in nanoseconds; its calls share one."""

    __slots__ = ("put_ns",)

    def __init__(self) -> None:
        self.put_ns = 0


class Call:
    """One call of the program: its tensors in the order of the inputs, and whether it is the `last` of its item."""

    __slots__ = ("clock", "last", "tensors")

    def __init__(self, tensors: Tensors, clock: Clock, last: bool) -> None:
        self.tensors, self.clock, self.last = tensors, clock, last


def calls_of(item: Sequence[torch.Tensor], calls: int) -> list[Call]:
    """The `calls` calls that `item` comes to: one for each micro-batch."""
    clock = Clock()
    if calls == 1:
        return [Call(item, clock, True)]
    parts = list(split(item, calls))
    return [Call(part, clock, i == calls - 1) for i, part in enumerate(parts)]


class Ends:
    """What puts calls in and takes outputs out. One thread at a time puts, one at a time takes.

    A call may be staged: it lies in its slot, and is handed on later. Who stages one while others are at work, and
    hands it on as soon as the oldest of these is done, before he takes its outputs out, keeps no worker waiting while
    he copies.

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
        self._inside: deque[Call] = deque()
        self._staged: Call | None = None
        self._room = False  # the slot of the next call was waited for
        self.next_in = self.next_out = 0
        self.latencies_s: deque[float] = deque(maxlen=KEPT_LATENCIES)
        """Of the last items, from when the first call was put in to when the outputs of the last were taken out."""

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
        """Puts `call` in; its tensors may change afterwards. With no more in flight than the plan's window, it does
        not wait."""
        call.clock.put_ns = call.clock.put_ns or time.monotonic_ns()
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
            call.clock.put_ns = call.clock.put_ns or time.monotonic_ns()
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
        for consumer in self._collect:
            consumer.release(number)
        call = self._inside.popleft()
        if call.last and not dropped:
            self.latencies_s.append((time.monotonic_ns() - call.clock.put_ns) / 1e9)
        self.next_out += 1
        return outputs
