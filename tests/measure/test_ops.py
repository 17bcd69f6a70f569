"""The process that times torch's ops: its answers, its failures, its end."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from mapper.errors import ExecutionFailed
from mapper.measure.software import Software, cpu_seconds

pytestmark = pytest.mark.machine

PUS = sorted(os.sched_getaffinity(0))


def test_it_answers_and_is_gone_afterwards() -> None:
    with Software() as software:
        assert software.pid is None
        assert software.ask("fork_join", 0.01, pus=PUS) >= 0
        assert software.ask("dispatch", 0.01, pus=PUS[:1]) > 0
        assert software.ask("busy", 0.02, pus=PUS, alone=PUS[0]) >= 1
        pid = software.pid
        assert cpu_seconds(pid) > 0
    assert not Path(f"/proc/{pid}").exists()
    assert cpu_seconds(pid) == 0


def test_what_a_child_cannot_do_is_told_and_the_next_question_answered() -> None:
    with Software() as software:
        with pytest.raises(ExecutionFailed, match="PU 100000 may not be used"):
            software.ask("fork_join", 0.01, pus=[100_000])
        with pytest.raises(ExecutionFailed, match="KeyError: 'nothing'"):
            software.ask("nothing", 0.01)
        assert software.ask("dispatch", 0.01, pus=PUS[:1]) > 0


def test_its_death_is_noticed() -> None:
    with Software() as software:
        software.start()
        os.kill(software.pid or 0, 9)
        with pytest.raises(ExecutionFailed, match="has died"):
            software.ask("dispatch", 0.01, pus=PUS[:1])


def test_it_ends_with_the_one_that_asks() -> None:
    """Closed stdin is what it sees when the parent is killed."""
    with Software() as software:
        process = software.start()
        assert process.stdin is not None
        process.stdin.close()
        until = time.monotonic() + 30
        while process.poll() is None:
            assert time.monotonic() < until
            time.sleep(0.01)
        assert process.returncode == 0
        process.stdin = None
