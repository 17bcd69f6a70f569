"""The search against the whole space of small problems."""

from __future__ import annotations

import math

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from mapper.errors import Infeasible
from mapper.solver import cover as cover_module
from mapper.solver.bounds import area
from mapper.solver.problem import Limits, Problem
from mapper.solver.search import Search
from tests.solver.brute import least_period
from tests.solver.problems import problems

TOLERANCE = 2e-5
QUICK = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def check_against_brute_force(problem: Problem, limits: Limits) -> None:
    """The search's period is the brute one, and so is its bound, to its precision."""
    best = least_period(problem, limits)
    if math.isinf(best):
        with pytest.raises(Infeasible):
            Search(problem).throughput(limits)
        return
    solution = Search(problem).throughput(limits, tolerance=TOLERANCE)
    assert solution.period_s >= best * (1 - 1e-9)
    assert solution.bound_s <= best * (1 + 1e-9), "a bound above the optimum"
    assert solution.period_s <= best * (1 + TOLERANCE) + 1e-12
    assert sorted(v for stage in solution.stages for v in stage.ops) == list(range(problem.ops))


def positive(problem: Problem) -> bool:
    return float(problem.seconds.sum()) > 0


@QUICK
@given(problems())
def test_throughput_is_the_best_of_the_whole_space(problem: Problem) -> None:
    assume(positive(problem))
    check_against_brute_force(problem, Limits())


@QUICK
@given(
    problems(most_ops=3),
    st.sampled_from([Limits(stages=2), Limits(max_stages=2), Limits(max_replicas=1), Limits(max_cores=2)]),
)
def test_limits_on_numbers(problem: Problem, limits: Limits) -> None:
    assume(positive(problem) and problem.ops >= (limits.stages or 1))
    check_against_brute_force(problem, limits)


@QUICK
@given(problems(most_ops=3), st.floats(1.0, 3.0))
def test_a_latency_limit_where_dram_does_not_bind(problem: Problem, factor: float) -> None:
    assume(positive(problem) and problem.dram_bytes_per_s > 1)
    least = Search(problem).least_latency(Limits()).latency_s
    assume(least > 0)
    check_against_brute_force(problem, Limits(max_latency_s=least * factor))


@QUICK
@given(problems(most_ops=3), st.floats(1.0, 2.0))
def test_latency_and_dram_together_give_a_true_bound_and_a_real_plan(problem: Problem, factor: float) -> None:
    assume(positive(problem) and problem.dram_bytes_per_s == 1)
    limits = Limits(max_latency_s=Search(problem).least_latency(Limits()).latency_s * factor + 1e-9)
    best = least_period(problem, limits)
    solution = Search(problem).throughput(limits)
    assert best * (1 - 1e-9) <= solution.period_s
    assert solution.bound_s <= best * (1 + 1e-9)
    assert solution.latency_s <= limits.max_latency_s * (1 + 1e-6)


@QUICK
@given(problems())
def test_the_area_bound_is_a_bound(problem: Problem) -> None:
    assume(positive(problem))
    assert area(problem, Limits()) <= least_period(problem, Limits()) * (1 + 1e-9)
    assert area(problem, Limits(max_replicas=1)) <= least_period(problem, Limits(max_replicas=1)) * (1 + 1e-9)


@QUICK
@given(problems(most_ops=4), st.sampled_from([None, 2]))
def test_the_numpy_pass_gives_what_the_compiled_one_gives(problem: Problem, stages: int | None) -> None:
    if cover_module.KERNEL != "compiled":
        pytest.skip("the compiled pass was not built")
    assume(positive(problem))
    costs = Search(problem).costs
    period = float(costs.load_s.min(axis=0).max()) or 1.0
    fronts = []
    for run in (cover_module._compiled_pass, cover_module._numpy_pass):
        before, cover_module._PASS = cover_module._PASS, run
        try:
            covers = cover_module.cover(
                costs, period, "load_s", cores=problem.cores, cores_per_group=problem.cores_per_group, stages=stages
            )
        finally:
            cover_module._PASS = before
        fronts.append(covers.front())
    assert fronts[0] == pytest.approx(fronts[1], rel=1e-12, nan_ok=False)


@QUICK
@given(problems(most_ops=4))
def test_fewest_stages_within_the_allowance(problem: Problem) -> None:
    assume(positive(problem))
    strict = Search(problem).throughput(Limits())
    loose = Search(problem).throughput(Limits(), near_optimal=0.25)
    assert len(loose.stages) <= len(strict.stages)
    assert loose.period_s <= strict.best_period_s * 1.25 * (1 + 1e-6)
    assert loose.best_period_s == strict.best_period_s


def test_all_costs_zero_is_planned_in_one_stage() -> None:
    from dataclasses import replace

    problem = _uniform(3)
    solution = Search(replace(problem, seconds=problem.seconds * 0)).throughput(Limits(), near_optimal=0.01)
    assert len(solution.stages) == 1


def test_the_same_request_gives_the_same_stages() -> None:
    problem = _uniform(6)
    first, second = (Search(problem).throughput(Limits(max_replicas=1, stages=3)) for _ in range(2))
    assert first == second


def test_levers_make_an_impossible_request_feasible() -> None:
    problem = _uniform(3)
    with pytest.raises(Infeasible) as raised:
        Search(problem).throughput(Limits(max_latency_s=1e-9))
    (lever,) = raised.value.levers
    milliseconds = float(lever.split()[1].removesuffix("ms"))
    assert Search(problem).throughput(Limits(max_latency_s=milliseconds / 1e3)).latency_s <= milliseconds / 1e3


def _uniform(ops: int) -> Problem:
    """A chain of equal ops on two groups of two cores."""
    import numpy as np

    from mapper.cost.configurations import Config
    from mapper.cost.residency import Caches
    from mapper.solver.problem import TensorArc

    configs = (Config(1, 1), Config(1, 2), Config(2, 2))
    seconds = np.array([[[1.0 / c.cores**0.8] * 3 for c in configs]] * ops)
    return Problem(
        configs=configs, cache_shares=(1, 1, 1), seconds=seconds, dram_bytes=np.zeros((ops, 3)), footprint=np.ones(ops),
        tensors=tuple(TensorArc(v, (v + 1,), 1.0) for v in range(ops - 1)), weights=(), groups=2, cores_per_group=2,
        cores=4, caches=Caches(0.0, 0.0, ("group", "package", "dram")), dram_bytes_per_s=1e9, handoff_s=0.01,
        link_bytes_per_s=(1e3,) * 3,
    )  # fmt: skip
