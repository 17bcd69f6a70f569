"""Axes of pictures: where values lie, and round ones to write along them."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """Values from `low` to `high` along `length` inches from `start`; upwards where the length is negative."""

    low: float
    high: float
    start: float
    length: float
    logarithmic: bool = False

    def at(self, value: float) -> float:
        """Where `value` lies; at the rim where it is outside."""
        value = min(max(value, self.low), self.high)
        if self.logarithmic:
            return self.start + self.length * math.log(value / self.low) / math.log(self.high / self.low)
        return self.start + self.length * (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """Round values, some four to eight of them."""
        if self.logarithmic:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            return [v for p in powers for v in (10.0**p, 2 * 10.0**p, 5 * 10.0**p) if self.low <= v <= self.high]
        step = next(
            s for s in (m * 10.0**e for e in range(-12, 18) for m in (1, 2, 5)) if (self.high - self.low) / s <= 5
        )
        first = math.ceil(self.low / step - 1e-9)
        return [i * step for i in range(first, math.floor(self.high / step + 1e-9) + 1)]
