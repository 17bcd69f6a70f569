"""The search against the whole space of small problems."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from mapper.errors import Infeasible
from mapper.solver.covers import cover as cover_module
from mapper.solver.covers import labels as labels_module
from mapper.solver.covers.resources import Resource, best_weights
from mapper.solver.problem import Limits, Problem
from mapper.solver.search.bounds import area
from mapper.solver.search.infeasible import OPTIONS, infeasible
from mapper.solver.search.least_period import fewest_cores, least_latency, throughput
from mapper.solver.search.request import Request
from mapper.solver.search.space import Space
from tests.solver.brute import least_period, outcomes
from tests.solver.limits import some_limits
from tests.solver.problems import problems

TOLERANCE = 2e-5
QUICK = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
MANY = settings(QUICK, max_examples=250)


def check_against_brute_force(problem: Problem, limits: Limits) -> None:
    """The search's period is the brute one, and so is its bound, to its precision."""
    best = least_period(problem, limits)
    if math.isinf(best):
        with pytest.raises(Infeasible):
            throughput(Space(problem), limits)
        return
    solution = throughput(Space(problem), limits, tolerance=TOLERANCE)
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


@MANY
@given(st.data())
def test_any_limits_at_once_give_the_best_of_the_whole_space(data: st.DataObject) -> None:
    problem = data.draw(problems(most_ops=3))
    assume(positive(problem))
    check_against_brute_force(problem, data.draw(st.composite(some_limits)(problem)))


@QUICK
@given(st.data())
def test_least_latency_and_fewest_cores_under_limits(data: st.DataObject) -> None:
    problem = data.draw(problems(most_ops=3))
    assume(positive(problem))
    limits = data.draw(st.composite(some_limits)(problem))
    rows = [row for row in outcomes(problem, replace(limits, max_latency_s=None)) if row.period_s < math.inf]
    space = Space(problem)
    if rows:
        best, bound = least_latency(space, limits, TOLERANCE)
        true = min(row.latency_s for row in rows)
        assert true * (1 - 1e-9) <= best <= true * (1 + TOLERANCE) + 1e-12
        assert bound <= true * (1 + 1e-9)
    rows = [row for row in outcomes(problem, limits) if row.period_s < math.inf]
    if rows:
        assert fewest_cores(space, limits) == (min(row.cores for row in rows),) * 2


@QUICK
@given(problems(most_ops=4), st.data())
def test_ops_that_must_be_apart_are(problem: Problem, data: st.DataObject) -> None:
    assume(positive(problem) and problem.ops >= 2)
    ops = st.lists(st.integers(0, problem.ops - 1), unique=True, min_size=2, max_size=3).map(tuple)
    check_against_brute_force(replace(problem, apart=(data.draw(ops),)), Limits())


