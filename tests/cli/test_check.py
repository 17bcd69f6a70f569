"""`mapper check`: a plan passes as it was written, and with no promise of it changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mapper.plans.file import load_plan, plan_text
from tests.cli.commands import TINY, mapper

Document = dict[str, Any]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Document:
    """A plan of three stages with several replicas each."""
    path = tmp_path_factory.mktemp("plan") / "plan.json"
    assert mapper("plan", "--model", TINY, "--topo", "sg2042", "--stages", 3, "-o", path).code == 0
    document: Document = json.loads(path.read_text())
    assert len(document["stages"]) == 3 and all(len(stage["replicas"]) > 1 for stage in document["stages"])
    return document


@pytest.fixture
def document(made: Document) -> Document:
    """A copy to change."""
    return json.loads(json.dumps(made))  # type: ignore[no-any-return]


def written(document: Document, folder: Path) -> Path:
    (folder / "plan.json").write_text(json.dumps(document))
    return folder / "plan.json"


def test_a_plan_as_it_was_written_passes(document: Document, tmp_path: Path) -> None:
    result = mapper("check", written(document, tmp_path), "--trust")
    assert (result.code, result.err) == (0, "")
    assert "not derived again" not in result.out
    assert "holds: stages cover the graph" in result.out


def test_what_was_not_derived_is_said(document: Document, tmp_path: Path) -> None:
    result = mapper("check", written(document, tmp_path), "--alone")
    assert result.code == 0
    assert "not derived again: that the stages cover the model" in result.out
    report = json.loads(mapper("check", tmp_path / "plan.json", "--alone", "--json").out)
    assert report["violations"] == [] and len(report["not_verified"]) == 3


def test_code_that_only_the_plan_names_is_not_run(document: Document, tmp_path: Path) -> None:
    document["model"]["source"] = "tests.nothing_that_exists:build"
    path = written(document, tmp_path)
    refused = mapper("check", path)
    assert refused.code == 2
    assert "--trust" in refused.err and "does not run code" in refused.err
    assert mapper("check", path, "--model", TINY).code == 0, "the user names the model"
    assert mapper("check", path, "--trust").code == 3, "the code that the plan names is not there"


def move_op(plan: Document) -> None:
    plan["stages"][1]["ops"].append(plan["stages"][0]["ops"].pop())


def move_back(plan: Document) -> None:
    plan["stages"][0]["ops"], plan["stages"][1]["ops"] = plan["stages"][1]["ops"], plan["stages"][0]["ops"]


def lose_op(plan: Document) -> None:
    plan["stages"][0]["ops"].pop()


def invent_op(plan: Document) -> None:
    plan["stages"][0]["ops"].append("nothing")


def change_load(plan: Document) -> None:
    plan["stages"][0]["load"]["compute_s"] *= 0.5


def claim_period(plan: Document) -> None:
    plan["predicted"]["period_s"] *= 0.9
    plan["predicted"]["throughput_per_s"] = 1 / plan["predicted"]["period_s"]
    for name in ("objective", "best_objective"):
        plan["solver"][name] = plan["predicted"]["period_s"]


def claim_throughput(plan: Document) -> None:
    plan["predicted"]["throughput_per_s"] *= 1.1


def fewer_cores(plan: Document) -> None:
    plan["predicted"]["cores_used"] -= 1


def claim_latency(plan: Document) -> None:
    plan["predicted"]["latency_s"] *= 0.9


def lower_bound(plan: Document) -> None:
    plan["solver"]["bound"] *= 0.9


def raise_bound(plan: Document) -> None:
    plan["solver"]["bound"] = plan["solver"]["objective"] * 1.1


def claim_optimal(plan: Document) -> None:
    solver = plan["solver"]
    solver["bound"] = solver["best_objective"] * 0.9
    solver["gap"], solver["status"] = 0.1, "optimal"


def core_twice(plan: Document) -> None:
    replicas = plan["stages"][0]["replicas"]
    replicas[1]["cores"] = replicas[0]["cores"]


def other_configuration(plan: Document) -> None:
    plan["stages"][0]["replicas"][0]["configuration"]["name"] = "1x2"


def other_shape(plan: Document) -> None:
    for replica in plan["stages"][0]["replicas"]:
        replica["configuration"] = {"name": "1x2", "groups": 1, "cores_per_group": 2, "threads": 2}


def more_threads(plan: Document) -> None:
    plan["stages"][0]["replicas"][0]["configuration"]["threads"] = 64


def lose_replica(plan: Document) -> None:
    plan["stages"][0]["replicas"].pop()


def break_limit(plan: Document) -> None:
    plan["request"]["limits"] = {"max_latency_s": plan["predicted"]["latency_s"] * 0.9}


def break_stages(plan: Document) -> None:
    plan["request"]["limits"]["stages"] = 2


def claim_cache(plan: Document) -> None:
    plan["stages"][0]["residency"] = "DRAM"


def lose_edge(plan: Document) -> None:
    plan["edges"].pop(1)


def fewer_bytes(plan: Document) -> None:
    plan["edges"][1]["bytes"] -= 1


def other_machine(plan: Document) -> None:
    plan["machine"]["overheads"]["dispatch_s"] = 1e-9


def other_shape_of_machine(plan: Document) -> None:
    plan["fingerprint"] = "0123456789abcdef"


def other_graph(plan: Document) -> None:
    plan["model"]["graph_sha256"] = "0" * 64


CHANGES: dict[Callable[[Document], None], str] = {
    move_op: "/stages/0/",
    move_back: "flows from a stage to an earlier one",
    lose_op: "no partition of the graph's ops",
    invent_op: "no partition of the graph's ops",
    change_load: "/stages/0/load/compute_s",
    claim_period: "/predicted/period_s",
    claim_latency: "/predicted/latency_s",
    lower_bound: "/solver/gap",
    raise_bound: "bound ≤ best_objective ≤ objective does not hold",
    claim_optimal: "/solver/status: optimal, but the gap is 0.1",
    core_twice: "/stages/0/replicas/1: a core is used twice",
    other_configuration: "replicas of one stage must have one configuration",
    other_shape: "are not 1x2",
    more_threads: "replicas of one stage must have one configuration",
    lose_replica: "/predicted/",
    break_limit: "/request/limits/max_latency_s",
    break_stages: "/request/limits/stages: 3 stages, not 2",
    claim_cache: "/stages/0/residency: 'DRAM', but it comes out as 'L2'",
    lose_edge: "/edges: ",
    fewer_bytes: "/edges/1/bytes",
    other_machine: "/stages/0/load/dispatch_s",
    other_shape_of_machine: "/fingerprint",
    other_graph: "the graph's hash is",
}


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_changed_promise_is_found(change: Callable[[Document], None], document: Document, tmp_path: Path) -> None:
    change(document)
    result = mapper("check", written(document, tmp_path), "--model", TINY)
    assert result.code == 9
    assert CHANGES[change] in result.err


ALONE: dict[Callable[[Document], None], str] = {
    claim_throughput: "/predicted/throughput_per_s: not 1 / period_s",
    fewer_cores: "/predicted/cores_used: 63, but the stages use 64",
    **{change: CHANGES[change] for change in (
        claim_latency, lower_bound, raise_bound, claim_optimal, core_twice, other_shape, break_limit, break_stages,
        other_shape_of_machine,
    )},
}  # fmt: skip


@pytest.mark.parametrize("change", ALONE, ids=lambda change: change.__name__)
def test_what_the_file_alone_shows_is_found_without_the_model(
    change: Callable[[Document], None], document: Document, tmp_path: Path
) -> None:
    change(document)
    result = mapper("check", written(document, tmp_path), "--alone")
    assert result.code == 9
    assert ALONE[change] in result.err


@pytest.mark.parametrize(
    ("cores", "message"),
    [([10**6], "/stages/1/replicas/0/cores: core 1000000 is not on the machine"), (None, "is used twice")],
)
def test_a_plan_that_contradicts_itself_is_no_plan(
    document: Document, tmp_path: Path, cores: list[int] | None, message: str
) -> None:
    document["stages"][1]["replicas"][0]["cores"] = cores or document["stages"][0]["replicas"][0]["cores"]
    result = mapper("check", written(document, tmp_path), "--alone")
    assert result.code == 3
    assert message in result.err


def test_fields_of_a_newer_version_are_kept(document: Document, tmp_path: Path) -> None:
    document["colour"] = "red"
    document["stages"][0]["energy_j"] = 1.5
    document["stages"][0]["replicas"][0]["clock"] = {"hertz": 2e9}
    path = written(document, tmp_path)
    assert mapper("check", path, "--model", TINY).code == 0
    assert json.loads(plan_text(load_plan(path))) == document
