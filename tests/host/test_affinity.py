from __future__ import annotations

import os
import threading
from collections.abc import Callable

import pytest

from mapper.errors import MachineMismatch, MapperError
from mapper.host.affinity import allowed_pus, named, pin
from mapper.machine.parts import Core

CORES = [Core(logical=2, group=0, node=0, pus=(5, 7))]


def in_thread(work: Callable[[], None]) -> BaseException | None:
    """Runs `work` in a thread, whose binding ends with it; gives what it raised."""
    raised: list[BaseException] = []

    def guarded() -> None:
        try:
            work()
        except (MapperError, AssertionError) as error:
            raised.append(error)

    thread = threading.Thread(target=guarded)
    thread.start()
    thread.join()
    return raised[0] if raised else None


def test_a_thread_is_bound_and_the_process_is_not() -> None:
    before = allowed_pus()

    def work() -> None:
        pin([before[-1]])
        assert allowed_pus() == (before[-1],)
        pin(before, allowed=before)
        assert allowed_pus() == before

    assert in_thread(work) is None
    assert allowed_pus() == before


def test_a_pu_that_is_not_allowed_is_named_with_its_core() -> None:
    absent = max(os.sched_getaffinity(0)) + 5
    cores = [Core(logical=2, group=0, node=0, pus=(absent,))]
    error = in_thread(lambda: pin([absent, allowed_pus()[0]], cores=cores))
    assert isinstance(error, MachineMismatch)
    assert str(error).startswith(f"PU {absent} (core 2) may not be used by this process\nAllowed are PUs ")


def test_binding_to_nothing_is_refused() -> None:
    with pytest.raises(MachineMismatch, match="no PU"):
        pin([])


def test_names() -> None:
    assert named([7, 9, 5], CORES) == "PU 5 (core 2), PU 7 (core 2), PU 9"
    assert named([1]) == "PU 1"
