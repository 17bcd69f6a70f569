"""Which host each replica is on: as few bytes over the network as can be, and no stage slower than it has to be.

A host has cores for so many replicas, and memory where that is limited; each sees the network as a resource of two
directions. From a few regular assignments (all hosts in turn, one host after the other, what a candidate asks for) the
best is taken and improved by moving single units, or two in each other's place; where there are few assignments, all
are looked at.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mapper.graph.model import Graph
from mapper.machine.hosts import host_numbers
from mapper.machine.model import Machine
from mapper.machine.parts import DISTANCES
from mapper.plans.dram import host_dram_bytes_per_s
from mapper.solver.placement.floor import Held, Unit, unit_of
from mapper.solver.placement.nearer import BETTER, Neighbourhood, less
from mapper.solver.problem import Array, Problem, StageChoice

MOST_TRIED = 1500
"""Assignments that a search by moves looks at."""
FEW = 600
"""Assignments up to which all are looked at."""

Homes = tuple[tuple[int, ...], ...]
"""The hosts that each stage may be on, by their position among all hosts; one entry stands for all stages."""
Hosts = tuple[int, ...]
"""The host of each unit, by its position."""


@dataclass(frozen=True)
class Room:
    """What each host has: whole groups, cores, and bytes of memory that may be used (None: any)."""

    groups: tuple[int, ...]
    cores: tuple[int, ...]
    memory: tuple[float, ...] | None


@dataclass(frozen=True)
class _Flows:
    """Bytes of a call between units; the last unit stands for the feeder."""

    source: NDArray[np.intp]
    target: NDArray[np.intp]
    bytes: Array


@dataclass(frozen=True)
class Field:
    """What an assignment of units to hosts comes to."""

    graph: Graph
    machine: Machine
    problem: Problem
    stages: Sequence[StageChoice]
    units: Sequence[Unit]
    around: Neighbourhood
    held: Held | None

    @cached_property
    def numbers(self) -> tuple[int, ...]:
        """The hosts; the first one has the feeder."""
        return host_numbers(self.machine)

    @cached_property
    def room(self) -> Room:
        """What each host has."""
        machine, hosts = self.machine, range(len(self.numbers))
        home = [self.numbers.index(node.host) for node in machine.nodes]
        whole = [home[machine.node_of_group[group]] for group in machine.whole_groups]
        cores = [home[core.node] for core in machine.cores]
        memory = tuple(self.held.most * home.count(h) for h in hosts) if self.held is not None else None
        return Room(tuple(whole.count(h) for h in hosts), tuple(cores.count(h) for h in hosts), memory)

    def fits(self, hosts: Hosts) -> bool:
        """Whether every host has room for its units."""
        size, room = self.machine.cores_per_group, self.room
        groups, cores = [0] * len(room.groups), [0] * len(room.cores)
        for unit, host in zip(self.units, hosts, strict=True):
            groups[host] += unit.groups
            cores[host] += unit.groups * size if unit.groups else unit.cores
        if any(a > b for a, b in zip(groups, room.groups, strict=True)):
            return False
        if any(a > b for a, b in zip(cores, room.cores, strict=True)):
            return False
        return room.memory is None or self._fits_memory(hosts, room.memory)

    def _fits_memory(self, hosts: Hosts, memory: tuple[float, ...]) -> bool:
        """Whether the memory of each host holds the weights of its stages, once, and what its replicas take."""
        assert self.held is not None
        taken, there = [0.0] * len(memory), set[tuple[int, int]]()
        for unit, host in zip(self.units, hosts, strict=True):
            taken[host] += self.held.replica[unit.stage] * len(unit.replicas)
            if (unit.stage, host) not in there:
                there.add((unit.stage, host))
                taken[host] += self.held.weights[unit.stage]
        return all(a <= b for a, b in zip(taken, memory, strict=True))

    @cached_property
    def flows(self) -> _Flows:
        """What goes from unit to unit: each edge's bytes, over the pairs of replicas that meet."""
        home = {self.graph.ops[v].name: s for s, stage in enumerate(self.stages) for v in stage.ops}
        edges: dict[tuple[int, int], float] = {}
        for tensor in self.graph.tensors:
            made = home[tensor.producer]
            for reader in {home[r] for r in tensor.readers} - {made}:
                edges[made, reader] = edges.get((made, reader), 0.0) + tensor.bytes
        for given in self.graph.inputs:
            for reader in {home[op] for op in given.ops}:
                edges[-1, reader] = edges.get((-1, reader), 0.0) + given.bytes
        for given in self.graph.outputs:
            made = home[given.ops[0]] if given.ops else 0
            edges[made, -1] = edges.get((made, -1), 0.0) + given.bytes
        at, feeder = unit_of(self.units), len(self.units)
        source, target, size = list[int](), list[int](), list[float]()
        for (a, b), amount in sorted(edges.items()):
            ends = [[feeder] if s < 0 else [at[s, r] for r in range(self.stages[s].replicas)] for s in (a, b)]
            pairs = _met(len(ends[0]), len(ends[1]))
            source += [ends[0][x] for x, _ in pairs]
            target += [ends[1][y] for _, y in pairs]
            size += [amount / len(pairs)] * len(pairs)
        return _Flows(np.array(source, dtype=np.intp), np.array(target, dtype=np.intp), np.array(size))

    @cached_property
    def drawn(self) -> Array:
        """(units,): DRAM bytes of a call that each unit draws in the mean."""
        return np.array([
            self.stages[u.stage].dram_bytes / self.stages[u.stage].replicas * len(u.replicas) for u in self.units
        ])  # fmt: skip

    def cost(self, hosts: Hosts) -> tuple[float, float, float]:
        """The period, bytes that cross the network, and all loads."""
        count = len(self.numbers)
        at = np.array([*hosts, 0])
        flows = self.flows
        apart = at[flows.source] != at[flows.target]
        moved = np.where(apart, flows.bytes, 0.0)
        into = np.bincount(at[flows.target], moved, count)
        out = np.bincount(at[flows.source], moved, count)
        period = float(max(into.max(), out.max())) / self.machine.link_bytes_per_s("cluster")
        drawn = np.bincount(at[:-1], self.drawn, count)
        for h, number in enumerate(self.numbers):
            period = max(period, float(drawn[h]) / host_dram_bytes_per_s(self.machine, number))
        shares = self._shares(at)
        loads = float((shares * self.around.replicas).sum())
        return max(period, float(shares.max())), float(moved.sum()), loads

    def _shares(self, at: NDArray[np.intp]) -> Array:
        """(stages,): seconds of the slowest replica of each stage, over its replicas, near inside of a host."""
        if not self.around.meetings:
            return self.around.fixed_s / self.around.replicas
        pairs = self.around.pairs
        apart = np.maximum.reduceat(at[pairs.own] != at[pairs.other], pairs.begin)
        seconds = np.where(apart, pairs.seconds[:, DISTANCES.index("cluster")], pairs.seconds[:, 1])
        each = np.bincount(pairs.row, seconds, len(self.stages) * pairs.most).reshape(-1, pairs.most)
        out: Array = (self.around.fixed_s + each.max(axis=1)) / self.around.replicas
        return out


