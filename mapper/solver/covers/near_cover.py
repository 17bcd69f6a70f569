"""The dynamic program over ideals with near and far borders (`nearness`): which stages share a group is part of it.

    least[j, b, c] = min over ideals i ⊂ j, states a and options o of  least[i, a, c - k] + value

State 0 of an ideal says that the border there is far, any other how many cores one replica of each stage of the run has
that goes on there. A near border needs room for the next stage in the group; stages of whole groups, or with a group to
themselves, have far borders on both sides.
"""

from __future__ import annotations

import ctypes
import importlib.util
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mapper.solver.covers.cover import (
    UNLIMITED,
    Asked,
    Cell,
    Covers,
    Layer,
    cores_of,
    extend,
    relative,
    replicas_of,
    stage_cores,
)
from mapper.solver.covers.intervals import Intervals
from mapper.solver.covers.nearness import Rises
from mapper.solver.problem import Array

MOST_BYTES = 512_000_000
"""What the rows of a pass may take."""
MOST_PAIRS = 500
"""Pairs of ideals up to which a pass is tried where it was not compiled: numpy takes seconds for more."""
SLACK = 1 - 1e-12
"""As in `cover`: loads up to so little above the period still count as within it."""


@dataclass(frozen=True)
class NearCovers(Covers):
    """The result of a pass; `layers[s].least[j, b, c]`, and an option has options · (the state before) added."""

    rises: Rises

    def front(self, stages: int | None = None) -> Array:
        """Least value of covering all ops with at most c cores, for each c; with exactly `stages` stages if counted."""
        out: Array = self.layers[-1 if stages is None else stages - 1].least[-1, 0]
        return out

    def chain(self, cores: int, stages: int | None = None) -> tuple[Cell, ...]:
        """The stages behind `front(stages)[cores]`, first to last."""
        cells: list[Cell] = []
        options, last = len(self.intervals.cores), len(self.intervals.begin) - 2
        j, state, c = last, 0, cores
        depth = (len(self.layers) if stages is None else stages) - 1
        while j > 0:
            layer = self.layers[depth]
            before, option = divmod(int(layer.option[j, state, c]), options)
            pair = int(layer.pair[j, state, c])
            i = int(self.intervals.source[pair])
            cell = self._cell(pair, option, entering=before == 0 and i > 0, leaving=state == 0 and j < last)
            cells.append(cell)
            c -= stage_cores(self.intervals, cell, self.replicas(cell), self.cores_per_group)
            j, state = i, before
            depth -= 1 if self.counted else 0
        return tuple(reversed(cells))

    def _cell(self, pair: int, option: int, *, entering: bool, leaving: bool) -> Cell:
        """The stage with the borders that are far."""
        rises, load = self.rises, float(self.intervals.load_s[option, pair])
        part = self.intervals.cores[option] < self.cores_per_group
        before = float(rises.entering_s[pair]) if part and entering else 0.0
        after = float(rises.leaving_s[pair]) if part and leaving else 0.0
        if (load + (before + after)) * SLACK > self.period_s:
            return Cell(pair, option, max(before, after), 2)
        return Cell(pair, option, before + after)


@dataclass(frozen=True)
class NearAsked(Asked):
    """What a pass is asked; a second of rise adds `weight` to a value."""

    weight: float


def near_cover(
    costs: Intervals, rises: Rises, period_s: float, values: Array, weight: float, *, cores: int, cores_per_group: int,
    stages: int | None = None, max_replicas: int | None = None, limit: float = math.inf, unit: float = 1.0,
) -> NearCovers:  # fmt: skip
    """One pass at `period_s`, as `cover.cover`; `weight` is what a second of rise adds to a value."""
    most = max_replicas or UNLIMITED
    asked = NearAsked(period_s, values, unit, limit, cores, cores_per_group, most, stages, weight)
    layers = _PASS(costs, rises, asked)
    return NearCovers(layers, costs, period_s, cores, cores_per_group, stages is not None, rises)


def room_for(costs: Intervals, rises: Rises, cores: int, stages: int | None) -> bool:
    """Whether a pass is small enough, and options with states before can be told apart."""
    if _COMPILED is None and len(costs.source) > MOST_PAIRS:
        return False
    rows = len(costs.begin) * rises.size * (stages or 1)
    return rows * (cores + 1) * 14 <= MOST_BYTES and len(costs.cores) * rises.size < 2**15


def _near(costs: Intervals, option: int, group: int) -> bool:
    """Whether a stage can be near others with an option."""
    return bool(costs.cores[option] < group and not costs.exclusive[option])


def _rows(costs: Intervals, rises: Rises, asked: NearAsked) -> tuple[Array, NDArray[np.int32], NDArray[np.int16]]:
    """The arrays of all layers, each (layers, ideals, states, cores + 1), before a pass."""
    shape = (asked.stages or 1, len(costs.begin) - 1, rises.size, asked.cores + 1)
    least = np.full(shape, np.inf)
    if asked.stages is None:
        least[0, 0, 0] = 0.0
    return least, np.full(shape, -1, np.int32), np.zeros(shape, np.int16)


