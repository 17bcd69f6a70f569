"""Plans for items in micro-batches (problem.md, *latency L*): P and L of a call of the program make m·P and
L + (m - 1)·P of an item.

A limit on an item's latency is one on L + (m - 1)·P. That is not monotone in P: a shorter period needs more latency
within the stages, and a longer one waits longer for the last micro-batch. So P is raised from below: with P₀ no more
than the least period there is, the least period P₁ with L at most the limit less (m - 1)·P₀ is no more than the one
wanted, and so on, until a plan keeps the limit. The first that does is the best.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

from mapper.errors import Infeasible, NoPlanInTime
from mapper.plans.micro_batches import in_items
from mapper.solver.placement.candidates import Case
from mapper.solver.placement.fitting import KEPT, Fitting, fitting
from mapper.solver.problem import Limits, Objective
from mapper.solver.search.aim import Aim, aimed
from mapper.units import format_seconds

Made = TypeVar("Made")

ROUNDS = 12
"""How often a period is raised, or an interval of periods divided."""
GAIN = 0.01
"""More micro-batches must be better by this, relatively."""
ENOUGH = 2e-3
"""A bound of an item's latency this near to the best one found is not improved."""


@dataclass(frozen=True)
class Batched:
    """A request on calls of which `count` make an item: `limits` are those of items."""

    case: Case
    limits: Limits
    count: int
    near_optimal: float
    tolerance: float

    def of_calls(self, period_s: float) -> Limits:
        """The limits of one call, for plans whose period is at least `period_s`. Raises: Infeasible."""
        rate, latency = self.limits.min_throughput_per_s, self.limits.max_latency_s
        left = None if latency is None else latency - (self.count - 1) * period_s
        if left is not None and left <= 0:
            raise Infeasible("no plan keeps the limits")
        return replace(self.limits, max_latency_s=left, min_throughput_per_s=rate and rate * self.count)

    def kept(self, found: Fitting) -> bool:
        """Whether an item's latency is within the limit."""
        most = self.limits.max_latency_s
        return most is None or self.latency_s(found) <= most * KEPT

    def latency_s(self, found: Fitting) -> float:
        """An item's latency."""
        return in_items(found.evaluation.predicted, self.count).latency_s


def found_for_items(
    case: Case, objective: Objective, limits: Limits, near_optimal: float, tolerance: float, count: int
) -> tuple[Aim, Fitting]:
    """The best plan of the calls of which `count` make an item, and what was aimed at: its bound is of items.

    Raises: Infeasible with the least latency of an item where that is what conflicts; NoPlanInTime.
    """
    wanted = Batched(case, limits, count, near_optimal, tolerance)
    try:
        if objective == "latency":
            return _least_latency(wanted)
        if objective == "cores":
            return _fewest_cores(wanted)
        found = _least_period(wanted)
        return Aim(objective, limits, found.bound_s * count), found
    except Infeasible:
        raise _conflict(wanted) from None


def _least_period(wanted: Batched) -> Fitting:
    """The plan of the least period whose items keep the limit on latency. Raises: Infeasible; NoPlanInTime."""
    strict = 0.0 if wanted.limits.max_latency_s is not None else wanted.near_optimal
    low = 0.0
    for _ in range(ROUNDS):
        inner = wanted.of_calls(low)
        found = fitting(wanted.case, inner, inner, strict, wanted.tolerance)
        if wanted.kept(found):
            return replace(found, bound_s=max(low, found.bound_s))
        if found.bound_s <= low * (1 + wanted.tolerance):
            break
        low = found.bound_s
    for _ in range(ROUNDS):  # the bound is reached: room for what placement adds to the period
        inner = wanted.of_calls(found.evaluation.predicted.period_s)
        found = fitting(wanted.case, inner, inner, strict, wanted.tolerance)
        if wanted.kept(found):
            return replace(found, bound_s=low)
    raise NoPlanInTime(
        "plans were found, but none whose items keep --max-latency when it is placed on cores",
        advice="A limit a few percent wider leaves room for distances and the borders of nodes.",
    )


def _fewest_cores(wanted: Batched) -> tuple[Aim, Fitting]:
    """The plan on the fewest cores, by bisection: what is possible on some is on more."""
    best = _least_period(wanted)
    low, proved, high = 0, 0, best.evaluation.predicted.cores_used
    while high - low > 1 and not wanted.case.space.stop.reached:
        middle = (low + high) // 2
        try:
            best = _least_period(replace(wanted, limits=replace(wanted.limits, max_cores=middle)))
            high = best.evaluation.predicted.cores_used
        except Infeasible:
            low = proved = middle
        except NoPlanInTime:
            low = middle
        wanted.case.space.progress(f"{high} cores, bound {proved + 1}")
    return Aim("cores", replace(wanted.limits, max_cores=high), float(proved + 1)), best


