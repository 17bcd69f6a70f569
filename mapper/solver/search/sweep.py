"""All trades of period, latency and cores at once: covers at many periods, and best cases that no plan is better than.

At one period P a pass of `cover` gives, for every number of cores c, the least latency F_P[c] of plans that meet P.
Between neighbouring periods P < Q nothing is searched, but every plan with a period above P and up to Q has a latency
of at least F_Q[c]: (P, F_Q[c], c) is a *corner*. In period, latency and cores every plan is no better than some corner.
So what covers all corners to a precision covers all plans to it, however few periods were looked at: a sweep that is
stopped proves less, but nothing wrong.

The passes leave out DRAM and memory. Where that makes a corner too good to be met, it is decided with them whether a
plan comes up to it to the precision; if none does, the corner moves away.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mapper.errors import Infeasible
from mapper.solver.covers.resources import WITHIN, Resource
from mapper.solver.problem import Array, Limits
from mapper.solver.search.request import Found, Request
from mapper.solver.search.space import Space

TOLERANCE = 1e-4
"""Relative precision of the least period, where the sweep begins."""
STEPS = 4
"""Periods are looked at in such fractions of the precision: the points can then be chosen among several."""
ROUNDING = 1 + 1e-8
"""Limits are kept to less than this factor, and so plans are found that come up to a corner to it."""
SHARE = 0.6
"""Of a time limit, what the sweep may take; the rest is for placing what it found."""

Point = tuple[float, float, int]
"""Period, latency, cores."""


@dataclass(frozen=True)
class Level:
    """A period that was looked at, and for each number of cores a bound of the latency of all plans that meet it."""

    period_s: float
    least_s: Array


@dataclass(frozen=True)
class Swept:
    """Plans that were found, none of them no better than another in all three; the corners, (n, 3): period, latency,
    cores; and whether the sweep came to its end."""

    found: tuple[Found, ...]
    corners: Array
    done: bool


class Sweep:
    """The sweep of one request. Bounds come from `lower`: the request itself, or, where blocks of ops are searched, one
    in which no stage costs more than it can in any plan."""

    def __init__(self, space: Space, limits: Limits, precision: float) -> None:
        self.space, self.limits, self.within = space, limits, 1 + precision
        self.request = Request(space, limits)
        self.lower = self.request if space.floor is None else Request(space.floor, lower_limits(limits))
        self.levels: list[Level] = []
        self.archive: dict[Point, Found] = {}
        self.bound_s = 0.0

    def run(self) -> Swept:
        """Sweeps all periods; interrupted, or at its share of the time limit, it ends with what it has.

        Raises: Infeasible, bare, where the limits allow no plan.
        """
        done = False
        try:
            self._ends()
            done = self._between() and self._settled()
        except KeyboardInterrupt:
            if not self.archive:
                raise
            self.space.stop.now()
        if not self.archive:
            raise Infeasible("no plan keeps the limits")
        return Swept(self._found(), self.corners(), done)

    def corners(self) -> Array:
        """Best cases, (n, 3): every plan is in all three no better than one of them, and none is needless."""
        rows = [
            (low_s, float(level.least_s[cores]), cores)
            for low_s, level in zip(
                [self.bound_s, *(level.period_s for level in self.levels)], self.levels, strict=False
            )
            for cores in drops(level.least_s)
        ]
        table = np.array(rows, float).reshape(-1, 3)
        return table[efficient(table)]

    def _found(self) -> tuple[Found, ...]:
        """The plans that no other is at least as good as in all three, by period."""
        found = list(self.archive.values())
        return tuple(found[i] for i in efficient(values_of(found)))

    # the passes

    def _ends(self) -> None:
        """The levels of the least period and of the longest that can matter."""
        least = self.request.least_period(TOLERANCE)
        if least is None:
            raise Infeasible("no plan keeps the limits")
        best, self.bound_s = least
        self._keep(best)
        if self.lower is not self.request:
            lower = self.lower.least_period(TOLERANCE)
            self.bound_s = min(self.bound_s, lower[1] if lower is not None else 0.0)
        longest = self._look(self.limits.max_period_s)
        self._look(min(max(longest, best.period_s), self.limits.max_period_s))
        self._look(best.period_s)

    def _look(self, period_s: float) -> float:
        """Notes the bounds and the plans at `period_s`. Seconds: the longest period of those plans."""
        if any(level.period_s == period_s for level in self.levels):
            return period_s
        covers = self.request.cover(period_s)
        lower = covers if self.lower is self.request else self.lower.cover(period_s)
        least = np.minimum.reduce([lower.front(stages) for stages in self.lower.counts()])
        latency = self.limits.max_latency_s
        if latency is not None:
            least = np.where(least <= latency * WITHIN, least, math.inf)
        self._insert(Level(period_s, least))
        memory = [r for r in self._limited(period_s) if r.name in ("memory", "nodes")]
        longest = 0.0
        for stages in self.request.counts():
            for cores in drops(covers.front(stages)):
                found = self.request.found(covers, covers.chain(int(cores), stages))
                longest = max(longest, found.period_s)
                if all(resource.keeps(found.cells) for resource in memory):
                    self._keep(found)
        self.space.progress(f"{len(self.levels)} periods looked at, {len(self.archive)} plans")
        return longest

    def _limited(self, period_s: float) -> list[Resource]:
        return self.request.resources(period_s) if self.limits.node_memory_bytes is not None else []

    def _insert(self, level: Level) -> None:
        self.levels = sorted([*self.levels, level], key=lambda level: level.period_s)

    def _keep(self, found: Found) -> None:
        """Notes `found` if it keeps the limits on latency and rate."""
        latency = self.limits.max_latency_s
        if (latency is None or found.latency_s <= latency * WITHIN) and (
            found.period_s <= self.limits.max_period_s * WITHIN
        ):
            self.archive.setdefault((found.period_s, found.latency_s, found.cores), found)

    def _between(self) -> bool:
        """Looks at periods between levels until neighbours are near, in period or in all latencies."""
        step = self.within ** (1 / STEPS)
        while True:
            wide = [pair for pair in itertools.pairwise(self.levels) if _apart(*pair, step)]
            for low, high in wide:
                if self._late():
                    return False
                self._look(math.sqrt(low.period_s * high.period_s))
            if not wide:
                return True

    def _late(self) -> bool:
        """Whether the time is up, or the sweep's share of it."""
        stop = self.space.stop
        return stop.reached or (stop.limit_s is not None and (stop.left_s or 0.0) < stop.limit_s * (1 - SHARE))

    # corners that are too good, as DRAM and memory were left out

    def _settled(self) -> bool:
        """Decides about corners that no plan comes up to, from the longest periods on: whether all are settled."""
        tried: set[Point] = set()
        while True:
            corners = self.corners()
            reached = covering(values_of(self._found()), corners, self.within).any(axis=0)
            open_ = [(low_s, least_s, int(cores)) for low_s, least_s, cores in corners[~reached].tolist()]
            untried = sorted(set(open_) - tried, reverse=True)
            for corner in untried:
                if self._late():
                    return False
                self.space.progress(f"{len(open_)} best cases that no plan comes up to, {len(self.archive)} plans")
                self._decide(*corner)
            tried.update(untried)
            if not untried:
                return not open_

    def _decide(self, low_s: float, least_s: float, cores: int) -> None:
        """Finds a plan that comes up to the corner, or moves the corner to more latency, where that is decided."""
        level = next((level for level in self.levels if level.period_s > low_s), self.levels[-1])
        if level.least_s[cores] > least_s:
            return  # another decision has moved it
        period_s = low_s * self.within
        if period_s < level.period_s:  # first whether there is such a plan at any period up to the level's
            if not self._come_up(level.period_s, least_s, cores) or self._bound_s(level.period_s, cores) > least_s:
                return
            self._insert(Level(period_s, level.least_s))
        self._come_up(min(level.period_s, period_s), least_s, cores)

    def _bound_s(self, period_s: float, cores: int) -> float:
        """The least latency that is not refuted at a level."""
        return next(float(level.least_s[cores]) for level in self.levels if level.period_s == period_s)

    def _come_up(self, period_s: float, least_s: float, cores: int) -> bool:
        """Finds a plan of nearly the latency `least_s` within the period, or raises the bounds up to the least latency
        of any: whether that is decided."""
        most_s = self._try(period_s, math.inf, cores)
        at_s = least_s
        while most_s is not None and least_s * self.within < most_s < math.inf and not self._late():
            found_s = self._try(period_s, at_s, cores)
            if found_s is None:
                return False
            least_s, most_s = (at_s, most_s) if found_s == math.inf else (least_s, found_s)
            at_s = math.sqrt(least_s * most_s)
        return most_s is not None

    def _try(self, period_s: float, latency_s: float, cores: int) -> float | None:
        """The latency of a plan within all three, which is noted; infinite where it is refuted that there is one, and
        the bounds are raised by it; None where that is not decided."""
        most_s = min(latency_s, self.limits.max_latency_s or math.inf)
        limit = None if most_s == math.inf else most_s
        request = Request(self.space, replace(self.limits, max_latency_s=limit))
        decision = request.decide(period_s, cores=cores)
        if decision.cells is not None and decision.covers is not None:
            found = request.found(decision.covers, decision.cells)
            self._keep(found)
            return found.latency_s
        if self.lower is not self.request:
            lower = Request(self.lower.space, replace(self.lower.limits, max_latency_s=limit))
            decision = lower.decide(period_s, cores=cores)
        if not decision.refuted:
            return None
        self._raise(period_s, math.inf if most_s < latency_s or limit is None else most_s, cores)
        return math.inf

    def _raise(self, period_s: float, latency_s: float, cores: int) -> None:
        """Notes that there is no plan within all three."""
        few = np.arange(self.request.cores + 1) <= cores
        self.levels = [
            level
            if level.period_s > period_s
            else Level(
                level.period_s, np.where(few[: len(level.least_s)], np.maximum(level.least_s, latency_s), level.least_s)
            )
            for level in self.levels
        ]


