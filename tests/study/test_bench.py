"""Real comparisons, as small as they can be: plans in executors, libraries and torch's launcher in their processes."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from mapper.errors import ExecutionFailed, PromiseBroken
from mapper.execution.executor import Executor
from mapper.plans.file import load_plan, save_plan
from mapper.plans.micro_batches import in_items
from mapper.plans.model import Plan
from mapper.sources.backend import with_backend
from mapper.sources.source import Source, source_of
from mapper.study import bench, executed
from mapper.study.arrivals import schedule
from mapper.study.executed import measured_plans, references_of
from mapper.study.launcher import lacking
from mapper.study.vendors import Outside, SetUp, launched
from tests.cli.commands import mapper
from tests.execution import models
from tests.tracing import cuts, machine_here, plan_for

pytestmark = pytest.mark.machine

MLP = models.mlp()
SOURCE = "tests.study.test_bench:model"
ONE = min(os.sched_getaffinity(0))


def model() -> tuple[torch.nn.Module, torch.Tensor]:
    """What plans of these tests name as their source."""
    return MLP.module, torch.zeros(8, 64)


@pytest.fixture(autouse=True)
def _shared(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """PUs are not claimed: another run of mapper may be at work while tests are."""
    for module in (bench, executed):
        monkeypatch.setattr(module, "Claim", lambda pus: contextlib.nullcontext())
    yield


def test_plans_are_measured_against_each_other() -> None:
    here = machine_here()
    whole = plan_for(MLP, cuts(MLP.graph, [8]), machine=here)
    series = measured_plans([(["whole"], whole), (["again", "twin"], whole)], here, rounds=2, seconds=0.05,
                            source=source_of(whole, MLP.module))  # fmt: skip
    assert [one.name for one in series] == ["whole", "again = twin"]
    for one in series:
        assert len(one.rounds) == 2 and all(r.timed.rate_per_s > 0 for r in one.rounds)
        assert len(one.rounds[0].timed.latencies_s) == one.items >= 4


def test_wrong_weights_are_noticed_before_anything_is_measured() -> None:
    here = machine_here()
    whole = plan_for(MLP, cuts(MLP.graph, [8]), machine=here)
    wrong = Source(MLP.program, {n: w * 1.01 for n, w in MLP.weights.items()}, MLP.module)
    with pytest.raises(PromiseBroken, match="whole: an output differs"):
        measured_plans([(["whole"], whole)], here, rounds=1, seconds=0.05, source=wrong)


def test_the_command_compares_and_gives_one_document(tmp_path: Path) -> None:
    options = ("--cores", "0", "--rounds", "2", "--seconds", "0.05", "--arrivals", "50")
    result = mapper("bench", "--model", SOURCE, *options, "--json", "-o", tmp_path / "b.json")
    assert result.code == 0, result.err
    document = json.loads(result.out)
    assert document == json.loads((tmp_path / "b.json").read_text())
    names = [row["name"] for row in document["alternatives"]]
    assert names[0].startswith("chosen = native = streams") and document["chosen"] == names[0]
    assert document["verdict"] and document["rounds"] == 2 and document["backend"] == "eager"
    assert document["best_other"] and set(document["items_per_round"]) == set(names)
    for row in document["alternatives"]:
        assert set(row["throughput_per_s"]) == {"median", "low", "high"} and row["outputs_identical"]
        assert row["throughput_per_s"]["low"] <= row["throughput_per_s"]["median"] <= row["throughput_per_s"]["high"]
        assert 0 < row["latency_s"]["p50"] <= row["latency_s"]["p90"] <= row["latency_s"]["p99"]
        assert len(row["rates_per_s"]) == len(row["others_busy"]) == 2
        (load,) = row["open_loop"]
        assert load["rate_per_s"] == 50 and load["items"] % 20 == 0 and load["latency_s"]["p50"] > 0
    if lacking() is None:
        assert names[1].startswith("run_cpu (") and document["alternatives"][1]["runs_in"] == "torch's launcher"


@pytest.mark.soak
def test_the_command_takes_a_plan_in_place_of_the_best(tmp_path: Path) -> None:
    made = mapper("plan", "--model", SOURCE, "--cores", "0", "-o", tmp_path / "mine.json")
    assert made.code == 0, made.err
    plan = tmp_path / "mine.json"
    result = mapper("bench", "--plan", plan, "--model", SOURCE, "--cores", "0", "--rounds", "1", "--seconds", "0.05")
    assert result.code == 0, result.err
    assert "mine = native = streams" in result.out and "too few rounds to tell" in result.out


def test_the_command_refuses_what_it_cannot_compare(tmp_path: Path) -> None:
    plan = tmp_path / "mine.json"
    save_plan(plan_for(MLP, cuts(MLP.graph, [8]), source=SOURCE), plan)
    assert mapper("bench", "--plan", plan, "--model", SOURCE, "--batch", "2").code == 2
    assert mapper("bench", "--plan", plan).code == 2, "its model is code that only the plan names"
    assert mapper("bench").code == 2 and mapper("bench", "--model", SOURCE, "--arrivals", "never").code == 2


@pytest.mark.soak
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="a pipeline needs two cores")
def test_plans_in_micro_batches_are_measured_and_elements_counted(tmp_path: Path) -> None:
    file, one = tmp_path / "mine.json", tmp_path / "one.json"
    made = mapper("plan", "--model", SOURCE, "--stages", "2", "-o", one)
    assert made.code == 0, made.err
    plan = load_plan(one)
    request = plan.request.model_copy(update={"batch": 3, "micro_batches": 3})
    split = plan.model_copy(update={"request": request, "predicted": in_items(plan.predicted, 3)})
    save_plan(split, file)
    options = ("--plan", file, "--model", SOURCE, "--rounds", "1", "--seconds", "0.05")
    result = mapper("bench", *options, "--json")
    assert result.code == 0, result.err
    document = json.loads(result.out)
    rows = {name: row for row in document["alternatives"] for name in row["names"]}
    assert document["counts"] == "elements" and document["batch"] == 1 and "elements" in document["notes"][0]
    assert rows["mine"]["predicted_throughput_per_s"] == pytest.approx(plan.predicted.throughput_per_s)
    assert document["items_per_round"][rows["mine"]["name"]] % 3 == 0
    assert all(row["outputs_identical"] and row["throughput_per_s"]["median"] > 0 for row in rows.values())
    refused = mapper("bench", *options, "--arrivals", "10")
    assert refused.code == 2 and "--arrivals" in refused.err


def test_rounds_count_elements_of_whole_items() -> None:
    """Of an executor that gives each item back."""
    given: list[int] = []

    class Echo:
        def beside(self) -> contextlib.AbstractContextManager[None]:
            return contextlib.nullcontext()

        def map(self, items: Iterator[Any]) -> Iterator[Any]:
            for item in items:
                given.append(len(item))
                yield item

        def reset_statistics(self) -> None:
            pass

        def statistics(self) -> SimpleNamespace:
            return SimpleNamespace(latencies_s=(0.5,))

    plan = plan_for(MLP, cuts(MLP.graph, [4, 4]), replicas=[1, 2], window=5, request={"batch": 24, "micro_batches": 3})
    up = executed.ExecutedPlan(["a"], plan, cast(Executor, Echo()), [[1, 2, 3]], unit=24)
    assert up.window == 2 and up.sized(1) == 4 * 24 and up.sized(24 * 5) == 6 * 24
    timed = up.closed(6 * 24)
    assert len(given) == 2 + 6 + 2 and timed.latencies_s == (0.5,)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is compiled once for all tests."""
    return tmp_path_factory.mktemp("cache")


