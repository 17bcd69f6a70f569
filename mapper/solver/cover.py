"""The dynamic program over ideals: the least second resource of a cover in which every stage meets a period.

    least[j, c] = min over ideals i ⊂ j and options o of  least[i, c - k(o)] + value(i, j, o)

where the stage between i and j takes ⌈load / period⌉ replicas, k(o) cores in all. `value` is the stage's load (then
`least` is the latency) or its DRAM bytes. One pass gives the whole front of (value, cores) at that period.
Exact for one resource besides cores, with configurations that pack (problem.md, way 2).
"""

from __future__ import annotations

import ctypes
import importlib.util
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mapper.solver.intervals import Intervals
from mapper.solver.problem import Array

UNLIMITED = 2**30


@dataclass(frozen=True)
class Cell:
    """One stage of a cover: the pair of ideals and the option."""

    pair: int
    option: int


@dataclass(frozen=True)
class Layer:
    """`least[j, c]`, and the pair and option behind it."""

    least: Array
    pair: NDArray[np.int32]
    option: NDArray[np.int16]


@dataclass(frozen=True)
class Covers:
    """The result of a pass: layers[s] is for exactly s + 1 stages, or the only layer for any number."""

    layers: tuple[Layer, ...]
    intervals: Intervals
    period_s: float
    cores_per_group: int
    counted: bool

    def front(self, stages: int | None = None) -> Array:
        """Least value of covering all ops with at most c cores, for each c; with exactly `stages` stages if counted."""
        layer = self.layers[-1 if stages is None else stages - 1]
        out: Array = layer.least[-1]
        return out

    def chain(self, cores: int, stages: int | None = None) -> tuple[Cell, ...]:
        """The stages behind `front(stages)[cores]`, first to last."""
        cells: list[Cell] = []
        j, c = len(self.layers[0].least) - 1, cores
        depth = (len(self.layers) if stages is None else stages) - 1
        while j > 0:
            layer = self.layers[depth]
            cell = Cell(int(layer.pair[j, c]), int(layer.option[j, c]))
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
        return needed(float(self.intervals.load_s[cell.option, cell.pair]), self.period_s)


def needed(load_s: float, period_s: float) -> int:
    """⌈load / period⌉, with a relative slack of 1e-12 for sums rounded upwards."""
    return 1 if load_s <= period_s else math.ceil(load_s / period_s * (1 - 1e-12))


def stage_cores(costs: Intervals, cell: Cell, replicas: int, group: int) -> int:
    """Cores that the stage takes: whole groups where it has them to itself."""
    cores = replicas * int(costs.cores[cell.option])
    return -(-cores // group) * group if costs.exclusive[cell.option] else cores


def replicas_needed(costs: Intervals, period_s: float) -> Array:
    """(options, pairs): copies that each stage needs to meet `period_s`; nan where it cannot be."""
    with np.errstate(invalid="ignore"):
        found: Array = np.where(costs.load_s <= period_s, 1.0, np.ceil(costs.load_s / period_s * (1 - 1e-12)))
    return np.where(np.isfinite(costs.load_s), found, np.nan)


def cores_taken(
    costs: Intervals, period_s: float, group: int, max_replicas: int | None, cores: int
) -> NDArray[np.int32]:
    """(options, pairs): cores that each stage takes at `period_s`, negative where it cannot be."""
    replicas = replicas_needed(costs, period_s)
    taken = replicas * costs.cores[:, None]
    taken = np.where(costs.exclusive[:, None] > 0, np.ceil(taken / group) * group, taken)
    with np.errstate(invalid="ignore"):
        usable = (replicas <= (max_replicas or UNLIMITED)) & (taken <= cores)
    return np.where(usable, taken, -1).astype(np.int32)


def cover(
    costs: Intervals, period_s: float, values: Array, *, cores: int, cores_per_group: int, stages: int | None = None,
    max_replicas: int | None = None, limit: float = math.inf,
) -> Covers:  # fmt: skip
    """One pass at `period_s`. With `stages`, one layer for each number of stages up to it; otherwise any number.

    `values[o, p]` is what is added up, and the sum at most `limit`.
    """
    ideals = len(costs.begin) - 1
    layers: list[Layer] = []
    before = None
    for _ in range(stages or 1):
        layer = Layer(
            np.full((ideals, cores + 1), np.inf),
            np.full((ideals, cores + 1), -1, np.int32),
            np.zeros((ideals, cores + 1), np.int16),
        )
        if stages is None:
            layer.least[0] = 0.0
            before = layer.least
        elif before is None:
            before = np.full((ideals, cores + 1), np.inf)
            before[0] = 0.0
        assert before is not None
        _PASS(costs, values, before, layer, period_s, cores, cores_per_group, max_replicas or UNLIMITED, limit)
        layers.append(layer)
        before = layer.least
    return Covers(tuple(layers), costs, period_s, cores_per_group, stages is not None)


def _numpy_pass(
    costs: Intervals, values: Array, before: Array, layer: Layer, period: float, cores: int, group: int,
    most_replicas: int, limit: float,
) -> None:  # fmt: skip
    """The pass in numpy: for each ideal, all its pairs at once, one number of cores after the other."""
    taken = cores_taken(costs, period, group, most_replicas, cores)
    for j in range(1, len(before)):
        here = slice(int(costs.begin[j]), int(costs.begin[j + 1]))
        prior = before[costs.source[here]]
        for k in np.unique(taken[:, here]):
            if k < 0:
                continue
            allowed = np.where(taken[:, here] == k, values[:, here], np.inf)
            option = allowed.argmin(axis=0)
            total = prior[:, : cores + 1 - k] + allowed[option, np.arange(allowed.shape[1])][:, None]
            pick = total.argmin(axis=0)
            sums = total[pick, np.arange(cores + 1 - k)]
            better = np.flatnonzero((sums < layer.least[j, k:]) & (sums <= limit))
            layer.least[j, k + better] = sums[better]
            layer.pair[j, k + better] = here.start + pick[better]
            layer.option[j, k + better] = option[pick[better]]


def _kernel() -> Any:
    """The compiled pass, or None where it was not built (no compiler at install time)."""
    spec = importlib.util.find_spec("mapper.solver._cover")
    if spec is None or spec.origin is None:
        return None
    function = ctypes.CDLL(spec.origin).mapper_cover
    integer, real, pointer = ctypes.c_int64, ctypes.c_double, ctypes.c_void_p
    function.argtypes = [*[integer] * 5, real, integer, real, *[pointer] * 10]
    function.restype = ctypes.c_int
    return function


_COMPILED = _kernel()


def _compiled_pass(
    costs: Intervals, values: Array, before: Array, layer: Layer, period: float, cores: int, group: int,
    most_replicas: int, limit: float,
) -> None:  # fmt: skip
    """The pass in C, on the same arrays."""
    read: list[NDArray[Any]] = [costs.begin, costs.source, costs.load_s, values, costs.cores, costs.exclusive, before]
    arrays = [np.ascontiguousarray(a) for a in read]
    out: list[NDArray[Any]] = [layer.least, layer.pair, layer.option]
    options, pairs = costs.load_s.shape
    failed = _COMPILED(
        len(before), pairs, options, cores, group, period, most_replicas, limit, *[a.ctypes.data for a in arrays + out]
    )
    if failed:
        raise MemoryError("no memory for the dynamic program")


_PASS = _compiled_pass if _COMPILED is not None else _numpy_pass
KERNEL = "compiled" if _COMPILED is not None else "numpy (no compiler at install time: slower)"
"""Which pass runs; `mapper doctor` and `mapper plan -v` say so."""
