"""Placement, improved: replicas that hand tensors to each other come nearer wherever that shortens the period.

CP-SAT (`place`) decides on nodes by the sum of all traffic; what limits the period are single stages. From its answer,
parts of groups move to other groups or change places, and groups change places with all that is on them, as long as
that makes the slowest stage faster, or of equally fast plans the load beyond the target smaller.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mapper.cost.transfer import transfer_s
from mapper.machine.model import Machine
from mapper.machine.parts import DISTANCES
from mapper.solver.placement.floor import Unit, unit_of
from mapper.solver.problem import Array, Problem, StageChoice, TensorArc

MOST_MOVES = 4000
"""Moves that are tried at most: a second at most."""
BETTER = 1 - 1e-9
"""What counts as less."""

Seats = tuple[tuple[int, ...], ...]
"""The groups of each unit, the one where its worker copies first."""


@dataclass(frozen=True)
class Meeting:
    """The tensors that the replicas of a stage exchange with the same other stages: seconds by distance (of
    `DISTANCES`), at that of the farthest partner."""

    stage: int
    partners: tuple[int, ...]
    seconds: tuple[float, ...]


@dataclass(frozen=True)
class _Pairs:
    """For each replica and meeting its own unit and those that it meets (`own`, `other`, from `begin` on), its place in
    a table of (stages, `most` replicas), and its seconds by distance."""

    own: NDArray[np.intp]
    other: NDArray[np.intp]
    begin: NDArray[np.intp]
    row: NDArray[np.intp]
    most: int
    seconds: Array


@dataclass(frozen=True)
class Neighbourhood:
    """What the loads of placed stages depend on: who meets whom, and how far groups are apart.

    `target_s`: the period without distances, which no placement beats. `still`: units stay in their nodes.
    """

    machine: Machine
    problem: Problem
    stages: Sequence[StageChoice]
    units: Sequence[Unit]
    meetings: Sequence[Meeting]
    target_s: float
    still: bool

    @cached_property
    def pairs(self) -> _Pairs:
        """Who meets whom."""
        own: list[int] = []
        other: list[int] = []
        begin, which, replica = [], [], []
        at = unit_of(self.units)
        for m, meeting in enumerate(self.meetings):
            mine = self.stages[meeting.stage].replicas
            for r in range(mine):
                begin.append(len(own))
                which.append(m)
                replica.append(r)
                for t in meeting.partners:
                    step = math.gcd(mine, self.stages[t].replicas)
                    for b in range(r % step, self.stages[t].replicas, step):
                        own.append(at[meeting.stage, r])
                        other.append(at[t, b])
        most = max(stage.replicas for stage in self.stages)
        row = [self.meetings[m].stage * most + r for m, r in zip(which, replica, strict=True)]
        seconds = np.array([self.meetings[m].seconds for m in which])
        return _Pairs(np.array(own), np.array(other), np.array(begin), np.array(row), most, seconds)

    @cached_property
    def replicas(self) -> Array:
        """(stages,): copies of each."""
        return np.array([float(stage.replicas) for stage in self.stages])

    @cached_property
    def apart(self) -> NDArray[np.intp]:
        """(groups, groups): how far their workers are apart, as an index of `DISTANCES`."""
        first = [group[0] for group in self.machine.groups]
        far = [[DISTANCES.index(self.machine.distance(a, b)) if a != b else 1 for b in first] for a in first]
        return np.array(far)

    @cached_property
    def fixed_s(self) -> Array:
        """(stages,): the load of each stage without what it exchanges."""
        out = np.array([stage.load_s for stage in self.stages])
        for tensor, _, inside in _crossing(self.problem, self.stages):
            for s in inside:
                out[s] -= self.problem.transfer_s(tensor, self.stages[s].config)
        return out

    def shares(self, seats: Seats) -> Array:
        """(stages,): seconds of the slowest replica of each stage, over its replicas."""
        pairs = self.pairs
        at = np.array([groups[0] for groups in seats])
        far = np.maximum.reduceat(self.apart[at[pairs.own], at[pairs.other]], pairs.begin)
        seconds = pairs.seconds[np.arange(len(far)), far]
        each = np.bincount(pairs.row, seconds, len(self.stages) * pairs.most).reshape(-1, pairs.most)
        out: Array = (self.fixed_s + each.max(axis=1)) / self.replicas
        return out

    def cost(self, seats: Seats) -> tuple[float, float, float]:
        """The period, the time beyond the target of all stages, and all loads."""
        shares = self.shares(seats)
        period = max(float(shares.max()), self._drawn_s(seats))
        return period, float(np.maximum(shares - self.target_s, 0).sum()), float((shares * self.replicas).sum())

    def _drawn_s(self, seats: Seats) -> float:
        """Seconds that the busiest node's DRAM needs for an item."""
        figure = self.machine.memory.node_bandwidth_bytes_per_s
        if figure is None or not any(stage.dram_bytes for stage in self.stages):
            return 0.0
        drawn = np.zeros(len(self.machine.nodes))
        for unit, groups in zip(self.units, seats, strict=True):
            stage = self.stages[unit.stage]
            homes = {self.machine.node_of_group[group] for group in groups}
            for node in homes:
                drawn[node] += stage.dram_bytes / stage.replicas * len(unit.replicas) / len(homes)
        return float(drawn.max()) / figure.value

    def hot(self, seats: Seats) -> set[int]:
        """The units of stages that are beyond the target, and of those that they meet."""
        shares = self.shares(seats)
        slow = {s for s in range(len(self.stages)) if shares[s] > self.target_s / BETTER}
        met = {t for meeting in self.meetings if meeting.stage in slow for t in meeting.partners}
        return {u for u, unit in enumerate(self.units) if unit.stage in slow | met}


