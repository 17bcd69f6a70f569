"""The FastFlow export, where FASTFLOW_ROOT names FastFlow: the same outputs, on the plan's PUs and no others."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.exporters.pipelines.programs import PLANS, built, exported, model_called, planned, ran, require_right
from tests.tracing import machine_of, plan_for

FEW = ("--items", "7", "--json")
HERE = sorted(os.sched_getaffinity(0))


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = os.environ.get("FASTFLOW_ROOT")
    if not root:
        pytest.skip("FASTFLOW_ROOT is not set: the FastFlow export is untested here")
    model, plan = planned("mlp")
    folder = exported(plan, model, "fastflow", tmp_path_factory.mktemp("fastflow") / "export")
    return built(folder, f"-DFASTFLOW_ROOT={root}")


@pytest.mark.slow
@pytest.mark.parametrize("queues", [[], ["--unbounded"]])
@pytest.mark.parametrize("name", PLANS)
def test_outputs_are_those_of_the_unsplit_model(name: str, queues: list[str], program: Path, tmp_path: Path) -> None:
    model, plan = planned(name)
    folder = exported(plan, model, "fastflow", tmp_path / "export")
    require_right(ran(program, folder, "--oversubscribe", *FEW, *queues), plan)


@pytest.mark.slow
def test_all_nodes_are_where_the_plan_says(program: Path, tmp_path: Path) -> None:
    if len(HERE) < 2:
        pytest.skip("one PU: everything is there")
    model = model_called("mlp")
    ops = [op.name for op in model.graph.ops]
    pus = HERE[-2:]
    plan = plan_for(model, [ops], replicas=[2], machine=machine_of([[pus[1], pus[0]]]))
    found = ran(program, exported(plan, model, "fastflow", tmp_path / "farm"), *FEW)
    require_right(found, plan)
    assert [w["thread_pus"] for w in found.document["workers"]] == [[[pus[1]]], [[pus[0]]]]
    others = {other["what"]: other["pus"] for other in found.document["others"]}
    seat = [pu for pu in HERE if pu not in pus] or HERE
    assert others == {
        "feeder": seat, "collector": seat, "emitter of stage 0": pus, "collector of stage 0": pus,
    }  # fmt: skip


@pytest.mark.slow
def test_nodes_that_spin_give_the_same(program: Path, tmp_path: Path) -> None:
    model, plan = planned("mlp")
    folder = exported(plan, model, "fastflow", tmp_path / "export")
    require_right(ran(program, folder, "--oversubscribe", "--spin", "--items", "2", "--warmup", "1", "--json"), plan)


def test_where_fastflow_is_not_the_build_says_so(tmp_path: Path) -> None:
    model, plan = planned("mlp")
    folder = exported(plan, model, "fastflow", tmp_path / "export")
    with pytest.raises(AssertionError, match=r"There is no ff/ff\.hpp"):
        built(folder, f"-DFASTFLOW_ROOT={tmp_path}")
    assert not list(folder.rglob("ff.hpp")), "FastFlow is the user's"
