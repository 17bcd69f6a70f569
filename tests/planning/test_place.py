"""Placement on the SG2042: shapes, packing, and partners near each other."""

from __future__ import annotations

import itertools
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mapper.cost.configurations import configurations
from mapper.cost.roofline import roofline
from mapper.graph.model import Graph
from mapper.machine.files import load_machine
from mapper.machine.model import Machine
from mapper.plans.evaluate import evaluate
from mapper.plans.model import Plan
from mapper.solver.placement.place import place
from mapper.solver.plan import plan
from mapper.solver.problem import Limits, problem_of
from mapper.solver.search.least_period import throughput
from mapper.solver.search.space import Space
from tests.planning.graphs import graphs, machines

MACHINE = load_machine("sg2042")


def chain(ops: int, bytes_between: int = 10**6) -> Graph:
    """Equal products, one after the other."""
    return Graph.model_validate({
        "name": "chain",
        "ops": [{"name": f"op{v}", "kind": "matmul", "flop": 1e9, "elements": 1000} for v in range(ops)],
        "tensors": [{"name": f"t{v}", "producer": f"op{v}", "readers": [f"op{v + 1}"], "bytes": bytes_between}
                    for v in range(ops - 1)],
    })  # fmt: skip


def crossings(made: Plan) -> int:
    """Edges whose two stages begin in different nodes."""
    node = [MACHINE.cores[stage.replicas[0].cores[0]].node for stage in made.stages]
    return sum(a != b for a, b in itertools.pairwise(node))


def test_a_pipeline_of_one_group_each_changes_node_as_seldom_as_can_be() -> None:
    from mapper.cost.configurations import Config

    made = plan(chain(16), MACHINE, limits=Limits(stages=16, max_replicas=1, configurations=(Config(1, 4),)))
    assert crossings(made) == 3
    assert made.solver.status == "optimal"


def test_neighbouring_nodes_are_taken_in_the_order_of_their_distances() -> None:
    """Nodes 0-1 and 2-3 are near each other (15 against 25 and 30): a chain over all four goes 1 0 2 3 or alike."""
    from mapper.cost.configurations import Config

    made = plan(chain(16), MACHINE, limits=Limits(stages=16, max_replicas=1, configurations=(Config(1, 4),)))
    nodes = list(dict.fromkeys(MACHINE.cores[stage.replicas[0].cores[0]].node for stage in made.stages))
    distances = MACHINE.distances
    assert distances is not None
    assert sum(distances[a][b] for a, b in itertools.pairwise(nodes)) == pytest.approx(15 + 15 + 25)


def test_small_teams_that_talk_share_a_group() -> None:
    """A team of two cores between two of one: near each other if they are in one group, and the slowest stage shows."""
    from mapper.cost.configurations import Config

    limits = Limits(max_replicas=1, stages=6, configurations=(Config(1, 1), Config(1, 2)))
    made = plan(chain(6, bytes_between=10**8), MACHINE, limits=limits)
    group = [MACHINE.cores[stage.replicas[0].cores[0]].group for stage in made.stages]
    assert sum(a != b for a, b in itertools.pairwise(group)) <= 2


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(graphs(), machines(), st.sampled_from([Limits(), Limits(max_replicas=1), Limits(max_replicas=2)]))
def test_moves_never_make_a_placement_worse(graph: Graph, machine: Machine, limits: Limits) -> None:
    table = roofline(graph, machine, configurations(machine))
    problem = problem_of(graph, machine, table)
    stages = throughput(Space(problem), limits).stages
    moved, _ = place(graph, machine, problem, stages)
    with mock.patch("mapper.solver.placement.place.nearer", lambda around, seats: seats):
        still, _ = place(graph, machine, problem, stages)
    after, before = (evaluate(graph, machine, table, placed).predicted.period_s for placed in (moved, still))
    assert after <= before * (1 + 1e-9)
    assert sorted(len(r) for p in moved for r in p.replicas) == sorted(len(r) for p in still for r in p.replicas)
    cores = [core for placed in moved for replica in placed.replicas for core in replica]
    assert len(cores) == len(set(cores))


def test_copies_of_one_core_fill_the_machine() -> None:
    made = plan(chain(3), MACHINE)
    assert [len(stage.replicas) for stage in made.stages] == [64]
    assert made.cores == tuple(range(64))


def test_a_replica_of_several_groups_stays_in_a_node_where_it_can() -> None:
    from mapper.cost.configurations import Config

    made = plan(chain(4), MACHINE, limits=Limits(stages=4, max_replicas=1, configurations=(Config(4, 4),)))
    for stage in made.stages:
        assert len({MACHINE.cores[core].node for core in stage.replicas[0].cores}) == 1
