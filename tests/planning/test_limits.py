"""Requests with limits and objectives, as whole plans: placed, evaluated and checked."""

from __future__ import annotations

import math
import signal
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mapper
from mapper.cost.roofline import roofline
from mapper.errors import Infeasible, NoPlanInTime, UsageError
from mapper.graph.model import Graph
from mapper.machine.figures import Figure
from mapper.machine.files import load_machine
from mapper.machine.model import Machine
from mapper.machine.restrict import restrict
from mapper.plans.check import violations
from mapper.plans.model import Plan
from mapper.solver.batches import best_batch
from mapper.solver.plan import PLACED
from mapper.solver.problem import Limits, problem_of
from mapper.solver.search.least_period import alike, throughput
from mapper.solver.search.space import Space
from mapper.solver.stop import Stop
from tests.planning.graphs import graphs, machines
from tests.planning.test_machines import block_chain, with_figure

SG2042 = load_machine("sg2042")
QUICK = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def limits_like(draw: st.DrawFn, free: Plan) -> Limits:
    """Limits around what the free plan has."""
    slack = draw(st.sampled_from([0.5, 0.9, 1.1]))
    given = draw(st.sets(st.sampled_from(["latency", "rate", "memory", "cores"]), min_size=1, max_size=3))
    return Limits(
        max_latency_s=free.predicted.latency_s * slack if "latency" in given else None,
        min_throughput_per_s=free.predicted.throughput_per_s * slack if "rate" in given else None,
        node_memory_bytes=max(free.predicted.node_memory_bytes) * slack if "memory" in given else None,
        max_cores=draw(st.integers(1, len(free.machine.cores))) if "cores" in given else None,
    )


@QUICK
@given(graphs(most_ops=6), machines(), st.data())
def test_plans_keep_their_limits_whatever_the_objective(graph: Graph, machine: Machine, data: st.DataObject) -> None:
    """`plan` checks every plan that it makes, limits included; what is infeasible has levers that are options."""
    limits = data.draw(limits_like(mapper.plan(graph, machine)))
    objective = data.draw(st.sampled_from(["throughput", "latency", "cores"]))
    try:
        made = mapper.plan(graph, machine, limits=limits, objective=objective)
    except Infeasible as error:
        assert all(lever.removeprefix("without ").startswith("--") for lever in error.levers)
    except NoPlanInTime as error:
        assert "when it is placed" in str(error)
    else:
        assert made.request.objective == objective
        assert made.solver.bound <= made.solver.objective * (1 + 1e-9)


def test_the_least_latency_and_the_fewest_cores_are_proved() -> None:
    graph = block_chain(5)
    free = mapper.plan(graph, SG2042)
    fast = mapper.plan(graph, SG2042, objective="latency")
    assert fast.solver.status == "optimal" and fast.predicted.latency_s < free.predicted.latency_s / 3
    half = Limits(min_throughput_per_s=free.predicted.throughput_per_s / 2)
    few = mapper.plan(graph, SG2042, objective="cores", limits=half)
    assert few.solver.objective == few.solver.bound == few.predicted.cores_used
    assert 24 <= few.predicted.cores_used <= 34
    with pytest.raises(Infeasible) as raised:
        mapper.plan(graph, SG2042, limits=replace(half, max_cores=few.predicted.cores_used - 1))
    assert any(lever == f"--max-cores {few.predicted.cores_used}" for lever in raised.value.levers)


def test_memory_that_holds_one_copy_spread_over_all_nodes_is_planned_natively() -> None:
    """Four nodes with room for a quarter of the weights and of a process each."""
    graph = block_chain(4)
    tight = mapper.plan(graph, SG2042, limits=Limits(node_memory_bytes=120e6))
    assert max(tight.predicted.node_memory_bytes) <= 120e6
    assert [len(stage.replicas) for stage in tight.stages] == [1]
    assert tight.stages[0].replicas[0].weights.nodes == (0, 1, 2, 3)


def test_half_of_the_memory_that_the_free_plan_needs() -> None:
    """Sixteen processes a node become seven, of unequal size, and the gap says what is not proved."""
    free = mapper.plan(block_chain(4), SG2042)
    most = max(free.predicted.node_memory_bytes) / 2
    made = mapper.plan(block_chain(4), SG2042, limits=Limits(node_memory_bytes=most))
    assert max(made.predicted.node_memory_bytes) <= most
    assert made.solver.gap < 0.02
    assert made.solver.proved.assumptions == (*free.solver.proved.assumptions, PLACED)


def test_ops_stay_together_and_apart_as_asked() -> None:
    graph = block_chain(4)
    together = Limits(stages=3, max_replicas=1, together=(("op0", "op2"),))
    with pytest.raises(Infeasible, match="--stages and --together"):
        mapper.plan(graph, SG2042, limits=together)
    made = mapper.plan(graph, SG2042, limits=replace(together, stages=2))
    assert made.stage_of["op0"] == made.stage_of["op1"] == made.stage_of["op2"]
    apart = mapper.plan(graph, SG2042, limits=Limits(apart=(("op0", "op3"), ("op1", "op2"))))
    assert apart.stage_of["op0"] != apart.stage_of["op3"] and apart.stage_of["op1"] != apart.stage_of["op2"]
    with pytest.raises(UsageError, match="has no op 'opx'"):
        mapper.plan(graph, SG2042, limits=Limits(apart=(("op0", "opx"),)))


