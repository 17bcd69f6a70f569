"""What it costs that only so many cores share a group: by how much loads rise where partners are in different groups.

The search takes what a part of a group hands over at the distance inside a group. Call the border between two stages
*near* where every replica shares its group with those of the other stage that it exchanges tensors with, and *far*
otherwise. In a *run* of stages whose borders are near, one replica of each lies in one group, so that their cores are
at most those of a group. At a far border, some replica of each of the two stages pays the distance between groups for
every tensor that surely goes from the one stage to the other.

What follows an ideal holds one of the ops that need nothing but the ideal, and what ends there one of the ideal's last
ops. So the least, over these ops, of what passes between them and a stage is a rise that every plan pays, and the
periods that the runs (`near_cover`) refute are refuted for all plans.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mapper.machine.model import Machine
from mapper.machine.parts import DISTANCES
from mapper.solver.covers.ideals import Ideals
from mapper.solver.covers.intervals import Intervals, crossing_bytes
from mapper.solver.problem import Array, Problem


@dataclass(frozen=True, eq=False)
class Rises:
    """Seconds that a far border adds to the load of each pair of ideals, before and after the stage, where its replicas
    are parts of a group.

    `size` cores share a group.
    """

    entering_s: Array
    leaving_s: Array
    size: int


def slower_s(machine: Machine, problem: Problem) -> float:
    """Seconds that a byte takes more between groups than inside one, with parts of groups; 0 where nothing does."""
    parts = [c for c, config in enumerate(problem.configs) if config.cores < problem.cores_per_group]
    outside = [distance for distance in DISTANCES[2:] if distance in machine.links]
    if not parts or not outside:
        return 0.0
    inside = min(problem.link_bytes_per_s[c] for c in parts)
    return max(0.0, 1 / max(map(machine.link_bytes_per_s, outside)) - 1 / inside)


def sure_rises(machine: Machine, problem: Problem, found: Ideals, costs: Intervals) -> Rises:
    """What far borders add at least, in any plan."""
    byte_s = slower_s(machine, problem)
    entering, leaving = _surely_entering(problem, found), _surely_leaving(problem, found)
    return Rises(
        entering[costs.source, costs.target] * byte_s,
        leaving[costs.source, costs.target] * byte_s,
        max(map(len, machine.groups)),
    )


def likely_rises(machine: Machine, problem: Problem, found: Ideals, costs: Intervals, share: float) -> Rises:
    """What far borders add where all that a stage hands over there goes to another group, and `share` of it does so in
    any case. No bound follows from it."""
    byte_s = slower_s(machine, problem) * (1 - share)
    entering, leaving = crossing_bytes(problem, found, costs)
    return Rises(entering * byte_s, leaving * byte_s, problem.cores_per_group)


def _surely_entering(problem: Problem, found: Ideals) -> Array:
    """(ideals, ideals): bytes that a stage between the two reads of the stage before it."""
    member = found.member
    made: list[list[int]] = [[] for _ in range(problem.ops)]
    for t, tensor in enumerate(problem.tensors):
        made[tensor.producer].append(t)
    readers = [member[:, tensor.readers].sum(axis=1) for tensor in problem.tensors]

    def read(i: int, op: int) -> Array:
        out = np.zeros(len(member))
        for t in made[op]:
            out += problem.tensors[t].bytes * (readers[t] > readers[t][i])
        return out

    follows = _neighbours(problem, [(t.producer, r) for t in problem.tensors for r in t.readers])
    return _least(
        member, lambda inside: [v for v in np.flatnonzero(inside).tolist() if not inside[follows[v]].any()], read
    )


def _surely_leaving(problem: Problem, found: Ideals) -> Array:
    """(ideals, ideals): bytes that the stage after a stage between the two reads of it."""
    member = found.member
    read: list[list[int]] = [[] for _ in range(problem.ops)]
    for t, tensor in enumerate(problem.tensors):
        for reader in tensor.readers:
            read[reader].append(t)

    def made(j: int, op: int) -> Array:
        out = np.zeros(len(member))
        for t in read[op]:
            out += problem.tensors[t].bytes * ~member[:, problem.tensors[t].producer]
        return out

    needs = _neighbours(problem, [(r, t.producer) for t in problem.tensors for r in t.readers])
    return _least(
        member, lambda inside: [v for v in np.flatnonzero(~inside).tolist() if inside[needs[v]].all()], made
    ).T


def _neighbours(problem: Problem, arcs: list[tuple[int, int]]) -> list[list[int]]:
    """The ends of the `arcs` that begin at each op."""
    out: list[list[int]] = [[] for _ in range(problem.ops)]
    for a, b in arcs:
        out[a].append(b)
    return out


def _least(
    member: NDArray[np.bool_], ops_at: Callable[[NDArray[np.bool_]], list[int]], passed: Callable[[int, int], Array]
) -> Array:
    """For each ideal, the least of what is passed by one of the ops at its border, to each other ideal; 0 where there
    is no border."""
    out = np.zeros((len(member), len(member)))
    for i, inside in enumerate(member):
        ops = ops_at(inside)
        if ops and 0 < i < len(member) - 1:
            out[i] = np.minimum.reduce([passed(i, v) for v in ops])
    return out
