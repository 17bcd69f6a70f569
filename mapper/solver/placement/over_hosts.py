"""Plans for several hosts that are worth placing: a copy on each host, fewer hosts, the model split over hosts.

The search takes the cores of all hosts as one, and knows nothing of the network. These candidates are what it may miss:
no plan of theirs is better than its bound, and the best of all is never behind all on one host, a copy of everything on
each, or equal parts one behind the other.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from mapper.errors import Infeasible
from mapper.machine.hosts import cores_of, host_numbers, on_hosts
from mapper.machine.model import Machine
from mapper.plans.evaluate import Placed
from mapper.solver.covers.cover import needed, stage_cores
from mapper.solver.covers.intervals import Intervals
from mapper.solver.covers.segments import Segmented, in_segments
from mapper.solver.placement.candidates import Candidate, Case, Wanted
from mapper.solver.problem import Array, Limits, Solution, multiplied
from mapper.solver.search.least_period import alike, shared_limits, throughput
from mapper.solver.search.request import Found, Request, restricted
from mapper.solver.search.space import Space

MOST_SPLITS = 15
"""Ways to share hosts out to segments that are tried."""
STEPS = 9
"""How often the period of a split is halved (as a logarithm)."""
FINE = 2e-3
"""Relative precision of the period of a split, and what a split has to be better by to be looked at."""
CUTS = (1.0, 0.25)
"""How much of the period the network may take at each border of a split."""
DRAWS = (math.inf, 2.0, 1.0)
"""How much more of a host's DRAM a stage may draw than it has of its cores; with 1, no host is asked for more than it
serves."""


def over_hosts(
    case: Case, wanted: Wanted, first: Solution, best_s: Callable[[], float], alone: Alone
) -> Iterator[Candidate]:
    """Candidates for several hosts; nothing for one. `first` is the best plan with all cores as one, `best_s` says the
    best period of any plan placed so far, `alone` plans for a single host."""
    numbers = host_numbers(case.machine)
    if len(numbers) == 1:
        return
    yield from _copies(case, wanted, alone)
    yield from _splits(case, wanted, first, best_s)
    for count in range(2, len(numbers)):
        part = case.space.sized(on_hosts(case.machine, numbers[:count]))
        yield from _found(_best_of(part, wanted), case, wanted, tuple(range(count)))


Alone = Callable[[Case, Limits], tuple[Solution, tuple[Placed, ...]] | None]
"""From a case of one host and limits to what is planned there, stages and cores; None where nothing is."""


def all_on_one(case: Case, wanted: Wanted) -> Iterator[Candidate]:
    """The best plan on the host of the feeder alone, and, where another host is larger, the best on that."""
    numbers = host_numbers(case.machine)
    sizes = [_cores(case.machine, number) for number in numbers]
    for position in dict.fromkeys([0, sizes.index(max(sizes))]):
        part = case.space.sized(on_hosts(case.machine, [numbers[position]]))
        yield from _found(_best_of(part, wanted), case, wanted, (position,))


def all_replicated(case: Case, wanted: Wanted, count: int | None = None) -> Iterator[Candidate]:
    """The same plan on each host, or on the first `count` ones: the best one for the smallest of these."""
    numbers = host_numbers(case.machine)[:count]
    smallest = min(numbers, key=lambda number: _cores(case.machine, number))
    each = case.space.sized(on_hosts(case.machine, [smallest]))
    search = partial(alike, case.space, len(numbers), wanted.limits, wanted.near_optimal, wanted.tolerance, each)
    yield from _found(search, case, wanted, tuple(range(len(numbers))))


def _cores(machine: Machine, host: int) -> int:
    return sum(len(group) for node in machine.nodes if node.host == host for group in node.groups)


def _copies(case: Case, wanted: Wanted, alone: Alone) -> Iterator[Candidate]:
    """The plan for the first host alone, there and on as many others as are like it, on all of these first; where hosts
    differ, the best plan for the smallest."""
    machine, limits = case.machine, wanted.limits
    numbers = host_numbers(machine)
    shapes = [[node.groups for node in machine.nodes if node.host == number] for number in numbers]
    like = [number for number, shape in zip(numbers, shapes, strict=True) if _sizes(shape) == _sizes(shapes[0])]
    if len(like) < len(numbers):
        yield from all_on_one(case, wanted)
        yield from all_replicated(case, wanted)
    host = on_hosts(machine, numbers[:1])
    single = Case(case.graph, host, case.table, case.space.sized(host))
    known: dict[Limits, tuple[Solution, tuple[Placed, ...]] | None] = {}
    for count in (len(like), *range(1, len(like))):
        try:
            smaller = shared_limits(limits, count)
        except Infeasible:
            continue
        if smaller not in known:
            known[smaller] = alone(single, smaller)
        found = known[smaller]
        if found is not None:
            yield _copied(case, wanted, found, like[:count])


def _sizes(nodes: Sequence[Sequence[Sequence[tuple[int, ...]]]]) -> list[list[int]]:
    """Cores of each group of each node."""
    return [[len(group) for group in groups] for groups in nodes]


def _copied(
    case: Case, wanted: Wanted, found: tuple[Solution, tuple[Placed, ...]], numbers: Sequence[int]
) -> Candidate:
    """What was planned for one host, on each of `numbers`: item n is at the n-th of them, and so on in turn."""
    solution, mapping = found
    hosts = [cores_of(case.machine, number) for number in numbers]
    copies = tuple(
        replace(placed, replicas=tuple(
            tuple(cores[core] for core in replica) for replica in placed.replicas for cores in hosts
        ))
        for placed in mapping
    )  # fmt: skip
    return Candidate(multiplied(solution, len(numbers)), case.space, wanted.limits, placed=copies)


def _best_of(part: Space, wanted: Wanted) -> Callable[[], Solution]:
    """The search for the best plan of a part of the machine."""
    return partial(throughput, part, wanted.limits, wanted.near_optimal, wanted.tolerance)


def _found(search: Callable[[], Solution], case: Case, wanted: Wanted, homes: tuple[int, ...]) -> Iterator[Candidate]:
    """What `search` finds, for these hosts, if anything."""
    try:
        yield Candidate(search(), case.space, wanted.limits, homes=(homes,))
    except Infeasible:
        return


def compositions(count: int) -> list[tuple[int, ...]]:
    """The ways to share out `count` hosts, in order, to two segments or more; the ones with fewest segments first, and
    of many the most even."""

    def shared(left: int) -> list[tuple[int, ...]]:
        return [(left,)] + [(n, *rest) for n in range(1, left) for rest in shared(left - n)]

    if count <= 5:
        found = [parts for parts in shared(count) if len(parts) > 1]
    else:
        found = [tuple(count // m + (i < count % m) for i in range(m)) for m in range(2, min(count, 8) + 1)]
        found += [(1, count - 1), (count - 1, 1), (1,) * count]
    return sorted(dict.fromkeys(found), key=lambda parts: (len(parts), max(parts) - min(parts), parts))[:MOST_SPLITS]


def _splits(case: Case, wanted: Wanted, first: Solution, best_s: Callable[[], float]) -> Iterator[Candidate]:
    """The model cut into segments of stages, one behind the other, each on hosts of its own."""
    limits = wanted.limits
    if limits.stages is not None or limits.max_stages is not None:
        return
    splits = [Split(case, limits, backwards=backwards) for backwards in (False, True)]
    kinds = [(draw, share) for draw in DRAWS if splits[0].draws or draw == math.inf for share in CUTS]
    for parts in compositions(len(host_numbers(case.machine))):
        for split, (draw, share) in itertools.product(splits, kinds):
            found = split.best(parts, draw, share, first.bound_s, min(best_s(), limits.max_period_s))
            if found is not None:
                yield found
            if case.space.stop.reached:
                return


def even_split(case: Case, wanted: Wanted) -> Iterator[Candidate]:
    """The model in as many equal parts of its work as there are hosts, each the best on its host for the period that
    they come to."""
    split = Split(case, wanted.limits)
    found = split.even()
    if found is not None:
        yield found


class Split:
    """The covers in segments of one request. The feeder's host has the first segment, `backwards` the last one."""

    def __init__(self, case: Case, limits: Limits, *, backwards: bool = False) -> None:
        self.case, self.limits, self.space = case, limits, case.space
        self.numbers = host_numbers(case.machine)
        self.order = tuple(range(len(self.numbers)))[:: -1 if backwards else 1]
        sizes = [case.space.sized(on_hosts(case.machine, [n])).problem.cores for n in self.numbers]
        self.cores = [sizes[position] for position in self.order]
        self.costs = _that_fit(restricted(case.space.costs, case.space.reduction.problem, limits), case, limits)
        self.draws = bool(self.costs.dram_bytes.any()) and math.isfinite(case.space.problem.dram_bytes_per_s)
        self.raised = {draw: self._raised(draw) for draw in DRAWS}
        self.cut_s = _cut_bytes(case, backwards=backwards) / case.machine.link_bytes_per_s("cluster")

    def _raised(self, draw: float) -> Intervals:
        """Costs whose loads ask for as many replicas as let a stage draw `draw` times its cores' share of DRAM."""
        problem = self.space.reduction.problem
        if not self.draws or math.isinf(draw):
            return self.costs
        each = self.costs.cores[:, None] * (draw * problem.dram_bytes_per_s / problem.cores)
        return replace(self.costs, load_s=np.maximum(self.costs.load_s, self.costs.dram_bytes / each))

    def best(
        self, parts: tuple[int, ...], draw: float, share: float, least_s: float, most_s: float
    ) -> Candidate | None:
        """The best cover whose segments have so many hosts each, and whose borders take the network at most `share` of
        the period; None where none is noticeably better than `most_s`. `draw` as in `DRAWS`."""
        at = most_s * (1 - FINE)
        chosen = self._at(parts, draw, share, at) if np.isfinite(at) else None
        if not np.isfinite(at):
            chosen, at = self._somewhere(parts, draw, share, least_s)
        if chosen is None:
            return None
        low = least_s
        for _ in range(STEPS):
            if at <= low * (1 + FINE) or self.space.stop.reached:
                break
            middle = float(np.sqrt(low * at)) if low > 0 else at / 2
            better = self._at(parts, draw, share, middle)
            chosen, low, at = (chosen, middle, at) if better is None else (better, low, middle)
        return self._candidate(chosen, at, parts, draw)

    def _somewhere(
        self, parts: tuple[int, ...], draw: float, share: float, least_s: float
    ) -> tuple[Segmented | None, float]:
        """A cover and a period at which there is one, where nobody knows any."""
        at = max(least_s, 1e-9)
        for _ in range(60):
            found = self._at(parts, draw, share, at)
            if found is not None:
                return found, at
            at *= 2
        return None, at

    def _at(self, parts: tuple[int, ...], draw: float, share: float, period_s: float) -> Segmented | None:
        """A cover that meets a period."""
        ends = np.cumsum(parts)
        cores = [sum(self.cores[end - n : end]) for n, end in zip(parts, ends, strict=True)]
        most = min(sum(cores), self.limits.max_cores or sum(cores))
        if most < sum(cores):
            cores = [max(1, c * most // sum(cores)) for c in cores]
        return in_segments(
            self.raised[draw], period_s, cores, self.cut_s <= period_s * share,
            cores_per_group=self.space.reduction.problem.cores_per_group, max_replicas=self.limits.max_replicas,
        )  # fmt: skip

    def even(self) -> Candidate | None:
        """Borders where the work so far is nearest to equal parts, whatever crosses there; of the rest the best."""
        problem = self.space.reduction.problem
        work = self.space.ideals.member @ problem.seconds[:, 0, :].min(axis=1)
        whole, count = float(work[-1]), len(self.numbers)
        chosen = np.zeros(len(work), dtype=bool)
        for k in range(1, count):
            chosen[int(np.abs(work - whole * k / count).argmin())] = True
        if chosen[[0, -1]].any() or chosen.sum() < count - 1:
            return None
        before = self.cut_s
        self.cut_s = np.where(chosen, 0.0, np.inf)
        found = self.best((1,) * count, math.inf, 1.0, 0.0, math.inf)
        self.cut_s = before
        return found

    def _candidate(self, found: Segmented, period_s: float, parts: tuple[int, ...], draw: float) -> Candidate:
        """The stages of a cover, each with the hosts of its segment."""
        costs, size = self.costs, self.space.reduction.problem.cores_per_group
        loads = [float(costs.load_s[cell.option, cell.pair]) for cell in found.cells]
        asked = [float(self.raised[draw].load_s[cell.option, cell.pair]) for cell in found.cells]
        replicas = tuple(needed(load, period_s) for load in asked)
        cores = sum(stage_cores(costs, cell, r, size) for cell, r in zip(found.cells, replicas, strict=True))
        period = max(load / r for load, r in zip(loads, replicas, strict=True))
        request = Request(self.space, self.limits)
        solution = request.solution(Found(found.cells, replicas, period, sum(loads), cores), period, 0.0)
        ends = np.cumsum(parts)
        hosts = [tuple(sorted(self.order[end - n : end])) for n, end in zip(parts, ends, strict=True)]
        homes = tuple(hosts[segment] for segment in found.segments)
        return Candidate(solution, self.space, self.limits, homes=homes if len(homes) > 1 else (homes[0],))


def _that_fit(costs: Intervals, case: Case, limits: Limits) -> Intervals:
    """`costs` without stages that the memory of a host has no room for, where that is limited."""
    if limits.node_memory_bytes is None:
        return costs
    nodes = min(sum(node.host == n for node in case.machine.nodes) for n in host_numbers(case.machine))
    held = case.space.memory
    fits = held.shared + held.each <= limits.node_memory_bytes * nodes
    return replace(costs, load_s=np.where(fits, costs.load_s, np.inf))


def _cut_bytes(case: Case, *, backwards: bool) -> Array:
    """(ideals,): bytes that the busiest direction of the feeder's network carries where a split ends at an ideal: what
    ops inside of it make and ops outside of it read, inputs and outputs. The feeder is on the host of what is inside,
    `backwards` on that of what is outside."""
    space, graph = case.space, case.graph
    inside: NDArray[np.bool_] = space.ideals.member
    crossing = np.zeros(len(inside))
    for tensor in space.reduction.problem.tensors:
        crossing += tensor.bytes * (inside[:, tensor.producer] & ~inside[:, list(tensor.readers)].all(axis=1))
    block = {graph.ops[v].name: b for b, ops in enumerate(space.reduction.members) for v in ops}
    read, made = np.zeros(len(inside)), np.zeros(len(inside))
    for given in graph.inputs:
        there = inside[:, [block[op] for op in given.ops]] == backwards
        read += given.bytes * there.any(axis=1)
    for given in graph.outputs:
        made += given.bytes * (inside[:, block[given.ops[0]]] == backwards if given.ops else backwards)
    return np.maximum(read, crossing + made) if backwards else np.maximum(crossing + read, made)
