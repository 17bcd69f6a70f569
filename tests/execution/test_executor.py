"""The executor with real worker processes: order, values, strides, back-pressure, reuse."""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Iterator

import pytest
import torch

from mapper.errors import BadInput, MachineMismatch, UsageError
from mapper.execution import place
from mapper.execution.executor import Executor
from mapper.execution.rings.layout import lay_out
from mapper.sources.stages import stage_programs
from tests.execution import models
from tests.tracing import Traced, cuts, machine_here, plan_for

MLP, SKIP, STRIDES = models.mlp(), models.skip(), models.strides()


def reference(model: Traced, item: torch.Tensor) -> torch.Tensor:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            return model.module(item)
    finally:
        torch.set_num_threads(before)


def items(count: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(count)
    return [torch.randn(8, 64, generator=generator) for _ in range(count)]


@pytest.fixture(scope="module")
def executor() -> Iterator[Executor]:
    """Two stages, two copies of the second, five items in flight."""
    plan = plan_for(MLP, cuts(MLP.graph, [4, 4]), replicas=[1, 2], window=5)
    with Executor(plan, MLP.module, oversubscribe=True, timeout_s=60) as running:
        yield running


def test_outputs_are_those_of_the_module_in_order(executor: Executor) -> None:
    given = items(23)
    outputs = list(executor.map(given))
    assert len(outputs) == len(given)
    for item, output in zip(given, outputs, strict=True):
        assert isinstance(output, torch.Tensor) and torch.equal(output, reference(MLP, item))


def test_an_item_may_be_a_tensor_a_tuple_or_a_dict(executor: Executor) -> None:
    (item,) = items(1)
    name = MLP.program.inputs[0].name
    for output in executor.map([item, (item,), [item], {name: item}, item.t().contiguous().t(), item.requires_grad_()]):
        assert isinstance(output, torch.Tensor) and torch.equal(output, reference(MLP, item.detach()))
        assert not output.requires_grad


def test_no_item_and_one_item(executor: Executor) -> None:
    assert list(executor.map([])) == []
    assert len(list(executor.map(items(1)))) == 1


def test_items_are_taken_only_as_there_is_room(executor: Executor) -> None:
    taken = 0

    def endless() -> Iterator[torch.Tensor]:
        nonlocal taken
        for item in itertools.cycle(items(3)):
            taken += 1
            yield item

    for count, _ in enumerate(executor.map(endless()), 1):
        assert taken <= count + executor.plan.predicted.window
        if count == 20:
            break


def test_copies_go_on_while_one_of_them_stands_still() -> None:
    """Each copy of a single stage has its next call at hand: one that is stopped holds the others up later."""
    plan = plan_for(MLP, cuts(MLP.graph, [99]), replicas=[2], window=2)
    with Executor(plan, MLP.module, oversubscribe=True, timeout_s=60) as running:
        stopped, _ = running.statistics().workers
        os.kill(stopped.pid, signal.SIGSTOP)
        try:
            futures = [running.submit(item) for item in items(4)]
            until = time.monotonic() + 60
            while running.statistics().workers[1].items < 2 and time.monotonic() < until:
                time.sleep(0.01)
            assert [w.items for w in running.statistics().workers] == [0, 2] and not any(f.done() for f in futures)
        finally:
            os.kill(stopped.pid, signal.SIGCONT)
        outputs = [future.result(60) for future in futures]
    assert all(torch.equal(reference(MLP, item), out) for item, out in zip(items(4), outputs, strict=True))  # type: ignore[arg-type]


def test_a_stream_left_early_does_not_leak_into_the_next(executor: Executor) -> None:
    given = items(9)
    left = executor.map(given)
    next(left)
    output = next(executor.map([given[5]]))
    assert isinstance(output, torch.Tensor) and torch.equal(output, reference(MLP, given[5]))
    with pytest.raises(UsageError, match="another map"):
        next(left)


def test_an_iterator_that_raises_ends_only_its_stream(executor: Executor) -> None:
    def broken() -> Iterator[torch.Tensor]:
        yield from items(3)
        raise KeyError("mine")

    seen = []
    with pytest.raises(KeyError, match="mine"):
        seen.extend(executor.map(broken()))
    test_outputs_are_those_of_the_module_in_order(executor)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (torch.zeros(7, 64), r"input is float32\[7, 64\], float32\[8, 64\] was planned"),
        (torch.zeros(8, 64).double(), r"input is float64\[8, 64\]"),
        (torch.zeros(1, 64).expand(64, 8, 64), r"float32\[64, 8, 64\]"),
        ((torch.zeros(8, 64), torch.zeros(8, 64)), "1 tensor"),
        ({"y": torch.zeros(8, 64)}, r"\['y'\], \['input'\] were expected"),
        ((3,), "input is int"),
        (7, "1 tensor"),
    ],
)
def test_a_wrong_item_is_named(executor: Executor, item: object, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        list(executor.map([item]))  # type: ignore[list-item]
    assert len(list(executor.map(items(2)))) == 2


def test_statistics_tell_loads_workers_and_latencies(executor: Executor) -> None:
    executor.reset_statistics()
    list(executor.map(items(10)))
    seen = executor.statistics()
    assert [(w.stage, w.replica, w.items, w.threads) for w in seen.workers] == [
        (0, 0, 10, 1),
        (1, 0, 5, 1),
        (1, 1, 5, 1),
    ]
    assert all(set(w.pus) <= os.sched_getaffinity(0) and len(w.pus) == 1 for w in seen.workers)
    assert len({w.pid for w in seen.workers} - {os.getpid()}) == 3
    assert all(stage.items == 10 and 0 < stage.load_s < 1 for stage in seen.stages)
    assert len(seen.latencies_s) == 10 and min(seen.latencies_s) > 0


def test_a_tensor_read_by_a_later_stage_skips_the_one_between() -> None:
    """Three stages with 2, 1 and 3 copies; the first one's result goes to both others."""
    plan = plan_for(SKIP, cuts(SKIP.graph, [2, 2, 2]), replicas=[2, 1, 3])
    generator = torch.Generator().manual_seed(0)
    given = [torch.randn(2, 3, 16, 16, generator=generator) for _ in range(14)]
    with Executor(plan, (SKIP.program, SKIP.weights), oversubscribe=True, timeout_s=60) as running:
        for item, output in zip(given, running.map(given), strict=True):
            assert isinstance(output, torch.Tensor) and torch.equal(output, reference(SKIP, item))


def test_many_outputs_strides_and_an_input_that_is_an_output() -> None:
    plan = plan_for(STRIDES, cuts(STRIDES.graph, [3, 6, 9]), replicas=[1, 2, 1])
    programs = stage_programs(plan, STRIDES.program)
    crossing = [field.type for channel in lay_out(plan, STRIDES.program, programs).channels for field in channel.fields]
    assert any(kind.strides[-1:] > (1,) for kind in crossing), "one should be transposed"
    assert any(0 in kind.strides for kind in crossing), "one should be expanded"
    given = [(torch.randn(5, 6), torch.rand(3) > 0.5) for _ in range(6)]
    with Executor(plan, STRIDES.module, oversubscribe=True, timeout_s=60) as running:
        for item, outputs in zip(given, running.map(given), strict=True):
            with torch.inference_mode():
                expected = STRIDES.module(*item)
            assert isinstance(outputs, tuple)
            for wanted, output in zip(expected.values(), outputs, strict=True):
                assert torch.equal(wanted, output)


def test_an_executor_runs_once_and_only_inside_its_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place, "_name", lambda pu: f"\0mapper-test-{os.getpid()}-{pu}")  # apart from runs beside this
    plan = plan_for(MLP, cuts(MLP.graph, [8]), machine=machine_here())
    running = Executor(plan, MLP.module, machine=machine_here())
    with pytest.raises(UsageError, match="not running"):
        running.map([])
    with running:
        results = running.map(items(3))
        next(results)
        with pytest.raises(MachineMismatch, match=rf"taken by another run of mapper: PU \d+ by process {os.getpid()}"):
            Executor(plan, MLP.module, machine=machine_here()).__enter__()
        assert len(list(results)) == 2
        results = running.map(items(3))
        next(results)
    with pytest.raises(UsageError, match="closed while results"):
        next(results)
    with pytest.raises(UsageError, match="runs once"):
        running.__enter__()


def test_a_plan_of_another_model_or_a_broken_partition_is_refused() -> None:
    plan = plan_for(MLP, cuts(MLP.graph, [4, 4]))
    with pytest.raises(BadInput, match="not the one that was planned") as raised:
        Executor(plan, (SKIP.program, SKIP.weights), oversubscribe=True)
    assert raised.value.advice.startswith(f"The plan was made with torch {torch.__version__}. This is torch ")
    unsaid = plan.model_copy(update={"model": plan.model.model_copy(update={"torch": ""})})
    with pytest.raises(BadInput, match=r"\nThis is torch "):
        Executor(unsaid, (SKIP.program, SKIP.weights), oversubscribe=True)
    first, second = cuts(MLP.graph, [4, 4])
    for stages, message in (
        ([second, first], "stage 0 reads 'relu_1', which no stage before it produces"),
        ([first, second[1:]], "linear_2 is in no stage"),
        ([first, [*second, "relu"]], "two stages"),
        ([first, [*second, "absent"]], "no op 'absent'"),
    ):
        broken = Executor(plan_for(MLP, stages), MLP.module, oversubscribe=True)
        with pytest.raises(BadInput, match=message):
            broken.__enter__()
