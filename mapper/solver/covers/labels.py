"""Several limits at once, exactly: all covers that no other beats in cores and every amount, from the back.

A label is a cover of what lies behind an ideal: cores (and stages) left, and what it has used of each resource. It is
dropped when another at the same ideal is at least as good in everything, or when what it has used and the least that
the rest can use (the passes of `cover`) go beyond a limit. Desrochers and Soumis (1988) for shortest paths with
resources; here the completion bounds make it small near the best period, where it is needed.
"""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mapper.solver.covers.cover import Cell, Covers, cores_taken, relative
from mapper.solver.covers.resources import WITHIN, Resource
from mapper.solver.problem import Array

WORK = 300_000_000
"""Labels and comparisons after which nothing is decided: some seconds in C."""
WORK_WITHOUT_KERNEL = 3_000_000

Rest = tuple[Array, tuple[float, ...]]
"""The least weighted sum of relative amounts for covering each ideal with so many cores, and the weights."""


def labels(
    resources: Sequence[Resource], passes: Sequence[tuple[Covers, tuple[float, ...]]], cores: int,
    stages: int | None, max_replicas: int | None, work: int | None = None,
) -> tuple[tuple[Cell, ...] | None, bool]:  # fmt: skip
    """Stages that keep all limits with at most `cores` cores and `stages` stages, and whether there are none.

    `passes` are those for the relative amounts, with their weights. Neither stages nor none: the work was too much.
    """
    covers = passes[0][0]
    costs = covers.intervals
    taken = cores_taken(costs, covers.period_s, covers.cores_per_group, max_replicas, cores)
    rest = np.array([found.least_of_any(cores) for found, _ in passes])
    weights = np.array([w for _, w in passes])
    run = _labels_in_c if _COMPILED is not None else _labels_in_python
    most = work or (WORK if _COMPILED is not None else WORK_WITHOUT_KERNEL)
    count = -1 if stages is None else stages
    found = run(costs.begin, costs.source, taken, resources, rest, weights, cores, count, most)
    if found is None:
        return None, False
    return (tuple(Cell(p, o) for p, o in found), False) if found else (None, True)


def _labels_in_python(
    begin: NDArray[np.int64], source: NDArray[np.int32], taken: NDArray[np.int32], resources: Sequence[Resource],
    rest: Array, weights: Array, cores: int, stages: int, most: int,
) -> list[tuple[int, int]] | None:  # fmt: skip
    """The stages as (pair, option), first to last; none where there is no cover; None where `most` did not decide."""
    amounts = np.array([relative(resource.amount, resource.limit) for resource in resources])
    ideals, work = len(begin) - 1, 0
    start: Any = (cores, stages, np.zeros(len(amounts)), None, None)
    kept: list[list[Any]] = [[] for _ in range(ideals)]
    kept[-1] = [start]
    for j in range(ideals - 1, 0, -1):
        for label in kept[j]:
            for p in range(int(begin[j]), int(begin[j + 1])) if label[1] != 0 else ():
                i = int(source[p])
                for o in np.flatnonzero((taken[:, p] >= 0) & (taken[:, p] <= label[0])):
                    work += 1
                    used = label[2] + amounts[:, o, p]
                    left = label[0] - int(taken[o, p])
                    if (used > WITHIN).any() or (rest[:, i, left] + weights @ used > WITHIN).any():
                        continue
                    new = (left, max(-1, label[1] - 1) if stages >= 0 else -1, used, (p, int(o)), label)
                    work += len(kept[i])
                    if work > most:
                        return None
                    if any(_beats(other, new) for other in kept[i]):
                        continue
                    kept[i] = [other for other in kept[i] if not _beats(new, other)] + [new]
                    if i == 0:
                        return _traced(new)
    return []


def _beats(a: Any, b: Any) -> bool:
    return bool(a[0] >= b[0] and a[1] >= b[1] and (a[2] <= b[2]).all())


def _traced(label: Any) -> list[tuple[int, int]]:
    out = []
    while label[3] is not None:
        out.append(label[3])
        label = label[4]
    return out


def _kernel() -> Any:
    """The compiled search, or None where it was not built (no compiler at install time)."""
    spec = importlib.util.find_spec("mapper.solver.covers._labels")
    if spec is None or spec.origin is None:
        return None
    function = ctypes.CDLL(spec.origin).mapper_labels
    function.argtypes = [*[ctypes.c_int64] * 8, *[ctypes.c_void_p] * 9]
    function.restype = ctypes.c_int64
    return function


_COMPILED = _kernel()


def _labels_in_c(
    begin: NDArray[np.int64], source: NDArray[np.int32], taken: NDArray[np.int32], resources: Sequence[Resource],
    rest: Array, weights: Array, cores: int, stages: int, most: int,
) -> list[tuple[int, int]] | None:  # fmt: skip
    """The same in C."""
    amounts = [np.ascontiguousarray(resource.amount) for resource in resources]
    where = np.array([amount.ctypes.data for amount in amounts], np.uintp)
    limits = np.array([resource.limit for resource in resources], float)
    read = [np.ascontiguousarray(a) for a in (begin, source, taken, where, limits, rest, weights)]
    pair, option = np.empty(len(begin), np.int32), np.empty(len(begin), np.int16)
    found = _COMPILED(
        len(begin) - 1, len(source), len(taken), cores, stages, len(resources), len(rest), most,
        *[a.ctypes.data for a in [*read, pair, option]],
    )  # fmt: skip
    if found == -1:
        raise MemoryError("no memory for the labels of the dynamic program")
    return None if found == -2 else [(int(pair[x]), int(option[x])) for x in range(found)]
