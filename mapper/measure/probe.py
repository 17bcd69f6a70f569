"""Timed loops over memory, on the cores that one names: reads, chains of loads, lines passed to and fro.

The loops are C (`_probe.c`). Without a compiler at install time only reads are left, through `memchr` of the C
library, and `missing` says what is not there. Every result is that of the median slice of a window in time.
"""

from __future__ import annotations

import ctypes
import importlib.util
import mmap
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from mapper.errors import SystemRefused
from mapper.measure.cores import on_cores

SLICE_S = 0.001
"""How long a part of a window is that is timed by itself: shorter than what the scheduler gives a competitor, so that
on a shared core most slices are nobody else's."""
WARM_S = 0.02
"""Shortest time that a loop runs before its window begins."""
LEAST_MEMCHR_BYTES = 256 * 2**10
"""Below this, calling `memchr` takes as long as reading."""
NO_PROBE = "needs the probe (a C compiler)"
LATE = 2


class _Run(ctypes.Structure):
    """`Run` of `_probe.c`."""

    _fields_ = [
        ("begin", ctypes.c_double), ("end", ctypes.c_double), ("slice", ctypes.c_double), ("stop", ctypes.c_void_p),
        ("samples", ctypes.POINTER(ctypes.c_double)), ("capacity", ctypes.c_int64), ("count", ctypes.c_int64),
        ("last", ctypes.c_double), ("units", ctypes.c_double),
    ]  # fmt: skip


@dataclass(frozen=True)
class Window:
    """From when to when (seconds of the monotonic clock) loops count, on all cores alike; `stop` ends them early."""

    begin: float
    end: float
    stop: ctypes.c_int = field(default_factory=ctypes.c_int)

    @classmethod
    def soon(cls, seconds: float, threads: int, setup_s: float = 0.0) -> Window:
        """A window of `seconds` that begins when `threads` threads had time to start and to make their memory."""
        begin = time.monotonic() + WARM_S + 0.001 * threads + setup_s
        return cls(begin, begin + seconds)

    def halt(self) -> None:
        """Ends all loops of this window."""
        self.stop.value = 1


def library() -> Any:
    """The compiled probe, or None where it was not built (no compiler at install time)."""
    spec = importlib.util.find_spec("mapper.measure._probe")
    if spec is None or spec.origin is None:
        return None
    loaded = ctypes.CDLL(spec.origin)
    integer, pointer = ctypes.c_int64, ctypes.c_void_p
    loaded.mapper_sum.argtypes, loaded.mapper_sum.restype = [pointer, integer, integer], ctypes.c_uint64
    loaded.mapper_read.argtypes = [integer, pointer]
    loaded.mapper_cycle.argtypes = [pointer, integer, integer, ctypes.c_uint64, pointer, pointer]
    loaded.mapper_cycle.restype = None
    loaded.mapper_chase.argtypes = [integer, integer, ctypes.c_uint64, pointer]
    loaded.mapper_exchange.argtypes = [pointer, ctypes.c_int, pointer, pointer]
    return loaded


_COMPILED = library()
PROBE = "compiled" if _COMPILED is not None else "memchr (no compiler at install time: bandwidths only)"
"""What does the reading."""


def compiled() -> bool:
    """Whether there is a compiled probe: without one, latencies and links cannot be measured."""
    return _COMPILED is not None


def line_bytes() -> int:
    """Bytes of a cache line; 64 where the system does not say."""
    try:
        return os.sysconf("SC_LEVEL1_DCACHE_LINESIZE") or 64
    except (ValueError, OSError):
        return 64


