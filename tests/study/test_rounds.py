"""The order of rounds, warming up, and what happens when others compute meanwhile."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapper.study.rounds import LEAST_WARM, MOST_WARM, interleaved, interleaved_open, paired, steady, turned
from tests.study.fakes import Fake, Noise, quiet


def test_every_contender_has_its_round_in_each_turn_and_begins_as_often() -> None:
    log: list[str] = []
    fakes = [Fake(name, [10.0], log) for name in ("a", "b", "c")]
    series = interleaved(fakes, 4, 1.0, quiet)
    turns = ["".join(log[-12 + 3 * i : len(log) - 9 + 3 * i]) for i in range(4)]
    assert turns == ["abc", "bca", "cab", "abc"]
    assert [len(s.rounds) for s in series] == [4, 4, 4] and [s.items for s in series] == [10, 10, 10]
    assert all(s.steady and len(s.warm) == LEAST_WARM for s in series)


@given(st.lists(st.integers(), max_size=6), st.integers(0, 20))
def test_turning_keeps_all(values: list[int], turn: int) -> None:
    assert sorted(turned(values, turn)) == sorted(values)


def test_warming_up_goes_on_until_all_are_steady_or_is_told_to_have_failed() -> None:
    warming = Fake("warming", [1.0, 1.0, 5.0, 7.0, 9.0, 10.0, 10.0, 10.0, *[10.0] * 30])
    other = Fake("other", [10.0])
    slow, fast = interleaved([warming, other], 1, 1.0, quiet)
    assert slow.steady and len(slow.warm) == len(fast.warm) and LEAST_WARM < len(slow.warm) < MOST_WARM
    drifting = Fake("drifting", [1.1**k for k in range(60)])
    (never,) = interleaved([drifting], 1, 0.01, quiet)
    assert not never.steady and len(never.warm) == MOST_WARM


@given(st.lists(st.floats(1, 1e6), max_size=10))
def test_steady_needs_three_rounds_without_a_drift(rates: list[float]) -> None:
    if len(rates) < LEAST_WARM:
        assert not steady(rates)
    assert steady([*rates, 100.0, 101.0, 102.0])
    assert not steady([*rates, 100.0, 110.0, 120.0])
    assert steady([*rates, 100.0, 120.0, 110.0])


def test_a_disturbed_round_is_done_again() -> None:
    (one,) = interleaved([Fake("a", [10.0])], 3, 0.1, Noise([0.0, 0.5, 0.0, 0.02]))
    assert [(r.others_busy, r.disturbed, r.repeats) for r in one.rounds] == [
        (0.0, False, 0), (0.0, False, 1), (0.02, False, 0)
    ]  # fmt: skip


def test_rounds_that_stay_disturbed_are_marked_and_count_in_no_ratio() -> None:
    noise = Noise([0.0, 0.0, 0.5, 0.3, 0.4])
    a, b = interleaved([Fake("a", [10.0]), Fake("b", [5.0])], 3, 0.1, noise)
    assert [r.disturbed for r in b.rounds] == [False, True, False]  # turn 1 begins with b
    assert b.rounds[1].others_busy == 0.3 and not any(r.disturbed for r in a.rounds)
    assert paired(a, b) == [2.0, 2.0] and len(b.rates) == 2 and len(paired(a, b, disturbed=True)) == 3


def test_who_never_is_left_alone_is_not_repeated_without_end() -> None:
    log: list[str] = []
    (one,) = interleaved([Fake("a", [10.0], log)], 10, 0.1, Noise([0.5] * 1000))
    assert all(r.disturbed for r in one.rounds) and sum(r.repeats for r in one.rounds) == 5
    assert one.rates == [10.0] * 10, "all of them, marked"


def test_open_loop_rounds_are_interleaved_too() -> None:
    log: list[str] = []
    found = interleaved_open([Fake("a", [2.0], log), Fake("b", [4.0], log)], [[0.5, 1.0], [1.0, 2.0]], quiet)
    assert log == ["a open", "b open", "b open", "a open"]
    assert [[r.timed.latencies_s for r in rounds] for rounds in found] == [[(0.5, 0.5)] * 2, [(0.25, 0.25)] * 2]
    assert found[0][1].timed.rate_per_s == pytest.approx(1.0)