def _numpy_pass(costs: Intervals, rises: Rises, asked: NearAsked) -> tuple[Layer, ...]:
    """The pass in numpy."""
    found = [Layer(*arrays) for arrays in zip(*_rows(costs, rises, asked), strict=True)]
    before = found[0].least
    if asked.stages is not None:
        before = np.full_like(before, np.inf)
        before[0, 0] = 0.0
    priced = {(x, y): _priced(costs, rises, asked, x, y) for x in (False, True) for y in (False, True)}
    for layer in found:
        for j in range(1, len(before)):
            _numpy_ideal(costs, rises, asked, priced, before, layer, j)
        before = layer.least
    return tuple(found)


def _priced(
    costs: Intervals, rises: Rises, asked: NearAsked, entering: bool, leaving: bool
) -> tuple[NDArray[np.int32], Array]:
    """(options, pairs): cores and values of all stages where these ends are far."""
    taken, values = np.empty(costs.load_s.shape, np.int32), np.empty_like(costs.load_s)
    none = np.zeros(len(costs.source))
    for o, load in enumerate(costs.load_s):
        part = costs.cores[o] < asked.cores_per_group
        before = rises.entering_s if entering and part else none
        after = rises.leaving_s if leaving and part else none
        over = (load + (before + after)) * SLACK > asked.period_s
        rise = np.where(over, np.maximum(before, after), before + after)
        replicas = np.maximum(replicas_of(load + rise, asked.period_s), np.where(over, 2, 1))
        taken[o] = cores_of(costs, o, replicas, asked.cores_per_group, asked.max_replicas, asked.cores)
        values[o] = relative(asked.values[o] + asked.weight * rise, asked.unit)
    return taken, values


def _numpy_ideal(
    costs: Intervals, rises: Rises, asked: NearAsked, priced: dict[tuple[bool, bool], tuple[NDArray[np.int32], Array]],
    before: Array, layer: Layer, j: int,
) -> None:  # fmt: skip
    """All rows of one ideal."""
    begin, end, last = int(costs.begin[j]), int(costs.begin[j + 1]), j == len(before) - 1
    for p in range(begin, end):
        i = int(costs.source[p])
        for run in range(rises.size) if i else [0]:
            for state, option, leaving in _moves(costs, rises.size, asked.cores_per_group, run, last):
                far = (run == 0 and i > 0, leaving)
                taken, values = priced[far]
                row = (layer.least[j, state], layer.pair[j, state], layer.option[j, state])
                here, mark = (slice(option, option + 1), slice(p, p + 1)), run * len(costs.cores) + option
                extend(row, before[i : i + 1, run], taken[here], values[here], p, asked.limit, mark)


def _moves(costs: Intervals, size: int, group: int, run: int, last: bool) -> Iterator[tuple[int, int, bool]]:
    """The states that a state of `run` cores leads to, the option, and whether the border there is far."""
    for option, cores in enumerate(costs.cores):
        near, to = _near(costs, option, group), run + int(cores)
        if run == 0 or (near and to <= size):
            yield 0, option, not last
        if not last and near and to < size:
            yield to, option, False


def _kernel() -> Any:
    """The compiled pass, or None where it was not built (no compiler at install time)."""
    spec = importlib.util.find_spec("mapper.solver.covers._nearness")
    if spec is None or spec.origin is None:
        return None
    function = ctypes.CDLL(spec.origin).mapper_nearness
    function.argtypes = [*[ctypes.c_int64] * 9, *[ctypes.c_double] * 4, *[ctypes.c_void_p] * 12]
    function.restype = ctypes.c_int
    return function


_COMPILED = _kernel()


def _compiled_pass(costs: Intervals, rises: Rises, asked: NearAsked) -> tuple[Layer, ...]:
    """The pass in C, on the same arrays."""
    out = _rows(costs, rises, asked)
    part = (costs.cores < asked.cores_per_group).astype(np.uint8)
    read = (costs.begin, costs.source, costs.load_s, asked.values, costs.cores, costs.exclusive, rises.entering_s,
            rises.leaving_s, part)  # fmt: skip
    arrays = [np.ascontiguousarray(a) for a in read]
    options, pairs = costs.load_s.shape
    failed = _COMPILED(
        len(costs.begin) - 1, pairs, options, asked.cores, asked.cores_per_group, asked.max_replicas,
        asked.stages or 1, asked.stages is not None, rises.size, asked.period_s, asked.limit,
        asked.unit, asked.weight, *[a.ctypes.data for a in [*arrays, *out]],
    )  # fmt: skip
    if failed:
        raise MemoryError("no memory for the dynamic program")
    return tuple(Layer(*layer) for layer in zip(*out, strict=True))


_PASS = _compiled_pass if _COMPILED is not None else _numpy_pass
