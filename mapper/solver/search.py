"""The search: the least period that a cover by ideals can meet; of nearly best covers, the one with fewest stages."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from mapper.errors import Infeasible
from mapper.solver import bounds
from mapper.solver.coarsen import coarsen
from mapper.solver.cover import Cell, Covers, Value, cover, stage_cores
from mapper.solver.ideals import Ideals, ideals, most_ideals
from mapper.solver.intervals import Intervals, intervals
from mapper.solver.problem import Limits, Problem, Solution, StageChoice
from mapper.solver.reduce import Reduction, reduce
from mapper.units import format_seconds

Progress = Callable[[str], None]
TOLERANCE = 1e-4
"""A plan whose best period is proved to this relative precision is called optimal."""
PRECISION = TOLERANCE / 4
"""Of the search, so that the distances of the placement, which come on top, seldom spend the rest."""
_SLACK = 1 + 1e-9
_OPTIONS = {
    "stages": "--stages",
    "max_stages": "--max-stages",
    "max_replicas": "--replicas",
    "max_cores": "--max-cores",
    "configurations": "--configurations",
}


def silent(message: str) -> None:
    """Reports nothing."""


@dataclass(frozen=True)
class Found:
    """A cover at a period: its cells with their replicas, its true period, its latency and cores."""

    cells: tuple[Cell, ...]
    replicas: tuple[int, ...]
    period_s: float
    latency_s: float
    cores: int


class Search:
    """All plans of one problem; the costs of stages are computed once and serve any number of requests."""

    def __init__(self, problem: Problem, *, progress: Progress = silent, idle: bool = True) -> None:
        self.problem = problem
        self.progress = progress
        self.exact: Reduction = reduce(problem, idle=idle)
        self.reduction: Reduction = coarsen(self.exact, most_ideals(problem))
        self.ideals: Ideals = ideals(self.reduction.problem)
        self.costs: Intervals = intervals(self.reduction.problem, self.ideals)
        self.passes = 0
        kind = "all" if self.ideals.complete else "some of the"
        sizes = (self.reduction.problem.ops, len(self.ideals.member), len(self.costs.source))
        noun = "blocks of ops" if self.blocks else "ops"
        progress(f"{sizes[0]} {noun}, {kind} {sizes[1]} ideals, {sizes[2]} stages to choose from")

    @property
    def blocks(self) -> int | None:
        """The number of blocks where the problem was too large for its ops, otherwise None."""
        return self.reduction.problem.ops if self.reduction is not self.exact else None

    def throughput(self, limits: Limits, near_optimal: float = 0.0, tolerance: float = PRECISION) -> Solution:
        """The least period under `limits`; of plans within `near_optimal` of it the one with fewest stages.

        Raises: Infeasible, with the smallest change of each limit that would help.
        """
        apart = reduce(self.problem, idle=False) if limits.stages is not None else self.exact
        if apart.problem.ops > self.exact.problem.ops:
            return Search(self.problem, progress=self.progress, idle=False).throughput(limits, near_optimal, tolerance)
        request = _Request(self, limits)
        best, proved = request.least_period(tolerance)
        chosen = request.fewest_stages(best, best.period_s * (1 + near_optimal), tolerance)
        solution = request.solution(chosen, best.period_s, proved)
        strict = request.solution(best, best.period_s, proved) if chosen.period_s > best.period_s else None
        return replace(solution, strict=strict)

    def least_latency(self, limits: Limits) -> Solution:
        """The plan with the least sum of loads, no matter its period."""
        request = _Request(self, replace(limits, max_latency_s=None))
        found = request.feasible(math.inf, least_latency=True)
        if found is None:
            raise request.infeasible()
        return request.solution(found, found.period_s, found.period_s)


class _Request:
    """One set of limits on a search."""

    def __init__(self, search: Search, limits: Limits) -> None:
        self.search, self.limits = search, limits
        self.problem = search.reduction.problem
        self.costs = _restricted(search.costs, self.problem, limits)
        self.cores = min(self.problem.cores, limits.max_cores or self.problem.cores)
        self.latency = limits.max_latency_s if limits.max_latency_s is not None else math.inf
        self.core_a_stage = limits.max_replicas == 1 and all(config.cores == 1 for config in self.problem.configs)
        self.refuted = 0.0

    def least_period(self, tolerance: float) -> tuple[Found, float]:
        """The best cover and a proved bound. The first probe is just below the best single stage: that is often it."""
        best = self.feasible(math.inf)
        if best is None:
            raise self.infeasible()
        single = self.single_stage()
        best = single if single is not None and single.period_s < best.period_s else best
        low = self.refuted = min(bounds.area(self.problem, self.limits), best.period_s)
        at = best.period_s * (1 - tolerance)
        while low < best.period_s * (1 - tolerance):
            found = self.feasible(at)
            if found is None:
                low = max(low, at)
            elif found.period_s < best.period_s:
                best = found
            at = min(
                max(math.sqrt(low * best.period_s), low * (1 + tolerance / 4)), best.period_s * (1 - tolerance / 2)
            )
            self.search.progress(f"period {format_seconds(best.period_s)}, bound {format_seconds(self.refuted)}")
        return best, min(self.refuted, best.period_s)

    def feasible(self, period_s: float, stages: int | None = None, *, least_latency: bool = False) -> Found | None:
        """A cover that meets `period_s` within the limits, with the fewest cores (or the least latency), or None.

        None is a refutation, noted in `refuted`, unless latency and DRAM both bind: that takes a third resource.
        """
        exact = self.limits.stages
        layers: int | None = exact or stages or self.limits.max_stages
        cores = self.cores
        if self.core_a_stage and layers and not exact:
            cores, layers = min(cores, layers), None  # a core a stage: counting cores counts stages
        covers = self._pass(period_s, "load_s", layers, self.latency, cores)
        found = self._pick(covers, exact, layers, least_latency)
        if found is None:
            self.refuted = max(self.refuted, period_s)
            return None
        if self._dram_s(found) <= period_s * _SLACK:
            return self._found(covers, found)
        dram_bytes = period_s * self.problem.dram_bytes_per_s
        frugal = self._pass(period_s, "dram_bytes", layers, dram_bytes * _SLACK, cores)
        found = self._pick(frugal, exact, layers, False)
        if found is None:
            self.refuted = max(self.refuted, period_s)
            return None
        if sum(self.costs.load_s[cell.option, cell.pair] for cell in found) <= self.latency * _SLACK:
            return self._found(frugal, found)
        return None

    def _pass(self, period_s: float, value: Value, layers: int | None, limit: float, cores: int) -> Covers:
        self.search.passes += 1
        return cover(
            self.costs,
            period_s,
            value,
            cores=cores,
            cores_per_group=self.problem.cores_per_group,
            stages=layers,
            max_replicas=self.limits.max_replicas,
            limit=limit * _SLACK,
        )

    def _pick(self, covers: Covers, exact: int | None, layers: int | None, least: bool) -> tuple[Cell, ...] | None:
        """The first number of stages that works, then the fewest cores (or the least value)."""
        for stages in [exact] if exact else range(1, layers + 1) if layers else [None]:
            front = covers.front(stages)
            cores = int(front.argmin()) if least else int((front < math.inf).argmax())
            if front[cores] < math.inf:
                return covers.chain(cores, stages)
        return None

    def _dram_s(self, cells: tuple[Cell, ...]) -> float:
        return (
            float(sum(self.costs.dram_bytes[cell.option, cell.pair] for cell in cells)) / self.problem.dram_bytes_per_s
        )

    def _found(self, covers: Covers, cells: tuple[Cell, ...]) -> Found:
        replicas = tuple(covers.replicas(cell) for cell in cells)
        loads = [float(self.costs.load_s[cell.option, cell.pair]) for cell in cells]
        period = max([load / r for load, r in zip(loads, replicas, strict=True)] + [self._dram_s(cells)])
        cores = sum(
            stage_cores(self.costs, x, r, self.problem.cores_per_group) for x, r in zip(cells, replicas, strict=True)
        )
        return Found(cells, replicas, period, sum(loads), cores)

    def single_stage(self) -> Found | None:
        """The best copies of the whole model, or None where the limits forbid any."""
        if self.limits.stages not in (None, 1):
            return None
        pair = int(self.costs.begin[-2] + (self.costs.source[self.costs.begin[-2] :] == 0).argmax())
        best: Found | None = None
        for option in range(len(self.costs.config)):
            load = float(self.costs.load_s[option, pair])
            if not load <= self.latency:
                continue
            cell, size = Cell(pair, option), int(self.costs.cores[option])
            copies = self.cores // size
            if self.costs.exclusive[option]:
                group = self.problem.cores_per_group
                copies = self.cores // group * (group // size)
            copies = min(copies, self.limits.max_replicas or copies)
            if copies < 1:
                continue
            period = max(load / copies, self._dram_s((cell,)))
            cores = stage_cores(self.costs, cell, copies, self.problem.cores_per_group)
            found = Found((cell,), (copies,), period, load, cores)
            if best is None or (period, cores) < (best.period_s, best.cores):
                best = found
        return best

    def fewest_stages(self, best: Found, within_s: float, tolerance: float) -> Found:
        """The plan with the fewest stages whose period is at most `within_s`; of those the best period found."""
        if self.limits.stages is not None or len(best.cells) == 1:
            return self._fewest_cores(best)
        found = self.feasible(within_s, len(best.cells) - 1)
        if found is None:
            return self._fewest_cores(best)
        return self._fewest_cores(self._tightened(found, best.period_s, len(found.cells), tolerance))

    def _tightened(self, found: Found, low: float, stages: int, tolerance: float) -> Found:
        """Lowers the period with at most `stages` stages, by halves down to `tolerance`."""
        while low < found.period_s * (1 - tolerance):
            at = math.sqrt(low * found.period_s * (1 - tolerance / 2))
            at = max(at, low * (1 + tolerance / 4))
            better = self.feasible(at, stages)
            if better is None:
                low = at
            else:
                found = better
        return found

    def _fewest_cores(self, found: Found) -> Found:
        """Of covers with the same period and number of stages the one with the fewest cores, then least latency."""
        again = self.feasible(found.period_s * (1 + 1e-12), len(found.cells))
        return again if again is not None and again.period_s <= found.period_s * _SLACK else found

    def solution(self, found: Found, best_period_s: float, bound_s: float) -> Solution:
        """`found` in terms of the original ops."""
        member, restore = self.search.ideals.member, self.search.reduction.restore
        stages = []
        for cell, replicas in zip(found.cells, found.replicas, strict=True):
            ops = member[self.costs.target[cell.pair]] & ~member[self.costs.source[cell.pair]]
            stages.append(
                StageChoice(
                    restore(int(v) for v in ops.nonzero()[0]),
                    int(self.costs.config[cell.option]),
                    replicas,
                    bool(self.costs.exclusive[cell.option]),
                    float(self.costs.load_s[cell.option, cell.pair]),
                    float(self.costs.dram_bytes[cell.option, cell.pair]),
                )
            )
        search = self.search
        whole = search.ideals.complete and search.blocks is None
        proved = bound_s if whole else min(bound_s, self._bound_of_all())
        return Solution(tuple(stages), found.period_s, best_period_s, proved, whole, search.passes)

    def _bound_of_all(self) -> float:
        """A bound on the period of every plan, also of those that are not searched."""
        problem = self.search.exact.problem
        return bounds.around(problem, self.limits, bounds.area(problem, self.limits))

    def infeasible(self) -> Infeasible:
        """The error that names the limits in conflict, and what to change."""
        given = [option for name, option in _OPTIONS.items() if getattr(self.limits, name) is not None]
        given += ["--max-latency"] if self.limits.max_latency_s is not None else []
        levers = self.levers()
        more = "" if levers else "; no change of a single one helps"
        return Infeasible(f"no plan keeps the limits ({', '.join(given)}){more}", levers)

    def levers(self) -> list[str]:
        """For each limit the smallest change that, alone, makes the request feasible."""
        out = []
        if self.limits.max_latency_s is not None:
            try:
                least = self.search.least_latency(self.limits).latency_s
                out.append(f"--max-latency {least * 1.0001 * 1e3:.6g}ms (the least latency is {format_seconds(least)})")
            except Infeasible:
                pass
        for name, option in _OPTIONS.items():
            if getattr(self.limits, name) is not None:
                relaxed = _Request(self.search, replace(self.limits, **{name: None}))
                found = relaxed.feasible(math.inf)
                if found is not None:
                    out.append(_lever(name, option, found, self.search))
        return out


def _lever(name: str, option: str, found: Found, search: Search) -> str:
    if name in ("stages", "max_stages"):
        return f"{option} {len(found.cells)}"
    if name == "max_cores":
        return f"{option} {found.cores}"
    return f"without {option}"


def _restricted(costs: Intervals, problem: Problem, limits: Limits) -> Intervals:
    """`costs` with the options of the allowed configurations only."""
    if limits.configurations is None:
        return costs
    allowed = {problem.configs.index(config) for config in limits.configurations}
    keep = [o for o, c in enumerate(costs.config) if int(c) in allowed]
    return replace(
        costs,
        load_s=costs.load_s[keep],
        dram_bytes=costs.dram_bytes[keep],
        config=costs.config[keep],
        cores=costs.cores[keep],
        exclusive=costs.exclusive[keep],
    )
