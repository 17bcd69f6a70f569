"""The dynamic program over ideals: the least second resource of a cover in which every stage meets a period.

    least[j, c] = min over ideals i ⊂ j and options o of  least[i, c - k(o)] + value(i, j, o)

where the stage between i and j takes ⌈load / period⌉ replicas, k(o) cores in all. `value` is the stage's load (then
`least` is the latency) or its DRAM bytes. One pass gives the whole front of (value, cores) at that period.
Exact for one resource besides cores, with configurations that pack (problem.md, way 2).

Where nothing but cores is limited, the front is not needed: a *narrow* pass keeps the fewest cores of each ideal, and
of such covers the least value. That pair adds up in the order of words, so that this is exact too, and its time does
not grow with the cores. The other passes leave out what no whole cover within cores and limit can hold: they begin
with the fewest cores and the least value of what is still to come behind each ideal.
"""

from __future__ import annotations

import ctypes
import importlib.util
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mapper.solver.covers.intervals import Intervals
from mapper.solver.problem import Array

UNLIMITED = 2**30


@dataclass(frozen=True)
class Cell:
    """One stage of a cover: the pair of ideals and the option.

    `rise_s`: what far borders add to its load; `least_replicas` where that takes more than the load does.
    """

    pair: int
    option: int
    rise_s: float = 0.0
    least_replicas: int = 1


@dataclass(frozen=True)
class Layer:
    """`least[j, c]`, and the pair and option behind it. Of a narrow pass `fewest[j]` cores, and one column."""

    least: Array
    pair: NDArray[np.int32]
    option: NDArray[np.int16]
    fewest: NDArray[np.int32] | None = None


@dataclass(frozen=True)
class Covers:
    """The result of a pass: layers[s] is for exactly s + 1 stages, or the only layer for any number.

    Rows are complete for the last ideal, and for the others as far as they can be part of a cover of all ops.
    """

    layers: tuple[Layer, ...]
    intervals: Intervals
    period_s: float
    cores: int
    cores_per_group: int
    counted: bool

    def front(self, stages: int | None = None) -> Array:
        """Least value of covering all ops with at most c cores, for each c; with exactly `stages` stages if counted.

        Of a narrow pass the first finite one, and no less after it.
        """
        layer = self.layers[-1 if stages is None else stages - 1]
        if layer.fewest is None:
            out: Array = layer.least[-1]
            return out
        return np.where(np.arange(self.cores + 1) >= layer.fewest[-1], layer.least[-1, 0], np.inf)

    def chain(self, cores: int, stages: int | None = None) -> tuple[Cell, ...]:
        """The stages behind `front(stages)[cores]`, first to last."""
        cells: list[Cell] = []
        j, c = len(self.layers[0].least) - 1, cores
        depth = (len(self.layers) if stages is None else stages) - 1
        while j > 0:
            layer = self.layers[depth]
            at = c if layer.fewest is None else 0
            cell = Cell(int(layer.pair[j, at]), int(layer.option[j, at]))
            cells.append(cell)
            c -= stage_cores(self.intervals, cell, self.replicas(cell), self.cores_per_group)
            j = int(self.intervals.source[cell.pair])
            depth -= 1 if self.counted else 0
        return tuple(reversed(cells))

    def least_of_any(self, cores: int) -> Array:
        """(ideals, cores + 1): the least value of covering each ideal, with any number of stages that was counted."""
        out: Array = np.minimum.reduce([layer.least[:, : cores + 1] for layer in self.layers])
        return out

    def replicas(self, cell: Cell) -> int:
        """Copies that the stage needs to meet the period."""
        load_s = float(self.intervals.load_s[cell.option, cell.pair]) + cell.rise_s
        return max(cell.least_replicas, needed(load_s, self.period_s))


def needed(load_s: float, period_s: float) -> int:
    """⌈load / period⌉, with a relative slack of 1e-12 for sums rounded upwards."""
    return 1 if load_s <= period_s else math.ceil(load_s / period_s * (1 - 1e-12))


