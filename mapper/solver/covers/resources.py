"""What plans share out besides cores: latency, DRAM bytes, memory. Whether any cover keeps all limits at once.

The dynamic program (`cover`) minimises one amount. Several limits at a time are decided in three steps, each of which
may end it: one limit alone; a weighted sum of all, amounts relative to their limits, whose least value above 1 is a
refutation (Lagrange; Handler and Zang 1980 for shortest paths with a constraint); and, where weights leave a gap, all
sums that no other beats in everything (`labels`), cut off by what the rest costs at least.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mapper.solver.covers.cover import Cell, Covers, relative
from mapper.solver.problem import Array

ROUNDS = 12
"""Weighted sums that are tried at most; they converge in three to six."""
WITHIN = 1 + 1e-9
"""Limits are kept to this relative precision: sums come in different orders."""


@dataclass(frozen=True, eq=False)
class Resource:
    """One thing that stages use: `amount[o, p]` of option o for the pair p, and `limit` of the sum over stages.

    `rises`: what a second that a far border adds to a stage's load uses more.
    """

    name: str
    amount: Array
    limit: float
    rises: float = 0.0

    def at(self, cell: Cell) -> float:
        """What one stage uses."""
        return float(self.amount[cell.option, cell.pair]) + self.rises * cell.rise_s

    def of(self, cells: Sequence[Cell]) -> float:
        """What the stages `cells` use together."""
        return sum(map(self.at, cells))

    def keeps(self, cells: Sequence[Cell]) -> bool:
        """Whether `cells` keep the limit."""
        return self.of(cells) <= self.limit * WITHIN


@dataclass(frozen=True)
class Decision:
    """A cover that keeps every limit with the pass that found it, or none: then `refuted` says whether none exists.

    `exhausted`: it took looking at all covers, so that another look for one with fewer cores is not worth it.
    """

    covers: Covers | None
    cells: tuple[Cell, ...] | None
    refuted: bool = False
    exhausted: bool = False


REFUTED = Decision(None, None, refuted=True)
Run = Callable[[Resource, bool], tuple[Covers, tuple[Cell, ...] | None]]
"""A pass for a resource: the cover with the fewest cores within its limit, or, if true, with the least amount."""
Pass = tuple[Covers, tuple[float, ...]]
"""A pass for a weighted sum of relative amounts, and the weights."""
Exhaust = Callable[[Sequence[Resource], Sequence[Pass]], Decision]
"""Decides what weights could not, given the passes so far."""


def decide(resources: Sequence[Resource], run: Run, exhaust: Exhaust) -> Decision:
    """Whether a cover keeps the limits of all `resources`, the first of which is preferred small."""
    limited = [r for r in resources if r.limit < math.inf]
    passes: list[Pass] = []
    tried: list[tuple[float, ...]] = []
    for resource in resources:
        covers, cells = run(resource, False)
        if cells is None:
            return REFUTED
        if all(other.keeps(cells) for other in limited):
            return Decision(covers, cells)
        if resource in limited:
            passes.append((covers, tuple(float(resource is other) for other in limited)))
        tried.append(_row(limited, cells))
    return _weighted(limited, run, exhaust, passes, tried)


def _weighted(
    limited: Sequence[Resource], run: Run, exhaust: Exhaust, passes: list[Pass], tried: list[tuple[float, ...]]
) -> Decision:
    """Looks for weights under which every cover is beyond the limits, or a cover within them on the way."""
    for _ in range(ROUNDS):
        weights, promised = best_weights(tried)
        covers, cells = run(_sum(weights, limited), True)
        if cells is None:
            return REFUTED
        if all(resource.keeps(cells) for resource in limited):
            return Decision(covers, cells)
        passes.append((covers, weights))
        row = _row(limited, cells)
        if sum(w * x for w, x in zip(weights, row, strict=True)) >= promised * (1 - 1e-9) or row in tried:
            break
        tried.append(row)
    return exhaust(limited, passes)


def _sum(weights: Sequence[float], limited: Sequence[Resource]) -> Resource:
    """The weighted sum of the amounts in units of their limits."""
    out: Array = np.zeros_like(limited[0].amount)
    for o, row in enumerate(out):  # one by one: the whole at once would take several times its memory
        for weight, resource in zip(weights, limited, strict=True):
            if weight > 0:
                row += weight * relative(resource.amount[o], resource.limit)
    rises = sum(w * r.rises / r.limit for w, r in zip(weights, limited, strict=True) if w > 0 and r.rises)
    return Resource("sum", out, 1.0, rises)


def _row(limited: Sequence[Resource], cells: Sequence[Cell]) -> tuple[float, ...]:
    """What `cells` use of each, relative to its limit."""
    return tuple(float(sum(relative(np.array(r.at(cell)), r.limit) for cell in cells)) for r in limited)


def best_weights(rows: Sequence[tuple[float, ...]]) -> tuple[tuple[float, ...], float]:
    """Weights ≥ 0 with sum 1 under which the least weighted sum of `rows` is largest, and that sum.

    At most three columns: the best point is where as many rows meet as weights are positive, so all such points are
    compared.
    """
    columns = len(rows[0])
    table = np.minimum(np.array(rows), 1e30)  # a limit of 0 makes infinite rows
    best, value = np.eye(columns)[0], -math.inf
    for count in range(1, columns + 1):
        for support in itertools.combinations(range(columns), count):
            for chosen in itertools.combinations(range(len(rows)), count):
                point = _meeting(table[np.ix_(chosen, support)])
                if point is None:
                    continue
                weights = np.zeros(columns)
                weights[list(support)] = point
                least = float((table @ weights).min())
                if least > value * (1 + 1e-12):
                    best, value = weights, least
    return tuple(float(w) for w in best), value


def _meeting(rows: Array) -> Array | None:
    """The weights under which all `rows` (square) have the same sum, None where they are not all positive."""
    size = len(rows)
    left = np.vstack([np.hstack([rows, -np.ones((size, 1))]), np.append(np.ones(size), 0.0)])
    try:
        point: Array = np.linalg.solve(left, np.append(np.zeros(size), 1.0))[:size]
    except np.linalg.LinAlgError:
        return None
    return point if bool((point > 0).all()) else None
