"""Cards of real models and models with hostile names, exported, and run where there is no mapper."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from mapper.execution.run import sampled
from mapper.exporters.export import export
from mapper.exporters.registry import target_called
from mapper.machine.discover import discover
from mapper.plans.model import Plan
from mapper.plans.source import graph_of_source
from mapper.solver.plan import plan as planned
from mapper.solver.problem import Limits
from mapper.sources.source import Source, realised_source
from tests.backends.stages import need
from tests.exporters.pipelines.exported import launched, on_these_pus, planned_pus, with_backend
from tests.exporters.plans import CANARY, hostile

pytestmark = pytest.mark.soak


@cache
def plan_of(card: str) -> Plan:
    """The card in two stages."""
    graph, reference = graph_of_source(card)
    return on_these_pus(planned(graph, discover(), model=reference, limits=Limits(stages=2, max_replicas=1)))


@pytest.mark.parametrize("card", ["mobilenetv2", "bert"])
@pytest.mark.parametrize("target", ["onnxruntime", "openvino", "torch-pipelining"])
def test_it_gives_the_models_outputs(card: str, target: str, tmp_path: Path) -> None:
    backend = target_called(target).backends[0]
    need(backend)
    plan = with_backend(plan_of(card), backend)
    source = realised_source(plan)
    export(plan, target, tmp_path / "out", source, sampled(plan, source))
    ran = launched(tmp_path / "out", tmp_path / "stop", "--items", "12", "--warmup", "4")
    assert ran.code == 0 and ran.document["within_tolerance"] and ran.pus == planned_pus(plan)
    print(card, target, ran.document["outputs"], ran.document["throughput_per_s"])


@pytest.mark.parametrize("target", ["onnxruntime", "openvino", "torch-pipelining"])
def test_hostile_names_are_nothing_but_text(target: str, tmp_path: Path) -> None:
    backend = target_called(target).backends[0]
    need(backend)
    model, plan = hostile()
    plan = plan.model_copy(update={"stages": tuple(
        stage.model_copy(update={"replicas": stage.replicas[:1]}) for stage in plan.stages
    )})  # fmt: skip
    plan = with_backend(on_these_pus(plan), backend)
    source = Source(model.program, model.weights, model.module)
    export(plan, target, tmp_path / "out", source, sampled(plan, source))
    ran = launched(tmp_path / "out", tmp_path / "stop", "--items", "3")
    assert ran.code == 0 and ran.document["within_tolerance"] and not list(tmp_path.rglob(f"*{CANARY}*"))
