"""Ctrl-C and SIGTERM at any moment of a command, once and twice: the exit code, no worker, no torn file."""

from __future__ import annotations

import os
import random
import re
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mapper.plans.file import save_plan
from tests.failures.test_kills import descendants
from tests.failures.test_run_time import LIMIT_S, MLP, gone, nothing_left, started
from tests.tracing import cuts, plan_for

pytestmark = pytest.mark.machine

__all__ = ["nothing_left"]

ITEMS = 10_000
COMMAND = "import sys; from mapper.cli.main import main; print('begun', file=sys.stderr, flush=True); main()"
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


def model() -> tuple[nn.Module, torch.Tensor]:
    """What the plan of the commands names as its source."""
    return MLP.module, torch.zeros(8, 64)


def prepared(folder: Path, count: int) -> list[str]:
    """A run that reads a file of items and writes one of outputs: its words."""
    plan = plan_for(MLP, cuts(MLP.graph, [4, 4]), source="tests.failures.test_signals:model", request={"batch": 8})
    save_plan(plan, folder / "plan.json")
    np.savez(folder / "items.npz", input=np.ones((100, 8, 64), np.float32))
    return [
        "run", str(folder / "plan.json"), "--trust", "--oversubscribe", "--items", str(count),
        "--input", str(folder / "items.npz"), "-o", str(folder / "out.npz"),
    ]  # fmt: skip


def interrupted(folder: Path, words: list[str], delay_s: float, signals: list[signal.Signals], gap_s: float) -> int:
    """Sends `signals` to a command `delay_s` after its beginning, as a terminal does, to the whole group; its exit
    code. What is left is checked here."""
    out = folder / "out.npz"
    out.write_bytes(b"old")
    before = set(os.listdir(folder))
    with started(["-c", COMMAND, *words], start_new_session=True) as command:
        assert command.stderr is not None and command.stderr.readline() == "begun\n"
        time.sleep(0.05 + delay_s)
        pids = descendants(command.pid)
        for number in signals:
            os.killpg(command.pid, number)
            time.sleep(gap_s)
        code = command.wait(LIMIT_S + 1)
        printed = command.communicate()[1]
    assert "Traceback" not in printed, printed
    assert gone(pids)
    assert set(os.listdir(folder)) == before, "no file of its own is left"
    if code == 0 or out.read_bytes() != b"old":  # it was done before, or its file was
        (found,) = np.load(out).values()
        assert found.shape == (ITEMS, 8, 64)
    else:
        assert out.read_bytes() == b"old"
    return code


def storm(folder: Path, count: int, longest_s: float) -> None:
    draw = random.Random(os.getpid())
    words = prepared(folder, ITEMS)
    for number in range(count):
        first = (signal.SIGINT, signal.SIGTERM)[number % 2]
        twice = [first, draw.choice(list(CODES))] if number % 4 > 1 else [first]
        code = interrupted(folder, words, draw.uniform(0, longest_s), twice, draw.uniform(0, 0.1))
        assert code == 0 or code in {CODES[number] for number in twice}


def test_signals_at_random_moments_end_a_command_with_their_code(tmp_path: Path) -> None:
    storm(tmp_path, 4, 6.0)


@pytest.mark.parametrize("number", CODES)
def test_a_signal_that_comes_where_exceptions_are_ignored_ends_the_command(number: signal.Signals) -> None:
    program = (
        "import signal, time\n"
        "import mapper.cli.main as command\n"
        "class Ends:\n"
        f"    def __del__(self): signal.raise_signal({int(number)})\n"
        "def work(**_):\n"
        "    Ends()\n"
        "    while True: time.sleep(100)\n"
        "command.app = work\n"
        "command.main()\n"
    )
    with started(["-c", program]) as command:
        assert command.wait(60) == CODES[number]
        assert "Traceback" not in command.communicate()[1]


@pytest.mark.parametrize("number", CODES)
def test_a_signal_that_comes_when_all_is_done_changes_nothing(number: signal.Signals) -> None:
    program = (
        "import ctypes\n"
        "import mapper.cli.main as command\n"
        "libc = ctypes.CDLL(None)\n"
        f"libc.on_exit(libc.kill, {int(number)})\n"  # called with the exit code 0, the own group, when Python has ended
        "command.app = lambda **_: 0\n"
        "command.main()\n"
    )
    with started(["-c", program], start_new_session=True) as command:
        assert command.wait(60) == 0


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_many_signals_at_random_moments(tmp_path: Path) -> None:
    storm(tmp_path, 60, 8.0)


def test_ctrl_c_while_outputs_are_written_leaves_the_old_file(tmp_path: Path) -> None:
    words = prepared(tmp_path, 100_000_000)
    (tmp_path / "out.npz").write_bytes(b"old")
    with started(["-c", COMMAND, *words], start_new_session=True) as command:
        until = time.monotonic() + 60
        while not any(re.match(r"\.out\.npz\.", name) and os.path.getsize(tmp_path / name) > 10**6
                      for name in os.listdir(tmp_path)):  # fmt: skip
            assert command.poll() is None and time.monotonic() < until
            time.sleep(0.02)
        pids = descendants(command.pid)
        os.killpg(command.pid, signal.SIGINT)
        assert command.wait(LIMIT_S) == 130 and gone(pids)
        assert "Traceback" not in command.communicate()[1]
    assert sorted(os.listdir(tmp_path)) == ["items.npz", "out.npz", "plan.json"]
    assert (tmp_path / "out.npz").read_bytes() == b"old"
