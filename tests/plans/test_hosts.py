"""Plans over several hosts: what crosses the network, against items sent one by one, and what check finds."""

from __future__ import annotations

import itertools
import math
from functools import cache

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mapper
from mapper.cost.configurations import Config, configurations
from mapper.cost.roofline import roofline
from mapper.cost.transfer import transfer_s
from mapper.graph.model import Boundary, Graph, Op
from mapper.machine.figures import Figure
from mapper.machine.hosts import feeder_host, host_of
from mapper.machine.model import Machine
from mapper.plans.check import check
from mapper.plans.evaluate import Evaluation, Placed, evaluate
from mapper.plans.hosts import crossings, hosts_used, traffic
from mapper.plans.model import FEEDER, Plan
from tests.planning.graphs import graphs
from tests.solver.clusters import clustered, clusters

QUICK = settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))


@st.composite
def placed(draw: st.DrawFn) -> tuple[Graph, Machine, Evaluation]:
    """A random mapping of a random graph on a small cluster, one core a replica."""
    graph, machine = draw(graphs(most_ops=5)), draw(clusters())
    cores = draw(st.permutations([core.logical for core in machine.cores]))
    count = draw(st.integers(1, min(len(graph.ops), len(cores))))
    cuts = sorted(draw(st.sets(st.integers(1, max(1, len(graph.ops) - 1)), min_size=0, max_size=count - 1)))
    cuts = [cut for cut in cuts if cut < len(graph.ops)]
    names, left, mapping = [op.name for op in graph.ops], list(cores), []
    ends = [0, *cuts, len(names)]
    for i, (a, b) in enumerate(itertools.pairwise(ends)):
        later = len(ends) - 2 - i
        replicas = draw(st.integers(1, len(left) - later))
        mine, left = left[:replicas], left[replicas:]
        mapping.append(Placed(tuple(names[a:b]), Config(1, 1), tuple((core,) for core in mine)))
    return graph, machine, evaluate(graph, machine, roofline(graph, machine, configurations(machine)), mapping)


@QUICK
@given(placed())
def test_traffic_is_what_items_sent_one_by_one_carry(made: tuple[Graph, Machine, Evaluation]) -> None:
    graph, machine, found = made
    home = {op: stage.id for stage in found.stages for op in stage.ops}
    rounds = math.lcm(*(len(stage.replicas) for stage in found.stages))
    into, out = dict.fromkeys(range(3), 0.0), dict.fromkeys(range(3), 0.0)

    def host(stage: int, item: int) -> int:
        replicas = found.stages[stage].replicas
        return host_of(machine, replicas[item % len(replicas)].cores[0])

    def sent(a: int, b: int, size: float) -> None:
        if a != b:
            out[a] += size / rounds
            into[b] += size / rounds

    for item in range(rounds):
        for tensor in graph.tensors:
            for reader in {home[op] for op in tensor.readers} - {home[tensor.producer]}:
                sent(host(home[tensor.producer], item), host(reader, item), tensor.bytes)
        for given_ in graph.inputs:
            for reader in {home[op] for op in given_.ops}:
                sent(0, host(reader, item), given_.bytes)
        for given_ in graph.outputs:
            sent(host(home[given_.ops[0]], item), 0, given_.bytes)
    moved = traffic(found.stages, found.edges, machine)
    for number, each in moved.items():
        assert (each.in_bytes, each.out_bytes) == pytest.approx((into[number], out[number]))
    link = machine.links["cluster"].bandwidth_bytes_per_s
    assert link is not None
    busiest = max(max(into.values()), max(out.values())) / link.value
    assert found.predicted.period_s >= busiest * (1 - 1e-9)
    if found.predicted.limited_by.startswith("link"):
        assert found.predicted.period_s == pytest.approx(busiest)