def _met(producers: int, readers: int) -> list[tuple[int, int]]:
    """The pairs that share items; the feeder is one that meets all."""
    step = int(np.gcd(producers, readers))
    return [(a, b) for a in range(producers) for b in range(a % step, readers, step)]


def hosts_of_units(field: Field, homes: Homes | None) -> Hosts | None:
    """The host of each unit; None where no assignment with room was found."""
    starts = [found for found in _starts(field, homes) if found is not None]
    if len(field.numbers) ** len(field.units) <= FEW:
        every = (tuple(x) for x in itertools.product(range(len(field.numbers)), repeat=len(field.units)))
        starts += [hosts for hosts in every if field.fits(hosts)]
        return _best(field, starts)
    best = _best(field, starts)
    return best and _improved(field, best)


def _best(field: Field, found: Sequence[Hosts]) -> Hosts | None:
    """The first of the best of `found`."""
    best: tuple[tuple[float, float, float], Hosts] | None = None
    for hosts in dict.fromkeys(found):
        cost = field.cost(hosts)
        if best is None or less(cost, best[0]):
            best = cost, hosts
    return best[1] if best else None


def _starts(field: Field, homes: Homes | None) -> Iterator[Hosts | None]:
    """Regular assignments: as `homes` say, all hosts in turn, one host after the other in the order of the stages."""
    every = tuple(range(len(field.numbers)))
    if homes is not None:
        yield _dealt(field, homes)
    yield _dealt(field, (every,))
    yield _filled(field, sorted(range(len(field.units)), key=lambda u: field.units[u].stage))
    yield _filled(field, sorted(range(len(field.units)), key=lambda u: (-field.units[u].groups, field.units[u].stage)))


