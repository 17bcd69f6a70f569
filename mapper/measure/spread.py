"""From the rounds of a measurement to a figure, or to the refusal of one."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence

DIGITS = 3
"""Of a figure; what is measured is not known better, whatever its rounds agree on."""


def summary(values: Sequence[float]) -> tuple[float, float, float]:
    """The least, the median and the greatest of `values`, to three digits: the median to the nearest, the others
    outwards."""
    least, greatest = min(values), max(values)
    return _digits(least, math.floor), _digits(statistics.median(values), round), _digits(greatest, math.ceil)


def _digits(value: float, rounded: Callable[[float], int]) -> float:
    """`value` to three digits."""
    if not value:
        return 0.0
    shift = DIGITS - 1 - math.floor(math.log10(abs(value)))
    scaled = round(value * 10.0**shift, 9)  # 3.0000000000000004 is 3
    return float(f"{rounded(scaled)}e{-shift}")


def middle_half(values: Sequence[float]) -> float:
    """How far the middle half of `values` spreads, as a part of their median; 0 for a single value.

    The quartiles are those of the sample, between neighbours in proportion: one round in four may be far off on
    either side and does not count. Infinite where the median is 0 and the values are not.
    """
    if len(values) < 2:
        return 0.0
    first, median, third = statistics.quantiles(values, n=4, method="inclusive")
    if first == third:
        return 0.0
    return (third - first) / abs(median) if median else float("inf")


def unusable(values: Sequence[float], max_spread: float) -> str:
    """Why no figure can be made of `values`, empty where one can: their middle half spreads over more than
    `max_spread` of the median."""
    spread = middle_half(values)
    return f"spread {spread * 100:.0f} %" if spread > max_spread else ""
