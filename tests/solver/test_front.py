"""The front against the whole space of small problems: bounds that hold, plans that are there, nothing left out."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from mapper.errors import Infeasible
from mapper.solver.front import Chosen, choose, fewest_stages, needed, options_of
from mapper.solver.problem import Array, Limits, Problem
from mapper.solver.search.request import Found, Request
from mapper.solver.search.space import Space
from mapper.solver.search.sweep import Sweep, Swept, covering, efficient, values_of
from mapper.solver.stop import Stop
from mapper.units import parse_seconds
from tests.solver.brute import outcomes
from tests.solver.limits import some_limits
from tests.solver.problems import problems

QUICK = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
PRECISIONS = st.sampled_from([0.01, 0.1, 0.5])


def every_plan(problem: Problem, limits: Limits) -> Array:
    """(plans, 3): period, latency, cores of all plans within `limits`; none twice."""
    rows = {(x.period_s, x.latency_s, float(x.cores)) for x in outcomes(problem, limits)}
    return np.array(sorted(row for row in rows if row[0] < math.inf)).reshape(-1, 3)


def covers(points: Array, plans: Array, within: float) -> bool:
    """Whether for each of `plans` there is a point with at most `within` times its period and latency."""
    return bool(covering(points, plans, within * (1 + 1e-9)).any(axis=0).all())


def holds(swept: Swept, plans: Array) -> None:
    """Each of `plans` is no better than some corner, and each plan that was found is one of them."""
    assert covers(swept.corners, plans, 1.0), "a corner that is worse than a plan"
    for found in values_of(swept.found):
        assert np.isclose(plans, found, rtol=1e-9, atol=1e-12).all(axis=1).any(), "a plan that there is not"


def swept_and_plans(problem: Problem, limits: Limits, precision: float) -> tuple[Sweep, Swept, Array]:
    assume(float(problem.seconds.sum()) > 0)
    plans = every_plan(problem, limits)
    sweep = Sweep(Space(problem), limits, precision)
    if not len(plans):
        with pytest.raises(Infeasible):
            sweep.run()
        assume(False)
    return sweep, sweep.run(), plans


@QUICK
@given(problems(), PRECISIONS)
def test_a_sweep_leaves_out_no_plan(problem: Problem, precision: float) -> None:
    _, swept, plans = swept_and_plans(problem, Limits(), precision)
    holds(swept, plans)
    assert swept.done
    assert covers(values_of(swept.found), plans, 1 + precision)


@st.composite
def limited(draw: st.DrawFn) -> tuple[Problem, Limits]:
    problem = draw(problems(most_ops=3))
    assume(float(problem.seconds.sum()) > 0)
    return problem, some_limits(draw, problem)


@QUICK
@given(limited(), PRECISIONS)
def test_nor_does_one_under_limits(asked: tuple[Problem, Limits], precision: float) -> None:
    problem, limits = asked
    _, swept, plans = swept_and_plans(problem, limits, precision)
    holds(swept, plans)
    if swept.done:
        assert covers(values_of(swept.found), plans, 1 + precision)


@QUICK
@given(problems(most_ops=3), st.sampled_from([1, 2, 3]), PRECISIONS)
def test_nor_one_of_so_many_stages(problem: Problem, stages: int, precision: float) -> None:
    assume(float(problem.seconds.sum()) > 0 and stages <= problem.ops)
    limits = Limits(stages=stages)
    plans = every_plan(problem, limits)
    assume(len(plans))
    swept = Sweep(Space(problem).counted(limits), limits, precision).run()
    holds(swept, plans)
    assert not swept.done or covers(values_of(swept.found), plans, 1 + precision)


@QUICK
@given(problems(), PRECISIONS, st.sampled_from([0.0, 0.01]))
def test_what_is_chosen_covers_all_plans(problem: Problem, precision: float, near_optimal: float) -> None:
    sweep, swept, plans = swept_and_plans(problem, Limits(), precision)
    allowance = min(near_optimal, precision / 4)
    chosen = choose(swept, precision, allowance, lambda found: as_found(sweep.space, found, allowance))
    points = np.array([x.values for x in chosen], float)
    kept = points[needed(points, swept.corners, 1 + precision)]
    assert covers(kept, plans, 1 + precision)
    assert len(efficient(kept)) == len(kept), "a point that another is as good as"
    assert kept[:, 0].min() <= plans[:, 0].min() * (1 + allowance) * (1 + 1e-4) + 1e-12
    assert kept[:, 1].min() <= plans[:, 1].min() * (1 + allowance) * (1 + 1e-9)


def as_found(space: Space, found: Found, allowance: float) -> Chosen:
    """`found` with fewer stages, as if placing it cost nothing."""
    simpler = fewest_stages(space, found, Limits(), allowance)
    assert len(simpler.cells) <= len(found.cells) and simpler.cores <= found.cores
    assert simpler.period_s <= found.period_s * (1 + allowance) * (1 + 1e-9)
    assert simpler.latency_s <= found.latency_s * (1 + allowance) * (1 + 1e-8)
    solution = Request(space, Limits()).solution(simpler, simpler.period_s, 0.0)
    return Chosen(solution, (simpler.period_s, simpler.latency_s, simpler.cores), None)


@QUICK
@given(problems(), st.integers(0, 12))
def test_a_sweep_that_is_stopped_proves_less_but_nothing_wrong(problem: Problem, looks: int) -> None:
    assume(float(problem.seconds.sum()) > 0)
    ticks = iter(range(10**9))
    stop = Stop(1.0, clock=lambda: 0.0 if next(ticks) < looks else 0.7)
    swept = Sweep(Space(problem, stop=stop), Limits(), 0.01).run()
    holds(swept, every_plan(problem, Limits()))


def test_a_plan_that_cannot_be_placed_is_replaced_by_another() -> None:
    """Of three plans the middle one alone covers both corners; without it the other two do."""
    found = tuple(Found((), (), period, latency, 1) for period, latency in ((1.0, 4.0), (1.1, 3.8), (1.2, 3.6)))
    swept = Swept(found, np.array([[1.0, 3.7, 1.0], [1.15, 3.5, 1.0]]), True)

    def placed(bad: float) -> list[float]:
        def realise(x: Found) -> Chosen | None:
            return None if x.period_s == bad else Chosen(None, (x.period_s, x.latency_s, 1), None)  # type: ignore[arg-type]

        points = choose(swept, 0.1, 0.0, realise)
        kept = needed(np.array([x.values for x in points]), swept.corners, 1.1)
        return sorted(points[i].values[0] for i in kept)

    assert placed(0.0) == [1.0, 1.2]  # both ends are always there
    assert placed(1.0) == [1.1, 1.2]


def test_rows_that_another_is_as_good_as() -> None:
    table = np.array([[2.0, 2.0, 1.0], [1.0, 3.0, 1.0], [1.0, 3.0, 1.0], [2.0, 2.0, 2.0], [3.0, 1.0, 5.0]])
    assert efficient(table).tolist() == [1, 0, 4]
    assert efficient(np.empty((0, 3))).tolist() == []


@given(st.floats(1e-7, 1e4), st.integers(1, 64))
def test_options_keep_the_point(latency_s: float, cores: int) -> None:
    words = options_of(latency_s, cores, 64, Limits()).split()
    assert latency_s * (1 - 1e-8) <= parse_seconds(words[1]) <= latency_s * 1.0011
    assert words[2:] == (["--max-cores", str(cores)] if cores < 64 else [])
    within = replace(Limits(), max_latency_s=latency_s)
    assert parse_seconds(options_of(latency_s, cores, 64, within).split()[1]) == pytest.approx(latency_s, rel=1e-12)