ENGINES = [
    ("serial", "eager", "torch", 1),
    ("session", "onnxruntime", "onnxscript", 1),
    ("shared", "onnxruntime", "onnxscript", 2),
    ("throughput", "openvino", "openvino", 0),
]


def _up(stack: ExitStack, set_up: SetUp, weights: dict[str, Any] | None = None) -> tuple[Outside, Any]:
    plan: Plan = with_backend(plan_for(MLP, cuts(MLP.graph, [8])), set_up.backend)
    source = source_of(plan, MLP.module)
    ((items, outputs),) = references_of([plan], source)
    if weights is not None:
        source.weights = weights
    return launched(stack, set_up, plan, source, items), outputs


@pytest.mark.slow
@pytest.mark.parametrize(("engine", "backend", "package", "threads"), ENGINES)
def test_set_ups_of_libraries_are_checked_and_timed(
    engine: str, backend: str, package: str, threads: int, compiled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    monkeypatch.setenv("XDG_CACHE_HOME", str(compiled))
    with ExitStack() as stack:
        up, outputs = _up(stack, SetUp("it", engine, backend, (ONE,), threads))
        up.check(outputs)
        assert up.identical or backend != "eager"
        timed = up.closed(up.sized(9))
        assert timed.rate_per_s > 0 and len(timed.latencies_s) == max(9, 2 * up.width)
        opened = up.open(schedule(200.0, 0.05, 1))
        assert len(opened.latencies_s) == 20 and min(opened.latencies_s) > 0
        pids = up.pids
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_a_library_with_wrong_weights_is_noticed() -> None:
    with ExitStack() as stack:
        wrong = {name: weight * 1.01 for name, weight in MLP.weights.items()}
        up, outputs = _up(stack, SetUp("it", "serial", "eager", (ONE,), 1), wrong)
        with pytest.raises(PromiseBroken, match="it: an output differs"):
            up.check(outputs)


def test_what_goes_wrong_in_a_process_outside_is_told() -> None:
    with ExitStack() as stack, pytest.raises(ExecutionFailed, match=r"it: .*no back end"):
        up, _ = _up(stack, SetUp("it", "serial", "eager", (ONE,), 1))
        up.set_up = SetUp("it", "serial", "none such", (ONE,), 1)
        plan = plan_for(MLP, cuts(MLP.graph, [8]))
        source = source_of(plan, MLP.module)
        launched(stack, up.set_up, plan, source, [[torch.zeros(8, 64)]])
    with ExitStack() as stack, pytest.raises(ExecutionFailed, match="its processes did not come up"):
        _up(stack, SetUp("it", "serial", "eager", (ONE,), 1, launcher=("false",)))
