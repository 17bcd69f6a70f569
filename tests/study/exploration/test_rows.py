"""Rows: against `mapper.plan`, against the bound of the free plan, and which of them no other beats."""

from __future__ import annotations

import shlex
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mapper
from mapper.cost.configurations import configurations, parse_configurations
from mapper.graph.model import Graph
from mapper.machine.files import load_machine
from mapper.machine.model import Machine
from mapper.plans.model import Plan
from mapper.plans.reference import reference_of
from mapper.study.exploration.dimensions import Dimensions, Variant
from mapper.study.exploration.explore import Exploration
from mapper.study.exploration.outcomes import Outcome, Searcher, Subject
from mapper.study.exploration.points import Point, Search
from mapper.study.exploration.rows import Row, columns_of, compared, efficient, row_of
from tests.planning.graphs import graphs, machines
from tests.study.exploration.small import GRID, explored, graph_of


@cache
def small() -> Exploration:
    return explored()


def planned(row: Row) -> Plan:
    """What `mapper plan` makes with the options of the row."""
    words = shlex.split(row.options)
    given_ = dict(zip(words[::2], words[1::2], strict=True))
    assert given_.pop("--model") == "chain"
    machine = load_machine(given_.pop("--topo"))
    graph, _ = graph_of(int(given_.pop("--batch", "1")))
    limits = mapper.Limits(
        stages=_number(given_.pop("--stages", None)), max_replicas=_number(given_.pop("--replicas", None)),
        configurations=parse_configurations(text, configurations(machine))
        if (text := given_.pop("--configurations", None)) else None,
    )  # fmt: skip
    strategy = given_.pop("--placement", "optimal")
    near = float(given_.pop("--near-optimal"))
    assert not given_, "all options are understood"
    return mapper.plan(graph, machine, limits=limits, near_optimal=near, strategy=strategy)


def _number(text: str | None) -> int | None:
    return None if text is None else int(text)


def test_every_point_has_a_row_with_a_plan_or_a_reason() -> None:
    found = small()
    assert len(found.rows) == found.points == 2 * 2 * 5 * 4 * 4 * 3
    assert [row.number for row in found.rows] == list(range(found.points))
    assert all((row.made is None) == bool(row.reason) == (row.options == "") for row in found.rows)
    reasons = {row.reason.partition(" (")[0] for row in found.rows if row.reason}
    assert {"more stages than ops", "more cores than there are", "no team of this size on the machine"} <= reasons
    assert any("does not say where its groups lie" in reason for reason in reasons)


def test_a_row_keeps_what_was_asked_for() -> None:
    for row in small().rows:
        if row.made is not None:
            assert row.stages in (None, len(row.made.replicas))
            assert row.threads is None or set(row.made.threads) == {row.threads}
            assert max(row.made.replicas) <= (row.replicas or max(row.made.replicas))


@pytest.mark.parametrize("part", range(6))
def test_a_row_is_what_mapper_plan_gives_with_its_options(part: int) -> None:
    usable = [row for row in small().rows if row.made is not None]
    for row in usable[part :: len(usable) // 3]:
        made, plan = row.made, planned(row)
        assert made is not None
        assert (made.period_s, made.latency_s, made.cores_used, made.limited_by) == (
            plan.predicted.period_s, plan.predicted.latency_s, plan.predicted.cores_used, plan.predicted.limited_by
        )  # fmt: skip
        assert (made.bound_s, made.gap, made.status) == (plan.solver.bound, plan.solver.gap, plan.solver.status)
        assert made.dram_bytes_per_item == plan.predicted.dram_bytes_per_item
        assert made.replicas == tuple(len(stage.replicas) for stage in plan.stages)


def test_no_row_is_better_than_the_bound_of_the_free_plan() -> None:
    for batch in GRID.batches:
        for variant in GRID.machines():
            bound = mapper.plan(graph_of(batch)[0], variant.machine, near_optimal=0.0).solver.bound
            rows = [row for row in small().rows if (row.machine, row.batch) == (variant.spec, batch) and row.made]
            assert min(row.made.period_s for row in rows if row.made) >= bound * (1 - 1e-9)


@settings(max_examples=10, deadline=None)
@given(graphs(most_ops=6), machines(), st.integers(1, 4), st.sampled_from([1, 2, 4]), st.sampled_from([None, 1, 2]))
def test_no_point_of_any_model_beats_the_free_bound(
    graph: Graph, machine: Machine, stages: int, threads: int, replicas: int | None
) -> None:
    if threads not in {config.cores for config in configurations(machine)} or stages > len(graph.ops):
        return
    subject = Subject({1: (graph, reference_of(graph))}, (machine,), ("optimal", "scatter"))
    found = Searcher(subject).outcomes(Search(0, 1, stages, threads, replicas))
    bound = mapper.plan(graph, machine, near_optimal=0.0).solver.bound
    assert [outcome.strategy for outcome in found] == ["optimal", "scatter"]
    assert all(outcome.made is None or outcome.made.period_s >= bound * (1 - 1e-9) for outcome in found)


@given(st.lists(st.tuples(*[st.integers(0, 4)] * 3), max_size=30))
def test_the_front_is_what_no_other_dominates(values: list[tuple[int, ...]]) -> None:
    found = efficient(np.array(values, float).reshape(-1, 3))
    expected = [
        i for i, mine in enumerate(values)
        if not any(other != mine and all(a <= b for a, b in zip(other, mine, strict=True)) for other in values)
        and mine not in values[:i]
    ]  # fmt: skip
    assert found == expected


def test_energy_is_that_of_all_packages_for_a_period() -> None:
    made = small().rows[0].made
    assert made is not None
    machine = load_machine("sg2042-2s")
    assert machine.power is not None and machine.power.package_w is not None
    row = row_of(Point(0, 0, 4, None, None, None, "optimal"), Variant("sg2042-2s", (), machine),
                 Outcome(strategy="optimal", made=made), "")  # fmt: skip
    assert row.energy_j == pytest.approx(2 * machine.power.package_w.value * made.period_s)
    assert row.element_energy_j == pytest.approx(2 * machine.power.package_w.value * made.period_s / 4)
    assert row.elements_per_s == pytest.approx(4 / made.period_s)


def test_energy_is_compared_where_every_machine_states_it() -> None:
    one = Dimensions(topos=("sg2042",), stages=(1,), threads=(4,))
    both = one.model_copy(update={"topos": ("sg2042", "numa:2 group:2 core:2")})
    assert "element_energy_j" in compared(explored(one).rows)
    assert "element_energy_j" not in compared(explored(both).rows)


def test_rows_have_all_columns_and_no_others() -> None:
    columns = columns_of(GRID)
    for row in small().rows:
        flat = row.flat()
        assert list(flat) == list(columns)
        for name, value in flat.items():
            assert value is None or type(value) is columns[name], name


def test_plans_are_simulated_on_request() -> None:
    found = explored(Dimensions(topos=("numa:2 group:2 core:2",), stages=(1, 2), threads=(2,)), simulated=True)
    for row in found.rows:
        assert row.made is not None and row.made.simulated is not None
        assert row.made.simulated.throughput_per_s <= row.made.throughput_per_s * (1 + 1e-6)
        assert row.made.simulated.latency_p50_s <= row.made.simulated.latency_p99_s
        assert row.flat()["simulated_latency_p99_s"] == row.made.simulated.latency_p99_s
