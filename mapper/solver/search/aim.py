"""What a plan is to be best at, as limits for the search of the least period."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mapper.solver.problem import Limits, Objective
from mapper.solver.search.least_period import fewest_cores, least_latency
from mapper.solver.search.space import Space
from mapper.units import format_seconds

ROUNDING = 1e-9
"""Sums come in different orders: a least latency is asked for again with this much room."""


@dataclass(frozen=True)
class Aim:
    """The limits under which the least period is wanted, and the proved bound of the objective (None: the period)."""

    objective: Objective
    limits: Limits
    bound: float | None


def aimed(space: Space, objective: Objective, limits: Limits, tolerance: float) -> Aim:
    """The least latency or the fewest cores under `limits`, as a limit. When the user interrupts, `limits` alone.

    Raises: Infeasible.
    """
    try:
        if objective == "latency":
            least, bound = least_latency(space, limits, tolerance)
            space.progress(f"latency {format_seconds(least)}, bound {format_seconds(bound)}")
            return Aim(objective, replace(limits, max_latency_s=least * (1 + ROUNDING)), bound)
        if objective == "cores":
            fewest, at_least = fewest_cores(space, limits)
            space.progress(f"{fewest} cores, bound {at_least}")
            return Aim(objective, replace(limits, max_cores=fewest), float(at_least))
    except KeyboardInterrupt:
        space.stop.now()
        return Aim(objective, limits, 0.0)
    return Aim(objective, limits, None)
