"""When a worker did what: the times of its last calls, in shared memory, for the timeline of a run."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from mapper.execution.rings.layout import TRACE_WORDS, Layout
from mapper.execution.rings.memory import Memory
from mapper.plans.timeline import Doing, Span

_RECORD = struct.Struct(f"{TRACE_WORDS}q")


class Trace:
    """A record a call: its number, then when the worker began to wait for it, had it, had room to compute into (where
    the back end does), had computed it, had room to copy into, and had handed it on. Times are in nanoseconds of the
    monotonic clock, which all processes share. The oldest record makes room for the newest."""

    def __init__(self, memory: Memory, layout: Layout, stage: int, replica: int) -> None:
        start, words = layout.trace(stage, replica) // 8, layout.traced * TRACE_WORDS
        self._words = memory.words[start : start + words]
        self._kept, self._stage, self._replica = layout.traced, stage, replica
        self._count = 0

    def add(self, call: int, begun: int, taken: int, room: int, computed: int, acquired: int, end: int) -> None:
        """Notes a call."""
        place = self._count % self._kept * _RECORD.size
        _RECORD.pack_into(self._words, place, call, begun, taken, room, computed, acquired, end)
        self._count += 1

    def spans(self, count: int) -> Iterator[Span]:
        """What was done with the last calls, the worker having done `count` in all."""
        for i in range(max(0, count - self._kept), count):
            call, *times = _RECORD.unpack_from(self._words, i % self._kept * _RECORD.size)
            done = (Doing.WAITING, Doing.BLOCKED, Doing.COMPUTING, Doing.BLOCKED, Doing.WRITING)
            for doing, start, end in zip(done, times, times[1:], strict=False):
                if end > start:
                    yield Span(self._stage, self._replica, call, doing, start / 1e9, end / 1e9)
