"""Ideals: sets of ops closed under predecessors. A plan with an acyclic stage graph is exactly a chain of them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mapper.solver.problem import Problem

MOST, MOST_OF_ONE = 1200, 3000
"""Ideals up to which all are enumerated, and where there is one configuration only: the interval matrices are quadratic
in their number, one for each configuration."""


def most_ideals(problem: Problem) -> int:
    """How many ideals of `problem` are worked with."""
    return MOST_OF_ONE if len(problem.configs) == 1 else MOST


@dataclass(frozen=True)
class Ideals:
    """`member[i, v]`: op v is in ideal i. Ideals ascend in size, the empty one first, all ops last.

    `complete`: they are all the ideals of the graph, so that the best chain of them is the best plan.
    """

    member: NDArray[np.bool_]
    complete: bool

    @cached_property
    def pairs(self) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int64]]:
        """All (i, j) with ideal i inside ideal j, i ≠ j: `source` and `target`, sorted by target, and where each
        target's begin."""
        inside = self.member.astype(np.float32)
        contains = (inside @ (1 - inside).T) < 0.5
        np.fill_diagonal(contains, False)
        target, source = np.nonzero(contains.T)
        begin = np.searchsorted(target, np.arange(len(self.member) + 1))
        return source.astype(np.int32), target.astype(np.int32), begin.astype(np.int64)


def ideals(problem: Problem, most: int | None = None) -> Ideals:
    """All ideals of `problem`, or, where there are more than `most`, those of some tens of orders together."""
    most = most or most_ideals(problem)
    need = _predecessors(problem)
    found = _all(need, most)
    complete = found is not None
    masks = found if found is not None else _of_orders(need, problem, most)
    ordered = sorted(masks, key=lambda mask: (mask.bit_count(), mask))
    member = np.zeros((len(ordered), problem.ops), dtype=bool)
    for i, mask in enumerate(ordered):
        member[i, list(_bits(mask))] = True
    return Ideals(member, complete)


def _predecessors(problem: Problem) -> list[int]:
    """For each op the mask of the ops whose tensors it reads."""
    need = [0] * problem.ops
    for tensor in problem.tensors:
        for reader in tensor.readers:
            need[reader] |= 1 << tensor.producer
    return need


def _all(need: list[int], most: int) -> set[int] | None:
    """Every ideal, grown from the empty one, or None when there are more than `most`."""
    readers: list[list[int]] = [[] for _ in need]
    for v, mask in enumerate(need):
        for u in _bits(mask):
            readers[u].append(v)
    start = frozenset(v for v, mask in enumerate(need) if mask == 0)
    frontier: dict[int, frozenset[int]] = {0: start}
    seen = {0}
    while frontier:
        grown: dict[int, frozenset[int]] = {}
        for mask, addable in frontier.items():
            for v in addable:
                bigger = mask | 1 << v
                if bigger not in seen:
                    seen.add(bigger)
                    ready = {w for w in readers[v] if need[w] & ~bigger == 0}
                    grown[bigger] = (addable - {v}) | ready
            if len(seen) > most:
                return None
        frontier = grown
    return seen


def _of_orders(need: list[int], problem: Problem, most: int) -> set[int]:
    """The prefixes of many orders in which the ops can run: depth first, breadth first, and seeded random ones."""
    masks: set[int] = {0}
    cuts = [0.0] * len(need)
    for tensor in problem.tensors:
        cuts[tensor.producer] += tensor.seconds or tensor.bytes
    for seed in range(64):
        mask = 0
        for v in _order(need, cuts, seed):
            mask |= 1 << v
            masks.add(mask)
        if len(masks) > most:
            break
    return masks


def _order(need: list[int], cuts: list[float], seed: int) -> Iterator[int]:
    """One order: seed 0 as given, 1 the least bytes first, 2 the last made ready first, else at random."""
    pick = random.Random(seed)
    left = [mask.bit_count() for mask in need]
    readers: list[list[int]] = [[] for _ in need]
    for v, mask in enumerate(need):
        for u in _bits(mask):
            readers[u].append(v)
    ready = [v for v, count in enumerate(left) if count == 0]
    while ready:
        if seed == 0:
            at = ready.index(min(ready))
        elif seed == 1:
            at = min(range(len(ready)), key=lambda i: (cuts[ready[i]], ready[i]))
        else:
            at = len(ready) - 1 if seed == 2 or pick.random() < 0.7 else pick.randrange(len(ready))
        v = ready.pop(at)
        yield v
        for w in readers[v]:
            left[w] -= 1
            if left[w] == 0:
                ready.append(w)


def _bits(mask: int) -> Iterator[int]:
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low