def _dealt(field: Field, homes: Homes) -> Hosts | None:
    """The units of each stage dealt to its hosts in turn, the largest first where that leaves no room for one."""
    turn: dict[int, int] = {}
    preferred = []
    for unit in field.units:
        own = homes[unit.stage] if len(homes) > 1 else homes[0]
        k = turn.get(unit.stage, 0)
        turn[unit.stage] = k + 1
        preferred.append([*own[k % len(own) :], *own[: k % len(own)]])
    order = range(len(field.units))
    return _put(field, order, preferred) or _put(
        field, sorted(order, key=lambda u: (-field.units[u].groups, -field.units[u].cores)), preferred
    )


def _filled(field: Field, order: Sequence[int]) -> Hosts | None:
    """The units in `order`, each on the first host with room."""
    return _put(field, order, [list(range(len(field.numbers)))] * len(field.units))


def _put(field: Field, order: Sequence[int], preferred: Sequence[Sequence[int]]) -> Hosts | None:
    """The units in `order`, each on the first of the hosts that it prefers that has room; None where none has."""
    room, size = field.room, field.machine.cores_per_group
    groups, cores = list(room.groups), list(room.cores)
    memory, there = list(room.memory or ()), set[tuple[int, int]]()
    hosts = [-1] * len(field.units)
    for u in order:
        unit = field.units[u]
        taken = unit.groups * size if unit.groups else unit.cores
        for h in preferred[u]:
            holds = 0.0
            if field.held is not None:
                holds = field.held.replica[unit.stage] * len(unit.replicas)
                holds += 0.0 if (unit.stage, h) in there else field.held.weights[unit.stage]
            if groups[h] >= unit.groups and cores[h] >= taken and (not memory or memory[h] >= holds):
                break
        else:
            return None
        hosts[u] = h
        there.add((unit.stage, h))
        groups[h] -= unit.groups
        cores[h] -= taken
        if memory:
            memory[h] -= holds
    return tuple(hosts)


def _improved(field: Field, hosts: Hosts) -> Hosts:
    """`hosts`, or a better assignment that a move at a time leads to."""
    best, tried, improved = field.cost(hosts), 0, True
    while improved:
        improved = False
        for moved in _moves(field, hosts):
            if not field.fits(moved):
                continue
            tried += 1
            cost = field.cost(moved)
            if less(cost, best):
                hosts, best, improved = moved, cost, True
                break
            if tried >= MOST_TRIED:
                return hosts
        if best[1] == 0 and best[0] <= field.around.target_s / BETTER:
            return hosts  # nothing crosses, and no stage is slower than it has to be
    return hosts


def _moves(field: Field, hosts: Hosts) -> Iterator[Hosts]:
    """Assignments that differ in one unit, or in two that change places; units that are alike count once."""
    count, units = len(field.numbers), field.units
    for u in range(len(units)):
        for h in range(count):
            if h != hosts[u]:
                yield (*hosts[:u], h, *hosts[u + 1 :])
    seen = set[tuple[int, int, int, int]]()
    for u, v in itertools.combinations(range(len(units)), 2):
        key = (units[u].stage, hosts[u], units[v].stage, hosts[v])
        if hosts[u] != hosts[v] and units[u].stage != units[v].stage and (key not in seen or len(units) <= 2 * count):
            seen.add(key)
            swapped = list(hosts)
            swapped[u], swapped[v] = hosts[v], hosts[u]
            yield tuple(swapped)
