"""The cost of every possible stage: all ops between one ideal and a larger one, for each option.

Everything that is a sum over ops is a difference of prefix sums; what depends on who reads what is a product of
matrices over (ideal, tensor). An *option* is a configuration, and for parts of a group whether the stage has its
groups to itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mapper.cost.residency import DRAM, GROUP, PACKAGE
from mapper.solver.covers.ideals import Ideals
from mapper.solver.problem import Array, Problem


@dataclass(frozen=True)
class Intervals:
    """`load_s[o, p]` and `dram_bytes[o, p]` of option o for the pair p of ideals; infinite where it cannot be.

    `source`, `target`, `begin`: the pairs, as `Ideals.pairs`. `config[o]`, `cores[o]` of one replica, `exclusive[o]`.
    `apart_s[o, p]` and `work_s[o, p]`: what the stage adds to the latency and to all core-seconds, where that is not
    its load, or its load times the cores of a replica.
    """

    source: NDArray[np.int32]
    target: NDArray[np.int32]
    begin: NDArray[np.int64]
    load_s: Array
    dram_bytes: Array
    config: NDArray[np.int32]
    cores: NDArray[np.int32]
    exclusive: NDArray[np.uint8]
    apart_s: Array | None = None
    work_s: Array | None = None

    @property
    def whole(self) -> int:
        """The pair whose stage holds all ops."""
        last = int(self.begin[-2])
        return last + int((self.source[last:] == 0).argmax())

    @property
    def latency_s(self) -> Array:
        """(options, pairs): seconds that each stage adds to the latency."""
        return self.load_s if self.apart_s is None else self.apart_s


def intervals(problem: Problem, found: Ideals) -> Intervals:
    """Costs of all stages between two of the ideals `found`."""
    source, target, begin = found.pairs
    stage, torn = _Stages(problem, found.member, source, target), _torn(problem, found, source, target)
    options = [(c, alone) for c, choice in enumerate(problem.configs) for alone in (False, True)
               if not alone or choice.cores < problem.cores_per_group]  # fmt: skip
    load_s, dram_bytes = np.empty((len(options), len(source))), np.empty((len(options), len(source)))
    kept: list[tuple[int, bool]] = []
    for c, alone in options:
        load, dram = stage.option(c, alone)
        if alone and not np.isfinite(load).any():
            continue
        load[torn] = np.inf
        load_s[len(kept)], dram_bytes[len(kept)] = load, dram
        kept.append((c, alone))
    return Intervals(
        source,
        target,
        begin,
        load_s[: len(kept)],
        dram_bytes[: len(kept)],
        np.array([c for c, _ in kept], np.int32),
        np.array([problem.configs[c].cores for c, _ in kept], np.int32),
        np.array([alone for _, alone in kept], np.uint8),
    )


def crossing_bytes(problem: Problem, found: Ideals, costs: Intervals) -> tuple[Array, Array]:
    """Bytes of the tensors that enter each stage, and of those that leave it."""
    stages = _Stages(problem, found.member, costs.source, costs.target)
    return stages.entering_bytes, stages.crossing_bytes - stages.entering_bytes


def _torn(problem: Problem, found: Ideals, source: NDArray[np.int32], target: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Which stages hold two ops that must be apart."""
    out = np.zeros(len(source), dtype=bool)
    for ops in problem.apart:
        count = found.member[:, list(ops)].sum(axis=1)
        out |= count[target] - count[source] > 1
    return out


@dataclass(frozen=True)
class Crossing:
    """Of the tensors that cross a border of each stage: bytes, their number, and seconds besides (`TensorArc`)."""

    bytes: Array
    count: Array
    seconds: Array