@pytest.mark.parametrize("reserve", ["1", "2", "3", "7"])
def test_groups_of_unequal_size_are_used_whole(reserve: str) -> None:
    """Reserving single cores leaves one or two groups smaller; copies still fill every core that is left."""
    part = restrict(SG2042, reserve=reserve)
    made = mapper.plan(block_chain(3), part)
    assert part.cores_per_group == 4 and made.predicted.cores_used == 64 - int(reserve)
    wide = mapper.plan(block_chain(3), part, objective="latency")
    assert wide.stages[0].replicas[0].configuration.groups == len(part.whole_groups)


def test_a_machine_of_single_cores_and_two_clusters_uses_all() -> None:
    machine = load_machine("core-i9-12900k")
    assert mapper.plan(block_chain(3), machine).predicted.cores_used == len(machine.cores)


def short_of_dram() -> Machine:
    """SG2042 with controllers that serve 1 GB/s a node, of which a core alone could draw five times as much."""
    dram = {"package_bandwidth_bytes_per_s": 4e9, "node_bandwidth_bytes_per_s": 1e9, "core_bandwidth_bytes_per_s": 5e9}
    return with_figure(SG2042, "memory", **{name: Figure(value=value) for name, value in dram.items()})


def reader(**op: object) -> Graph:
    """One product that reads 1 GB of weights."""
    weights = [{"name": "w", "bytes": 10**9, "touched_bytes": 10**9}]
    made = {"name": "a", "kind": "matmul", "flop": 1e8, "elements": 10**5, "weights": weights, **op}
    return Graph.model_validate({"name": "g", "ops": [made], "tensors": []})


def test_copies_whose_weights_fill_dram_are_spread_over_the_nodes() -> None:
    """Weights in DRAM bind; what each node's controllers serve is asked for evenly, though nothing else asks for it."""
    made = mapper.plan(reader(), short_of_dram())
    assert made.solver.gap < 1e-3 and "DRAM" in made.predicted.limited_by


def test_weights_of_one_worker_lie_on_all_nodes_where_one_cannot_serve_them() -> None:
    """From its own node an item would take a second, from all four a quarter; busy cores are 1.25 times slower."""
    machine = short_of_dram()
    limits = Limits(max_replicas=1, max_cores=4)
    made = mapper.plan(reader(), machine, limits=limits)
    (replica,) = made.stages[0].replicas
    assert {machine.cores[core].node for core in replica.cores} == {0}
    assert (replica.weights.policy, replica.weights.nodes) == ("interleave", (0, 1, 2, 3))
    assert made.predicted.period_s == pytest.approx(1.25 * 0.25, rel=1e-3)
    assert made.solver.gap < 1e-2
    at_home = replica.model_copy(update={"weights": replica.weights.model_copy(update={"nodes": (0,)})})
    stage = made.stages[0].model_copy(update={"replicas": (at_home,)})
    wrong = violations(made.model_copy(update={"stages": (stage,)}), reader(), roofline(reader(), machine))
    assert any("period_s" in line for line in wrong)


def test_no_time_at_all_still_gives_a_checked_plan() -> None:
    made = mapper.plan(block_chain(30), SG2042, limits=Limits(max_latency_s=1.2), time_limit_s=0.0)
    assert made.predicted.latency_s <= 1.2 and made.alternatives == ()


def test_an_interruption_gives_the_best_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    """A real signal in the middle of the search: the plan is checked, feasible, and says what is proved by then."""
    heard: list[str] = []

    def progress(message: str) -> None:
        heard.append(message)
        if len(heard) == 3:
            signal.raise_signal(signal.SIGINT)

    stop = Stop()
    graph, limits = block_chain(40), Limits(max_latency_s=2.0)
    made = mapper.plan(graph, SG2042, limits=limits, progress=progress, stop=stop)
    assert stop.interrupted and len(heard) <= 4
    best = mapper.plan(graph, SG2042, limits=limits)
    assert made.predicted.period_s >= best.predicted.period_s * (1 - 1e-9)
    assert made.solver.bound <= best.solver.best_objective * (1 + 1e-9)


def test_the_batch_with_the_best_rate_is_taken() -> None:
    """An item of two takes 1.5 times as long, one of four 3.2 times: two are best."""
    seconds = {1: 1.0, 2: 1.5, 4: 3.2}
    plan = mapper.plan(block_chain(2), SG2042)

    def of(batch: int) -> Plan:
        if batch > 4:
            raise Infeasible("no plan", [])
        predicted = plan.predicted.model_copy(update={"throughput_per_s": 1 / seconds[batch]})
        request = plan.request.model_copy(update={"batch": batch})
        return plan.model_copy(update={"predicted": predicted, "request": request})

    assert best_batch(of).request.batch == 2


def test_a_search_of_equal_parts_is_one_of_the_whole() -> None:
    graph = block_chain(6)
    space = Space(problem_of(graph, SG2042, roofline(graph, SG2042)))
    whole = throughput(space, Limits())
    for parts in (2, 4):
        found = alike(space, parts, Limits(), 0.0, 1e-5)
        assert found.period_s >= whole.bound_s * (1 - 1e-9)
        assert all(stage.replicas % parts == 0 for stage in found.stages)
        assert math.isclose(found.period_s, max(s.load_s / s.replicas for s in found.stages), rel_tol=0.5)
    with pytest.raises(Infeasible):
        alike(space, 4, Limits(max_replicas=1), 0.0, 1e-5)
