"""Everything that has a name, on random graphs and machines: plans that are right, and none ahead of the planner's."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings

from mapper.cost.configurations import configurations
from mapper.cost.roofline import roofline
from mapper.graph.model import Graph
from mapper.machine.files import load_machine
from mapper.machine.model import Machine
from mapper.plans.check import mapping_of
from mapper.plans.evaluate import Placed, evaluate
from mapper.solver.peers.register import PLANNERS
from mapper.solver.placement.strategies import OPTIMAL, STRATEGIES
from mapper.solver.plan import plan
from mapper.solver.problem import problem_of
from mapper.study.sg2042.mappings import mappings
from mapper.study.sg2042.rivals import peers, placements
from tests.planning.graphs import graphs, machines
from tests.planning.test_machines import block_chain

SG2042 = load_machine("sg2042")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(graphs(), machines())
def test_nothing_that_has_a_name_is_ahead_of_the_planners_choice(graph: Graph, machine: Machine) -> None:
    """Its own stages in every named placement; the plans of all planners of others, in every placement; copies and
    pipelines of the study."""
    table = roofline(graph, machine, configurations(machine))
    problem = problem_of(graph, machine, table)
    ours = plan(graph, machine, costs=table, near_optimal=0.0)
    named: dict[str, tuple[Placed, ...]] = {
        mapping.name: mapping.placed for mapping in mappings(graph, machine, table, 1)
    }
    named |= {f"ours, {place}": placed for place, placed in placements(graph, machine, problem, mapping_of(ours))}
    for name, own in peers(graph, machine, problem):
        named[name] = own
        named |= {f"{name}, {place}": placed for place, placed in placements(graph, machine, problem, own)}
    assert {*PLANNERS, "planner", "one pipeline, any teams", f"{len(machine.cores)} copies × 1"} <= {
        *named, *(["1 copies × 1"] if len(machine.cores) == 1 else [])
    }  # fmt: skip
    for name, placed in named.items():
        period_s = evaluate(graph, machine, table, placed).predicted.period_s
        assert period_s >= ours.solver.bound * (1 - 1e-9), name
        assert period_s >= ours.predicted.period_s * (1 - 1e-9), name


def test_placements_have_the_same_stages_on_other_cores() -> None:
    graph = block_chain(6)
    problem = problem_of(graph, SG2042, roofline(graph, SG2042, configurations(SG2042)))
    one = next(placed for name, placed in peers(graph, SG2042, problem) if name == "equal-ops")
    found = dict(placements(graph, SG2042, problem, one))
    assert set(found) == set(STRATEGIES) - {OPTIMAL}
    shape = [(stage.ops, stage.config, len(stage.replicas)) for stage in one]
    assert all([(s.ops, s.config, len(s.replicas)) for s in placed] == shape for placed in found.values())
    assert len({tuple(s.replicas for s in placed) for placed in found.values()}) > 2


def test_a_placement_that_cannot_hold_the_stages_is_left_out() -> None:
    graph = block_chain(2)
    problem = problem_of(graph, SG2042, roofline(graph, SG2042, configurations(SG2042)))
    native = next(placed for name, placed in peers(graph, SG2042, problem) if name == "native")
    assert "per-group" not in dict(placements(graph, SG2042, problem, native)), "it has all groups"
    flat = load_machine("pack:1 numa:2 group:2 core:2")
    problem = problem_of(graph, flat, roofline(graph, flat, configurations(flat)))
    assert "mesh-neighbour" not in dict(placements(graph, flat, problem, next(iter(peers(graph, flat, problem)))[1]))


@pytest.mark.parametrize("name", list(STRATEGIES))
def test_a_placement_is_that_of_a_plan_that_asks_for_it(name: str) -> None:
    graph = block_chain(6)
    table = roofline(graph, SG2042, configurations(SG2042))
    ours = mapping_of(plan(graph, SG2042, costs=table, near_optimal=0.0))
    asked = mapping_of(plan(graph, SG2042, costs=table, near_optimal=0.0, strategy=name))
    found = {OPTIMAL: tuple(ours)} | dict(placements(graph, SG2042, problem_of(graph, SG2042, table), ours))
    assert found[name] == tuple(asked)
