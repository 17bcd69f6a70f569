"""`run`: what is measured, and what outputs are compared with."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from mapper.errors import BadInput, MachineMismatch, PromiseBroken, SystemRefused, UsageError
from mapper.execution.executor import Executor
from mapper.execution.reference import reference_of
from mapper.execution.run import OutputsDiffer, run, sampled
from mapper.plans.file import save_plan
from mapper.sources.bundle import open_bundle, write_bundle
from mapper.sources.difference import difference_of
from mapper.sources.source import source_of
from tests.execution import models
from tests.tracing import cuts, plan_for, traced

MLP = models.mlp()


def model() -> tuple[torch.nn.Module, torch.Tensor]:
    """What plans of these tests name as their source."""
    return MLP.module, torch.zeros(8, 64)


SOURCE = "tests.execution.test_run:model"


def test_a_module_is_measured_and_compared_bit_by_bit() -> None:
    plan = plan_for(MLP, cuts(MLP.graph, [4, 4]), replicas=[2, 1])
    told = []
    m = run(plan, MLP.module, items=40, oversubscribe=True, progress=lambda *now: told.append(now))
    assert m.outputs_identical and m.max_abs_difference == 0 and m.compared_with == "the original model"
    assert (m.items, m.warmup, m.window) == (40, 10, 6) and told[-1] == (50, 50)
    assert m.throughput_per_s > 0 and 0 < m.latency_s.p50 <= m.latency_s.p90 <= m.latency_s.p99
    assert [(s.id, s.replicas, s.predicted_load_s) for s in m.stages] == [(0, 2, 0.5), (1, 1, 0.5)]
    assert [(w.stage, w.replica) for w in m.workers] == [(0, 0), (0, 1), (1, 0)]
    assert "results are right, times mean nothing" in m.notes[0]


def test_stages_with_different_teams_are_compared_with_a_run_that_switches() -> None:
    torch.manual_seed(5)
    wide = traced(torch.nn.Sequential(torch.nn.Linear(512, 700), torch.nn.Tanh(), torch.nn.Linear(700, 512)),
                  torch.randn(300, 512), name="wide")  # fmt: skip
    plan = plan_for(wide, cuts(wide.graph, [1, 2]), threads=[2, 1])
    m = run(plan, wide.module, items=8, warmup=0, oversubscribe=True)
    assert m.outputs_identical and "with each stage's threads" in m.compared_with
    assert [w.threads for w in m.workers] == [2, 1]


def test_other_outputs_than_the_module_s_are_an_error_with_the_measurement() -> None:
    plan = plan_for(MLP, cuts(MLP.graph, [8]))
    source = source_of(plan, (MLP.program, {n: w * 1.01 for n, w in MLP.weights.items()}))
    with pytest.raises(
        OutputsDiffer, match="the output of item 0 of the warm-up is not that of the original model"
    ) as raised:
        run(plan, replace(source, module=MLP.module), items=3, oversubscribe=True)
    assert raised.value.exit_code == 9
    assert not raised.value.measurement.outputs_identical
    assert (raised.value.measurement.max_abs_difference or 0) > 0
    with pytest.raises(UsageError):
        run(plan, MLP.module, items=0)


def test_an_item_that_the_unsplit_model_refuses_is_named() -> None:
    made = traced(torch.nn.Embedding(10, 4), torch.zeros(3, dtype=torch.long), name="words")
    items = [(torch.full((3,), row, dtype=torch.long),) for row in (0, 1, 1000)]
    with pytest.raises(BadInput, match=r"call 2: the unsplit model raises IndexError: index out of range"):
        run(plan_for(made, cuts(made.graph, [9])), made.module, inputs=items, oversubscribe=True)


def test_a_plan_that_does_not_fit_is_refused_before_the_reference_is_computed() -> None:
    """On a slow board that takes minutes; here the model would refuse the item."""
    made = traced(torch.nn.Embedding(10, 4), torch.zeros(3, dtype=torch.long), name="words")
    items = [(torch.full((3,), 1000, dtype=torch.long),)]
    with pytest.raises(MachineMismatch):
        run(plan_for(made, cuts(made.graph, [9])), made.module, inputs=items)


def test_a_module_whose_fused_path_differs_has_the_bits_of_its_export() -> None:
    torch.manual_seed(3)
    encoder = traced(torch.nn.TransformerEncoderLayer(64, 4, 128, batch_first=True), torch.randn(2, 16, 64), name="enc")
    plan = plan_for(encoder, [[op.name for op in encoder.graph.ops]])
    item = [torch.randn(2, 16, 64)]
    whole = reference_of(plan, source_of(plan, (encoder.program, encoder.weights)), [item])
    module = reference_of(plan, source_of(plan, encoder.module), [item])
    assert difference_of(whole.outputs[0][0], module.outputs[0][0]).identical
    assert all(parameter.requires_grad for parameter in encoder.module.parameters())


def test_differences_are_told_by_bits_and_by_size() -> None:
    nan, inf = math.nan, math.inf
    a = torch.tensor([1.0, nan, inf, -0.0])
    assert difference_of(a, a.clone()).identical
    assert not difference_of(torch.tensor([0.0]), torch.tensor([-0.0])).identical
    assert difference_of(torch.tensor([nan, 2.0]), torch.tensor([nan, 4.0])).largest == 2
    assert difference_of(torch.tensor([2.0]), torch.tensor([4.0])).relative == 0.5
    assert difference_of(torch.tensor([nan]), torch.tensor([4.0])).largest == inf
    assert difference_of(torch.tensor([inf]), torch.tensor([4.0])).largest == inf
    assert difference_of(torch.tensor([3]), torch.tensor([4])).largest == 1
    assert not difference_of(torch.tensor([3]), torch.tensor([3.0])).identical


def test_commands_run_a_plan_and_its_bundle(tmp_path: Path) -> None:
    from mapper.cli.bundle import bundle_command
    from mapper.cli.run import run_command

    app = __import__("typer").Typer()
    app.command("run")(run_command)
    app.command("bundle")(bundle_command)
    plan = plan_for(MLP, cuts(MLP.graph, [4, 4]), source=SOURCE)
    save_plan(plan, tmp_path / "plan.json")
    written = CliRunner().invoke(
        app, ["bundle", str(tmp_path / "plan.json"), "--trust", "-o", str(tmp_path / "mlp.bundle")]
    )
    assert written.exit_code == 0, written.output
    common = ["--items", "5", "--warmup", "1", "--oversubscribe"]
    text = CliRunner().invoke(app, ["run", str(tmp_path / "plan.json"), "--trust", *common], catch_exceptions=False)
    assert (
        "items/s" in text.stdout and "outputs identical to those of the original model" in text.stdout.splitlines()[0]
    )
    assert text.stdout.isascii() or "µ" in text.stdout
    out = tmp_path / "out.json"
    given = CliRunner().invoke(
        app, ["run", str(tmp_path / "mlp.bundle"), *common, "--json", "-o", str(out)], catch_exceptions=False
    )
    document = json.loads(given.stdout)
    assert document == json.loads(out.read_text())
    assert document["outputs_identical"] and document["compared_with"] == "the unsplit program"


def test_a_bundle_whose_sample_does_not_match_is_refused(tmp_path: Path) -> None:
    plan = plan_for(MLP, cuts(MLP.graph, [4, 4]))
    source = source_of(plan, MLP.module)
    sample = sampled(plan, source)
    spoiled = replace(sample, outputs=(sample.outputs[0] + 1,))
    write_bundle(tmp_path / "b.bundle", MLP.program, MLP.weights, plan, spoiled)
    bundle = open_bundle(tmp_path / "b.bundle")
    with pytest.raises(PromiseBroken, match="the sample in the bundle by 1"):
        run(bundle.plan, bundle, oversubscribe=True)
    with pytest.raises(BadInput, match="does not say where its model comes from"):
        run(plan)


def test_what_workers_print_is_kept_where_that_is_asked(tmp_path: Path) -> None:
    plan = plan_for(MLP, cuts(MLP.graph, [4, 4]), replicas=[1, 2])
    with Executor(plan, MLP.module, oversubscribe=True, timeout_s=60, logs=tmp_path / "logs"):
        found = sorted(path.name for path in (tmp_path / "logs").iterdir())
    assert found == ["stage0-replica0.log", "stage1-replica0.log", "stage1-replica1.log"]
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SystemRefused, match=r"stage0-replica0\.log cannot be written"):
        Executor(plan, MLP.module, oversubscribe=True, logs=tmp_path / "file").__enter__()
