"""The cost of one stage: as the intervals have it for all stages at once, and as the definition has it."""

from __future__ import annotations

import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mapper.solver.covers.ideals import ideals
from mapper.solver.covers.intervals import intervals
from mapper.solver.problem import Problem, StageChoice
from mapper.solver.stage import cores_of, period_of, stage_choice, stage_cost
from tests.solver.brute import load, partitions
from tests.solver.problems import problems

QUICK = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@QUICK
@given(problems())
def test_every_stage_costs_what_the_intervals_say(problem: Problem) -> None:
    found = ideals(problem)
    costs = intervals(problem, found)
    for p, (i, j) in enumerate(zip(costs.source, costs.target, strict=True)):
        ops = [int(v) for v in (found.member[j] & ~found.member[i]).nonzero()[0]]
        for o, config in enumerate(costs.config):
            if math.isinf(costs.load_s[o, p]):
                continue
            made = stage_cost(problem, ops, int(config), exclusive=bool(costs.exclusive[o]))
            assert made == pytest.approx((costs.load_s[o, p], costs.dram_bytes[o, p]), rel=1e-12, abs=1e-12)


@QUICK
@given(problems(most_ops=3), st.booleans())
def test_every_stage_costs_what_the_definition_says(problem: Problem, alone: bool) -> None:
    for stages in partitions(problem):
        for ops in stages:
            for c, config in enumerate(problem.configs):
                shared = load(problem, ops, c, False)
                own = load(problem, ops, c, True) if alone and config.cores < problem.cores_per_group else None
                assert shared is not None
                made = stage_choice(problem, ops, c, 1, alone=alone)
                least = min(shared, own) if own is not None else shared
                assert (made.load_s, made.dram_bytes) == pytest.approx(least, rel=1e-12, abs=1e-12)
                assert not made.exclusive or made.load_s == pytest.approx(own[0] if own else -1)


def test_cores_of_a_stage_to_itself_are_whole_groups() -> None:
    from tests.solver.search.test_least_period import _uniform

    problem = _uniform(2)  # groups of two cores
    assert cores_of(problem, StageChoice((0,), 0, 3, False, 1.0, 0.0)) == 3
    assert cores_of(problem, StageChoice((0,), 0, 3, True, 1.0, 0.0)) == 4


def test_the_period_is_the_slowest_stage_or_the_dram() -> None:
    from tests.solver.search.test_least_period import _uniform

    problem = _uniform(2)  # 1e9 bytes/s
    stages = (StageChoice((0,), 0, 2, False, 3.0, 1e9), StageChoice((1,), 0, 1, False, 1.0, 0.0))
    assert period_of(problem, stages) == 1.5
    assert period_of(problem, (*stages, StageChoice((1,), 0, 1, False, 1.0, 1e9))) == 2.0
