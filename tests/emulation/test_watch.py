"""Whoever waits for the emulator stops it at the limit, and never leaves it behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.emulation.board import Board
from tests.emulation.boot import boot, watch
from tests.emulation.build import Cache
from tests.emulation.prerequisites import Unprepared

pytestmark = pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv (util-linux) is not installed")

PARENT = """
import os, sys
from tests.emulation.boot import watch
watch(["sh", "-c", "echo $$; exec sleep 300"], os.environ, 300, lambda line: print(line, flush=True))
"""


def alive(process: int) -> bool:
    """Whether the process is there and not merely waited for."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_lines_and_the_exit_code_come_through() -> None:
    lines: list[str] = []
    assert watch(["sh", "-c", "echo one; echo two >&2; exit 7"], os.environ, 60, lines.append) == 7
    assert lines == ["one", "two"]


def test_what_runs_too_long_is_stopped() -> None:
    lines: list[str] = []
    assert watch(["sh", "-c", "echo $$; exec sleep 300"], os.environ, 1, lines.append) is None
    assert not alive(int(lines[0]))


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_nothing_is_left_when_the_waiting_process_dies(how: signal.Signals) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert alive(child)
    parent.send_signal(how)
    parent.wait(timeout=60)
    end = time.monotonic() + 60
    while alive(child) and time.monotonic() < end:
        time.sleep(0.05)
    assert not alive(child)


def test_a_payload_without_its_script_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Unprepared, match=r"has no run\.sh"):
        boot(Board(), tmp_path, tmp_path / "out", Cache(tmp_path), 60)
