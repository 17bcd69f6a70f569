"""A process of a run is killed at a random moment: a clear end in time, and nothing is left of it."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

import pytest
import torch

from mapper.errors import ExecutionFailed, UsageError
from mapper.execution.executor import Executor, Output
from mapper.execution.feeding.batcher import Batcher
from tests.failures.test_run_time import LIMIT_S, MLP, gone, log_of, nothing_left, started
from tests.tracing import cuts, plan_for

pytestmark = pytest.mark.machine

__all__ = ["nothing_left"]

ITEM = torch.ones(8, 64)


def descendants(pid: int) -> list[int]:
    """The processes that `pid` started, those that they started, and so on."""
    found = []
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            for child in map(int, Path(f"/proc/{pid}/task/{task}/children").read_text().split()):
                found += [child, *descendants(child)]
    return found


def batched() -> Executor:
    """Two stages, two copies of the second, items of eight rows."""
    plan = plan_for(MLP, cuts(MLP.graph, [4, 4]), replicas=[1, 2], request={"batch": 8})
    return Executor(plan, (MLP.program, MLP.weights), oversubscribe=True, timeout_s=60)


class Killer(threading.Thread):
    """Kills one of the processes that are there by then, so many seconds from now, unless all is over before."""

    def __init__(self, delay_s: float, draw: random.Random, number: signal.Signals = signal.SIGKILL) -> None:
        super().__init__(daemon=True)
        self.delay_s, self.draw, self.number = delay_s, draw, number
        self.others = set(descendants(os.getpid()))
        self.killed_s: float | None = None
        self.seen: list[int] = []
        self.over = threading.Event()
        self.start()

    def run(self) -> None:
        if self.over.wait(self.delay_s):
            return
        self.seen = [pid for pid in descendants(os.getpid()) if pid not in self.others]
        if self.seen:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.draw.choice(self.seen), self.number)
                self.killed_s = time.monotonic()


def one_run(delay_s: float, draw: random.Random) -> tuple[float, float]:
    """A run with a stream, submitted items and requests, one of whose processes is killed after `delay_s`; when it
    began to stream and when it was over, in seconds from its start."""
    killer, began, streamed = Killer(delay_s, draw), time.monotonic(), 0.0
    futures: list[Future[Output]] = []
    delivered: list[Output] = []
    try:
        with batched() as executor, Batcher(executor) as batcher:
            streamed = time.monotonic() - began
            stream = executor.map(itertools.repeat(ITEM, 150))
            for output in stream:
                delivered.append(output)
                if len(delivered) % 10 == 5:
                    futures += [executor.submit(ITEM, timeout_s=30), batcher.submit(ITEM[:3], timeout_s=30)]
    except ExecutionFailed as error:
        assert killer.killed_s is not None and error.exit_code == 7, "nothing fails by itself"
        assert time.monotonic() - killer.killed_s < LIMIT_S
        if "Its log:" in str(error):
            assert "replica" in log_of(error)
    except UsageError as error:  # the batcher or the stream heard of the end, not of what ended it
        raise AssertionError(str(error)) from error
    over = time.monotonic() - began
    killer.over.set()
    killer.join()
    assert gone(killer.seen)
    expected = MLP.module(ITEM).detach()
    assert all(torch.allclose(output, expected, atol=1e-5) for output in delivered)  # type: ignore[arg-type]
    for future in futures:
        assert future.done(), "nobody waits for ever"
        if future.exception() is None:
            output = future.result()
            assert isinstance(output, torch.Tensor) and torch.allclose(output, expected[: len(output)], atol=1e-5)
    return streamed, over


def rounds(count: int, seed: int) -> None:
    """Rounds whose processes are killed at moments from before the start to after the end."""
    draw = random.Random(seed)
    streamed, over = one_run(3600, draw)  # how long it takes undisturbed
    for number in range(count):
        phase = draw.uniform(0, streamed) if number % 2 else draw.uniform(0.9 * streamed, 1.05 * over)
        one_run(phase, draw)


def test_a_process_killed_at_a_random_moment_ends_the_run_cleanly() -> None:
    rounds(5, seed=os.getpid())


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_hundred_processes_killed_at_random_moments() -> None:
    rounds(100, seed=os.getpid())


PARENT = """
import itertools, torch
from mapper.execution.feeding.batcher import Batcher
from tests.failures.test_kills import ITEM, batched
print("begun", flush=True)
with batched() as executor, Batcher(executor) as batcher:
    print("running", flush=True)
    for i, _ in enumerate(executor.map(itertools.repeat(ITEM))):
        if i > 100 and i % 10 == 0:
            executor.submit(ITEM), batcher.submit(ITEM[:3])
"""


def killed_parents(delays_s: Sequence[float], numbers: Sequence[signal.Signals]) -> None:
    for delay_s, number in zip(delays_s, itertools.cycle(numbers), strict=False):
        with started(["-c", PARENT], start_new_session=True) as parent:
            assert parent.stdout is not None and parent.stdout.readline() == "begun\n"
            if delay_s < 0:
                assert parent.stdout.readline() == "running\n"
            time.sleep(abs(delay_s))
            pids = descendants(parent.pid)
            parent.send_signal(number)
            assert parent.wait(LIMIT_S) == -number
            assert gone(pids)
            parent.communicate()


def test_a_parent_killed_at_a_random_moment_leaves_no_worker() -> None:
    draw = random.Random(os.getpid())
    killed_parents([draw.uniform(0, 3), -draw.uniform(0, 0.5)], [signal.SIGKILL, signal.SIGTERM])


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_hundred_parents_killed_at_random_moments() -> None:
    draw = random.Random(os.getpid())
    killed_parents([draw.uniform(-1, 5) for _ in range(100)], [signal.SIGKILL, signal.SIGTERM])


def test_a_parent_that_is_stopped_goes_on_where_it_was() -> None:
    """Stopped for longer than the time without a result that is allowed: nobody hung meanwhile."""
    script = """
import os, threading, time, torch
from tests.failures.test_kills import ITEM, batched
with batched() as executor:
    executor.timeout_s = 0.5
    print("running", flush=True)
    for i, _ in enumerate(executor.map(iter(lambda: ITEM, None))):
        if i % 100 == 0:
            print(i, flush=True)
        if i == 20_000:
            break
print("done", flush=True)
"""
    with started(["-c", script]) as parent:
        assert parent.stdout is not None and parent.stdout.readline() == "running\n"
        pids = descendants(parent.pid)
        everyone = [parent.pid, *pids]
        for stopped in ([parent.pid], everyone):
            for pid in stopped:
                os.kill(pid, signal.SIGSTOP)
            time.sleep(0.8)
            for pid in reversed(stopped):
                os.kill(pid, signal.SIGCONT)
        out, err = parent.communicate(timeout=120)
        assert parent.returncode == 0 and out.endswith("done\n"), err
    assert gone(pids)
