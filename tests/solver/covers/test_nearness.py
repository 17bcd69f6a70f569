"""Stages that share groups: the compiled pass against numpy, and its bound and plans against all placed plans."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from mapper.cost.configurations import Config, configurations
from mapper.cost.roofline import roofline
from mapper.graph.model import Graph
from mapper.machine.model import Machine
from mapper.solver.covers import near_cover as near_module
from mapper.solver.covers.near_cover import NearCovers, near_cover, room_for
from mapper.solver.covers.nearness import Rises, likely_rises, slower_s, sure_rises
from mapper.solver.placement.candidates import Case
from mapper.solver.placement.fitting import Fitting, fitting
from mapper.solver.placement.floor import units_of
from mapper.solver.placement.nearer import neighbourhood
from mapper.solver.placement.together import together
from mapper.solver.problem import Limits, Problem, problem_of
from mapper.solver.search.least_period import PRECISION, least_period
from mapper.solver.search.request import Request
from mapper.solver.search.space import Space
from tests.solver.distances import apart, apart_machines, placed_plans, small_graphs
from tests.solver.problems import problems

QUICK = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
SLOW = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
AMOUNTS = st.lists(st.sampled_from([0.0, 0.0, 1.0, 3.0, 20.0]), min_size=16, max_size=16)
LIMITS = st.sampled_from([
    Limits(max_replicas=1), Limits(max_replicas=1, max_stages=2), Limits(max_replicas=2), Limits(stages=2, max_cores=3),
    Limits(max_replicas=1, configurations=(Config(1, 1),)),
])  # fmt: skip


def rises_of(space: Space, before: list[float], after: list[float]) -> Rises:
    """Rises drawn from two lists."""
    costs = space.costs
    entering = np.array([before[int(i) % 16] if i else 0.0 for i in costs.source])
    leaving = np.array([after[int(j) % 16] for j in costs.target])
    return Rises(entering, leaving, space.problem.cores_per_group)


def a_pass(space: Space, rises: Rises, period: float, stages: int | None, limit: float = math.inf) -> NearCovers:
    problem = space.reduction.problem
    return near_cover(space.costs, rises, period, space.costs.load_s, 1.0, cores=problem.cores,
                      cores_per_group=problem.cores_per_group, stages=stages, max_replicas=2, limit=limit)  # fmt: skip


@QUICK
@given(problems(), AMOUNTS, AMOUNTS, st.sampled_from([None, 1, 2, 3]), st.floats(0, 1), st.floats(0, 1.1))
def test_the_compiled_pass_and_numpy_have_the_same_front(
    problem: Problem, before: list[float], after: list[float], stages: int | None, share: float, tight: float
) -> None:  # fmt: skip
    if near_module._COMPILED is None:
        pytest.skip("the compiled pass was not built")
    space = Space(problem)
    finite = space.costs.load_s[np.isfinite(space.costs.load_s)]
    assume(finite.size and finite.max() > 0)
    period = float(finite.max() ** share * max(finite.min(), 0.1) ** (1 - share))
    rises = rises_of(space, before, after)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(near_module, "_PASS", near_module._numpy_pass)
        free = a_pass(space, rises, period, stages).front()
        free = free[np.isfinite(free)]
        assume(free.size)
        limit = math.inf if tight > 1 else float(free.min() + tight * (free.max() - free.min())) * (1 + 1e-9)
        plain = a_pass(space, rises, period, stages, limit)
    compiled = a_pass(space, rises, period, stages, limit)
    for count in range(1, stages + 1) if stages else [None]:
        assert compiled.front(count) == pytest.approx(plain.front(count), rel=1e-12)
        for covers in (compiled, plain):
            for cores in np.flatnonzero(np.isfinite(covers.front(count))):
                cells = covers.chain(int(cores), count)
                total = sum(float(space.costs.load_s[cell.option, cell.pair]) + cell.rise_s for cell in cells)
                assert total == pytest.approx(float(covers.front(count)[cores]), rel=1e-9)


@QUICK
@given(problems(), st.floats(0, 1))
def test_without_rises_groups_do_not_matter(problem: Problem, share: float) -> None:
    space = Space(problem)
    nothing = [0.0] * 16
    rises = rises_of(space, nothing, nothing)
    plain, near = Request(space, Limits()), Request(space, Limits(), rises=rises)
    finite = space.costs.load_s[np.isfinite(space.costs.load_s)]
    assume(finite.size and finite.max() > 0)
    period = float(finite.max() ** share * max(finite.min(), 0.1) ** (1 - share))
    assert near.cover(period).front() == pytest.approx(plain.cover(period).front(), rel=1e-12)


def fitted(graph: Graph, machine: Machine, limits: Limits) -> tuple[Case, Fitting]:
    table = roofline(graph, machine, configurations(machine))
    case = Case(graph, machine, table, Space(problem_of(graph, machine, table, limits)))
    return case, fitting(case, limits, limits, 0.0, PRECISION)


@SLOW
@given(small_graphs(), apart_machines(), LIMITS)
def test_no_placed_plan_is_better_than_the_bound(graph: Graph, machine: Machine, limits: Limits) -> None:
    assume(limits.stages is None or len(graph.ops) >= 2)
    case, found = fitted(graph, machine, limits)
    space = case.space.counted(limits)
    rises = sure_rises(machine, space.reduction.problem, space.ideals, space.costs)
    alone = least_period(space, limits, 0.0, PRECISION, rises=rises)
    best = min(plan.period_s for plan in placed_plans(graph, machine, case.table, limits))
    assert found.bound_s <= best * (1 + 1e-9)
    assert alone.bound_s <= best * (1 + 1e-9)
    assert best <= found.best_period_s * (1 + 1e-9)


@SLOW
@given(small_graphs(), apart_machines(), st.floats(1, 3))
def test_no_placed_plan_within_a_latency_is_better_than_the_bound(graph: Graph, machine: Machine, room: float) -> None:
    table = roofline(graph, machine, configurations(machine))
    every = [(p.period_s, p.latency_s) for p in placed_plans(graph, machine, table, Limits(max_replicas=1))]
    limits = Limits(max_replicas=1, max_latency_s=room * min(latency for _, latency in every))
    case, found = fitted(graph, machine, limits)
    rises = sure_rises(machine, case.space.reduction.problem, case.space.ideals, case.space.costs)
    alone = least_period(case.space, limits, 0.0, PRECISION, rises=rises)
    assert limits.max_latency_s is not None
    best = min(period for period, latency in every if latency <= limits.max_latency_s * (1 + 1e-9))
    assert max(found.bound_s, alone.bound_s) <= best * (1 + 1e-9)
    assert found.evaluation.predicted.latency_s <= limits.max_latency_s * (1 + 1e-6)


def chain(flop: list[float], sizes: list[int]) -> Graph:
    """Products one behind the other."""
    names = [f"op{v}" for v in range(len(flop))]
    return Graph.model_validate({
        "name": "chain",
        "ops": [{"name": n, "kind": "matmul", "flop": f, "elements": 1000} for n, f in zip(names, flop, strict=True)],
        "tensors": [{"name": f"t{a}", "producer": a, "readers": [b], "bytes": size}
                    for (a, b), size in zip(itertools.pairwise(names), sizes, strict=True)],
    })  # fmt: skip


@pytest.mark.parametrize("sizes", [[10**6, 10**6, 10**6], [10**6, 10**4, 10**6], [10**4, 2 * 10**6, 10**4]])
def test_of_a_small_chain_the_best_placed_plan_is_found_and_proved(sizes: list[int]) -> None:
    """Two groups of two cores and four ops: the search knows which share a group, and what that costs the others."""
    graph, machine, limits = chain([2e7, 3e7, 3e7, 2e7], sizes), apart(1, 2, 2), Limits(max_replicas=1)
    case, found = fitted(graph, machine, limits)
    best = min(plan.period_s for plan in placed_plans(graph, machine, case.table, limits))
    assert found.best_period_s == pytest.approx(best, rel=1e-9)
    assert found.bound_s == pytest.approx(best, rel=1e-4)


def test_a_bound_without_groups_is_lower() -> None:
    graph, machine, limits = chain([3e7] * 4, [10**6] * 3), apart(1, 2, 2), Limits(max_replicas=1, stages=4)
    case, found = fitted(graph, machine, limits)
    assert least_period(case.space.counted(limits), limits, 0.0, PRECISION).bound_s < found.bound_s * (1 - 1e-2)


def test_nothing_rises_where_all_links_are_alike() -> None:
    machine = apart(1, 2, 2, far=1.4e10)
    graph = chain([3e7] * 4, [10**6] * 3)
    problem = problem_of(graph, machine, roofline(graph, machine, configurations(machine)))
    assert slower_s(machine, problem) == 0
    assert slower_s(apart(1, 2, 2), problem) == pytest.approx(1 / 2e8 - 1 / 1.4e10)


def test_only_what_surely_crosses_rises() -> None:
    """A skipped tensor may come from the same group, whatever is in between; both ends of the chain have no border."""
    graph = Graph.model_validate({
        "name": "skip", "ops": [{"name": n, "kind": "matmul", "flop": 1e7, "elements": 10} for n in "abc"],
        "tensors": [{"name": "ab", "producer": "a", "readers": ["b"], "bytes": 100},
                    {"name": "ac", "producer": "a", "readers": ["c"], "bytes": 1000},
                    {"name": "bc", "producer": "b", "readers": ["c"], "bytes": 10}],
    })  # fmt: skip
    machine = apart(1, 2, 2)
    problem = problem_of(graph, machine, roofline(graph, machine, configurations(machine)))
    space = Space(problem)
    byte_s = slower_s(machine, problem)
    sure = sure_rises(machine, space.reduction.problem, space.ideals, space.costs)
    likely = likely_rises(machine, space.reduction.problem, space.ideals, space.costs, 0.0)
    size = space.ideals.member.sum(axis=1)
    ends = zip(space.costs.source, space.costs.target, strict=True)
    between = {(int(size[i]), int(size[j])): p for p, (i, j) in enumerate(ends)}
    got = {at: (sure.entering_s[p] / byte_s, sure.leaving_s[p] / byte_s) for at, p in between.items()}
    assert got[0, 1] == pytest.approx((0, 100)) and got[1, 2] == pytest.approx((100, 10))
    assert got[2, 3] == pytest.approx((10, 0)) and got[0, 3] == pytest.approx((0, 0))
    assert got[0, 2] == pytest.approx((0, 1010)) and got[1, 3] == pytest.approx((1100, 0))
    at = between[2, 3]
    assert likely.entering_s[at] == pytest.approx(1010 * byte_s)


def test_large_rows_are_not_tried() -> None:
    graph, machine = chain([3e7] * 4, [10**6] * 3), apart(1, 2, 2)
    space = Space(problem_of(graph, machine, roofline(graph, machine, configurations(machine))))
    rises = sure_rises(machine, space.reduction.problem, space.ideals, space.costs)
    assert room_for(space.costs, rises, 4, None) and not room_for(space.costs, rises, 4, 10**6)


def test_parts_that_exchange_most_are_seated_together_at_once() -> None:
    """Without moves of single parts: the first two stages in one group, the last two in the other."""
    graph, machine = chain([3e7] * 4, [10**6, 10**4, 10**6]), apart(1, 2, 2)
    limits = Limits(max_replicas=1, stages=4)
    table = roofline(graph, machine, configurations(machine))
    problem = problem_of(graph, machine, table, limits)
    stages = least_period(Space(problem, idle=False), limits, 0.0, PRECISION).stages
    shuffled = ((0,), (1,), (0,), (1,))
    around = neighbourhood(machine, problem, stages, units_of(problem, stages), still=False)
    first, second, third, fourth = together(around, shuffled)
    assert first == second != third == fourth
    assert around.cost((first, second, third, fourth)) < around.cost(shuffled)
