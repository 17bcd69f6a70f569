"""Whatever ends a run, everybody who waits for a result hears of it: futures, requests, tasks, blocked callers."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future

import pytest
import torch
from torch import nn

from mapper.errors import BadInput, ExecutionFailed, MachineMismatch, MapperError, UsageError
from mapper.execution import place
from mapper.execution.executor import Executor, Output
from mapper.execution.feeding.batcher import Batcher
from mapper.execution.run import OutputsDiffer, run
from mapper.sources.source import Source
from tests.failures.test_kills import ITEM, batched, descendants
from tests.failures.test_run_time import LIMIT_S, MLP, alive, log_of, nothing_left, resident_bytes, started
from tests.tracing import cuts, machine_here, plan_for, traced

pytestmark = pytest.mark.machine

__all__ = ["nothing_left"]


def pids_of(executor: Executor) -> list[int]:
    return [worker.pid for worker in executor.statistics().workers]


class Pending:
    """More of each kind than there is room for: submitted items, requests to a batcher, and callers that block."""

    def __init__(self, executor: Executor, item: torch.Tensor) -> None:
        self.executor, self.batcher = executor, Batcher(executor, wait_s=0)
        self.futures: list[Future[Output]] = []
        self.errors: list[BaseException] = []
        self.threads = [threading.Thread(target=self._keep, args=(call, item)) for call in self._calls()]
        for thread in self.threads:
            thread.start()

    def _calls(self) -> Iterator[Callable[[torch.Tensor], Future[Output]]]:
        yield from (self.executor.submit, self.executor.submit, self.batcher.submit, self.batcher.submit)

    def _keep(self, submit: Callable[[torch.Tensor], Future[Output]], item: torch.Tensor) -> None:
        try:
            while True:
                self.futures.append(submit(item))
        except MapperError as error:
            self.errors.append(error)

    def told(self, kind: type[BaseException], message: str) -> None:
        """Everybody has heard of the end, or has his result."""
        for thread in self.threads:
            thread.join(LIMIT_S)
        assert not any(thread.is_alive() for thread in self.threads) and len(self.errors) == len(self.threads)
        failed = [error for future in self.futures if (error := future.exception(LIMIT_S)) is not None]
        assert failed and all(isinstance(error, kind) and message in str(error) for error in failed)


def test_a_killed_worker_ends_all_that_is_pending() -> None:
    with batched() as executor:
        pids = pids_of(executor)
        pending = Pending(executor, ITEM)
        time.sleep(0.3)
        killed = time.monotonic()
        os.kill(pids[1], signal.SIGKILL)
        pending.told(ExecutionFailed, f"process {pids[1]}")
        assert time.monotonic() - killed < LIMIT_S and not any(map(alive, pids))
        with pytest.raises(ExecutionFailed, match="SIGKILL") as raised:
            executor.submit(ITEM)
        assert raised.value.exit_code == 7
        log_of(raised.value)
        with pytest.raises(ExecutionFailed, match="SIGKILL"):
            list(executor.map([ITEM]))

        async def main() -> None:
            with pytest.raises(ExecutionFailed, match="SIGKILL"):
                await executor.infer(ITEM)
            with pytest.raises(ExecutionFailed, match="SIGKILL"):
                async for _ in executor.stream([ITEM]):
                    pass

        asyncio.run(main())


def test_a_worker_that_hangs_ends_all_that_is_pending() -> None:
    with batched() as executor:
        pids = pids_of(executor)
        assert executor.submit(ITEM).result(10) is not None
        executor.timeout_s = 0.5
        os.kill(pids[0], signal.SIGSTOP)
        pending = Pending(executor, ITEM)
        pending.told(ExecutionFailed, "stage 0, replica 0")
        error = pending.futures[0].exception()
        assert isinstance(error, ExecutionFailed) and "hangs: no result within 0.5 s" in str(error)
        assert not any(map(alive, pids))
        log_of(error)


def test_closing_by_an_error_ends_all_that_is_pending() -> None:
    with pytest.raises(ZeroDivisionError), batched() as executor:
        pids = pids_of(executor)
        for pid in pids[1:]:
            os.kill(pid, signal.SIGSTOP)
        pending = Pending(executor, ITEM)
        time.sleep(0.2)
        before = time.monotonic()
        raise ZeroDivisionError
    assert time.monotonic() - before < LIMIT_S and not any(map(alive, pids))
    pending.told(UsageError, "closed")


def test_an_interrupt_while_closing_waits_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The block ends well, with an item that never gets done; then comes Ctrl-C, twice."""
    with pytest.raises(KeyboardInterrupt), batched() as executor:
        pids = pids_of(executor)
        os.kill(pids[0], signal.SIGSTOP)
        future = executor.submit(ITEM)
        for delay_s in (0.3, 0.31):
            threading.Timer(delay_s, os.kill, (os.getpid(), signal.SIGINT)).start()
        before = time.monotonic()
    time.sleep(0.1)
    assert time.monotonic() - before < LIMIT_S and not any(map(alive, pids))
    with pytest.raises(UsageError, match="closed before this result"):
        future.result(0)