def stage_cores(costs: Intervals, cell: Cell, replicas: int, group: int) -> int:
    """Cores that the stage takes: whole groups where it has them to itself."""
    cores = replicas * int(costs.cores[cell.option])
    return -(-cores // group) * group if costs.exclusive[cell.option] else cores


def replicas_needed(costs: Intervals, period_s: float) -> Array:
    """(options, pairs): copies that each stage needs to meet `period_s`; nan where it cannot be."""
    out = np.empty_like(costs.load_s)
    for o, load in enumerate(costs.load_s):  # one by one: the whole at once would take several times its memory
        out[o] = replicas_of(load, period_s)
    return out


def replicas_of(load_s: Array, period_s: float) -> Array:
    """Copies that stages of these loads need to meet `period_s`; nan where it cannot be."""
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Array = np.where(load_s <= period_s, 1.0, np.ceil(load_s / period_s * (1 - 1e-12)))
    return np.where(np.isfinite(load_s), found, np.nan)


def cores_taken(
    costs: Intervals, period_s: float, group: int, max_replicas: int | None, cores: int
) -> NDArray[np.int32]:
    """(options, pairs): cores that each stage takes at `period_s`, negative where it cannot be."""
    out = np.empty(costs.load_s.shape, np.int32)
    for o, load in enumerate(costs.load_s):
        out[o] = cores_of(costs, o, replicas_of(load, period_s), group, max_replicas, cores)
    return out


def cores_of(
    costs: Intervals, option: int, replicas: Array, group: int, max_replicas: int | None, cores: int
) -> NDArray[np.int32]:
    """Cores that so many replicas of an option take, negative where there cannot be so many."""
    taken = replicas * costs.cores[option]
    if costs.exclusive[option]:
        taken = np.ceil(taken / group) * group
    with np.errstate(invalid="ignore"):
        usable = (replicas <= (max_replicas or UNLIMITED)) & (taken <= cores)
    return np.where(usable, taken, -1).astype(np.int32)


@dataclass(frozen=True)
class Asked:
    """What a pass is asked: amounts to add up in units of `unit`, their sum at most `limit`, within so many cores."""

    period_s: float
    values: Array
    unit: float
    limit: float
    cores: int
    cores_per_group: int
    max_replicas: int
    stages: int | None


def cover(
    costs: Intervals, period_s: float, values: Array, *, cores: int, cores_per_group: int, stages: int | None = None,
    max_replicas: int | None = None, limit: float = math.inf, unit: float = 1.0, narrow: bool = False,
) -> Covers:  # fmt: skip
    """One pass at `period_s`. With `stages`, one layer for each number of stages up to it; otherwise any number.

    `values[o, p]` / `unit` is what is added up, and the sum at most `limit`. `narrow`: only the fewest cores, and of
    covers with so few the least sum.
    """
    asked = Asked(period_s, values, unit, limit, cores, cores_per_group, max_replicas or UNLIMITED, stages)
    layers = (_NARROW if narrow else _PASS)(costs, asked)
    return Covers(layers, costs, period_s, cores, cores_per_group, stages is not None)


def fewest_from(
    costs: Intervals, period_s: float, begin: NDArray[np.bool_], *, cores: int, cores_per_group: int,
    max_replicas: int | None = None,
) -> Layer:  # fmt: skip
    """A narrow pass that begins at any of the ideals in `begin`: the fewest cores from one of these to each ideal,
    `cores` + 1 where there is no way, and of such ways the least latency."""
    asked = Asked(period_s, costs.latency_s, 1.0, math.inf, cores, cores_per_group, max_replicas or UNLIMITED, None)
    return (_numpy_from if _COMPILED is None else _compiled_from)(costs, asked, begin)


def relative(values: Array, unit: float) -> Array:
    """`values` in units of `unit`; a unit of 0 leaves no room for any."""
    with np.errstate(divide="ignore", invalid="ignore"):
        out: Array = np.where(values == 0, 0.0, values / unit)
    return out


def _layers(ideals: int, asked: Asked, width: int) -> tuple[Array, NDArray[np.int32], NDArray[np.int16]]:
    """The arrays of all layers, each (layers, ideals, width), before a pass."""
    shape = (asked.stages or 1, ideals, width)
    least = np.full(shape, np.inf)
    if asked.stages is None:
        least[0, 0] = 0.0
    return least, np.full(shape, -1, np.int32), np.zeros(shape, np.int16)


def _numpy_pass(costs: Intervals, asked: Asked) -> tuple[Layer, ...]:
    """The pass in numpy."""
    found = [Layer(*arrays) for arrays in zip(*_layers(len(costs.begin) - 1, asked, asked.cores + 1), strict=True)]
    taken = cores_taken(costs, asked.period_s, asked.cores_per_group, asked.max_replicas, asked.cores)
    values = relative(asked.values, asked.unit)
    before = found[0].least
    if asked.stages is not None:
        before = np.full_like(before, np.inf)
        before[0] = 0.0
    for layer in found:
        _numpy_layer(costs, taken, values, before, layer, asked)
        before = layer.least
    return tuple(found)


def _numpy_layer(
    costs: Intervals, taken: NDArray[np.int32], values: Array, before: Array, layer: Layer, asked: Asked
) -> None:
    """One layer: for each ideal, all its pairs at once, one number of cores after the other."""
    for j in range(1, len(before)):
        here = slice(int(costs.begin[j]), int(costs.begin[j + 1]))
        row = (layer.least[j], layer.pair[j], layer.option[j])
        extend(row, before[costs.source[here]], taken[:, here], values[:, here], here.start, asked.limit)


def extend(
    row: tuple[Array, NDArray[np.int32], NDArray[np.int16]], prior: Array, taken: NDArray[np.int32], values: Array,
    first: int, limit: float, mark: int = 0,
) -> None:  # fmt: skip
    """What the pairs from `first` on, with options of these cores and values, add to the row of an ideal. `prior` are
    the rows of their sources, and `mark` is added to the option."""
    least, pair, options = row
    cores = len(least) - 1
    for k in np.unique(taken):
        if k < 0:
            continue
        allowed = np.where(taken == k, values, np.inf)
        option = allowed.argmin(axis=0)
        total = prior[:, : cores + 1 - k] + allowed[option, np.arange(allowed.shape[1])][:, None]
        pick = total.argmin(axis=0)
        sums = total[pick, np.arange(cores + 1 - k)]
        better = np.flatnonzero((sums < least[k:]) & (sums <= limit))
        least[k + better] = sums[better]
        pair[k + better] = first + pick[better]
        options[k + better] = option[pick[better]] + mark


def _kernel() -> tuple[Any, Any] | None:
    """The compiled passes, wide and narrow, or None where they were not built (no compiler at install time)."""
    spec = importlib.util.find_spec("mapper.solver.covers._cover")
    if spec is None or spec.origin is None:
        return None
    library = ctypes.CDLL(spec.origin)
    for function, arrays in ((library.mapper_cover, 9), (library.mapper_fewest, 10)):
        function.argtypes = [*[ctypes.c_int64] * 8, *[ctypes.c_double] * 3, *[ctypes.c_void_p] * arrays]
        function.restype = ctypes.c_int
    return library.mapper_cover, library.mapper_fewest


_COMPILED = _kernel()


def _compiled_pass(costs: Intervals, asked: Asked) -> tuple[Layer, ...]:
    """The pass in C, on the same arrays."""
    assert _COMPILED is not None
    arrays = _layers(len(costs.begin) - 1, asked, asked.cores + 1)
    _run(_COMPILED[0], costs, asked, arrays)
    return tuple(Layer(*layer) for layer in zip(*arrays, strict=True))


def _compiled_narrow_pass(costs: Intervals, asked: Asked) -> tuple[Layer, ...]:
    """The narrow pass in C."""
    assert _COMPILED is not None
    least, pair, option = _layers(len(costs.begin) - 1, asked, 1)
    fewest = np.where(np.isfinite(least[:, :, 0]), 0, asked.cores + 1).astype(np.int32)
    _run(_COMPILED[1], costs, asked, (fewest, least, pair, option))
    return tuple(Layer(*layer) for layer in zip(least, pair, option, fewest, strict=True))


def _compiled_from(costs: Intervals, asked: Asked, begin: NDArray[np.bool_]) -> Layer:
    """The narrow pass in C, from several ideals."""
    assert _COMPILED is not None
    least, pair, option = _layers(len(costs.begin) - 1, asked, 1)
    least[0, :, 0] = np.where(begin, 0.0, np.inf)
    fewest = np.where(begin, 0, asked.cores + 1).astype(np.int32)[None]
    _run(_COMPILED[1], costs, asked, (fewest, least, pair, option))
    return Layer(least[0], pair[0], option[0], fewest[0])


def _numpy_from(costs: Intervals, asked: Asked, begin: NDArray[np.bool_]) -> Layer:
    """The same in numpy, by a pass that is not narrow."""
    least, pair, option = (array[0] for array in _layers(len(costs.begin) - 1, asked, asked.cores + 1))
    least[:] = np.where(begin, 0.0, np.inf)[:, None]
    taken = cores_taken(costs, asked.period_s, asked.cores_per_group, asked.max_replicas, asked.cores)
    _numpy_layer(costs, taken, relative(asked.values, asked.unit), least, Layer(least, pair, option), asked)
    reached = np.isfinite(least)
    fewest = np.where(reached.any(axis=1), reached.argmax(axis=1), asked.cores + 1).astype(np.int32)
    at = np.minimum(fewest, asked.cores)[:, None]
    ways = np.take_along_axis(pair, at, axis=1), np.take_along_axis(option, at, axis=1)
    return Layer(np.take_along_axis(least, at, axis=1), *ways, fewest)


def _run(function: Any, costs: Intervals, asked: Asked, out: Sequence[NDArray[Any]]) -> None:
    """Calls a compiled pass."""
    read = (costs.begin, costs.source, costs.load_s, asked.values, costs.cores, costs.exclusive)
    arrays = [np.ascontiguousarray(a) for a in read]
    options, pairs = costs.load_s.shape
    failed = function(
        len(costs.begin) - 1, pairs, options, asked.cores, asked.cores_per_group, asked.max_replicas,
        asked.stages or 1, asked.stages is not None, asked.period_s, asked.limit, asked.unit,
        *[a.ctypes.data for a in [*arrays, *out]],
    )  # fmt: skip
    if failed:
        raise MemoryError("no memory for the dynamic program")


_PASS, _NARROW = (_compiled_pass, _compiled_narrow_pass) if _COMPILED is not None else (_numpy_pass, _numpy_pass)
KERNEL = "compiled" if _COMPILED is not None else "numpy (no compiler at install time: slower)"
"""Which pass runs; `mapper doctor` and `mapper plan -v` say so."""
