"""Linear programs never exceed the optimum, whatever the solver gives."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mapper.solver.cpsat.linear import loads
from mapper.solver.cpsat.relaxation import Program, relaxed
from mapper.solver.cpsat.shrink import Windows, windows
from mapper.solver.problem import Problem
from tests.solver.linear_problems import all_ideals, chains, instance, layered, least, linear_problems

MANY = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@MANY
@given(linear_problems(), st.booleans())
def test_the_relaxation_is_a_bound_and_rounds_to_ideals(problem: Problem, narrow: bool) -> None:
    linear = instance(problem)
    best = least(linear)
    period = best + 1
    anywhere = Windows((0,) * linear.ops, (linear.stages - 1,) * linear.ops)
    found = relaxed(linear, windows(linear, period) if narrow else anywhere, period)
    assert found.bound <= best
    assert set(found.ideals) <= set(all_ideals(linear))


@MANY
@given(linear_problems(most_ops=5), st.data())
def test_what_windows_allow_is_what_is_bounded(problem: Problem, data: st.DataObject) -> None:
    """Also below the optimum: the bound is that of the chains within the windows."""
    linear = instance(problem)
    chain = data.draw(st.sampled_from(list(chains(linear))))
    early = tuple(max(0, s - data.draw(st.integers(0, 1))) for s in chain)
    late = tuple(min(linear.stages - 1, s + data.draw(st.integers(0, 1))) for s in chain)
    inside = [c for c in chains(linear) if all(a <= s <= b for a, s, b in zip(early, c, late, strict=True))]
    best = min(max(loads(linear, c)) for c in inside)
    period = data.draw(st.sampled_from([best + 1, 2 * best, best // 2 + 1]))
    assert relaxed(linear, Windows(early, late), period).bound <= best


@MANY
@given(linear_problems(most_ops=5), st.sampled_from([0, 1, 3]))
def test_windows_are_narrowed_around_every_chain_that_keeps_the_period(problem: Problem, more: int) -> None:
    linear = instance(problem)
    period = least(linear) * (4 + more) // 4 + 1
    found = relaxed(linear, windows(linear, period), period).windows
    for chain in chains(linear):
        if max(loads(linear, chain)) < period:
            assert all(a <= s <= b for a, s, b in zip(found.earliest, chain, found.latest, strict=True))


@MANY
@given(st.lists(st.floats(0, 5), min_size=4, max_size=4))
def test_wrong_prices_make_a_bound_weaker_never_wrong(prices: list[float]) -> None:
    """min p with 0.3 + a ≤ p, 0.9 - a ≤ p, b ≤ a, 0.2 ≤ b: the optimum is 0.6."""
    program = Program(most=3.0)
    a, b = program.column(), program.column()
    program.row({a: 1.0, 0: -1.0}, -0.3)
    program.row({a: -1.0, 0: -1.0}, -0.9)
    program.row({b: 1.0, a: -1.0}, 0.0)
    program.row({b: -1.0}, -0.2)
    assert program.proved(prices)[0] <= 0.6
    solved = program.solved()
    assert solved is not None
    assert 0.6 - 1e-6 <= solved.bound <= 0.6
    assert len(solved.values) == len(solved.reduced) == 3


def test_fixed_windows_leave_nothing_to_relax() -> None:
    linear = instance(layered(3, 3, 3))
    chain = tuple(0 if v < 4 else 1 if v < 8 else 2 for v in range(linear.ops))
    from mapper.solver.cpsat.linear import is_chain

    assert is_chain(linear, chain)
    load = max(loads(linear, chain))
    found = relaxed(linear, Windows(chain, chain), load)
    assert load * (1 - 1e-8) - 2 <= found.bound <= load