@settings(QUICK, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(st.data())
def test_levers_of_an_infeasible_request_help(data: st.DataObject) -> None:
    """Each names an option and a value with which, the other limits kept but for those it says, there is a plan."""
    problem = data.draw(problems(most_ops=3))
    assume(positive(problem))
    limits = data.draw(st.composite(some_limits)(problem, (0.2, 0.6)))
    assume(math.isinf(least_period(problem, limits)))
    space = Space(problem)
    with pytest.raises(Infeasible):
        throughput(space, limits)
    fields = {option: name for name, option in OPTIONS.items()}
    for lever in infeasible(space, limits).levers:
        change, *without = lever.split(" and without ")
        option, value = change.split()[:2]
        left_out = re.findall("--[a-z-]+", " ".join(without))
        throughput(space, replace(limits, **dict.fromkeys((fields[x] for x in left_out), None),
                                  **{fields[option]: _value(value)}))  # fmt: skip


def _value(text: str) -> float:
    for unit, factor in (("ms", 1e-3), ("MiB", 2**20)):
        if text.endswith(unit):
            return float(text.removesuffix(unit)) * factor
    return float(text) if "." in text or "e" in text else int(text)


@QUICK
@given(st.data())
def test_labels_in_python_give_what_those_in_c_give(data: st.DataObject) -> None:
    if labels_module._COMPILED is None:
        pytest.skip("the compiled search was not built")
    problem = data.draw(problems(most_ops=4))
    assume(positive(problem))
    space, most = Space(problem), data.draw(st.sampled_from([None, 1, 2]))
    limits = [data.draw(st.floats(0.5, 60)) for _ in range(2)]
    request = Request(space, Limits())
    resources = [Resource("a", request.costs.load_s, limits[0]), Resource("b", request.costs.dram_bytes, limits[1])]
    period = data.draw(st.floats(1, 40))
    passes = [
        (request.cover(period, r.amount, 2.0, unit=r.limit), (1.0 - x, float(x))) for x, r in enumerate(resources)
    ]
    in_c = labels_module.labels(resources, passes, problem.cores, most, None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(labels_module, "_COMPILED", None)
        in_python = labels_module.labels(resources, passes, problem.cores, most, None)
    assert in_c[1] == in_python[1] and (in_c[0] is None) == (in_python[0] is None)
    for cells in (in_c[0], in_python[0]):
        if cells is not None:
            assert all(resource.keeps(cells) for resource in resources)
            assert most is None or len(cells) <= most


@given(st.lists(st.tuples(*[st.floats(0, 5)] * 3), min_size=1, max_size=7))
def test_the_best_weights_are_the_best(rows: list[tuple[float, ...]]) -> None:
    weights, value = best_weights(rows)
    assert sum(weights) == pytest.approx(1) and min(weights) >= 0
    assert value == pytest.approx(min(sum(w * x for w, x in zip(weights, row, strict=True)) for row in rows))
    steps = [i / 10 for i in range(11)]
    for a in steps:
        for b in steps:
            if a + b <= 1:
                other = min(a * r[0] + b * r[1] + (1 - a - b) * r[2] for r in rows)
                assert other <= value + 1e-9


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
    costs = Space(problem).costs
    period = float(costs.load_s.min(axis=0).max()) or 1.0
    fronts = []
    for run in (cover_module._compiled_pass, cover_module._numpy_pass):
        before, cover_module._PASS = cover_module._PASS, run
        try:
            covers = cover_module.cover(
                costs, period, costs.load_s, cores=problem.cores, cores_per_group=problem.cores_per_group, stages=stages
            )
        finally:
            cover_module._PASS = before
        fronts.append(covers.front())
    assert fronts[0] == pytest.approx(fronts[1], rel=1e-12, nan_ok=False)


@QUICK
@given(problems(most_ops=4))
def test_fewest_stages_within_the_allowance(problem: Problem) -> None:
    assume(positive(problem))
    strict = throughput(Space(problem), Limits())
    loose = throughput(Space(problem), Limits(), near_optimal=0.25)
    assert len(loose.stages) <= len(strict.stages)
    assert loose.period_s <= strict.best_period_s * 1.25 * (1 + 1e-6)
    assert loose.best_period_s == strict.best_period_s


def test_all_costs_zero_is_planned_in_one_stage() -> None:
    problem = _uniform(3)
    solution = throughput(Space(replace(problem, seconds=problem.seconds * 0)), Limits(), near_optimal=0.01)
    assert len(solution.stages) == 1


def test_the_same_request_gives_the_same_stages() -> None:
    problem = _uniform(6)
    first, second = (throughput(Space(problem), Limits(max_replicas=1, stages=3)) for _ in range(2))
    assert first == second


def test_levers_make_an_impossible_request_feasible() -> None:
    problem = _uniform(3)
    (lever,) = infeasible(Space(problem), Limits(max_latency_s=1e-9)).levers
    milliseconds = float(lever.split()[1].removesuffix("ms"))
    assert throughput(Space(problem), Limits(max_latency_s=milliseconds / 1e3)).latency_s <= milliseconds / 1e3


def test_limits_that_conflict_apart_are_both_named() -> None:
    error = infeasible(Space(_uniform(3)), Limits(max_latency_s=1e-9, min_throughput_per_s=1e9))
    assert error.what == "no plan keeps --min-throughput; without --min-throughput, no plan keeps --max-latency"
    (lever,) = error.levers
    assert lever.startswith("--max-latency ") and lever.endswith(" and without --min-throughput")


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
