"""Linear instances: one configuration, one replica a stage, and loads that no cache changes; all costs whole numbers.

    load(S) = Σ work of its ops + Σ price of arcs that enter S + Σ price of arcs that leave S

An arc enters a stage once, however many of its readers are there, and leaves it once, however many are elsewhere.
Seconds become multiples of `unit_s`, rounded down: a load is never more than the true one, so that what no partition
reaches in whole numbers none reaches in seconds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import networkx as nx
import numpy as np

from mapper.cost.residency import GROUP
from mapper.solver.problem import Limits, Problem

RESOLUTION, MOST_UNITS = 2**44, 2**60
"""Units in the work of all ops, so that rounding is far below the precision asked for; and in all costs together, so
that sums keep within 64 bits."""

Chain = tuple[int, ...]
"""For each op the number of its stage, from 0; no arc goes to a lower number."""


@dataclass(frozen=True)
class Arc:
    """What one op hands over: its readers, ascending, and the price that each side pays, in units."""

    producer: int
    readers: tuple[int, ...]
    price: int


@dataclass(frozen=True)
class Linear:
    """An instance: ops in an order in which they can run, and at most `stages` stages (`exact`: neither fewer)."""

    work: tuple[int, ...]
    arcs: tuple[Arc, ...]
    stages: int
    exact: bool
    unit_s: float

    @property
    def ops(self) -> int:
        """Number of ops."""
        return len(self.work)

    @cached_property
    def edges(self) -> tuple[tuple[int, int], ...]:
        """(producer, reader), each pair once, ascending."""
        return tuple(sorted({(arc.producer, reader) for arc in self.arcs for reader in arc.readers}))

    @cached_property
    def infinite(self) -> int:
        """More than any load."""
        return sum(self.work) + 2 * sum(arc.price for arc in self.arcs) + 1

    @cached_property
    def least(self) -> int:
        """A bound that needs no search: an equal share of the work, or the op that takes longest."""
        return max(-(-sum(self.work) // self.stages), max(self.work))


def linear_of(problem: Problem, limits: Limits) -> Linear | None:
    """`problem` under `limits` as a linear instance, or None where it is none: that takes one configuration, one
    replica a stage, no caches, and no limit on latency, memory or which ops share a stage."""
    chosen: Sequence[int] = range(len(problem.configs))
    if limits.configurations is not None:
        chosen = [problem.configs.index(config) for config in limits.configurations]
    free = limits.max_latency_s is None and limits.node_memory_bytes is None and not problem.apart
    if not free or len(chosen) != 1 or limits.max_replicas != 1 or not np.isinf(problem.caches.group_bytes):
        return None
    c = chosen[0]
    seconds = problem.seconds[:, c, GROUP]
    total = float(seconds.sum())
    most = min(problem.cores, limits.max_cores or problem.cores) // problem.configs[c].cores
    stages = min([most, limits.max_stages or most, problem.ops]) if limits.stages is None else limits.stages
    if total <= 0 or not 1 <= stages <= min(most, problem.ops):
        return None
    moved: dict[tuple[int, tuple[int, ...]], float] = {}
    for tensor in problem.tensors:
        key = (tensor.producer, tuple(sorted(set(tensor.readers))))
        each = problem.transfer_s(tensor, c)
        moved[key] = moved.get(key, 0.0) + each
    everything = total + 2 * sum(moved.values())
    unit = max(_power_of_two(total) / RESOLUTION, _power_of_two(everything) / MOST_UNITS)
    arcs = tuple(Arc(*key, math.floor(each / unit)) for key, each in sorted(moved.items()))
    work = tuple(math.floor(x / unit) for x in seconds)
    return Linear(work, arcs, stages, limits.stages is not None, unit)


def _power_of_two(value: float) -> float:
    """The least power of two above `value`: dividing by it rounds nothing."""
    return math.ldexp(1.0, math.frexp(value)[1])


def loads(linear: Linear, chain: Sequence[int]) -> list[int]:
    """The load of each stage of `chain`, in units, by the definition."""
    out = [0] * linear.stages
    for v, stage in enumerate(chain):
        out[stage] += linear.work[v]
    for arc in linear.arcs:
        home = chain[arc.producer]
        away = {chain[reader] for reader in arc.readers} - {home}
        for stage in (*away, *([home] if away else [])):
            out[stage] += arc.price
    return out


def is_chain(linear: Linear, chain: Sequence[int]) -> bool:
    """Whether `chain` is a partition that the instance allows."""
    known = len(chain) == linear.ops and all(0 <= stage < linear.stages for stage in chain)
    forward = known and all(chain[u] <= chain[v] for u, v in linear.edges)
    return forward and (not linear.exact or len(set(chain)) == linear.stages)


def without_gaps(chain: Sequence[int]) -> Chain:
    """`chain` with its stages numbered from 0, none of them empty."""
    rank = {stage: i for i, stage in enumerate(sorted(set(chain)))}
    return tuple(rank[stage] for stage in chain)


@dataclass(frozen=True)
class Shrunk:
    """A smaller instance, and for each op of the larger one the op that it became part of."""

    linear: Linear
    home: tuple[int, ...]

    def restore(self, chain: Sequence[int]) -> Chain:
        """A chain of the smaller instance as one of the larger."""
        return tuple(chain[op] for op in self.home)

    def apply(self, chain: Sequence[int]) -> Chain | None:
        """A chain of the larger instance as one of the smaller; None where it cuts through a merged op."""
        stage: dict[int, int] = {}
        for v, op in enumerate(self.home):
            if stage.setdefault(op, chain[v]) != chain[v]:
                return None
        return tuple(stage[op] for op in range(self.linear.ops))


def merged(linear: Linear, pairs: Iterable[tuple[int, int]]) -> Shrunk:
    """`linear` with both ops of each of `pairs` in one, and with them every op on a path between them."""
    graph = nx.DiGraph()
    graph.add_nodes_from(range(linear.ops))
    graph.add_edges_from(linear.edges)
    for a, b in pairs:
        graph.add_edges_from(((a, b), (b, a)))
    condensed = nx.condensation(graph)
    first = {c: min(condensed.nodes[c]["members"]) for c in condensed}
    order = list(nx.lexicographical_topological_sort(condensed, key=first.__getitem__))
    home = [0] * linear.ops
    for new, c in enumerate(order):
        for v in condensed.nodes[c]["members"]:
            home[v] = new
    work = [0] * len(order)
    for v, op in enumerate(home):
        work[op] += linear.work[v]
    prices: dict[tuple[int, tuple[int, ...]], int] = {}
    for arc in linear.arcs:
        producer = home[arc.producer]
        readers = tuple(sorted({home[r] for r in arc.readers} - {producer}))
        if readers:
            prices[producer, readers] = prices.get((producer, readers), 0) + arc.price
    arcs = tuple(Arc(*key, price) for key, price in sorted(prices.items()))
    return Shrunk(replace(linear, work=tuple(work), arcs=arcs), tuple(home))


def composed(first: Shrunk, then: Shrunk) -> Shrunk:
    """Both reductions in one."""
    return Shrunk(then.linear, tuple(then.home[op] for op in first.home))


def unchanged(linear: Linear) -> Shrunk:
    """The reduction that merges nothing."""
    return Shrunk(linear, tuple(range(linear.ops)))
