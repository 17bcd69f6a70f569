"""The plans beside the chosen one: habits in any case, others only where nothing listed is as good in everything."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import mapper
from mapper.errors import Infeasible
from mapper.machine.files import load_machine
from mapper.plans.model import Alternative, Plan
from mapper.solver import alternatives as module
from mapper.solver.alternatives import Point, Row, alternatives
from mapper.solver.problem import Limits, Problem
from mapper.solver.search.least_period import least_period, throughput
from mapper.solver.search.space import Space
from mapper.solver.stop import Stop
from tests.planning.test_machines import block_chain
from tests.solver.problems import problems

QUICK = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def beats(a: Point, b: Point) -> bool:
    """Whether `a` is at least as good in everything and better in something."""
    return a != b and a[0] >= b[0] and a[1] <= b[1] and a[2] <= b[2]


def is_habit(row: Alternative) -> bool:
    return row.name.startswith(("native", "streams", "pipeline"))


def require_none_beaten(chosen: Point, rows: tuple[Alternative, ...]) -> None:
    for row in rows:
        if not is_habit(row):
            others = [chosen, *(module._point(other) for other in rows if other is not row)]
            assert not any(beats(other, module._point(row)) for other in others), row.name
            assert not any(other == module._point(row) for other in others), row.name


POINTS = st.tuples(st.integers(1, 4).map(float), st.integers(1, 4).map(float), st.integers(1, 3))


@given(POINTS, st.lists(st.tuples(st.booleans(), POINTS, st.sampled_from([module.COARSE, 0.05])), max_size=6))
def test_what_is_listed_is_beaten_by_nothing_and_what_is_not_by_something(
    own: Point, made: list[tuple[bool, Point, float]]
) -> None:
    found = []
    for at, (habit, (rate, latency, cores), slack) in enumerate(made):
        name = f"{'native' if habit else 'best'} {at}"
        plan = Alternative(name=name, throughput_per_s=rate, latency_s=latency, cores_used=cores)
        found.append((Row(name, "", Limits(), habit, slack), plan))
    rows = module._listed(own, found)
    require_none_beaten(own, rows)
    known = [own, *map(module._point, rows)]
    for row, plan in found:
        if plan not in rows:
            as_good = [x for x in known if x == module._point(plan) or beats(x, module._point(plan))]
            assert as_good and (not row.habit or module._point(plan) in known)


@QUICK
@given(problems(), st.sampled_from([Limits(), Limits(max_replicas=1), Limits(max_stages=1), Limits(max_cores=3)]))
def test_no_alternative_but_a_habit_is_beaten_by_another_or_the_chosen_plan(problem: Problem, limits: Limits) -> None:
    assume(float(problem.seconds.sum()) > 0)
    space = Space(problem)
    try:
        chosen = throughput(space, limits)
    except Infeasible:
        assume(False)
    assume(chosen.period_s > 0)
    rows = alternatives(space, chosen, limits)
    require_none_beaten((1 / chosen.period_s, chosen.latency_s, module._cores(chosen, space)), rows)
    assert all(row.cores_used <= (limits.max_cores or problem.cores) for row in rows)
    assert [row.throughput_per_s for row in rows] == sorted((row.throughput_per_s for row in rows), reverse=True)


@QUICK
@given(problems(), st.sampled_from([None, 1]), st.sampled_from([None, 1, 3]), st.integers(0, 2))
def test_plans_of_one_stage_are_those_that_a_search_finds(
    problem: Problem, max_replicas: int | None, max_cores: int | None, config: int
) -> None:
    assume(float(problem.seconds.sum()) > 0)
    one = (problem.configs[min(config, len(problem.configs) - 1)],)
    limits = Limits(stages=1, max_replicas=max_replicas, max_cores=max_cores, configurations=one)
    space = Space(problem)
    whole = space.undivided()
    try:
        searched = throughput(space, limits, tolerance=module.COARSE)
    except Infeasible:
        with pytest.raises(Infeasible):
            least_period(whole, limits, 0.0, module.COARSE)
        return
    found = least_period(whole, limits, 0.0, module.COARSE)
    assert found.period_s == pytest.approx(searched.period_s, rel=1e-12)
    assert found.bound_s <= found.period_s and found.latency_s == pytest.approx(searched.latency_s, rel=1e-12)
    assert module._cores(found, space) == module._cores(searched, space)
    assert found.stages[0].ops == tuple(range(problem.ops))


@pytest.fixture(scope="module")
def copies() -> Plan:
    """Copies that take far longer than one item on all cores."""
    return mapper.plan(block_chain(5), load_machine("sg2042"))


def test_a_plan_of_much_latency_stands_beside_two_of_less_and_the_least(copies: Plan) -> None:
    within = [row for row in copies.alternatives if row.name.startswith("best within")]
    assert len(within) == 2
    for row in within:
        text = row.options.split()[-1]
        limit = float(text.removesuffix("ms")) / 1e3 if text.endswith("ms") else float(text.removesuffix("s"))
        assert row.latency_s <= limit < copies.predicted.latency_s
    chosen = (copies.predicted.throughput_per_s, copies.predicted.latency_s, copies.predicted.cores_used)
    require_none_beaten(chosen, copies.alternatives)


def test_the_least_latency_is_that_of_the_objective() -> None:
    graph, machine = block_chain(5), load_machine("sg2042")
    fast = mapper.plan(graph, machine, objective="latency")
    rows = mapper.plan(graph, machine).alternatives
    least = min(row.latency_s for row in rows)
    named = [row for row in rows if row.name == "least latency"]
    if named:
        assert named[0].options == "--objective latency"
        assert named[0].latency_s == pytest.approx(fast.predicted.latency_s, rel=0.01)
    assert least <= fast.predicted.latency_s * 1.05, "where it has no row, one that is listed is as fast"


def test_a_habit_that_the_limits_forbid_is_left_out() -> None:
    space = Space(_two_ops())
    apart = Space(replace(_two_ops(), apart=((0, 1),)))
    assert any(row.name.startswith("native") for row in alternatives(space, throughput(space, Limits()), Limits()))
    chosen = throughput(apart, Limits())
    assert not any(row.name.startswith(("native", "streams")) for row in alternatives(apart, chosen, Limits()))


def test_nothing_is_looked_for_when_the_time_is_up() -> None:
    space = Space(_two_ops())
    chosen = throughput(space, Limits())
    space.stop = Stop(interrupted=True)
    assert alternatives(space, chosen, Limits()) == ()


@pytest.mark.parametrize(("seconds", "up"), [(0.0013, 0.002), (0.002, 0.002), (0.0021, 0.005), (7.0, 10.0), (0.9, 1.0)])
def test_round_latencies(seconds: float, up: float) -> None:
    assert math.isclose(module._round(seconds), up)


def _two_ops() -> Problem:
    """Two ops that gain from cores, on two groups of two."""
    import numpy as np

    from mapper.cost.configurations import Config
    from mapper.cost.residency import Caches
    from mapper.solver.problem import TensorArc

    configs = (Config(1, 1), Config(1, 2), Config(2, 2))
    return Problem(
        configs=configs, cache_shares=(1, 1, 1), seconds=np.array([[[8.0 / c.cores**0.7] * 3 for c in configs]] * 2),
        dram_bytes=np.zeros((2, 3)), footprint=np.ones(2), tensors=(TensorArc(0, (1,), 1.0),), weights=(), groups=2,
        cores_per_group=2, cores=4, caches=Caches(0.0, 0.0, ("group", "package", "dram")), dram_bytes_per_s=1e9,
        handoff_s=0.01, link_bytes_per_s=(1e3,) * 3,
    )  # fmt: skip
