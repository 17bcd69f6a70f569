"""Intervals for medians, against binomial tables."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapper.study.statistics import median_interval


def test_fifteen_values_give_the_fourth_and_twelfth() -> None:
    """P(at most 3 of 15 below the median) = 576 / 32768 on each side."""
    interval = median_interval([float(x) for x in range(1, 16)])
    assert (interval.median, interval.low, interval.high) == (8, 4, 12)
    assert interval.level == pytest.approx(1 - 2 * 576 / 32768)


def test_six_values_are_the_fewest_for_95_percent() -> None:
    assert median_interval([1.0, 2, 3, 4, 5]).level < 0.95
    six = median_interval([1.0, 2, 3, 4, 5, 6])
    assert (six.low, six.high, six.level) == (1, 6, 1 - 2 / 64)


def test_no_values_are_refused() -> None:
    with pytest.raises(ValueError, match="no values"):
        median_interval([])


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40))
def test_the_median_is_inside_and_the_level_kept(values: list[float]) -> None:
    interval = median_interval(values)
    assert min(values) <= interval.low <= interval.median <= interval.high <= max(values)
    assert interval.level >= 0.95 or (interval.low, interval.high) == (min(values), max(values))
