"""From rounds to a figure or a refusal."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapper.measure.calibrate import figure_of
from mapper.measure.spread import middle_half, summary, unusable


def test_the_middle_half_is_between_the_quartiles() -> None:
    assert middle_half([1, 2, 3, 4, 5]) == pytest.approx(2 / 3)
    assert middle_half([10, 10, 10, 10, 1000]) == 0
    assert middle_half([7]) == 0
    assert middle_half([0, 0, 0]) == 0
    assert math.isinf(middle_half([-1, 0, 1]))


@given(st.lists(st.floats(1e-9, 1e12), min_size=4, max_size=20), st.floats(1e-3, 1e3))
def test_it_is_blind_to_the_unit(values: list[float], unit: float) -> None:
    assert middle_half([value * unit for value in values]) == pytest.approx(middle_half(values))


def test_one_round_in_four_may_be_far_off() -> None:
    quiet = [100.0] * 7
    assert unusable([*quiet, 1.0, 1e6], 0.25) == ""
    assert unusable([60, 70, 80, 90, 100, 110, 120, 130, 140], 0.25) == "spread 40 %"
    assert unusable([60, 70, 80, 90, 100, 110, 120, 130, 140], 0.5) == ""
    assert unusable([0.0] * 9, 0.25) == ""


def test_a_figure_is_the_median_between_least_and_greatest() -> None:
    figure = figure_of([3.0, 1.0, 2.0], "reads of 16 KiB on one core")
    assert (figure.value, figure.low, figure.high, figure.kind) == (2, 1, 3, "measured")
    assert figure.source == "mapper calibrate: median of 3 rounds, reads of 16 KiB on one core"
    assert figure_of([3.0], "x").source == "mapper calibrate: one round, x"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([2.18834e11], (2.18e11, 2.19e11, 2.19e11)),
        ([1.08791e-9, 1.1291e-9, 1.0941e-9], (1.08e-9, 1.09e-9, 1.13e-9)),
        ([1.0, 1.0, 1.0004], (1.0, 1.0, 1.01)),
        ([0.0, 3e-6, 9.996], (0.0, 3e-6, 10.0)),
        ([3.0, 3.0000000000000004], (3.0, 3.0, 3.0)),
    ],
)
def test_a_figure_has_three_digits_and_a_spread_rounded_outwards(
    values: list[float], expected: tuple[float, float, float]
) -> None:
    assert summary(values) == expected


@given(st.lists(st.floats(1e-12, 1e15), min_size=1, max_size=9))
def test_the_spread_holds_the_median_and_all_rounds_but_for_the_last_bits(values: list[float]) -> None:
    low, value, high = summary(values)
    assert low <= value <= high
    assert low <= min(values) * (1 + 1e-9)
    assert high >= max(values) * (1 - 1e-9)
    assert value == pytest.approx(sorted(values)[len(values) // 2], rel=0.01) or len(values) % 2 == 0