@dataclass(frozen=True)
class _Interval:
    """Periods of calls from `low_s` to `high_s`, and a bound of an item's latency for plans with such a period."""

    low_s: float
    high_s: float
    bound_s: float


def _least_latency(wanted: Batched) -> tuple[Aim, Fitting]:
    """The plan with the least latency of an item: periods are divided where the bound is lowest."""
    first = fitting(wanted.case, wanted.of_calls(0.0), wanted.of_calls(0.0), wanted.near_optimal, wanted.tolerance)
    best, behind = first, wanted.count - 1
    widest, least = _within(wanted, math.inf)
    if wanted.latency_s(widest) < wanted.latency_s(best):
        best = widest
    open_ = [_Interval(first.bound_s, widest.evaluation.predicted.period_s, least + behind * first.bound_s)]
    for _ in range(2 * ROUNDS):
        worst = min(open_, key=lambda interval: interval.bound_s)
        if worst.bound_s >= wanted.latency_s(best) * (1 - ENOUGH) or wanted.case.space.stop.reached:
            break
        open_.remove(worst)
        middle = math.sqrt(worst.low_s * worst.high_s)
        try:
            found, least = _within(wanted, middle)
        except Infeasible:
            open_.append(replace(worst, low_s=middle, bound_s=worst.bound_s + behind * (middle - worst.low_s)))
            continue
        if wanted.latency_s(found) < wanted.latency_s(best):
            best = found
        lower = _Interval(worst.low_s, middle, max(worst.bound_s, least + behind * worst.low_s))
        upper = replace(worst, low_s=middle, bound_s=worst.bound_s + behind * (middle - worst.low_s))
        open_ += [lower, upper]
        wanted.case.space.progress(f"latency of an item {format_seconds(wanted.latency_s(best))}")
    bound = min(interval.bound_s for interval in open_)
    return Aim("latency", replace(wanted.limits, max_latency_s=wanted.latency_s(best)), bound), best


def _within(wanted: Batched, period_s: float) -> tuple[Fitting, float]:
    """The plan of the least latency of a call among those with at most this period, and a bound of that latency."""
    rate = max(wanted.of_calls(0.0).min_throughput_per_s or 0.0, 1 / period_s)
    inner = replace(wanted.limits, max_latency_s=None, min_throughput_per_s=rate or None)
    aim = aimed(wanted.case.space, "latency", inner, wanted.tolerance)
    assert aim.bound is not None, "latency has a bound"
    return fitting(wanted.case, aim.limits, inner, 0.0, wanted.tolerance), aim.bound


def _conflict(wanted: Batched) -> Infeasible:
    """The error, with the least latency of an item as the lever where there is a plan without that limit."""
    what = f"no plan keeps the limits with items in {wanted.count} micro-batches"
    if wanted.limits.max_latency_s is None:
        return Infeasible(what)
    try:
        found = _least_latency(replace(wanted, limits=replace(wanted.limits, max_latency_s=None)))[1]
    except (Infeasible, NoPlanInTime):
        return Infeasible(what)
    return Infeasible(what, [f"--max-latency {_rounded_up(wanted.latency_s(found))}"])


def _rounded_up(seconds: float) -> str:
    """`seconds` in milliseconds, of four digits, not less."""
    milliseconds = seconds * 1e3
    digits = 10.0 ** (math.floor(math.log10(milliseconds)) - 3)
    return f"{math.ceil(milliseconds / digits + 1) * digits:.6g}ms"


def micro_batches(batch: int) -> Iterator[int]:
    """The numbers of equal micro-batches that `batch` elements can be split into, fewest first."""
    return (count for count in range(1, batch + 1) if batch % count == 0)


def best_count(made_of: Callable[[int], Made], batch: int, value: Callable[[Made], float]) -> Made:
    """Of the plans for each number of micro-batches the one of the least `value`, of equal ones that with the fewest.

    Raises: Infeasible where no number keeps the limits.
    """
    best: Made | None = None
    refused: Infeasible | None = None
    for count in micro_batches(batch):
        try:
            made = made_of(count)
        except Infeasible as error:
            refused = refused or error
            continue
        if best is None or value(made) < value(best) * (1 - GAIN):
            best = made
    if best is None:
        assert refused is not None, "there is at least one number"
        raise refused
    return best
