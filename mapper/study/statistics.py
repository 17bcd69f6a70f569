"""The statistics of comparisons: medians, and an interval for a median that assumes nothing about the
distribution."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

median = statistics.median


@dataclass(frozen=True)
class Interval:
    """A median with its confidence interval; `level` is the confidence that `low`..`high` really has."""

    median: float
    low: float
    high: float
    level: float


def median_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """The median of `values`, and the narrowest symmetric pair of order statistics with confidence ≥ `level`.

    The number of values below the true median is binomial with p = 1/2 (the sign test turned round), so the interval
    holds for any continuous distribution of independent values. With too few values for `level` it is the whole range.

    Raises: ValueError without values.
    """
    ordered, n = sorted(values), len(values)
    if n == 0:
        raise ValueError("no values")
    below, cut = 0.0, 0
    for k in range(n // 2):
        more = below + math.comb(n, k) / 2**n
        if 1 - 2 * more < level:
            break
        below, cut = more, k + 1
    cut = max(cut, 1)
    covered = 1 - 2 * sum(math.comb(n, k) for k in range(cut)) / 2**n
    return Interval(statistics.median(ordered), ordered[cut - 1], ordered[n - cut], max(covered, 0.0))


def geometric_mean(values: Sequence[float]) -> float:
    """The n-th root of the product of n positive values. Raises: ValueError without values."""
    if not values:
        raise ValueError("no values")
    return math.exp(sum(map(math.log, values)) / len(values))
