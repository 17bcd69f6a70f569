"""What of the probe is not time: sums, cycles, messages, threads."""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Callable

import pytest

from mapper.errors import MachineMismatch, SystemRefused
from mapper.measure import probe
from mapper.measure.cores import on_cores

pytestmark = pytest.mark.machine

COMPILED = probe.library()
PUS = sorted(os.sched_getaffinity(0))
needs_probe = pytest.mark.skipif(COMPILED is None, reason="the probe was not compiled")
needs_two = pytest.mark.skipif(len(PUS) < 2, reason="one PU")


@needs_probe
@pytest.mark.parametrize("count", [0, 1, 7, 8, 63, 64, 65, 1000, 4096])
@pytest.mark.parametrize("passes", [1, 3])
def test_sums_are_right(count: int, passes: int) -> None:
    words = (ctypes.c_uint64 * (count + 1))(*((i * 2654435761) << 13 for i in range(count + 1)))
    assert COMPILED.mapper_sum(words, count, passes) == passes * sum(words[:count]) % 2**64


@needs_probe
@pytest.mark.parametrize(("lines", "line"), [(1, 64), (2, 64), (3, 128), (1000, 64), (4096, 128)])
@pytest.mark.parametrize("seed", [0, 1, 7])
def test_the_chase_visits_every_line_once(lines: int, line: int, seed: int) -> None:
    memory, order = ctypes.create_string_buffer(lines * line), (ctypes.c_uint32 * lines)()
    start = ctypes.addressof(memory)
    COMPILED.mapper_cycle(start, lines, line, seed, order, None)
    seen, at = [], start
    for _ in range(lines):
        seen.append(at)
        at = ctypes.c_uint64.from_address(at).value
    assert at == start
    assert sorted(seen) == [start + i * line for i in range(lines)]


@needs_probe
def test_another_seed_is_another_cycle() -> None:
    def cycle(seed: int) -> bytes:
        memory = ctypes.create_string_buffer(100 * 64)
        base = ctypes.addressof(memory)
        COMPILED.mapper_cycle(base, 100, 64, seed, (ctypes.c_uint32 * 100)(), None)
        words = (ctypes.c_uint64 * 800).from_buffer(memory)
        return bytes((words[8 * i] - base) // 64 for i in range(100))

    assert len({cycle(seed) for seed in range(5)}) == 5
    assert cycle(3) == cycle(3)


@needs_probe
@needs_two
def test_every_message_is_answered() -> None:
    taken, sent, answered = probe.exchange(PUS[0], PUS[-1], 0.01)
    assert sent == answered > 0
    assert taken > 0


@needs_probe
def test_a_pu_cannot_talk_to_itself() -> None:
    with pytest.raises(ValueError, match="cannot talk to itself"):
        probe.message_latency(PUS[0], PUS[0], 0.01)


@needs_probe
def test_a_side_without_a_partner_gives_up() -> None:
    """As on a core that something else keeps busy."""
    line, messages = ctypes.c_uint64(), ctypes.c_int64()

    def side(run: object) -> int:
        failed: int = COMPILED.mapper_exchange(ctypes.addressof(line), 0, run, ctypes.byref(messages))
        return failed

    with pytest.raises(SystemRefused, match="did not both get to run"):
        probe._sampled(probe.Window.soon(0.01, 2), side)
    assert line.value == 2**64 - 1  # a partner that comes now leaves at once


@pytest.mark.parametrize("compiled", [pytest.param(True, marks=needs_probe), False])
def test_reads_and_chains_give_something(compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not compiled:
        monkeypatch.setattr(probe, "_COMPILED", None)
    assert probe.compiled() == compiled
    for size in (4096, 2**20 + 4096):
        assert 0 < probe.read_rate(size, PUS[:2], 0.01) < 1e14
    if compiled:
        assert 0 < probe.load_latency(2**20, PUS[0], 0.01, seed=1) < 1


@needs_probe
def test_no_memory_is_an_error() -> None:
    with pytest.raises(SystemRefused, match="no memory"):
        probe._sampled(probe.Window.soon(0.01, 1), lambda run: COMPILED.mapper_read(2**60, run))


def test_threads_run_on_their_pus_and_the_caller_stays() -> None:
    before = os.sched_getaffinity(0)
    found = on_cores([(pu, lambda: float(min(os.sched_getaffinity(0)))) for pu in PUS], lambda: None)
    assert found == PUS
    assert os.sched_getaffinity(0) == before


def waiting(halted: threading.Event) -> Callable[[], float]:
    def wait() -> float:
        assert halted.wait(60)
        return 0.0

    return wait


def test_a_thread_that_fails_halts_the_others() -> None:
    halted, before = threading.Event(), threading.active_count()

    def fail() -> float:
        raise RuntimeError("one of them")

    with pytest.raises(RuntimeError, match="one of them"):
        on_cores([(PUS[0], waiting(halted)), (PUS[0], fail)], halted.set)
    assert threading.active_count() == before


def test_a_pu_that_is_not_allowed_halts_the_others() -> None:
    halted = threading.Event()
    with pytest.raises(MachineMismatch, match=r"PU 100000 may not be used"):
        on_cores([(PUS[0], waiting(halted)), (100_000, waiting(halted))], halted.set)


def test_an_interruption_leaves_no_thread() -> None:
    halted, main, before = threading.Event(), threading.main_thread().ident, threading.active_count()
    assert main is not None

    def interrupt() -> float:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(main), ctypes.py_object(KeyboardInterrupt))
        time.sleep(0.05)
        return 0.0

    with pytest.raises(KeyboardInterrupt):
        on_cores([(PUS[0], interrupt), (PUS[0], lambda: time.sleep(0.2) or 0.0)], halted.set)
    assert halted.is_set()
    assert threading.active_count() == before
