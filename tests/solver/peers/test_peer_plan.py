"""Plans of other planners and placements, made by `mapper.plan`: checked like ours, and under our bound."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from mapper.cost.configurations import configurations
from mapper.cost.roofline import roofline
from mapper.errors import Infeasible, UsageError
from mapper.graph.model import Graph
from mapper.jsonio import plain
from mapper.machine.files import load_machine
from mapper.machine.model import Machine
from mapper.plans.check import check
from mapper.plans.file import plan_text
from mapper.plans.model import Plan
from mapper.solver.peers.against import against, rivals_of
from mapper.solver.peers.register import PLANNERS
from mapper.solver.placement.strategies import STRATEGIES
from mapper.solver.plan import plan
from mapper.solver.problem import Limits
from tests.planning.graphs import graphs, machines
from tests.planning.test_machines import block_chain

QUICK = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
SG2042 = load_machine("sg2042")
LIMITS = st.sampled_from([Limits(), Limits(max_replicas=1), Limits(max_cores=3), Limits(stages=1)])


@QUICK
@given(graphs(), machines(), st.sampled_from(list(PLANNERS)), st.sampled_from(list(STRATEGIES)), LIMITS)
def test_check_accepts_every_plan(graph: Graph, machine: Machine, planner: str, strategy: str, limits: Limits) -> None:
    try:
        made = plan(graph, machine, limits=limits, planner=planner, strategy=strategy)
    except Infeasible:
        assert limits != Limits(), "without limits every planner has a plan"
        return
    except UsageError as error:
        assert "--placement optimal" in error.advice, "only a placement can be impossible"
        return
    assert check(made, graph, roofline(graph, machine)).violations == ()
    assert Plan.model_validate(plain(made)) == made
    named = {"planner": planner} | ({"placement": strategy} if strategy != "optimal" else {})
    assert made.request.model_extra == named
    assert made.solver.status == "feasible" and made.solver.gap >= 0
    assert made.solver.bound <= made.predicted.period_s * (1 + 1e-9)


@QUICK
@given(graphs(), machines(), st.sampled_from(["native", "torchgpipe", "pipedream", "alpa"]))
def test_the_gap_is_what_the_planner_loses(graph: Graph, machine: Machine, planner: str) -> None:
    ours = plan(graph, machine, near_optimal=0.0)
    made = plan(graph, machine, planner=planner)
    assert made.predicted.period_s >= ours.solver.bound * (1 - 1e-9)
    assert made.solver.bound == pytest.approx(min(ours.solver.bound, made.predicted.period_s), rel=1e-9)
    (optimum, *_) = made.alternatives
    assert optimum.name == "optimal"
    assert 1 / optimum.throughput_per_s <= made.predicted.period_s * (1 + 1e-4)


@settings(QUICK, max_examples=15)
@given(graphs(), machines(), st.sampled_from(list(STRATEGIES)))
def test_a_placement_keeps_the_bound_and_says_so(graph: Graph, machine: Machine, strategy: str) -> None:
    try:
        made = plan(graph, machine, strategy=strategy)
    except UsageError:
        assume(False)
    assert check(made, graph, roofline(graph, machine)).violations == ()
    assert made.request.model_extra == ({} if strategy == "optimal" else {"placement": strategy})
    assert made.solver.bound <= made.predicted.period_s * (1 + 1e-9)


def test_the_same_request_gives_the_same_bytes() -> None:
    for name in PLANNERS:
        first, second = (plan(block_chain(5), SG2042, planner=name) for _ in range(2))
        assert plan_text(first) == plan_text(second), name


def test_a_limit_on_latency_is_kept_or_refused() -> None:
    graph = block_chain(5)
    free = {name: plan(graph, SG2042, planner=name).predicted.latency_s for name in ("native", "streams")}
    low, high = sorted(free, key=free.__getitem__)
    between = Limits(max_latency_s=(free[low] + free[high]) / 2)
    assert plan(graph, SG2042, planner=low, limits=between).predicted.latency_s <= (between.max_latency_s or 0)
    with pytest.raises(Infeasible, match=f"planner {high} does not keep the limits: max_latency_s") as raised:
        plan(graph, SG2042, planner=high, limits=between)
    assert raised.value.levers == ["--planner optimal"]


def test_ops_that_must_be_apart_are_or_the_planner_is_refused() -> None:
    graph, limits = block_chain(4), Limits(apart=(("op0", "op3"),))
    assert len(plan(graph, SG2042, planner="equal-ops", limits=limits).stages) == 4
    with pytest.raises(Infeasible, match="native does not keep the limits: apart"):
        plan(graph, SG2042, planner="native", limits=limits)


def test_all_beside_a_plan() -> None:
    graph = block_chain(6)
    ours = plan(graph, SG2042, near_optimal=0.0)
    table = roofline(graph, SG2042, configurations(SG2042))
    found = against(ours, graph, table, Limits(), rivals_of("all"))
    assert [rival.planner for rival in found] == list(PLANNERS)
    for rival in found:
        alone = plan(graph, SG2042, planner=rival.planner)
        assert rival.throughput_per_s == alone.predicted.throughput_per_s and rival.note == ""
        assert rival.of_ours == rival.throughput_per_s / ours.predicted.throughput_per_s <= 1 + 1e-4
    assert [r.planner for r in against(ours, graph, table, Limits(), rivals_of("alpa, native"))] == ["alpa", "native"]
    with pytest.raises(UsageError, match="no planner 'all of them'"):
        rivals_of("all of them")
