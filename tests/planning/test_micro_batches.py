"""Items in micro-batches: values against the whole space enumerated, and what cannot be asked."""

from __future__ import annotations

import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mapper
from mapper.cost.configurations import configurations
from mapper.cost.roofline import roofline
from mapper.errors import Infeasible, NoPlanInTime, UsageError
from mapper.graph.model import Graph
from mapper.machine.files import load_machine
from mapper.machine.restrict import restrict
from mapper.plans.check import violations
from mapper.plans.micro_batches import in_calls, in_items
from mapper.plans.model import Plan, Predicted
from mapper.solver.micro_batches import best_count, micro_batches
from mapper.solver.problem import Limits, problem_of
from tests.planning.graphs import graphs
from tests.planning.test_machines import block_chain
from tests.solver.brute import Outcome, outcomes

QUICK = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
PART = restrict(load_machine("sg2042"), cores="0-3")
"""One group: no distances, so that what is searched is what is placed."""
COUNTS = st.integers(2, 6)


def of_item(out: Outcome, count: int) -> tuple[float, float, int]:
    """Period, latency and cores of an item of `count` calls."""
    return out.period_s * count, out.latency_s + (count - 1) * out.period_s, out.cores


def known(graph: Graph, count: int) -> list[tuple[float, float, int]]:
    """Every plan on `PART`."""
    table = roofline(graph, PART, configurations(PART))
    return [of_item(out, count) for out in outcomes(problem_of(graph, PART, table), Limits())]


def made(graph: Graph, count: int, objective: str = "throughput", **limits: float) -> Plan:
    return mapper.plan(
        graph,
        PART,
        limits=Limits(**limits),
        objective=objective,
        batch=count,
        micro_batches=count,
        near_optimal=0.0,  # type: ignore[arg-type]
    )


@QUICK
@given(graphs(most_ops=4), COUNTS, st.floats(0, 1.2))
def test_the_least_period_within_a_latency(graph: Graph, count: int, share: float) -> None:
    every = known(graph, count)
    least, most = min(x[1] for x in every), max(x[1] for x in every)
    limit = least + share * (most - least)
    best = min(x[0] for x in every if x[1] <= limit * (1 + 1e-9))
    try:
        plan = made(graph, count, max_latency_s=limit)
    except (Infeasible, NoPlanInTime):
        assert limit <= least * (1 + 1e-6)
        return
    assert plan.predicted.period_s == pytest.approx(best, rel=2e-4)
    assert plan.solver.bound <= best * (1 + 1e-9)
    assert plan.predicted.latency_s <= limit * (1 + 1e-6)


@QUICK
@given(graphs(most_ops=4), COUNTS)
def test_the_least_latency_of_an_item(graph: Graph, count: int) -> None:
    best = min(x[1] for x in known(graph, count))
    plan = made(graph, count, "latency")
    assert plan.solver.bound <= best * (1 + 1e-9)
    assert best * (1 - 1e-9) <= plan.predicted.latency_s <= best * (1 + 4e-3)


@QUICK
@given(graphs(most_ops=4), COUNTS, st.floats(1.05, 4))
def test_the_fewest_cores_of_an_item(graph: Graph, count: int, slack: float) -> None:
    every = known(graph, count)
    period = min(x[0] for x in every) * slack
    latency = min(x[1] for x in every if x[0] <= period) * 1.05
    fewest = min(x[2] for x in every if x[0] <= period and x[1] <= latency)
    plan = made(graph, count, "cores", max_latency_s=latency, min_throughput_per_s=1 / period)
    assert plan.predicted.cores_used == fewest
    assert plan.solver.bound <= fewest


@QUICK
@given(graphs(most_ops=4), COUNTS)
def test_a_latency_that_cannot_be_names_one_that_can(graph: Graph, count: int) -> None:
    least = min(x[1] for x in known(graph, count))
    with pytest.raises(Infeasible) as refused:
        made(graph, count, max_latency_s=least * 0.9)
    (lever,) = refused.value.levers
    text = lever.removeprefix("--max-latency ").removesuffix("ms")
    assert made(graph, count, max_latency_s=float(text) / 1e3).predicted.latency_s <= float(text) / 1e3 * (1 + 1e-6)


def test_more_micro_batches_pay_where_latency_is_short() -> None:
    """Copies of one thread take an item of eight calls in parallel."""
    graph = block_chain(6)
    copies = made(graph, 8)
    assert copies.predicted.latency_s < 8 * copies.stages[0].load.total_s
    assert copies.predicted.period_s == pytest.approx(8 * mapper.plan(graph, PART).predicted.period_s)


def test_a_plan_that_is_changed_is_found() -> None:
    graph = block_chain(6)
    plan, table = made(graph, 4), roofline(graph, PART)
    assert not violations(plan, graph, table)
    for count in (1, 2, 3, 8):
        other = plan.model_copy(update={"request": plan.request.model_copy(update={"micro_batches": count})})
        assert any("/predicted/latency_s" in found for found in violations(other, graph, table))


@given(st.builds(
    Predicted, period_s=st.floats(1e-6, 1), throughput_per_s=st.just(1.0), latency_s=st.floats(1, 10),
    critical_path_s=st.floats(1, 10), window=st.integers(1, 9), cores_used=st.integers(1, 9),
    dram_bytes_per_item=st.floats(0, 1e9), limited_by=st.just("x"),
), st.integers(1, 64))  # fmt: skip
def test_items_and_calls_are_each_other_s_inverse(call: Predicted, count: int) -> None:
    call = call.model_copy(update={"throughput_per_s": 1 / call.period_s})
    item = in_items(call, count)
    assert math.isclose(item.throughput_per_s * item.period_s, 1)
    back = in_calls(item, count)
    for name in ("period_s", "throughput_per_s", "latency_s", "critical_path_s", "dram_bytes_per_item"):
        assert getattr(back, name) == pytest.approx(getattr(call, name), rel=1e-9)


def test_the_numbers_of_equal_micro_batches() -> None:
    assert list(micro_batches(12)) == [1, 2, 3, 4, 6, 12]


def test_of_all_numbers_the_best_is_taken() -> None:
    values = {1: 5.0, 2: 4.0, 3: 3.99, 4: 2.0, 6: 2.5, 12: 9.0}
    assert best_count(lambda count: count, 12, lambda count: values[count]) == 4

    def refuse(count: int) -> int:
        raise Infeasible(f"no {count}")

    with pytest.raises(Infeasible, match="no 1"):
        best_count(refuse, 12, float)


def test_what_knows_no_micro_batches() -> None:
    graph = block_chain(3)
    with pytest.raises(UsageError, match="other planners"):
        mapper.plan(graph, PART, micro_batches=2, batch=2, planner="pipedream")
    plan = made(graph, 2)
    with pytest.raises(UsageError, match="only what binds"):
        mapper.explain(plan, graph)
    binding = mapper.explain(plan, graph, only=("binding",)).binding
    assert binding.period_s == pytest.approx(plan.predicted.period_s / 2)
