"""Plans of random graphs on random machines: what they promise is so, and what is changed is found."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from mapper.cost.configurations import configurations
from mapper.cost.roofline import roofline
from mapper.errors import Infeasible, UsageError
from mapper.graph.model import Graph
from mapper.jsonio import plain
from mapper.machine.model import Machine
from mapper.plans.check import check, violations
from mapper.plans.file import plan_text
from mapper.plans.model import Plan
from mapper.solver.placement.fitting import WORTH
from mapper.solver.plan import plan
from mapper.solver.problem import Limits, problem_of
from mapper.solver.search.least_period import throughput
from mapper.solver.search.space import Space
from tests.planning.graphs import graphs, machines, regular_machine

QUICK = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
LIMITS = st.sampled_from(
    [Limits(), Limits(max_replicas=1), Limits(max_stages=2), Limits(max_cores=3), Limits(stages=2)]
)


@QUICK
@given(graphs(), machines(), LIMITS)
def test_every_plan_passes_its_check(graph: Graph, machine: Machine, limits: Limits) -> None:
    assume((limits.stages or 1) <= len(graph.ops))
    try:
        made = plan(graph, machine, limits=limits)
    except Infeasible:
        assert limits.stages is not None, "only an exact number of stages can be impossible here"
        return
    assert check(made, graph, roofline(graph, machine)).violations == ()
    assert Plan.model_validate(plain(made)) == made


@QUICK
@given(graphs(), machines())
def test_the_evaluated_period_is_never_below_the_bound(graph: Graph, machine: Machine) -> None:
    """The search and `evaluate` compute the same quantities by different code; placement only adds distance."""
    space = Space(problem_of(graph, machine, roofline(graph, machine)))
    found = throughput(space, Limits())
    made = plan(graph, machine, near_optimal=0.0)
    assert made.predicted.period_s >= found.bound_s * (1 - 1e-9)
    assert made.solver.bound == pytest.approx(min(found.bound_s, made.solver.best_objective), rel=1e-12)


@QUICK
@given(graphs(), machines())
def test_loads_are_those_of_the_search_where_distances_do_not_matter(graph: Graph, machine: Machine) -> None:
    near = dict.fromkeys(machine.links, machine.links["group"])
    machine = machine.model_copy(update={"links": near})
    memory = machine.memory.model_copy(update={"node_bandwidth_bytes_per_s": None})
    machine = machine.model_copy(update={"memory": memory})
    found = throughput(Space(problem_of(graph, machine, roofline(graph, machine))), Limits(), 0.0)
    made = plan(graph, machine, near_optimal=0.0)
    assert made.predicted.period_s <= found.period_s * (1 + 1e-9)
    for stage, choice in zip(made.stages, found.stages, strict=True):
        assert stage.load.total_s <= choice.load_s * (1 + 1e-9), "a group to itself by luck may only help"


@QUICK
@given(graphs(), machines())
def test_where_no_time_is_left_copies_of_the_model_are_tried_still(graph: Graph, machine: Machine) -> None:
    """Found with decoding on two EPYCs: what was found in three seconds was half as fast as copies."""
    soon = plan(graph, machine, near_optimal=0.0, time_limit_s=0.0)
    for config in configurations(machine):
        copies = plan(graph, machine, near_optimal=0.0, limits=Limits(stages=1, configurations=(config,)))
        assert soon.predicted.period_s <= copies.predicted.period_s * (1 + WORTH)


def served_by_dram() -> tuple[Graph, Machine]:
    """Ops that read more than a node's DRAM serves: the best stages draw on one node, copies on both alike."""
    figures = [  # kind, FLOP, elements, bytes read, bytes written, bytes of weights, nodes of the program
        ("elementwise", 4249, 79842, 71, 205, 5000, 3), ("conv", 217, 52, 30866, 1623, 1000, 3),
        ("attention", 715113, 46916, 794, 67, 0, 1), ("conv", 618, 4681, 38464, 190, 8000, 1),
        ("elementwise", 82474, 25905, 65908, 4538, 0, 2),
    ]  # fmt: skip
    names = ("kind", "flop", "elements", "read_bytes", "write_bytes")
    ops = []
    for number, (*own, size, nodes) in enumerate(figures):
        weights = [{"name": f"w{number}", "bytes": size, "touched_bytes": size}] if size else []
        ops.append({"name": f"op{number}", "weights": weights, "nodes": nodes} | dict(zip(names, own, strict=True)))
    tensors = [
        {"name": "t2", "producer": "op2", "readers": ["op4"], "bytes": 418420},
        {"name": "t3", "producer": "op3", "readers": ["op4"], "bytes": 806},
    ]
    graph = Graph.model_validate({"name": "drawing", "ops": ops, "tensors": tensors})
    return graph, regular_machine((2, 3, 4), (1e4,), 4e10, 1e9)


