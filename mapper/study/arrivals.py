"""Open-loop load: when items are due, whatever the set-up that is measured does meanwhile.

A closed loop hands in an item when another is done, so a slow set-up is asked less. Users do not wait for each other:
their requests are close to a Poisson process (independent, exponential gaps). Latency is then measured from when an
item was due; counting from when it could be handed in would leave out its wait ("coordinated omission", Tene 2013).
"""

from __future__ import annotations

from dataclasses import dataclass

from mapper.errors import UsageError
from mapper.simulator.arrivals import poisson

AUTO = "auto"
SHARES = (0.5, 0.7, 0.9)
"""Of the closed-loop throughput of the chosen plan: the rates that `auto` takes."""
LEAST_ITEMS = 20
MAX_ITEMS = 20_000
"""Items of one open-loop round."""


@dataclass(frozen=True)
class Arrivals:
    """The rates to measure at, items a second; none: `SHARES` of what the chosen plan manages. `seed` of the gaps."""

    rates_per_s: tuple[float, ...] = ()
    seed: int = 0

    def of(self, throughput_per_s: float) -> tuple[float, ...]:
        """The rates, where the chosen plan manages `throughput_per_s`."""
        return self.rates_per_s or tuple(share * throughput_per_s for share in SHARES)


def arrivals_of(text: str, seed: int = 0) -> Arrivals:
    """What `--arrivals` says: `auto`, or rates such as `20` or `10,20,40`. Raises: UsageError."""
    if text.strip() == AUTO:
        return Arrivals(seed=seed)
    try:
        rates = tuple(float(part) for part in text.removesuffix("/s").split(","))
    except ValueError:
        rates = ()
    if not rates or not all(0 < rate < float("inf") for rate in rates):
        raise UsageError(f"--arrivals {text}: items a second were expected, such as 20 or 10,20,40, or {AUTO}")
    return Arrivals(rates, seed)


def schedule(rate_per_s: float, seconds: float, seed: int) -> list[float]:
    """When the items of a round are due, seconds from its start: a Poisson process of `rate_per_s`, about `seconds`
    long. The same seed gives the same times."""
    return poisson(rate_per_s, min(MAX_ITEMS, max(LEAST_ITEMS, round(rate_per_s * seconds))), seed)
