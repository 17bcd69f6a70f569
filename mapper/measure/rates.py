"""From timed ops to rates: for each sort what an op takes to begin, what a unit more takes, what a team gains.

    seconds on one core = start_s + unit_s · units + weight_byte_s · weight bytes

fitted to all sizes of a sort so that the relative misfit is least (iteratively reweighted least squares, no parameter
negative), to the medians of the rounds for the value, to the least and greatest rounds for its range. What a team gains
is (t(1) − start) / (t(T) − start − fork and join), the median over the larger sizes.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mapper.machine.figures import Figure
from mapper.measure.cases import ITEM_BYTES, STANDS_FOR, Case
from mapper.measure.spread import middle_half

PASSES = 20
WELL_FITTED = 0.02
"""Relative misfit below which a size counts no more."""
A_PARAMETER = 0.01
"""Mean relative misfit that a further parameter must save."""
LEAST_SPEEDUP = 0.25

Timings = Mapping[tuple[Case, int], Sequence[float]]
"""Seconds of each round of a case with so many threads."""


@dataclass(frozen=True)
class Parameters:
    """Of one sort on one core: seconds to begin, a unit, a byte of weights."""

    start_s: float
    unit_s: float
    weight_byte_s: float

    def seconds(self, case: Case) -> float:
        """What the fit says of `case`."""
        return self.start_s + self.unit_s * case.units + self.weight_byte_s * case.weight_bytes


@dataclass(frozen=True)
class Folded:
    """The rate of a sort: figures by the field of `Rate`, the median misfit, the median spread of its sizes' rounds."""

    sort: str
    figures: dict[str, Figure]
    misfit: float
    spread: float


def fitted(cases: Sequence[Case], seconds: Sequence[float]) -> Parameters:
    """The parameters with the least relative misfit. One size gives `start_s` where it has no work, else `unit_s`."""
    columns = np.array([[1.0, case.units, case.weight_bytes] for case in cases])
    times = np.array(seconds)
    best: tuple[float, Parameters] | None = None
    usable = [i for i in range(3) if columns[:, i].any()]
    for count in range(1, min(len(usable), len(cases)) + 1):
        for chosen in itertools.combinations(usable, count):
            found = _weighted(columns[:, chosen], times)
            if (found < 0).any():
                continue
            all_ = np.zeros(3)
            all_[list(chosen)] = found
            misfit = float(np.abs(columns @ all_ / times - 1).mean()) + A_PARAMETER * count
            if best is None or misfit < best[0]:
                best = misfit, Parameters(*map(float, all_))
    assert best is not None, "with one parameter none is negative"
    return best[1]


def _weighted(columns: NDArray[np.float64], times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Least squares of the relative misfit, sizes that fit worse weighing less: nearly the least sum of misfits."""
    weights = np.ones(len(times))
    found = np.zeros(columns.shape[1])
    scale = np.abs(columns).max(axis=0)
    for _ in range(PASSES):
        found = np.linalg.lstsq(columns / scale / times[:, None] * weights[:, None], weights, rcond=None)[0] / scale
        misfit = np.abs(columns @ found / times - 1)
        weights = 1 / np.sqrt(np.maximum(misfit, WELL_FITTED))
    return found


def folded(timings: Timings, fork_join_s: Mapping[int, float]) -> list[Folded]:
    """The rate of every sort in `timings`, in their order. `fork_join_s` by threads."""
    sorts = list(dict.fromkeys(case.sort for case, _ in timings))
    return [_folded(sort, timings, fork_join_s) for sort in sorts]


def _folded(sort: str, timings: Timings, fork_join_s: Mapping[int, float]) -> Folded:
    of_sort = {case: values for (case, threads), values in timings.items() if case.sort == sort and threads == 1}
    alone = {case: values for case, values in of_sort.items() if not case.far}
    cases = list(alone)
    pick: dict[str, Callable[[Sequence[float]], float]] = {"low": min, "value": statistics.median, "high": max}
    fits = {name: fitted(cases, [of(alone[case]) for case in cases]) for name, of in pick.items()}
    rounds = min(map(len, alone.values()))
    source = f"mapper calibrate: {len(cases)} sizes, median of {rounds} round{'s' * (rounds > 1)} each, fitted"
    figures = {
        field: figure([getattr(fits[name], field) for name in pick], source)
        for field in ("start_s", "unit_s", "weight_byte_s")
    }
    value = fits["value"]
    for case in (case for case in of_sort if case.far):
        size = float(ITEM_BYTES * case.sizes[-1] * case.sizes[-2])
        each = [max(0.0, of(of_sort[case]) - value.start_s) / size for of in pick.values()]
        figures["dram_byte_s"] = figure(each, f"mapper calibrate: {case.name}, {len(of_sort[case])} rounds")
    for threads in sorted({t for case, t in timings if case.sort == sort and t > 1}):
        gains = _gains(value, alone, timings, threads, fork_join_s.get(threads, 0.0))
        if gains:
            told = f"mapper calibrate: median of {len(gains)} sizes, {threads} threads against one"
            figures[f"speedup/{threads}"] = figure([min(gains), statistics.median(gains), max(gains)], told)
    misfits = [abs(value.seconds(case) / statistics.median(alone[case]) - 1) for case in cases]
    spreads = [middle_half(list(values)) for values in alone.values()]
    return Folded(sort, figures, statistics.median(misfits), statistics.median(spreads))


def _gains(
    fit: Parameters, alone: Mapping[Case, Sequence[float]], timings: Timings, threads: int, fork_join_s: float
) -> list[float]:
    """What the team gains at each of the larger sizes, between a slow-down of four and one for each thread."""
    gains = []
    for case, values in alone.items():
        if (case, threads) not in timings:
            continue
        one, team = statistics.median(values), statistics.median(timings[case, threads])
        work = max(one - fit.start_s, 0.0)
        left = max(team - fit.start_s - fork_join_s, work / threads)
        if work > 0:
            gains.append(min(float(threads), max(LEAST_SPEEDUP, work / left)))
    return gains


def figure(values: Sequence[float], source: str) -> Figure:
    """The middle of three values, between the least and the greatest of them, as measured."""
    shown = [float(f"{value:.3g}") for value in values]
    return Figure(value=shown[1], low=min(shown), high=max(shown), kind="measured", source=source)


def by_place(rates: Sequence[Folded]) -> dict[str, Figure]:
    """The figures by their JSON pointers; kinds take the rate of the sort that stands for them."""
    named = {rate.sort: rate for rate in rates}
    for kind, sort in STANDS_FOR.items():
        if kind not in named and sort in named:
            named[kind] = named[sort]
    return {f"/compute/rates/{name}/{field}": f for name, rate in named.items() for field, f in rate.figures.items()}
