"""The parts of the proof, each against enumeration: whole numbers, cuts, reductions, windows, the model."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mapper.cost.residency import Caches
from mapper.solver.cpsat.cuts import Cuts
from mapper.solver.cpsat.improve import SHARES, _between, best_of_ideals, candidates, prefixes, walked
from mapper.solver.cpsat.layers import exact
from mapper.solver.cpsat.linear import Linear, is_chain, linear_of, loads, merged, without_gaps
from mapper.solver.cpsat.model import Effort, Question, solve
from mapper.solver.cpsat.shrink import Windows, dominated, shrunk, windows
from mapper.solver.problem import Limits, Problem
from tests.solver import brute
from tests.solver.linear_problems import (
    ONE_EACH,
    all_ideals,
    chains,
    instance,
    layered,
    least,
    linear_problems,
)

MANY = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
SOME = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def never() -> bool:
    return False


def forever() -> Effort:
    return Effort(math.inf, never)


# whole numbers


@MANY
@given(linear_problems(), st.data())
def test_loads_are_those_of_the_definition_and_never_more(problem: Problem, data: st.DataObject) -> None:
    linear = instance(problem)
    chain = data.draw(st.sampled_from(list(chains(linear))))
    for s, load in enumerate(loads(linear, chain)):
        ops = tuple(v for v in range(linear.ops) if chain[v] == s)
        true = brute.load(problem, ops, 0, False)[0] + _seconds_of_tensors(problem, ops) if ops else 0.0
        assert load * linear.unit_s <= true * (1 + 1e-12)
        assert load * linear.unit_s >= true - linear.unit_s * (linear.ops + 2 * len(linear.arcs))


def _seconds_of_tensors(problem: Problem, ops: tuple[int, ...]) -> float:
    """What tensors with a cost of their own add; nothing where the enumeration counts it already."""
    probe = brute.load(problem, ops, 0, False)[0]
    work = sum(float(problem.seconds[v, 0, 0]) for v in ops)
    crossing = sum(
        t.seconds for t in problem.tensors
        if (t.producer in ops and set(t.readers) - set(ops)) or (t.producer not in ops and set(t.readers) & set(ops))
    )  # fmt: skip
    return work + crossing - probe


def test_what_is_not_linear_is_none() -> None:
    problem = layered(2, 2, 2)
    assert linear_of(problem, ONE_EACH) is not None
    for limits in (Limits(), Limits(max_replicas=2), Limits(max_replicas=1, max_latency_s=9.0),
                   Limits(max_replicas=1, node_memory_bytes=1.0)):  # fmt: skip
        assert linear_of(problem, limits) is None
    caches = replace(problem, caches=Caches(10.0, 0.0, ("group", "package", "dram")))
    assert linear_of(caches, ONE_EACH) is None
    assert linear_of(replace(problem, apart=((0, 1),)), ONE_EACH) is None


def test_limits_on_stages_count() -> None:
    problem = layered(2, 2, 4)
    assert instance(problem).stages == 4
    assert instance(problem, Limits(max_replicas=1, max_stages=3)).stages == 3
    assert instance(problem, Limits(max_replicas=1, max_cores=2)).stages == 2
    exact = instance(problem, Limits(max_replicas=1, stages=3))
    assert exact.stages == 3 and exact.exact


def test_prices_far_above_the_work_keep_within_64_bits() -> None:
    problem = layered(3, 3, 2)
    dear = replace(problem, tensors=tuple(replace(t, seconds=t.seconds * 1e9) for t in problem.tensors))
    linear = instance(dear)
    assert linear.infinite < 2**62
    assert shrunk(linear, linear.infinite) is not None
    everything = sum(linear.work) + 1
    small = shrunk(linear, everything)
    assert small is not None and small.linear.ops == 1


# cuts


@MANY
@given(linear_problems(most_ops=5), st.data())
def test_the_least_cut_is_the_least_over_all_sets(problem: Problem, data: st.DataObject) -> None:
    linear = instance(problem)
    v = data.draw(st.integers(0, linear.ops - 1))
    other = data.draw(st.one_of(st.none(), st.sampled_from([w for w in range(linear.ops) if w != v] or [None])))
    cut = Cuts(linear).least(v, other)
    sets = [s for s in range(1 << linear.ops) if s >> v & 1 and not (other is not None and s >> other & 1)]
    assert cut.load == min(_load_of_set(linear, s) for s in sets)
    assert _load_of_set(linear, cut.members) == cut.load


@MANY
@given(linear_problems(most_ops=5), st.data())
def test_closed_cuts_are_the_cheapest_ends_of_a_chain(problem: Problem, data: st.DataObject) -> None:
    linear = instance(problem)
    v = data.draw(st.integers(0, linear.ops - 1))
    full = (1 << linear.ops) - 1
    ideals = [mask for mask in all_ideals(linear) if mask >> v & 1]
    filters = [full & ~mask for mask in all_ideals(linear) if not mask >> v & 1]
    assert Cuts(linear, closed=1).least(v).load == min(_load_of_set(linear, s) for s in ideals)
    assert Cuts(linear, closed=-1).least(v).load == min(_load_of_set(linear, s) for s in filters)


def _load_of_set(linear: Linear, members: int) -> int:
    inside = {v for v in range(linear.ops) if members >> v & 1}
    load = sum(linear.work[v] for v in inside)
    for arc in linear.arcs:
        if arc.producer in inside:
            load += arc.price * bool(set(arc.readers) - inside)
        else:
            load += arc.price * bool(set(arc.readers) & inside)
    return load


# reductions


@MANY
@given(linear_problems())
def test_what_is_dominated_is_not_missed(problem: Problem) -> None:
    linear = instance(problem)
    assert least(dominated(linear).linear) == least(linear)


@MANY
@given(linear_problems(), st.sampled_from([1, 2, 3, 5]))
def test_no_better_chain_cuts_what_is_merged_or_leaves_its_windows(problem: Problem, quarters: int) -> None:
    linear = instance(problem)
    period = max(2, least(linear) * (3 + quarters) // 4)
    better = [chain for chain in chains(linear) if max(loads(linear, chain)) < period]
    small = shrunk(linear, period)
    if small is None:
        assert not better
        return
    found = windows(small.linear, period)
    for chain in better:
        as_merged = small.apply(chain)
        assert as_merged is not None
        assert loads(small.linear, as_merged) == loads(linear, chain)
        for op, stage in enumerate(as_merged):
            assert found.earliest[op] <= stage <= found.latest[op]


@SOME
@given(linear_problems(), st.data())
def test_merging_keeps_loads_and_order(problem: Problem, data: st.DataObject) -> None:
    linear = instance(problem)
    pairs = data.draw(st.lists(st.tuples(*[st.integers(0, linear.ops - 1)] * 2), max_size=2))
    small = merged(linear, pairs)
    assert all(u < v for u, v in small.linear.edges)
    for chain in chains(small.linear):
        assert loads(linear, small.restore(chain)) == loads(small.linear, chain)
        assert is_chain(linear, small.restore(chain))


# ideals


@SOME
@given(linear_problems())
def test_all_ideals_together_hold_the_best_chain(problem: Problem) -> None:
    linear = instance(problem)
    chain = best_of_ideals(linear, all_ideals(linear))
    assert chain is not None and is_chain(linear, chain)
    assert max(loads(linear, chain)) == least(linear)


@SOME
@given(linear_problems(), st.data())
def test_candidates_are_ideals_and_hold_the_borders(problem: Problem, data: st.DataObject) -> None:
    linear = instance(problem)
    chain = data.draw(st.sampled_from(list(chains(linear))))
    known = set(all_ideals(linear))
    for found in (set(candidates(linear, chain, never)), set(walked(linear, chain, data.draw(st.integers(0, 9))))):
        assert found <= known
        assert set(prefixes(linear, chain)) <= found | {(1 << linear.ops) - 1}


@SOME
@given(linear_problems(), st.sampled_from([-1, 0, 1, 5]))
def test_the_dynamic_program_within_windows_is_exact(problem: Problem, more: int) -> None:
    linear = instance(problem)
    best = least(linear)
    period = max(2, best + 1 + more * best // 4)
    found = exact(linear, windows(linear, period), period - 1)
    assert found is not None
    if best >= period:
        assert found.chain is None
    else:
        assert found.load == best and found.chain is not None and is_chain(linear, found.chain)
        assert max(loads(linear, found.chain)) == best


def test_too_many_borders_are_left_to_others() -> None:
    linear = instance(layered(9, 9, 6))
    anywhere = Windows((0,) * linear.ops, (linear.stages - 1,) * linear.ops)
    assert exact(linear, anywhere, linear.infinite) is None


@SOME
@given(linear_problems(), st.data())
def test_the_cheapest_border_between_two_is_the_cheapest(problem: Problem, data: st.DataObject) -> None:
    """share · load of the first + (1 - share) · load of the second, over all ideals between the two."""
    linear = instance(problem)
    if linear.ops < 2:
        return
    low, high = 0, (1 << linear.ops) - 1
    if data.draw(st.booleans()):
        low = data.draw(st.sampled_from([mask for mask in all_ideals(linear) if mask != high]))
    first = 32

    def price(border: int) -> int:
        chain = tuple(0 if low >> v & 1 else 1 if border >> v & 1 else 2 for v in range(linear.ops))
        both = loads(replace(linear, stages=3), chain)
        return first * both[1] + (64 - first) * both[2]

    inside = [mask for mask in all_ideals(linear) if mask & low == low]
    found = [mask for share, mask in zip(SHARES, _between(linear, low, high), strict=True) if share == 0.5]
    assert len(found) == 1 and found[0] in inside
    slack = 64 * 64 * (linear.ops + 2 * len(linear.arcs))  # costs are rounded down to multiples of 64 there
    assert price(found[0]) <= min(map(price, inside)) + slack


# the model


@SOME
@given(linear_problems(most_ops=5), st.booleans())
def test_the_model_finds_the_best_chain_and_refutes_the_rest(problem: Problem, windowed: bool) -> None:
    linear = instance(problem)
    best = least(linear)
    anywhere = Windows((0,) * linear.ops, (linear.stages - 1,) * linear.ops)
    found = windows(linear, best + 1) if windowed else anywhere
    answer = solve(Question(linear, found, 1, 0, best), forever())
    assert answer.status == "optimal" and answer.least == best
    assert answer.chain is not None and max(loads(linear, answer.chain)) == best
    assert solve(Question(linear, anywhere, 1, 0, best - 1), forever()).status == "refuted"


@SOME
@given(linear_problems(most_ops=5))
def test_an_exact_number_of_stages_leaves_none_empty(problem: Problem) -> None:
    stages = min(problem.ops, problem.cores)
    linear = instance(problem, Limits(max_replicas=1, stages=stages))
    anywhere = Windows((0,) * linear.ops, (linear.stages - 1,) * linear.ops)
    answer = solve(Question(linear, anywhere, 1, 0, linear.infinite), forever())
    assert answer.status == "optimal" and answer.chain is not None
    assert len(set(answer.chain)) == stages
    assert max(loads(linear, answer.chain)) == least(linear)


def test_counted_stages_alone_are_limited() -> None:
    linear = instance(layered(2, 3, 3))
    fixed = tuple(0 if v == 0 else 2 for v in range(linear.ops))
    only_first = Question(linear, Windows(fixed, fixed), 1, 0, loads(linear, fixed)[0], range(1))
    assert solve(only_first, forever()).status == "optimal"
    both = Question(linear, Windows(fixed, fixed), 1, 0, loads(linear, fixed)[0])
    assert solve(both, forever()).status == "refuted"


def test_a_stop_is_heard_while_the_solver_works() -> None:
    linear = instance(layered(9, 9, 6))
    anywhere = Windows((0,) * linear.ops, (linear.stages - 1,) * linear.ops)
    answer = solve(Question(linear, anywhere, 1, 0, linear.infinite), Effort(60.0, lambda: True))
    assert answer.status in ("found", "unknown")


def test_stages_are_numbered_without_gaps() -> None:
    assert without_gaps((0, 3, 3, 5)) == (0, 1, 1, 2)


def test_an_impossible_question_is_refuted_without_the_solver() -> None:
    linear = instance(layered(1, 1, 2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mapper.solver.cpsat.model._watched", None)
        anywhere = Windows((0,) * linear.ops, (1,) * linear.ops)
        assert solve(Question(linear, anywhere, 1, 5, 4), forever()).status == "refuted"
        assert solve(Question(linear, Windows((1,) * linear.ops, (0,) * linear.ops), 1, 0, 9), forever()).least == 10