@QUICK
@given(graphs(), machines())
@example(*served_by_dram())
def test_copies_of_the_model_are_never_ahead(graph: Graph, machine: Machine) -> None:
    """Found with ops that the DRAM of a node limits: stages that were placed on two nodes were 9 % behind copies."""
    made = plan(graph, machine, near_optimal=0.0)
    for config in configurations(machine):
        copies = plan(graph, machine, near_optimal=0.0, limits=Limits(stages=1, configurations=(config,)))
        assert made.predicted.period_s <= copies.predicted.period_s * (1 + WORTH)


@QUICK
@given(graphs(), machines(), st.integers(0, 2**32))
def test_a_changed_plan_is_refused(graph: Graph, machine: Machine, seed: int) -> None:
    made = plan(graph, machine)
    document = plain(made)
    what = _change(document, random.Random(seed))
    assume(what is not None)
    changed = Plan.model_validate(document)
    assert violations(changed, graph, roofline(graph, machine)), f"{what} was not noticed"


def _change(document: dict[str, Any], pick: random.Random) -> str | None:
    """Changes one promise of a plan in a way that cannot be true; says what, None where there was nothing to change."""
    stage = pick.choice(document["stages"])
    kind = pick.choice(["load", "period", "core", "op", "bytes", "bound", "replica", "latency", "residency"])
    if kind == "load":
        stage["load"]["compute_s"] += 1e-3
    elif kind == "period":
        document["predicted"]["period_s"] *= 0.99
    elif kind == "latency":
        document["predicted"]["latency_s"] *= 1.01
    elif kind == "core":
        stage["replicas"][0]["cores"][0] = 10**6
    elif kind == "op":
        stage["ops"][0] = "nothing"
    elif kind == "bytes":
        stage["weight_bytes"] += 1
    elif kind == "residency":
        stage["residency"] = "elsewhere"
    elif kind == "bound":
        document["solver"]["bound"] = document["solver"]["objective"] * 1.1
    elif len(stage["replicas"]) > 1:
        stage["replicas"].pop()
    else:
        return None
    return kind


@settings(QUICK, max_examples=15)
@given(graphs(), machines())
def test_the_same_request_gives_the_same_bytes(graph: Graph, machine: Machine) -> None:
    assert plan_text(plan(graph, machine)) == plan_text(plan(graph, machine))


def test_more_stages_than_ops_is_a_usage_error() -> None:
    graph = Graph.model_validate({"name": "one", "ops": [{"name": "a", "kind": "matmul", "flop": 10}], "tensors": []})
    with pytest.raises(UsageError, match="2 stages were asked for, but one has 1 ops"):
        plan(graph, _machine(), limits=Limits(stages=2))


def test_what_a_check_cannot_derive_it_says() -> None:
    graph = Graph.model_validate({"name": "one", "ops": [{"name": "a", "kind": "matmul", "flop": 10}], "tensors": []})
    report = check(plan(graph, _machine()))
    assert report.violations == ()
    assert any("graph is not at hand" in text for text in report.not_verified)


def _machine() -> Machine:
    from mapper.machine.files import load_machine

    return load_machine("sg2042")