@QUICK
@given(placed())
def test_what_crosses_goes_between_hosts_that_are_used(made: tuple[Graph, Machine, Evaluation]) -> None:
    _, machine, found = made
    plan = found.in_plan(a_plan(), machine=machine)
    used = hosts_used(plan)
    assert used[0] == feeder_host(machine)
    assert set(used[1:]) <= {replica.host for stage in plan.stages for replica in stage.replicas} <= set(used)
    for x in crossings(plan.stages, plan.edges, machine):
        assert x.from_host != x.to_host and {x.from_host, x.to_host} <= set(used)
        assert 0 < x.share <= 1 and x.tensors
        for end, host, replicas in ((x.source, x.from_host, 0), (x.target, x.to_host, 1)):
            if end != FEEDER:
                assert {plan.stages[int(end)].replicas[pair[replicas]].host for pair in x.pairs} == {host}
        assert FEEDER not in (x.source, x.target) or feeder_host(machine) in (x.from_host, x.to_host)


@cache
def a_plan() -> Plan:
    """A plan whose parts are replaced."""
    op = Op(name="op", kind="none", flop=1, elements=1, read_bytes=1, write_bytes=1)
    return mapper.plan(Graph(name="any", ops=(op,), tensors=(), inputs=(), outputs=()), mapper.load_machine("core:1"))


def test_nothing_crosses_inside_of_one_host() -> None:
    plan = a_plan()
    assert traffic(plan.stages, plan.edges, plan.machine) == {} and hosts_used(plan) == (0,)


def test_another_host_costs_what_the_same_host_costs_and_the_network_on_top() -> None:
    machine = clustered(2, 2, 2, rate=1e8)
    far = max(transfer_s(machine, 1e6, distance) for distance in ("group", "node", "package"))
    assert transfer_s(machine, 1e6, "cluster") == pytest.approx(far + 5e-6 + 2e-6 + 1e6 / 1e8)


# what check finds


@cache
def planned() -> tuple[Graph, Plan]:
    """A plan for two hosts whose network limits it, and its graph."""
    ops = [
        Op(name=f"op{v}", kind="matmul", flop=10**8, elements=10, read_bytes=10, write_bytes=10) for v in range(2)
    ]  # fmt: skip
    boundary = Boundary(name="x", ops=("op0",), bytes=10**6)
    graph = Graph(name="two", ops=tuple(ops), tensors=(), inputs=(boundary,), outputs=())
    return graph, mapper.plan(graph, clustered(2, 1, 2, rate=1e8))


def findings(plan: Plan, *, alone: bool = False) -> str:
    """What `check` finds wrong with `plan`."""
    graph, _ = planned()
    table = roofline(graph, plan.machine, configurations(plan.machine))
    return "\n".join(check(plan, *([] if alone else [graph, table])).violations)


def test_a_plan_over_hosts_keeps_its_promises() -> None:
    _, plan = planned()
    assert {replica.host for stage in plan.stages for replica in stage.replicas} == {0, 1}
    assert findings(plan) == "" and findings(plan, alone=True) == ""


def test_a_period_that_the_network_has_no_time_for_is_found_without_the_graph() -> None:
    _, plan = planned()
    slow = plan.machine.links["cluster"].model_copy(update={"bandwidth_bytes_per_s": Figure(value=1e4)})
    machine = plan.machine.model_copy(update={"links": {**plan.machine.links, "cluster": slow}})
    assert "link out of host 0 needs" in findings(plan.model_copy(update={"machine": machine}), alone=True)


def test_a_team_on_two_hosts_and_a_wrong_host_are_found() -> None:
    _, plan = planned()
    stage = plan.stages[0]
    moved = [replica.model_copy(update={"host": 1 - replica.host}) for replica in stage.replicas]
    wrong = plan.model_copy(update={"stages": (stage.model_copy(update={"replicas": tuple(moved)}), *plan.stages[1:])})
    assert "but it says" in findings(wrong, alone=True)
    graph, machine = planned()[0], clustered(2, 2, 1)
    mapping = [Placed(("op0", "op1"), Config(2, 1), ((1, 2),))]
    with pytest.raises(ValueError, match="a team spans hosts"):
        evaluate(graph, machine, roofline(graph, machine, configurations(machine)), mapping)
    assert [config.name for config in configurations(machine)] == ["1x1", "2x1"], "of a host"


def test_rings_of_replicas_that_are_not_there_are_found() -> None:
    _, plan = planned()
    edge = plan.edges[0]
    ring = edge.rings[0].model_copy(update={"to_replica": 99})
    wrong = plan.model_copy(update={"edges": (edge.model_copy(update={"rings": (ring,)}), *plan.edges[1:])})
    assert "/edges" in findings(wrong, alone=True)
