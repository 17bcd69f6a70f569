"""Cuts of least capacity: the least load of any set of ops that holds some op and not another, and of any ideal.

A stage that holds op v costs at least as much as the cheapest set of ops with v. That set is found as a minimum cut:
ops on v's side pay their work and the arcs that cross. A set need not be a stage, so this bounds the load from below.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mapper.solver.cpsat.linear import Linear


@dataclass(frozen=True)
class Cut:
    """A set of ops as a mask of bits, and its load in units."""

    load: int
    members: int


class Cuts:
    """The network of an instance. Points: the ops, the outside, and two for each arc with several readers.

    `closed`: 0 for any set, 1 for sets closed under producers (the first stages of a chain), -1 for sets closed under
    readers (the last stages). Of a closed set only what crosses its border counts, once for each arc.
    """

    def __init__(self, linear: Linear, closed: int = 0) -> None:
        from ortools.graph.python import max_flow

        self.linear, self.outside, self.infinite = linear, linear.ops, linear.infinite
        arcs = _arcs(linear, closed)
        self.flow: Any = max_flow.SimpleMaxFlow()
        columns = [np.array(column, dtype=np.int64) for column in zip(*arcs, strict=True)]
        self.flow.add_arcs_with_capacity(columns[0].astype(np.int32), columns[1].astype(np.int32), columns[2])

    def join(self, a: int, b: int) -> None:
        """From now on sets hold both of the ops `a` and `b`, or neither."""
        self.flow.add_arc_with_capacity(a, b, self.infinite)
        self.flow.add_arc_with_capacity(b, a, self.infinite)

    def least(self, inside: int, without: int | None = None) -> Cut:
        """The least load of a set with op `inside` and not with op `without`; `infinite` where there is none."""
        if without is not None:
            self.flow.set_arc_capacity(without, self.infinite)
        status = self.flow.solve(inside, self.outside)
        assert status == self.flow.OPTIMAL
        load = min(int(self.flow.optimal_flow()), self.infinite)
        side: NDArray[np.int32] = self.flow.get_source_side_min_cut()
        members = 0
        for v in side:
            if v < self.outside:
                members |= 1 << int(v)
        if without is not None:
            self.flow.set_arc_capacity(without, self.linear.work[without])
        return Cut(load, members)


def _arcs(linear: Linear, closed: int) -> list[tuple[int, int, int]]:
    """(from, to, capacity): paid when the first point is inside and the second outside. Op v's work is arc v."""
    infinite, outside = linear.infinite, linear.ops
    out = [(v, outside, work) for v, work in enumerate(linear.work)]
    if closed:
        out += [(v, u, infinite) if closed > 0 else (u, v, infinite) for u, v in linear.edges]
    point = outside + 1
    for arc in linear.arcs:
        if arc.price == 0:
            continue
        if len(arc.readers) == 1:
            reader = arc.readers[0]
            out += [(arc.producer, reader, arc.price)] if closed >= 0 else []
            out += [(reader, arc.producer, arc.price)] if closed <= 0 else []
            continue
        if closed <= 0:  # entering: the point is inside with any of the readers
            out += [(reader, point, infinite) for reader in arc.readers]
            out.append((point, arc.producer, arc.price))
            point += 1
        if closed >= 0:  # leaving: the point is inside only with all of the readers
            out += [(point, reader, infinite) for reader in arc.readers]
            out.append((arc.producer, point, arc.price))
            point += 1
    return out
