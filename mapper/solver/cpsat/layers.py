"""The dynamic program over the ideals that windows leave, border by border: exact where they are few.

The ops up to stage s form an ideal with all that must be there by then and nothing that cannot be (`shrink.windows`). A
graph may have a million ideals, and yet some hundreds that can be its second border below a period.

    f[s, j] = min over ideals i ⊆ j of border s-1 of max(f[s-1, i], load(j without i));  an empty stage costs nothing
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mapper.solver.cpsat.improve import members_of, stage_loads
from mapper.solver.cpsat.linear import Chain, Linear
from mapper.solver.cpsat.shrink import Windows
from mapper.solver.problem import Array

MOST_BORDERS, MOST_PAIRS, BLOCK = 6000, 40_000_000, 4_000_000
"""Ideals of one border, pairs of ideals of neighbouring borders in all, and pairs that are costed at once."""


@dataclass(frozen=True)
class Exact:
    """The least largest load of all chains within the windows that keep the limit, with its chain; None for none."""

    load: int
    chain: Chain | None


def exact(linear: Linear, windows: Windows, most: int) -> Exact | None:
    """The best chain within `windows` with all loads at most `most` units; None where there are too many ideals."""
    full = (1 << linear.ops) - 1
    borders: list[list[int]] = [[0]]
    for s in range(linear.stages - 1):
        found = _border(linear, windows, s, most)
        if found is None:
            return None
        borders.append(found)
    borders.append([full])
    if sum(len(a) * len(b) for a, b in itertools.pairwise(borders)) > MOST_PAIRS:
        return None
    return _best(linear, borders, most)


def _border(linear: Linear, windows: Windows, s: int, most: int) -> list[int] | None:
    """The ideals that the ops of stages 0..s can be, ascending; None where they are too many."""
    must = sum(1 << v for v in range(linear.ops) if windows.latest[v] <= s)
    free = [v for v in range(linear.ops) if windows.earliest[v] <= s < windows.latest[v]]
    need = dict.fromkeys(free, 0)
    readers: dict[int, list[int]] = {v: [] for v in free}
    for u, v in linear.edges:
        if v in need:
            need[v] |= 1 << u
            if u in readers:
                readers[u].append(v)
    room = (s + 1) * most
    done = sum(work for v, work in enumerate(linear.work) if must >> v & 1)
    needed = sum(linear.work) - (linear.stages - 1 - s) * most
    frontier = {must: (done, frozenset(v for v in free if need[v] & ~must == 0))}
    seen = dict.fromkeys(frontier, done)
    while frontier:
        grown: dict[int, tuple[int, frozenset[int]]] = {}
        for mask, (work, addable) in frontier.items():
            for v in addable:
                bigger = mask | 1 << v
                if bigger in seen or work + linear.work[v] > room:
                    continue
                seen[bigger] = work + linear.work[v]
                ready = {w for w in readers[v] if need[w] & ~bigger == 0}
                grown[bigger] = (seen[bigger], (addable - {v}) | ready)
            if len(seen) > MOST_BORDERS:
                return None
        frontier = grown
    return sorted(mask for mask, work in seen.items() if work >= needed)


def _best(linear: Linear, borders: list[list[int]], most: int) -> Exact:
    """The recursion, and the way back."""
    value: Array = np.zeros(1)
    masks, steps = borders[0], []
    for after in borders[1:]:
        reached, source = _step(linear, masks, value, after)
        keep = np.flatnonzero(reached <= most)
        if not len(keep):
            return Exact(most + 1, None)
        steps.append((masks, [after[j] for j in keep], source[keep]))
        masks, value = [after[j] for j in keep], reached[keep]
    stage_of, at = [0] * linear.ops, 0
    for s in range(len(steps) - 1, -1, -1):
        before, here, origin = steps[s]
        low = before[int(origin[at])]
        for v in range(linear.ops):
            if (here[at] & ~low) >> v & 1:
                stage_of[v] = s
        at = int(origin[at])
    return Exact(int(value[0]), tuple(stage_of))


def _step(linear: Linear, before: list[int], value: Array, after: list[int]) -> tuple[Array, NDArray[np.int64]]:
    """For each ideal of the next border the least largest load up to it, and the ideal of this border behind it."""
    lower = members_of(before, linear.ops)
    reached, source = np.empty(len(after)), np.empty(len(after), dtype=np.int64)
    width = max(1, BLOCK // len(before))
    for first in range(0, len(after), width):
        part = after[first : first + width]
        upper = members_of(part, linear.ops)
        load = stage_loads(linear, lower, upper, empty=np.inf if linear.exact else 0.0)
        through = np.maximum(value[:, None], load)
        best = through.argmin(axis=0)
        source[first : first + len(part)] = best
        reached[first : first + len(part)] = through[best, np.arange(len(part))]
    return reached, source
