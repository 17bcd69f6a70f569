"""What planning again must never say, for random graphs and machines."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from mapper.cost.roofline import roofline
from mapper.errors import Infeasible, UsageError
from mapper.graph.model import Graph
from mapper.machine.model import Machine
from mapper.solver.explanation.explain import explain, relaxations
from mapper.solver.explanation.levers import levers
from mapper.solver.explanation.resolve import NOTICED, Case, case_of, on_machine, solved, unchanged
from mapper.solver.plan import plan
from mapper.solver.problem import Limits
from tests.planning.graphs import graphs, machines

QUICK = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
SEARCHED = 1 + 5e-4
"""Two searches differ by their precision at most."""


@QUICK
@given(graphs(most_ops=8), machines(), st.sampled_from([Limits(), Limits(max_replicas=1), Limits(stages=2)]))
def test_parts_add_up_to_what_the_plan_promises(graph: Graph, machine: Machine, limits: Limits) -> None:
    assume(len(graph.ops) >= 2)
    try:
        made = plan(graph, machine, limits=limits)
    except Infeasible:
        return
    binding = explain(made, graph, only=("binding",)).binding
    for load, stage in zip(binding.stages, made.stages, strict=True):
        assert load.seconds == pytest.approx(stage.load.total_s, rel=1e-9)
        assert load.parts.get("transfers", 0.0) == pytest.approx(stage.load.in_s + stage.load.out_s, rel=1e-9)
        assert sum(op.seconds for op in load.ops) == pytest.approx(
            stage.load.compute_s + stage.load.dispatch_s + stage.load.fork_join_s, rel=1e-9
        )
    slowest = max(load.period_s for load in (*binding.stages, *binding.memory))
    assert slowest == pytest.approx(made.predicted.period_s, rel=1e-9) and binding.names
    assert sum(binding.core_seconds.values()) == pytest.approx(binding.period_s * len(machine.cores), rel=1e-9)
    assert min(binding.core_seconds.values()) >= -1e-12


RELAXABLE = st.sampled_from([Limits(max_replicas=1), Limits(max_cores=3), Limits(max_stages=2), Limits(max_stages=1)])


@QUICK
@given(graphs(most_ops=7), machines(), RELAXABLE)
def test_relaxing_a_limit_never_makes_it_worse(graph: Graph, machine: Machine, limits: Limits) -> None:
    case = Case(graph, machine, roofline(graph, machine), limits, "throughput")
    before = solved(case)
    assert before is not None
    (name,) = limits.as_options()
    for _, value in relaxations(name, getattr(limits, name)):
        wider = dataclasses.replace(limits, **{name: value})
        after = solved(case, wider)
        assert after is not None and after.period_s <= before.period_s * SEARCHED
        if unchanged(case, wider, before):
            assert after.period_s >= before.period_s * (1 - NOTICED) / SEARCHED


@QUICK
@given(graphs(most_ops=6), machines())
def test_what_only_costs_less_never_makes_it_worse(graph: Graph, machine: Machine) -> None:
    case = Case(graph, machine, roofline(graph, machine), Limits(), "throughput")
    before = solved(case)
    assert before is not None
    for lever in (lever for lever in levers(machine, 0.0) if lever.lowers):
        try:
            changed = on_machine(case, lever.change(machine))
        except UsageError:
            continue
        after = solved(changed)
        assert after is not None and after.period_s <= before.period_s * SEARCHED, lever.name
        if unchanged(changed, Limits(), before):
            assert after.period_s >= before.period_s * (1 - NOTICED) / SEARCHED, lever.name


@QUICK
@given(graphs(most_ops=6), machines(), st.integers(0, 30))
def test_planning_again_is_planning(graph: Graph, machine: Machine, pick: int) -> None:
    case = case_of(plan(graph, machine), graph, roofline(graph, machine))
    chosen = levers(machine, 0.0)
    lever = chosen[pick % len(chosen)]
    try:
        changed = on_machine(case, lever.change(machine))
    except UsageError:
        return
    after = solved(changed)
    expected = plan(graph, changed.machine, near_optimal=0.0)
    assert after is not None and after.bound <= expected.predicted.period_s * (1 + 1e-9)
    assert after.bound == pytest.approx(expected.solver.bound, rel=5e-4)
    if expected.solver.status == "optimal":
        assert after.value == pytest.approx(expected.predicted.period_s, rel=5e-4)