class _Stages:
    """What does not depend on the option, for every pair."""

    def __init__(
        self, problem: Problem, member: NDArray[np.bool_], source: NDArray[np.int32], target: NDArray[np.int32]
    ) -> None:
        self.problem, self.member, self.source, self.target = problem, member.astype(float), source, target
        cached = bool(np.isfinite(problem.caches.group_bytes))  # otherwise everything fits, whatever its size
        amounts = self._amounts(cached)
        entering, leaving = self._entering(amounts), self._leaving(amounts)
        self.transfer_s = (entering.count + leaving.count) * problem.handoff_s + (entering.seconds + leaving.seconds)
        self.entering_bytes, self.crossing_bytes = entering.bytes, entering.bytes + leaving.bytes
        nothing = np.zeros(len(source))
        self.weights = self._weights() if cached else nothing
        self.private = self._footprint() + problem.ring_slots * entering.bytes if cached else nothing
        self.held = PACKAGE if problem.caches.holds_model(problem.weight_bytes) else DRAM

    def _amounts(self, cached: bool) -> Array:
        """(3, tensors): bytes, number and seconds of each tensor, zero where they make no difference to any load."""
        tensors, problem = self.problem.tensors, self.problem
        out = np.array([[t.bytes, 1.0, t.seconds] for t in tensors]).reshape(len(tensors), 3).T
        out[0] *= cached or bool(np.isfinite(problem.link_bytes_per_s).any())
        out[1] *= problem.handoff_s > 0
        return out

    def option(self, c: int, alone: bool) -> tuple[Array, Array]:
        """Load and DRAM bytes of every stage with configuration `c`, in groups of its own or sharing them."""
        problem, config = self.problem, self.problem.configs[c]
        caches, size = problem.caches, problem.cores_per_group
        if config.cores >= size:
            near = self.weights + self.private <= caches.group_bytes * problem.cache_shares[c]
        else:
            near = caches_fit(problem, self.weights, self.private, config.cores, alone)
        sums = [self._between(problem.seconds[:, c, residency]) for residency in (GROUP, self.held)]
        load = np.where(near, sums[0], sums[1]) + self.transfer_s + self.crossing_bytes / problem.link_bytes_per_s[c]
        dram = np.where(near | (self.held != DRAM), 0.0, self.weights) + self._between(problem.dram_bytes[:, c])
        if alone:
            already = caches_fit(problem, self.weights, self.private, config.cores, False)
            load[~near | already] = np.inf
        return load, dram

    def _between(self, values: Array) -> Array:
        """The sum of `values` over the ops of each stage."""
        if not values.any():
            return np.zeros(len(self.source))
        prefix = self.member @ values
        return np.maximum(prefix[self.target] - prefix[self.source], 0.0)

    def _at_pairs(self, matrix: Array) -> Array:
        out: Array = matrix[self.source, self.target]
        return out

    def _entering(self, amounts: Array) -> Crossing:
        """Tensors produced before the stage and read in it."""
        return Crossing(*self._first_use([(t.readers, t.producer) for t in self.problem.tensors], amounts))

    def _first_use(self, uses: list[tuple[tuple[int, ...], int]], amounts: Array) -> list[Array]:
        """Σ of each row of `amounts` (one column a use) over what ops of the stage use; once, however many use it.

        Used between i and j means that j has more users than i: for k users in i, j has at least k + 1. A producer
        ≥ 0 must be in i.
        """
        before, after, which = [], [], []
        for x, (users, producer) in enumerate(uses):
            count = self.member[:, users].sum(axis=1)
            there = self.member[:, producer] if producer >= 0 else 1.0
            for k in range(len(users)):
                before.append((count == k) * there)
                after.append(count > k)
                which.append(x)
        if not before:
            return [np.zeros(len(self.source)) for _ in amounts]
        left, right = np.array(before), np.array(after, dtype=float)
        return [self._product(left * row[which][:, None], right) for row in amounts]

    def _product(self, left: Array, right: Array) -> Array:
        """leftᵀ · right at the pairs of ideals."""
        return self._at_pairs(left.T @ right) if left.any() else np.zeros(len(self.source))

    def _leaving(self, amounts: Array) -> Crossing:
        """Tensors produced in the stage and read after it."""
        tensors = self.problem.tensors
        if not tensors:
            return Crossing(*(np.zeros(len(self.source)) for _ in amounts))
        there = np.array([self.member[:, t.producer] for t in tensors])
        wanted = np.array(
            [there[x] * (self.member[:, t.readers].sum(axis=1) < len(t.readers)) for x, t in enumerate(tensors)]
        )
        sums = []
        for row in amounts:
            after = (wanted * row[:, None]).sum(axis=0)
            sums.append(np.maximum(after[self.target] - self._product(there * row[:, None], wanted), 0.0))
        return Crossing(*sums)

    def _weights(self) -> Array:
        """Distinct weight bytes that the stage touches."""
        own = np.zeros(self.problem.ops)
        shared = []
        for weight in self.problem.weights:
            if len(weight.users) == 1:
                own[weight.users[0]] += weight.bytes
            else:
                shared.append(weight)
        sizes = np.array([[weight.bytes for weight in shared]])
        return self._between(own) + self._first_use([(weight.users, -1) for weight in shared], sizes)[0]

    def _footprint(self) -> Array:
        """The largest footprint of an op in the stage: from the largest on, as long as stages are left without."""
        out = np.zeros(len(self.source))
        left = np.arange(len(self.source))
        for size in sorted(set(self.problem.footprint.tolist()), reverse=True):
            count = self.member[:, self.problem.footprint == size].sum(axis=1)
            has = count[self.target[left]] > count[self.source[left]]
            out[left[has]] = size
            left = left[~has]
        return out


def caches_fit(problem: Problem, weights: Array, private: Array, cores: int, alone: bool) -> NDArray[np.bool_]:
    """Where a replica of `cores` cores of a group fits the group's cache: its share, or a group to itself."""
    size = problem.cores_per_group
    if alone:
        return weights + private * size / cores <= problem.caches.group_bytes
    return weights + private <= problem.caches.group_bytes * cores / size