def read_rate(total_bytes: int, pus: Sequence[int], seconds: float) -> float:
    """Bytes a second that the PUs together read from `total_bytes` of memory, each from its own part of it.

    Raises: SystemRefused when there is no memory, or a thread cannot be bound.
    """
    share = max(4096, total_bytes // len(pus))
    window = Window.soon(seconds, len(pus), _setup_s(total_bytes))
    read = _compiled_read if compiled() else _memchr_read
    taken = on_cores([(pu, lambda: read(share, window)) for pu in pus], window.halt)
    return sum(1 / seconds_a_byte for seconds_a_byte in taken)


def load_latency(total_bytes: int, pu: int, seconds: float, seed: int) -> float:
    """Seconds for a load that depends on the one before, at random in `total_bytes` of memory.

    Raises: SystemRefused when there is no memory, or the thread cannot be bound.
    """
    window = Window.soon(seconds, 1, 4 * _setup_s(total_bytes))

    def chase() -> float:
        return _sampled(window, lambda run: _COMPILED.mapper_chase(total_bytes, line_bytes(), seed, run))

    return on_cores([(pu, chase)], window.halt)[0]


def message_latency(first: int, second: int, seconds: float) -> float:
    """Seconds from writing a line on the PU `first` to reading it on the PU `second`: half a round trip.

    Raises: SystemRefused when a thread cannot be bound, or one of them does not get to run; ValueError for one PU.
    """
    return exchange(first, second, seconds)[0]


def exchange(first: int, second: int, seconds: float) -> tuple[float, int, int]:
    """As `message_latency`, with the messages that each side sent."""
    if first == second:
        raise ValueError(f"PU {first} cannot talk to itself: both sides have to run at once")
    window = Window.soon(seconds, 2)
    memory = mmap.mmap(-1, mmap.PAGESIZE)
    line = ctypes.c_uint64.from_buffer(memory)
    sent = [ctypes.c_int64(), ctypes.c_int64()]

    def side(number: int) -> float:
        return _sampled(
            window,
            lambda run: _COMPILED.mapper_exchange(ctypes.addressof(line), number, run, ctypes.byref(sent[number])),
            needed=number == 0,
        )

    taken = on_cores([(first, lambda: side(0)), (second, lambda: side(1))], window.halt)
    return taken[0], sent[0].value, sent[1].value


def _compiled_read(size: int, window: Window) -> float:
    return _sampled(window, lambda run: _COMPILED.mapper_read(size, run))


def _sampled(window: Window, call: Callable[[Any], int], needed: bool = True) -> float:
    """The median sample of one loop; 0 where none is `needed`."""
    slice_s = min(SLICE_S, (window.end - window.begin) / 8)
    samples = (ctypes.c_double * (16 + int((window.end - window.begin) / slice_s)))()
    run = _Run(begin=window.begin, end=window.end, slice=slice_s, stop=ctypes.addressof(window.stop),
               samples=samples, capacity=len(samples))  # fmt: skip
    failed = call(ctypes.byref(run))
    if failed == LATE:
        raise SystemRefused("two threads that pass a line to and fro did not both get to run",
                            advice="Something else keeps a core busy; try again on an idle machine.")  # fmt: skip
    if failed:
        raise SystemRefused("no memory for a measurement")
    if run.count == 0:
        if needed and not window.stop.value:
            raise SystemRefused("a measurement got no time to run", advice="Give it more time (--seconds).")
        return 0.0
    return statistics.median(samples[: run.count])


def _memchr_read(size: int, window: Window) -> float:
    """Seconds a byte of looking for a byte that is not there."""
    find = ctypes.CDLL(None).memchr
    find.argtypes, find.restype = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t], ctypes.c_void_p
    with mmap.mmap(-1, size) as memory:
        for page in range(0, size, mmap.PAGESIZE):
            memory[page] = 1
        here = ctypes.c_char.from_buffer(memory)
        samples = []
        while not window.stop.value:
            began = time.monotonic()
            find(ctypes.addressof(here), 255, size)
            ended = time.monotonic()
            if began >= window.begin:
                samples.append((ended - began) / size)
            if ended >= window.end and samples:
                break
        del here
    return statistics.median(samples) if samples else 0.0


def _setup_s(total_bytes: int) -> float:
    """About how long it takes to make so much memory, at 1 GB/s."""
    return total_bytes / 1e9