def neighbourhood(
    machine: Machine, problem: Problem, stages: Sequence[StageChoice], units: Sequence[Unit], *, still: bool
) -> Neighbourhood:
    """The neighbourhood of `stages`, which are `units`."""
    seconds: dict[tuple[int, tuple[int, ...]], Array] = {}
    for tensor, made, inside in _crossing(problem, stages):
        cost = np.array([transfer_s(machine, tensor.bytes, d) + tensor.seconds for d in DISTANCES])
        for s in inside:
            partners = tuple(t for t in inside if t != s) if s == made else (made,)
            seconds[s, partners] = seconds.get((s, partners), 0.0) + cost
    meetings = [Meeting(s, partners, tuple(cost)) for (s, partners), cost in seconds.items()]
    target = max(stage.load_s / stage.replicas for stage in stages)
    return Neighbourhood(machine, problem, stages, units, meetings, target, still)


def _crossing(problem: Problem, stages: Sequence[StageChoice]) -> Iterator[tuple[TensorArc, int, list[int]]]:
    """Every tensor that more than one stage has to do with, the stage that makes it, and all of those in order."""
    home = {v: s for s, stage in enumerate(stages) for v in stage.ops}
    for tensor in problem.tensors:
        inside = sorted({home[tensor.producer], *(home[r] for r in tensor.readers)})
        if len(inside) > 1:
            yield tensor, home[tensor.producer], inside


def nearer(around: Neighbourhood, seats: Seats) -> Seats:
    """`seats`, or better ones that a move at a time leads to."""
    if not around.meetings:
        return seats
    best, tried, improved = around.cost(seats), 0, True
    while improved and best[0] > around.target_s / BETTER:
        improved = False
        for moved in _moves(around, seats):
            tried += 1
            cost = around.cost(moved)
            if less(cost, best):
                seats, best, improved = moved, cost, True
                break
            if tried >= MOST_MOVES:
                return seats
    return seats


def less(cost: tuple[float, float, float], best: tuple[float, float, float]) -> bool:
    """Whether `cost` is less in the first figure that differs noticeably."""
    for a, b in zip(cost, best, strict=True):
        if a < b * BETTER or b < a * BETTER:
            return a < b
    return False


def _moves(around: Neighbourhood, seats: Seats) -> Iterator[Seats]:
    """Seats that differ from `seats` by one move of a unit that matters."""
    machine, units = around.machine, around.units
    room = [len(cores) for cores in machine.groups]
    whole = set()
    for unit, groups in zip(units, seats, strict=True):
        for group in groups:
            room[group] -= unit.cores if not unit.groups else room[group]
            whole |= {group} if unit.groups else set()
    for u in sorted(around.hot(seats)):
        here = seats[u][0]
        others = [g for g in range(len(room)) if g != here and _reachable(around, here, g)]
        if not units[u].groups:
            yield from _parts(units, seats, u, [g for g in others if g not in whole], room)
        for g in others:
            if len(machine.groups[g]) == len(machine.groups[here]):
                yield tuple(tuple(g if x == here else here if x == g else x for x in groups) for groups in seats)


def _reachable(around: Neighbourhood, a: int, b: int) -> bool:
    return not around.still or around.machine.node_of_group[a] == around.machine.node_of_group[b]


def _parts(units: Sequence[Unit], seats: Seats, u: int, groups: Sequence[int], room: Sequence[int]) -> Iterator[Seats]:
    """The part `u` in each of `groups`: where there is room, or in the place of one or two parts that take its own."""
    here, size = seats[u][0], units[u].cores
    for g in groups:
        if room[g] >= size:
            yield _seated(seats, {u: g})
            continue
        there = [v for v in range(len(units)) if seats[v][0] == g]
        for i, v in enumerate(there):
            for other in (v, *there[i + 1 :]):
                out = {v, other}
                freed = sum(units[w].cores for w in out)
                if room[g] + freed >= size and room[here] + size >= freed:
                    yield _seated(seats, {u: g, **dict.fromkeys(out, here)})


def _seated(seats: Seats, at: dict[int, int]) -> Seats:
    """`seats` with some units in other groups."""
    return tuple((at[u],) if u in at else groups for u, groups in enumerate(seats))
