"""Covers in segments: runs of stages, one behind the other, each with cores of its own (those of one host or more).

For one period: `fewest[s, j]` is the fewest cores of segment s with which it ends at ideal j, its stages beginning
where the segment before it could end. A segment's least cores are found by one narrow pass of the dynamic program
(`cover`) that begins at all these ideals at once. Exact for such covers where nothing but cores is limited.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mapper.solver.covers.cover import Cell, Layer, fewest_from
from mapper.solver.covers.intervals import Intervals


@dataclass(frozen=True)
class Segmented:
    """The stages of a cover, and the segment that each is in."""

    cells: tuple[Cell, ...]
    segments: tuple[int, ...]


def in_segments(
    costs: Intervals, period_s: float, cores: Sequence[int], borders: NDArray[np.bool_], *, cores_per_group: int,
    max_replicas: int | None = None,
) -> Segmented | None:  # fmt: skip
    """A cover of all ops that meets `period_s`, in as many segments as there are `cores`, each within its own; a
    segment may end at the ideals in `borders` only. None where there is none, or where one segment might as well be
    left out: it ends where it could have begun."""
    begin = np.zeros(len(borders), dtype=bool)
    begin[0] = True
    layers: list[Layer] = []
    starts: list[NDArray[np.bool_]] = []
    for number, most in enumerate(cores):
        layer = fewest_from(costs, period_s, begin, cores=most, cores_per_group=cores_per_group,
                            max_replicas=max_replicas)  # fmt: skip
        assert layer.fewest is not None
        layers.append(layer)
        starts.append(begin)
        if number + 1 < len(cores):
            begin = borders & ~begin & (layer.fewest <= most)
            begin[[0, -1]] = False
            if not begin.any():
                return None
    last = layers[-1].fewest
    assert last is not None
    return _backwards(costs, layers, starts) if last[-1] <= cores[-1] else None


def _backwards(costs: Intervals, layers: Sequence[Layer], starts: Sequence[NDArray[np.bool_]]) -> Segmented:
    """The stages behind the last ideal of the last segment."""
    cells: list[Cell] = []
    segments: list[int] = []
    number, ideal = len(layers) - 1, len(starts[0]) - 1
    while ideal > 0:
        if starts[number][ideal]:
            number -= 1
            continue
        cell = Cell(int(layers[number].pair[ideal, 0]), int(layers[number].option[ideal, 0]))
        cells.append(cell)
        segments.append(number)
        ideal = int(costs.source[cell.pair])
    return Segmented(tuple(reversed(cells)), tuple(reversed(segments)))
