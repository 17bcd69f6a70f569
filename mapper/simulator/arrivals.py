"""When items come: as soon as there is room, at random, or when a trace says."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence


def poisson(rate_per_s: float, count: int, seed: int) -> list[float]:
    """When each of `count` items is due, in seconds: independent, exponential gaps with a mean of 1 / `rate_per_s`. The
    same seed gives the same times."""
    drawn = random.Random(seed)
    return list(itertools.accumulate(drawn.expovariate(rate_per_s) for _ in range(count)))


def repeated(trace: Sequence[float], count: int) -> list[float]:
    """`count` times of a trace: from its beginning again, where it is too short, after its mean gap."""
    if not trace:
        return []
    length = trace[-1] - trace[0] + (trace[-1] - trace[0]) / max(1, len(trace) - 1)
    return [trace[i % len(trace)] - trace[0] + i // len(trace) * length for i in range(count)]
