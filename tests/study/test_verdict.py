"""What may be said of noisy rates: true differences are found, none are claimed that are not there."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mapper.study.verdict import SAME, Rival, verdict


def rival(name: str, true: float, noise: float, rounds: int, seed: int) -> Rival:
    """Ratios around `true`, log-normal with `noise`."""
    drawn = random.Random(f"{seed} {name}")
    return Rival(name, tuple(true * math.exp(drawn.gauss(0, noise)) for _ in range(rounds)), true)


@given(st.lists(st.floats(1.1, 3.0), min_size=1, max_size=6), st.integers(0, 1000))
def test_what_is_slower_by_far_more_than_the_noise_is_beaten(truths: list[float], seed: int) -> None:
    said = verdict([rival(f"r{i}", true, 0.01, 15, seed) for i, true in enumerate(truths)])
    assert "faster than every alternative" in said.words
    assert said.at_least is not None and 1 < said.at_least <= min(truths) * 1.05


@given(st.floats(0.3, 0.9), st.lists(st.floats(1.1, 3.0), max_size=5), st.integers(0, 1000))
def test_a_faster_alternative_is_told_and_is_the_best(slow: float, truths: list[float], seed: int) -> None:
    rivals = [rival("fast", slow, 0.01, 15, seed)]
    rivals += [rival(f"r{i}", true, 0.01, 15, seed) for i, true in enumerate(truths)]
    said = verdict(rivals, same=["streams"])
    assert "the chosen plan is slower" in said.words and "times fast" in said.words
    assert said.best_name == "fast" and said.best is not None and said.best.high < 1
    assert said.at_least is not None and said.at_least <= slow * 1.05


@settings(max_examples=40)
@given(st.integers(1, 6), st.integers(6, 20), st.integers(0, 10_000))
def test_intervals_that_hold_one_are_no_difference(count: int, rounds: int, seed: int) -> None:
    rivals = []
    for i in range(count):
        ratios = rival(f"r{i}", 1.0, 0.05, rounds, seed).ratios
        rivals.append(Rival(f"r{i}", (*ratios, *(1 / r for r in ratios)), 1.0))  # as often above 1 as below
    said = verdict(rivals)
    assert "no difference beyond the noise" in said.words
    assert "slower" not in said.words and "faster" not in said.words


def test_differences_that_are_not_there_are_claimed_in_one_of_twenty_comparisons_at_most() -> None:
    """Five alternatives as fast as the chosen plan: any claim of a difference is wrong."""
    wrong = 0
    for seed in range(400):
        said = verdict([rival(f"r{i}", 1.0, 0.05, 15, seed) for i in range(5)])
        wrong += "slower" in said.words or "faster" in said.words
    assert wrong <= 32, "5 % of 400, and 2.7 standard deviations"


def test_the_lower_end_against_the_best_holds_as_often_as_stated() -> None:
    """The best of five equal alternatives, whichever it is, is as fast as the chosen plan: the true ratio is 1."""
    found = [verdict([rival(f"r{i}", 1.0, 0.05, 15, seed) for i in range(5)]).at_least for seed in range(400)]
    assert sum(low is not None and low > 1 for low in found) <= 20


def test_a_plan_that_is_an_alternative_counts_as_one() -> None:
    said = verdict([rival("native", 1.5, 0.01, 15, 0)], same=["streams"])
    assert said.best == SAME and said.best_name == "streams" and said.at_least == 1.0
    assert said.words.endswith("the chosen plan is streams")
    alone = verdict([], same=["native", "streams"])
    assert alone.best == SAME and alone.at_least == 1.0 and "every alternative is the chosen plan" in alone.words


def test_the_best_is_picked_in_the_warm_up_not_in_the_rounds_that_count() -> None:
    a, b = Rival("a", (1.02,) * 15, 1.01), Rival("b", (1.01,) * 15, 1.05)
    assert verdict([a, b]).best_name == "a"


@pytest.mark.parametrize("rounds", [0, 1, 5])
def test_too_few_rounds_tell_nothing(rounds: int) -> None:
    said = verdict([Rival("native", (2.0,) * rounds, 2.0)])
    assert said.words.startswith("too few rounds to tell") and said.at_least is None
    assert (said.best is None) == (rounds == 0)


def test_with_many_alternatives_few_rounds_are_said_to_be_too_few() -> None:
    rivals = [Rival(f"r{i}", (0.9, 0.91, 0.92, 0.93, 0.94, 0.95), 0.9) for i in range(6)]
    said = verdict([*rivals, Rival("slow", (2.0, 2.1, 2.0, 2.1, 2.0, 2.1), 2.0)])
    assert "too few rounds for so many alternatives" in said.words and "is slower" not in said.words
