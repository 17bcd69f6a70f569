"""Ideals: sets of ops closed under predecessors. A plan with an acyclic stage graph is exactly a chain of them."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mapper.solver.problem import Problem

MOST, MOST_OF_ONE = 1200, 3000
"""Ideals up to which all are enumerated, and where there is one configuration only: the interval matrices are quadratic
in their number, one for each configuration. Where there are more, about the first number of them is enough to begin."""
MOST_COSTS = 24_000_000
"""Stages times options whose costs are worked with: 8 bytes each for loads and for DRAM bytes, several times over where
placing takes other prices. The more configurations there are, the fewer ideals: 430 with 260 options, 216 with 1,030.
"""


def most_ideals(problem: Problem) -> int:
    """How many ideals of `problem` are worked with."""
    if len(problem.configs) == 1:
        return MOST_OF_ONE
    options = sum(2 if config.cores < problem.cores_per_group else 1 for config in problem.configs)
    return min(MOST, math.isqrt(2 * MOST_COSTS // options))


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
    every = all_ideals(problem, most)
    return _listed(problem, _of_orders(problem, min(most, MOST)), complete=False) if every is None else every


def all_ideals(problem: Problem, most: int) -> Ideals | None:
    """All ideals of `problem`, or None where there are more than `most`."""
    found = _all(_predecessors(problem), most)
    return None if found is None else _listed(problem, found, complete=True)


def _listed(problem: Problem, masks: set[int], *, complete: bool) -> Ideals:
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


def _of_orders(problem: Problem, most: int) -> set[int]:
    """The prefixes of many orders in which the ops can run."""
    handed = [Handed(t.producer, tuple(set(t.readers)), t.seconds or t.bytes) for t in problem.tensors]
    masks: set[int] = {0}
    for seed in range(64):
        mask = 0
        for v in order(problem.ops, handed, seed):
            mask |= 1 << v
            masks.add(mask)
        if len(masks) > most:
            break
    return masks


@dataclass(frozen=True)
class Handed:
    """What one op hands over: to whom, and at what price, in any unit."""

    producer: int
    readers: tuple[int, ...]
    price: float


def order(ops: int, handed: Sequence[Handed], seed: int, stage_of: Sequence[int] | None = None) -> Iterator[int]:
    """One order in which the ops can run, those of earlier stages first where `stage_of` says which are.

    Seed 0 as given; 1 the op that leaves least to be handed over later; 2 the op last made ready; otherwise now and
    then the one, now and then the other, in a proportion that the seed draws.
    """
    pick = random.Random(seed)
    reads: list[list[int]] = [[] for _ in range(ops)]
    price, left = [0.0] * ops, [0] * ops
    for t, tensor in enumerate(handed):
        price[tensor.producer] += tensor.price
        for reader in tensor.readers:
            reads[reader].append(t)
            left[reader] += 1
    made: list[list[int]] = [[] for _ in range(ops)]
    for t, tensor in enumerate(handed):
        made[tensor.producer].append(t)
    waiting = [len(tensor.readers) for tensor in handed]
    ready = [v for v in range(ops) if left[v] == 0]
    greedy = {0: 0.0, 1: 1.0, 2: 0.0}.get(seed, pick.random())
    while ready:
        here = ready
        if stage_of is not None:
            first = min(stage_of[v] for v in ready)
            here = [v for v in ready if stage_of[v] == first]
        if seed == 0:
            v = min(here)
        elif greedy == 1 or (greedy > 0 and pick.random() < greedy):
            v = min(here, key=lambda v: (price[v] - _freed(reads[v], handed, waiting), v))
        else:
            v = here[-1] if seed == 2 or pick.random() < 0.8 else pick.choice(here)
        ready.remove(v)
        yield v
        for t in reads[v]:
            waiting[t] -= 1
        for t in made[v]:
            for w in handed[t].readers:
                left[w] -= 1
                if left[w] == 0:
                    ready.append(w)


def _freed(read: list[int], handed: Sequence[Handed], waiting: list[int]) -> float:
    """What need not be handed over any more once an op has run that reads `read`: it is their last reader."""
    return sum(handed[t].price for t in read if waiting[t] == 1)


def _bits(mask: int) -> Iterator[int]:
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low
