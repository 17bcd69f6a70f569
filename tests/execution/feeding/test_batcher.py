"""The batcher: requests joined to items of the plan's size and split again, with real workers."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future

import pytest
import torch
from torch import nn

import mapper
from mapper.errors import BadInput, UsageError
from mapper.execution.executor import Executor, Output
from mapper.execution.feeding.batcher import Batcher
from mapper.plans.model import Plan
from tests.execution import models
from tests.execution.feeding.test_futures import Stopped
from tests.tracing import cuts, plan_for, traced

MLP = models.mlp()
ROWS, CALLS = 8, 2
LONG_S = 30.0


class _Two(nn.Module):
    """Two inputs, two outputs, each row for itself, bit by bit wherever it is."""

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.relu(a) * 2, b - a.sum(1, keepdim=True)


TWO = traced(_Two(), torch.randn(4, 3), torch.randn(4, 1), name="two")


def two_inputs(calls: int = 1) -> Plan:
    request = {"batch": 4 * calls, "micro_batches": calls}
    return plan_for(TWO, cuts(TWO.graph, [2, 2]), window=4, request=request)


@pytest.fixture(scope="module")
def executor() -> Iterator[Executor]:
    with Executor(two_inputs(), TWO.module, oversubscribe=True, timeout_s=60) as running:
        yield running


def request(rows: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(rows + 100 * seed)
    return torch.randn(rows, 3, generator=generator), torch.randn(rows, 1, generator=generator)


def right(given: tuple[torch.Tensor, torch.Tensor], output: Output) -> bool:
    wanted = TWO.module(*given)
    return all(torch.equal(a, b) for a, b in zip(wanted, output, strict=True))


def test_requests_of_all_sizes_get_their_own_rows(executor: Executor) -> None:
    draw = random.Random(0)
    given = [request(draw.randint(1, 4), seed) for seed in range(60)]
    with Batcher(executor, wait_s=LONG_S) as batcher:
        futures = [batcher.submit(one) for one in given]
    assert all(right(one, future.result(10)) for one, future in zip(given, futures, strict=True))
    seen, rows = batcher.statistics(), sum(len(one[0]) for one in given)
    assert (seen.requests, seen.rows) == (60, rows)
    assert seen.items == -(-rows // 4), "requests are split, so that only the last item has rows missing"
    assert seen.fill == rows / (4 * seen.items) and seen.rows_per_item == rows / seen.items
    assert len(seen.waits_s) == len(seen.latencies_s) == 60
    assert all(wait <= whole for wait, whole in zip(sorted(seen.waits_s), sorted(seen.latencies_s), strict=True))


def test_a_full_item_does_not_wait_and_a_lone_request_waits_its_time(executor: Executor) -> None:
    with Batcher(executor, wait_s=LONG_S) as batcher:
        started = time.monotonic()
        futures = [batcher.submit(request(1, seed)) for seed in range(4)]
        assert all(right(request(1, seed), future.result(10)) for seed, future in enumerate(futures))
        assert time.monotonic() - started < LONG_S / 2
    with Batcher(executor, wait_s=0.2) as batcher:
        lone = batcher.submit(request(1))
        assert right(request(1), lone.result(10))
        assert 0.2 <= batcher.statistics().waits_s[0] < 5
        assert batcher.statistics().fill == 0.25
    assert batcher.statistics().latencies_s[0] >= batcher.statistics().waits_s[0]


def test_padding_is_a_row_of_the_item_and_its_outputs_are_dropped() -> None:
    """An embedding of ten rows, the first of which is not a number: padding of zeros would read it."""
    torch.manual_seed(0)
    words = traced(nn.Sequential(nn.Embedding(10, 4), nn.ReLU()), torch.zeros(4, 2, dtype=torch.long), name="words")
    plan = plan_for(words, [[op.name for op in words.graph.ops]], request={"batch": 4})
    with Executor(plan, words.module, oversubscribe=True, timeout_s=60) as running, Batcher(running) as batcher:
        output = batcher.submit(torch.tensor([[9, 8]])).result(10)
        assert isinstance(output, torch.Tensor) and output.shape == (1, 2, 4)
        assert torch.equal(output, words.module(torch.tensor([[9, 8]])))


def test_items_of_micro_batches_are_joined_too() -> None:
    with Executor(two_inputs(CALLS), TWO.module, oversubscribe=True, timeout_s=60) as running:
        with Batcher(running) as batcher:
            assert batcher.size == 8
            given = [request(rows, rows) for rows in (8, 3, 5, 1, 7, 2)]
            futures = [batcher.submit(one) for one in given]
            assert all(right(one, future.result(10)) for one, future in zip(given, futures, strict=True))
        assert len(running.statistics().latencies_s) == batcher.statistics().items


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((torch.zeros(5, 3), torch.zeros(5, 1)), r"1 to 4 rows were expected, its shape is \[5, 3\]"),
        ((torch.zeros(0, 3), torch.zeros(0, 1)), r"1 to 4 rows were expected, its shape is \[0, 3\]"),
        ((torch.zeros(2, 3), torch.zeros(1, 1)), r"b is float32\[1, 1\], float32\[2, 1\] was planned for"),
        ((torch.zeros(2, 3).double(), torch.zeros(2, 1)), r"a is float64\[2, 3\]"),
        (torch.tensor(3.0), r"1 to 4 rows were expected, its shape is \[\]"),
        ((), "2 tensor"),
        (7, "2 tensor"),
        ({"a": torch.zeros(2, 3)}, r"\['a'\], \['a', 'b'\] were expected"),
    ],
)
def test_a_wrong_request_reaches_its_caller_only(executor: Executor, given: object, message: str) -> None:
    with Batcher(executor, wait_s=0.2) as batcher:
        good = batcher.submit(request(2))
        with pytest.raises(BadInput, match=message):
            batcher.submit(given)  # type: ignore[arg-type]
        assert right(request(2), good.result(10))
        named = {"b": request(2)[1], "a": request(2)[0]}
        assert right(request(2), batcher.submit(named).result(10))


def test_back_pressure_cancelling_and_callbacks(executor: Executor) -> None:
    with Batcher(executor, wait_s=0) as batcher:
        given, futures = [request(4, seed) for seed in range(40)], list[Future[Output]]()
        with Stopped(executor):
            with pytest.raises(TimeoutError, match=r"no room for the request within 0.1 s: 8 rows wait"):
                for one in given:
                    futures.append(batcher.submit(one, timeout_s=0.1))
            assert futures[-1].cancel() and not futures[0].cancel()
        assert all(right(one, future.result(10)) for one, future in zip(given, futures[:-1], strict=False))
        with pytest.raises(CancelledError):
            futures[-1].result(10)
        done, results = threading.Event(), list[Output]()

        def again(future: Future[Output]) -> None:
            results.append(future.result())
            for _ in range(4 if len(results) == 1 else 1):  # more than may wait: a callback does not
                if len(results) < 40:
                    batcher.submit(given[0]).add_done_callback(again)
            if len(results) >= 40:
                done.set()

        batcher.submit(given[0]).add_done_callback(again)
        assert done.wait(20) and all(right(given[0], output) for output in results)


def test_many_threads_and_asyncio(executor: Executor) -> None:
    wrong: list[object] = []
    with Batcher(executor, wait_s=0.002) as batcher:

        def client(number: int) -> None:
            draw = random.Random(number)
            for seed in range(25):
                one = request(draw.randint(1, 4), seed)
                if not right(one, batcher.submit(one).result(30)):
                    wrong.append(one)

        threads = [threading.Thread(target=client, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()

        async def main() -> None:
            given = [request(1 + seed % 4, seed) for seed in range(50)]
            outputs = await asyncio.gather(*map(batcher.infer, given))
            assert all(map(right, given, outputs))

        asyncio.run(main())
        for thread in threads:
            thread.join(30)
    assert not wrong and batcher.statistics().requests == 150


def test_closing_sends_what_waits_and_an_error_does_not(executor: Executor) -> None:
    with Batcher(executor, wait_s=LONG_S) as batcher:
        future = batcher.submit(request(1))
    assert right(request(1), future.result(10))
    with pytest.raises(UsageError, match="the batcher is closed"):
        batcher.submit(request(1))
    with pytest.raises(ZeroDivisionError), Batcher(executor, wait_s=LONG_S) as batcher:
        future = batcher.submit(request(1))
        raise ZeroDivisionError
    with pytest.raises(UsageError, match="closed before this result"):
        future.result(10)
    assert isinstance(next(executor.map([request(4)])), tuple), "the executor goes on"


def test_a_model_without_a_batch_dimension_is_refused() -> None:
    class Mean(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean(0)

    mean = traced(Mean(), torch.randn(4, 3), name="mean")
    for model, batch, message in (
        (mean, 4, r"requests to mean cannot be joined: output0 is float32\[3\], whose first dimension"),
        (MLP, 1, r"input is float32\[8, 64\], whose first dimension is not the batch of 1"),
    ):
        plan = plan_for(model, [[op.name for op in model.graph.ops]], request={"batch": batch})
        with pytest.raises(UsageError, match=message):
            Batcher(Executor(plan, (model.program, model.weights), oversubscribe=True))
    with pytest.raises(UsageError, match="cannot wait -1 s"):
        Batcher(Executor(two_inputs(), (TWO.program, TWO.weights), oversubscribe=True), wait_s=-1)
    assert mapper.Batcher is Batcher