def lower_limits(limits: Limits) -> Limits:
    """`limits` where a plan may have fewer stages than it has: in the floor of blocks."""
    return replace(limits, stages=None, max_stages=limits.stages or limits.max_stages)


def _apart(low: Level, high: Level, step: float) -> bool:
    """Whether plans between the two periods may be neither as fast as the one nor as soon done as the other."""
    return high.period_s > low.period_s * step and not bool((low.least_s <= high.least_s * step).all())


def drops(front: Array) -> NDArray[np.int64]:
    """The numbers of cores from which on a front is lower than with fewer."""
    before = np.concatenate([[math.inf], front[:-1]])
    return np.flatnonzero(front < before)


def values_of(found: Sequence[Found]) -> Array:
    """(n, 3): period, latency, cores."""
    return np.array([(x.period_s, x.latency_s, x.cores) for x in found], float).reshape(-1, 3)


def efficient(table: Array) -> NDArray[np.int64]:
    """The rows of `table` than which no other is at most as much in every column; of equal rows the first. Sorted by
    column, the first column first."""
    kept: list[int] = []
    for i in np.lexsort(table.T[::-1]):
        if not (table[kept] <= table[i]).all(axis=1).any():
            kept.append(int(i))
    return np.array(kept, np.int64)


def covering(values: Array, corners: Array, within: float) -> NDArray[np.bool_]:
    """(points, corners): which points are at most `within` times a corner in period and latency, in no more cores."""
    out = values[:, None, 2] <= corners[None, :, 2]
    for column in (0, 1):
        out &= values[:, None, column] <= corners[None, :, column] * within * ROUNDING
    return out
