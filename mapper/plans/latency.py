"""How long items take: the percentiles that a measurement and a simulation tell."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from mapper.jsonio import Record


class Latency(Record):
    """Seconds from when an item is handed in (or was due, where arrivals have a schedule) to when its output is
    collected."""

    p50: float
    p90: float
    p99: float


def percentiles(seconds: Sequence[float]) -> Latency:
    """The values that half, nine tenths and 99 of 100 of `seconds` do not exceed, interpolated."""
    if len(seconds) < 2:
        only = seconds[0] if seconds else 0.0
        return Latency(p50=only, p90=only, p99=only)
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return Latency(p50=cuts[49], p90=cuts[89], p99=cuts[98])
