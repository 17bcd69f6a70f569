"""Simulated plans against what the plan promises."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mapper
from mapper.cost.configurations import Config
from mapper.errors import UsageError
from mapper.graph.model import Graph, Op, WeightUse
from mapper.plans.dram import dram_of_nodes
from mapper.plans.model import Plan
from mapper.plans.source import graph_of_source
from mapper.plans.timeline import Doing, Span
from mapper.simulator.simulate import Arrivals, simulate
from mapper.solver.problem import Limits
from tests.planning.graphs import graphs
from tests.simulator.systems import plans


@settings(max_examples=60, deadline=None)
@given(plans(ample=True))
def test_without_contention_the_period_is_the_plans(plan: Plan) -> None:
    found = simulate(plan)
    assert found.period_s == pytest.approx(plan.predicted.period_s, rel=1e-4)
    assert found.throughput_per_s * found.period_s == pytest.approx(1)
    assert all(stage.slowed == pytest.approx(1) for stage in found.stages)
    assert found.latency_s.p50 >= plan.predicted.critical_path_s * (1 - 1e-9) or any(
        len(stage.replicas) > 1 for stage in plan.stages
    ), "replicas that are nearer take less than the plan says"
    loads = [stage.load_s <= stage.predicted_load_s * (1 + 1e-9) for stage in found.stages]
    assert all(loads)


@settings(max_examples=60, deadline=None)
@given(plans(ample=False))
def test_nothing_is_faster_than_the_plan_and_dram_is_never_overdrawn(plan: Plan) -> None:
    found = simulate(plan, warmup=0)
    assert found.period_s >= plan.predicted.period_s * (1 - 1e-9)
    use = found.utilisation
    assert use.dram is not None and use.dram <= 1 + 1e-9 and all(share <= 1 + 1e-9 for share in use.controllers)
    rate = plan.machine.memory.node_bandwidth_bytes_per_s
    assert rate is not None
    drawn = dram_of_nodes(plan.stages, plan.machine)
    for node, share in enumerate(use.controllers):
        assert share == pytest.approx(drawn.get(node, 0.0) / rate.value / found.period_s, rel=0.05, abs=1e-3)


def test_copies_that_share_dram_are_all_in_flight() -> None:
    """The window was made with the period that DRAM limits: of eight copies six were at work at a time."""
    machine = mapper.load_machine("epyc-7763")
    weights = (WeightUse(name="w", bytes=2**29, touched_bytes=2**29),)
    op = Op(name="op", kind="matmul", flop=1e6, elements=1, read_bytes=1, write_bytes=1, weights=weights)
    ends = {"ops": ("op",), "bytes": 1}
    graph = Graph.model_validate({
        "name": "heavy", "ops": (op,), "tensors": (), "inputs": [{"name": "x", **ends}],
        "outputs": [{"name": "y", **ends}],
    })  # fmt: skip
    plan = mapper.plan(graph, machine, limits=Limits(stages=1, configurations=(Config(1, 8),)))
    assert len(plan.stages[0].replicas) == 8 and plan.predicted.limited_by.startswith("DRAM")
    assert plan.predicted.latency_s < 7.5 * plan.predicted.period_s, "alone each is faster than its share of DRAM"
    assert plan.predicted.window == 8
    assert simulate(plan).period_s == pytest.approx(plan.predicted.period_s, rel=1e-6)


@settings(max_examples=40, deadline=None)
@given(plans(ample=True), st.floats(0.1, 0.9))
def test_all_that_comes_goes(plan: Plan, share: float) -> None:
    """Below what the plan manages, throughput is what arrives, and latency counts from then."""
    rate = share / plan.predicted.period_s
    found = simulate(plan, items=400, warmup=0, arrivals=Arrivals(rate_per_s=rate), seed=1)
    assert found.throughput_per_s <= rate * 1.5 and found.throughput_per_s <= 1.001 / plan.predicted.period_s
    assert found.latency_s.p50 <= found.latency_s.p90 <= found.latency_s.p99
    assert found == simulate(plan, items=400, warmup=0, arrivals=Arrivals(rate_per_s=rate), seed=1)


@pytest.fixture(scope="module")
def pipeline() -> Plan:
    graph, reference = graph_of_source("mobilenetv2")
    return mapper.plan(graph, mapper.load_machine("sg2042"), model=reference, limits=Limits(stages=6, max_replicas=2))


def test_utilisation_is_that_of_the_busy_cores(pipeline: Plan) -> None:
    found, machine = simulate(pipeline), pipeline.machine
    use = found.utilisation
    assert (len(use.cores), len(use.groups), len(use.nodes)) == (64, 16, 4)
    assert [core for core, busy in enumerate(use.cores) if busy] == list(pipeline.cores)
    for stage, seen in zip(pipeline.stages, found.stages, strict=True):
        expected = stage.load.total_s / len(stage.replicas) / found.period_s
        assert 0.9 * expected <= seen.busy <= expected * 1.001, "replicas that are nearer have less to do"
        busiest = max(use.cores[replica.cores[0]] for replica in stage.replicas)
        assert busiest == pytest.approx(expected, rel=0.01)
        assert all(len({use.cores[c] for c in replica.cores}) == 1 for replica in stage.replicas)
    for node in range(4):
        mine = [busy for core, busy in zip(machine.cores, use.cores, strict=True) if core.node == node]
        assert use.nodes[node] == pytest.approx(sum(mine) / 16)
    assert max(stage.busy for stage in found.stages) == pytest.approx(1, rel=0.01), "one of them never waits"


def test_stages_before_the_slowest_wait_for_room_and_those_after_it_for_items(pipeline: Plan) -> None:
    found = simulate(pipeline)
    slowest = max(found.stages, key=lambda s: s.busy).id
    for stage in found.stages:
        cycle = found.period_s * stage.replicas
        assert stage.load_s + stage.wait_in_s + stage.wait_out_s == pytest.approx(cycle, rel=0.02)
        if stage.id > slowest:
            assert stage.wait_out_s == pytest.approx(0, abs=1e-9)
    assert {wait.stage for wait in found.waits if wait.wait_s > 0.01 * found.period_s}.isdisjoint({slowest})


def test_jitter_slows_a_pipeline_and_seeds_repeat_it(pipeline: Plan) -> None:
    still, shaken = simulate(pipeline), simulate(pipeline, spread=0.3, seed=4)
    assert shaken.period_s > still.period_s * 1.02
    assert shaken == simulate(pipeline, spread=0.3, seed=4) != simulate(pipeline, spread=0.3, seed=5)


def test_a_trace_says_when_items_come_and_starts_again(pipeline: Plan) -> None:
    gap = 20 * pipeline.predicted.period_s
    found = simulate(pipeline, items=100, warmup=0, arrivals=Arrivals(trace_s=(5.0, 5.0 + gap, 5.0 + 2 * gap)))
    assert found.period_s == pytest.approx(gap, rel=0.02), "each finds all stages free"
    assert found.latency_s.p99 == pytest.approx(found.latency_s.p50)
    assert found.latency_s.p50 == pytest.approx(pipeline.predicted.critical_path_s, rel=0.02)


def test_everything_that_is_done_is_told(pipeline: Plan) -> None:
    spans: list[Span] = []
    simulate(pipeline, items=10, warmup=0, watch=spans.append)
    computed = {(span.stage, span.call) for span in spans if span.doing is Doing.COMPUTING}
    assert {(stage.id, call) for stage in pipeline.stages for call in range(10)} <= computed


@settings(max_examples=20, deadline=None)
@given(graphs(), st.sampled_from([2, 4]))
def test_items_of_several_calls_take_what_the_plan_says(graph: mapper.Graph, calls: int) -> None:
    machine = mapper.load_machine("pack:1 group:2 core:2")
    plan = mapper.plan(graph, machine, limits=Limits(stages=min(2, len(graph.ops)), max_replicas=1))
    from mapper.plans.micro_batches import in_items

    request = plan.request.model_copy(update={"micro_batches": calls, "batch": calls})
    made = plan.model_copy(update={"request": request, "predicted": in_items(plan.predicted, calls)})
    found = simulate(made)
    assert found.period_s >= made.predicted.period_s * (1 - 1e-6)
    assert found.latency_s.p50 <= made.predicted.latency_s + made.predicted.period_s * (1 + 1e-6)


@pytest.mark.parametrize("wrong", [
    {"items": 0}, {"warmup": -1}, {"spread": -0.1}, {"spread": math.nan}, {"arrivals": Arrivals(rate_per_s=0.0)},
    {"arrivals": Arrivals(rate_per_s=math.inf)}, {"arrivals": Arrivals(trace_s=(2.0, 1.0))},
])  # fmt: skip
def test_numbers_that_make_no_sense_are_refused(pipeline: Plan, wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        simulate(pipeline, **wrong)  # type: ignore[arg-type]
