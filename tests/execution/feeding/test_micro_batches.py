"""Items that several calls take: split and joined by the executor, with real workers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from mapper.errors import BadInput
from mapper.execution.executor import Executor
from mapper.execution.feeding.micro_batches import joined, split
from mapper.execution.run import run
from mapper.plans.model import Plan
from tests.execution import models
from tests.execution.test_executor import reference
from tests.tracing import cuts, plan_for

MLP = models.mlp()
CALLS, EACH = 3, 8


def of_calls(calls: int) -> Plan:
    """A pipeline of two stages, its items in so many micro-batches of eight rows."""
    request = {"batch": EACH * calls, "micro_batches": calls}
    return plan_for(MLP, cuts(MLP.graph, [4, 4]), replicas=[1, 2], window=4, request=request)


@pytest.fixture(scope="module")
def executor() -> Iterator[Executor]:
    with Executor(of_calls(CALLS), MLP.module, oversubscribe=True, timeout_s=60) as running:
        yield running


def items(count: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(count)
    return [torch.randn(EACH * CALLS, 64, generator=generator) for _ in range(count)]


def expected(item: torch.Tensor) -> torch.Tensor:
    return torch.cat([reference(MLP, part) for part in item.split(EACH)])


def test_outputs_are_those_of_the_micro_batches_joined(executor: Executor) -> None:
    given = items(7)
    outputs = list(executor.map(given))
    assert len(outputs) == 7
    for item, output in zip(given, outputs, strict=True):
        assert isinstance(output, torch.Tensor) and torch.equal(output, expected(item))


def test_a_stream_left_between_two_micro_batches_does_not_shift_the_next(executor: Executor) -> None:
    given = items(5)
    for left_after in range(4):
        stream = executor.map(given)
        for _ in range(left_after):
            next(stream)
        executor.reset_statistics()
        for item, output in zip(given, executor.map(given), strict=True):
            assert isinstance(output, torch.Tensor) and torch.equal(output, expected(item))
        assert len(executor.statistics().latencies_s) == len(given), "what was dropped does not count"


def test_latencies_are_of_items(executor: Executor) -> None:
    executor.reset_statistics()
    assert len(list(executor.map(items(4)))) == 4
    seen = executor.statistics()
    assert len(seen.latencies_s) == 4
    assert sum(worker.items for worker in seen.workers if worker.stage == 0) == 4 * CALLS
    first = next(worker for worker in seen.workers if worker.stage == 0)
    assert min(seen.latencies_s) > first.compute_s / first.items


def test_an_item_of_another_size_is_named(executor: Executor) -> None:
    with pytest.raises(BadInput, match=r"float32\[24, 64\] was planned for"):
        list(executor.map([torch.zeros(EACH, 64)]))


def test_a_run_counts_items() -> None:
    measured = run(of_calls(CALLS), MLP.module, items=5, oversubscribe=True)
    assert measured.items == 5 and measured.outputs_identical
    given = run(of_calls(CALLS), MLP.module, items=3, inputs=items(2), oversubscribe=True)
    assert given.outputs_identical and sum(w.items for w in given.workers if w.stage == 1) >= 3 * CALLS - 4


def test_split_and_joined_are_each_other_s_inverse() -> None:
    item = [torch.arange(12).reshape(6, 2), torch.arange(6)]
    parts = list(split(item, 3))
    assert [part[1].tolist() for part in parts] == [[0, 1], [2, 3], [4, 5]]
    assert all(torch.equal(a, b) for a, b in zip(joined(parts), item, strict=True))
