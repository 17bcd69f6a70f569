"""The check of plans: whichever field is changed by itself, it is found, but for a few that nothing can tell."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from pydantic import ValidationError

from mapper.cost.imported import given_costs
from mapper.cost.roofline import roofline
from mapper.cost.table import CostTable
from mapper.errors import PromiseBroken
from mapper.graph.model import Graph
from mapper.jsonio import plain
from mapper.machine.figures import Figure
from mapper.machine.files import load_machine
from mapper.machine.restrict import restrict
from mapper.plans.check import check, violations
from mapper.plans.evaluate import Placed, evaluate
from mapper.plans.file import plan_text
from mapper.plans.model import Plan
from mapper.solver.explanation.explain import explain
from mapper.solver.explanation.resolve import case_of, on_the_same_cores
from mapper.solver.plan import plan
from mapper.solver.problem import Limits
from tests.planning.test_machines import block_chain, with_figure
from tests.plans.changes import Document, changed, named

UNTOLD = {
    "alternatives": "plans that are not in the file: planning again gives them",
    "model/name": "a name; what is planned is the graph, by its hash",
    "model/title": "a name",
    "model/source": "where the graph is from; check traces it, and compares the hash",
    "model/weights": "not in the graph; checked where they are read",
    "model/item_name": "a word",
    "model/torch": "the version that traced it",
    "request/backend": "what it is for; there are costs of one only",
    "request/batch": "what an item is called; its shapes are in the graph",
    "request/limits/max_latency_s": "a limit that is kept, whatever was asked; so are the others",
    "request/limits/min_throughput_per_s": "as above",
    "request/limits/max_replicas": "as above",
    "request/limits/max_cores": "as above",
    "request/limits/node_memory_bytes": "as above",
    "request/limits/together": "sets that are left out, in another order, or with an op twice; others are found",
    "request/limits/together/*": "as above",
    "request/limits/apart": "as above",
    "request/limits/apart/*": "as above",
    "solver/near_optimal": "what was allowed; found where the plan is beyond it",
    "solver/proved/space": "what was searched: planning again is the only proof",
    "solver/proved/assumptions": "as above",
    "solver/proved/assumptions/*": "as above",
    "solver/tie_break": "as above",
    "solver/versions/mapper": "who made it",
    "solver/versions/ortools": "who made it",
    "provenance/mapper": "who made it; another version may know other fields of machines, so their hash counts no more",
    "stages/*/replicas/*/cores": "the order of cores with one node and distance to all others",
}
"""Fields that can be changed by themselves with no promise broken, each with the reason."""

SG2042 = load_machine("sg2042")
PART = restrict(SG2042, groups="0,4")
LIMITS = Limits(stages=2, max_latency_s=1.0, min_throughput_per_s=1.0, max_replicas=40, max_cores=8,
                node_memory_bytes=1e12, together=(("op0", "op1"),), apart=(("op0", "op4"),))  # fmt: skip


@cache
def limited() -> tuple[Graph, CostTable, Plan]:
    """Two stages of several replicas under every limit."""
    graph = block_chain(5)
    return graph, roofline(graph, PART), plan(graph, PART, limits=LIMITS)


@cache
def spread() -> tuple[Graph, CostTable, Plan]:
    """One replica whose weights lie on all nodes."""
    weights = [{"name": "w", "bytes": 10**9, "touched_bytes": 10**9}]
    op = {"name": "a", "kind": "matmul", "flop": 1e8, "elements": 10**5, "weights": weights}
    graph = Graph.model_validate({"name": "g", "ops": [op], "tensors": []})
    dram = {"package_bandwidth_bytes_per_s": 4e9, "node_bandwidth_bytes_per_s": 1e9, "core_bandwidth_bytes_per_s": 5e9}
    machine = with_figure(SG2042, "memory", **{name: Figure(value=value) for name, value in dram.items()})
    return graph, roofline(graph, machine), plan(graph, machine, limits=Limits(max_replicas=1, max_cores=4))


@cache
def timed() -> tuple[Graph, CostTable, Plan]:
    """A graph with times on units, each of which has memory of its own."""
    ops = [{"name": f"n{v}", "kind": "other", "proc_s": 0.01 * (v + 1), "memory_bytes": 1000.0} for v in range(4)]
    tensors = [
        {"name": f"t{v}", "producer": f"n{v}", "readers": [f"n{v + 1}"], "bytes": 8, "comm_s": 1e-3} for v in range(3)
    ]
    graph = Graph.model_validate({"name": "g", "ops": ops, "tensors": tensors})
    limits = Limits(max_replicas=1, node_memory_bytes=2100.0)
    return graph, given_costs(graph), plan(graph, load_machine("uniform:3"), limits=limits)


@pytest.mark.parametrize(
    ("kind", "free"),
    [(limited, ""), (timed, ""), (spread, "stages/*/replicas/*/cores/*")],  # a core of the same group that is free
)
def test_any_single_change_is_found(kind: Any, free: str) -> None:
    graph, table, made = kind()
    document: Document = json.loads(plan_text(made))
    assert violations(made, graph, table) == []
    missed = {}
    for place, other, other_document in changed(document):
        if place[0] in ("machine", "alternatives"):
            continue
        try:
            found = violations(Plan.model_validate(other_document), graph, table)
        except ValidationError:
            continue
        if not found and named(place) not in {*UNTOLD, free}:
            missed["/".join(map(str, place))] = other
    assert missed == {}


def test_another_machine_is_found() -> None:
    """Figures of the machine that no load depends on are found by its hash."""
    graph, table, made = limited()
    document: Document = json.loads(plan_text(made))
    document["machine"]["title"] = "another"
    found = violations(Plan.model_validate(document), graph, table)
    assert found == ["/provenance/topology_sha256: the machine is another one than the plan was made for"]
    document["provenance"]["mapper"] = "0.0.1"
    assert violations(Plan.model_validate(document), graph, table) == []


def test_the_status_is_what_the_gap_says() -> None:
    made = limited()[2]
    for status in ("infeasible", "unknown"):
        solver = made.solver.model_copy(update={"status": status})
        (line,) = check(made.model_copy(update={"solver": solver})).violations
        assert line.startswith(f"/solver/status: {status}, but there is a plan")
    proved = made.solver.model_copy(update={"bound": made.solver.best_objective, "gap": 0.0, "status": "feasible"})
    assert "/solver/status: feasible" in check(made.model_copy(update={"solver": proved})).violations[0]


def test_a_replica_without_cores_is_no_plan() -> None:
    document = plain(limited()[2])
    document["stages"][0]["replicas"][0]["cores"] = []
    with pytest.raises(ValidationError, match="at least 1 item"):
        Plan.model_validate(document)


def test_a_limit_of_a_newer_version_is_not_vouched_for() -> None:
    graph, table, made = limited()
    request = made.request.model_copy(update={"limits": {**made.request.limits, "max_watts": 3}})
    report = check(made.model_copy(update={"request": request}), graph, table)
    assert report.violations == () and "the limit max_watts" in report.not_verified


def test_weights_on_all_nodes_stay_there_when_a_plan_is_explained() -> None:
    graph, table, made = spread()
    assert made.stages[0].replicas[0].weights.nodes == (0, 1, 2, 3)
    case = case_of(made, graph, table)
    assert on_the_same_cores(case, made) == made.predicted.period_s
    with pytest.raises(PromiseBroken):
        explain(made.model_copy(update={"fingerprint": "0"}), graph, table)


def test_weights_on_all_nodes_of_a_team_that_spans_them_are_at_home() -> None:
    """A plan file cannot tell the two apart, so they must cost the same."""
    graph, machine = spread()[0], restrict(SG2042, groups="0,1,4,5")
    table = roofline(graph, machine)
    config = next(config for config in table.configs if config.name == "2x4")
    placed = Placed(("a",), config, (tuple(range(4, 12)),))
    own, far = (evaluate(graph, machine, table, [replace(placed, spread=s)]) for s in (False, True))
    assert table.spread_s is not None
    assert table.spread_s[0, table.index("2x4")] > table.compute_s[0, table.index("2x4"), 2], "else the test is idle"
    assert own == far