class _Large(nn.Module):
    """Asks for as much memory as its item says, in the middle of it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x[:1].expand(2**25, 2**20) + 1).sum(1)[:4] + x[0]


def test_a_worker_without_memory_is_named() -> None:
    large = traced(_Large(), torch.zeros(4), name="large")
    plan = plan_for(large, [[op.name for op in large.graph.ops]])
    with Executor(plan, large.module, oversubscribe=True, timeout_s=60) as executor:
        pids = pids_of(executor)
        futures = [executor.submit(torch.ones(4)) for _ in range(2)]
        for future in futures:
            with pytest.raises(ExecutionFailed, match=r"stage 0, replica 0 .* raised .*RuntimeError.*memory") as raised:
                future.result(30)
        assert "The ops of the stage" in str(raised.value) and not any(map(alive, pids))
        log_of(raised.value)


def test_what_is_no_number_where_the_model_has_one_breaks_the_promise() -> None:
    plan = plan_for(MLP, cuts(MLP.graph, [8]))
    weights = {name: weight.clone() for name, weight in MLP.weights.items()}
    next(iter(weights.values()))[0, 0] = torch.nan
    with pytest.raises(OutputsDiffer, match="largest difference is inf") as raised:
        run(plan, Source(MLP.program, weights, MLP.module), items=3, oversubscribe=True)
    assert raised.value.exit_code == 9 and raised.value.measurement.max_abs_difference is None


def test_a_second_run_is_told_which_cores_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place, "_name", lambda pu: f"\0mapper-test-second-{os.getpid()}-{pu}")
    plan = plan_for(MLP, cuts(MLP.graph, [8]), machine=machine_here())
    with Executor(plan, MLP.module, machine=machine_here()) as executor:
        (pu,) = executor.statistics().workers[0].pus
        with pytest.raises(MachineMismatch, match=rf"taken by another run of mapper: PU {pu} by process") as raised:
            run(plan, MLP.module, machine=machine_here())
        assert raised.value.exit_code == 6
        assert executor.submit(ITEM).result(10) is not None, "the first goes on"


def test_a_stream_that_fails_leaves_the_executor_to_others() -> None:
    with batched() as executor:

        def broken() -> Iterator[torch.Tensor]:
            yield ITEM
            yield ITEM[:3]

        kept = executor.submit(ITEM)
        with pytest.raises(BadInput):
            list(executor.map(broken()))
        assert kept.result(10) is not None and len(list(executor.map([ITEM] * 3))) == 3
        assert list(executor.map([])) == [] and len(descendants(os.getpid())) >= 3


def pass_a_million(submitted: bool) -> None:
    """A million items, through futures where they are `submitted`: in order, and in memory that is flat."""
    tiny = traced(nn.Sequential(nn.ReLU(), nn.LeakyReLU()), torch.ones(1, 1), name="tiny")
    plan = plan_for(tiny, cuts(tiny.graph, [1, 1]), window=16, slots=8)
    count = 1_000_000
    with Executor(plan, tiny.module, oversubscribe=True, timeout_s=60) as executor:
        pids = [os.getpid(), *pids_of(executor)]
        given = (torch.tensor([[float(number)]]) for number in range(count))
        if submitted:
            executor.submit(torch.ones(1, 1)).result(10)  # from here on, streams go through futures
        early: list[int] = []
        for number, output in enumerate(executor.map(given)):
            assert isinstance(output, torch.Tensor) and output.item() == number
            if number == count // 10:
                early = [resident_bytes(pid) for pid in pids]
        assert number == count - 1
        grown = [resident_bytes(pid) - before for pid, before in zip(pids, early, strict=True)]
        assert max(grown) < 8 * 2**20, f"grown by {grown} bytes"


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("submitted", [False, True])
def test_a_million_tiny_items_in_flat_memory_and_order(submitted: bool) -> None:
    """In a process of its own: the heap of this one has holes of other tests, which come back one by one."""
    program = f"from tests.failures.test_pending import pass_a_million; pass_a_million({submitted})"
    with started(["-c", program]) as alone:
        printed = alone.communicate()[1]
    assert alone.returncode == 0, printed
