"""One request on a space of plans: whether a period can be met within the limits, and the best that can."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from mapper.solver.covers.cover import Cell, Covers, cover, replicas_needed, stage_cores
from mapper.solver.covers.intervals import Intervals
from mapper.solver.covers.labels import labels
from mapper.solver.covers.near_cover import near_cover
from mapper.solver.covers.nearness import Rises
from mapper.solver.covers.resources import WITHIN, Decision, Pass, Resource, decide
from mapper.solver.problem import Array, Limits, Problem, Solution, StageChoice
from mapper.solver.search import bounds
from mapper.solver.search.memory import places
from mapper.solver.search.space import Space
from mapper.units import format_seconds

Manner = Literal["any", "even", "own nodes", "spread"]
"""Which plans are searched: any whose weights lie with their teams; of those the ones whose stages each draw on all
nodes' DRAM evenly enough, or in which no node has replicas of two stages; or those whose weights lie on all nodes."""
FIRST_REACH = 0.01
"""How far above the bound, relative to it, the best period is looked for first: it is seldom far."""


@dataclass(frozen=True)
class Found:
    """A cover at a period: its cells with their replicas, its true period, its latency and cores.

    `final`: it took so much to find that none with fewer cores is looked for.
    """

    cells: tuple[Cell, ...]
    replicas: tuple[int, ...]
    period_s: float
    latency_s: float
    cores: int
    final: bool = False


class Request:
    """One set of limits on a space of plans. `refuted` is the longest period that is proved to be out of reach.

    With `rises` stages share groups or not (`nearness`); memory is not limited then.
    """

    def __init__(self, space: Space, limits: Limits, manner: Manner = "any", rises: Rises | None = None) -> None:
        self.space, self.limits, self.manner, self.rises = space, limits, manner, rises
        self.problem = space.reduction.problem
        self.costs = restricted(space.costs, self.problem, limits)
        self.cores = min(self.problem.cores, limits.max_cores or self.problem.cores)
        self.core_a_stage = limits.max_replicas == 1 and all(config.cores == 1 for config in self.problem.configs)
        self.refuted = 0.0

    # one period

    def feasible(self, period_s: float, stages: int | None = None, *, cores: int | None = None) -> Found | None:
        """A cover that meets `period_s` within the limits, with the fewest cores, or None.

        None is a refutation, noted in `refuted` where any number of stages and cores was allowed, unless several limits
        bind and too many covers come near to them.
        """
        decision = self.decide(period_s, stages, cores)
        if decision.cells is not None and decision.covers is not None:
            return replace(self.found(decision.covers, decision.cells), final=decision.exhausted)
        if decision.refuted and stages is None and cores is None:
            self.refuted = max(self.refuted, period_s)
        return None

    def decide(self, period_s: float, stages: int | None = None, cores: int | None = None) -> Decision:
        """Whether a cover with at most `stages` stages and `cores` cores meets `period_s` within the limits."""
        counts = self.counts(stages)

        def run(resource: Resource, least: bool) -> tuple[Covers, tuple[Cell, ...] | None]:
            unit, limit = (resource.limit, WITHIN) if resource.limit < math.inf else (1.0, math.inf)
            covers = self.cover(
                period_s, resource.amount, limit, unit=unit, stages=stages, cores=cores, rises=resource.rises,
                narrow=limit == math.inf and not least,
            )  # fmt: skip
            return covers, _pick(covers, counts, least)

        def exhaust(limited: Sequence[Resource], passes: Sequence[Pass]) -> Decision:
            if self.limits.stages is not None or self.rises is not None:  # labels know nothing of groups
                return Decision(None, None)
            width = len(passes[0][0].front()) - 1
            cells, none = labels(limited, passes, width, counts[-1], self.limits.max_replicas)
            return Decision(passes[0][0] if cells else None, cells, none, exhausted=True)

        return decide(self.resources(period_s), run, exhaust)

    def counts(self, stages: int | None = None) -> list[int | None]:
        """The numbers of stages that are allowed, where they have to be counted: otherwise nothing but None."""
        exact, most = self.limits.stages, stages or self.limits.max_stages
        if exact:
            return [exact]
        return [*range(1, most + 1)] if most and not self.core_a_stage else [None]

    def cover(
        self, period_s: float, amount: Array | None = None, limit: float = math.inf, *, unit: float = 1.0,
        stages: int | None = None, cores: int | None = None, narrow: bool = False, rises: float = 1.0,
    ) -> Covers:  # fmt: skip
        """A pass for `amount` (the load where not given), with at most `stages` stages and `cores` cores. `rises` as of
        `Resource`."""
        self.space.passes += 1
        width = self.cores if cores is None else min(cores, self.cores)
        if self.core_a_stage and not self.limits.stages:  # a core a stage: counting cores counts stages
            width = min(width, stages or self.limits.max_stages or width)
        values = self.costs.latency_s if amount is None else amount
        size, count, most = self.problem.cores_per_group, self.counts(stages)[-1], self.limits.max_replicas
        if self.rises is not None:
            return near_cover(
                self.costs, self.rises, period_s, values, rises, cores=width, cores_per_group=size, stages=count,
                max_replicas=most, limit=limit, unit=unit,
            )  # fmt: skip
        return cover(
            self.costs, period_s, values, cores=width, cores_per_group=size, stages=count, max_replicas=most,
            limit=limit, unit=unit, narrow=narrow,
        )  # fmt: skip

    def resources(self, period_s: float) -> list[Resource]:
        """What the limits share out besides cores, at a period: latency first, which is preferred small."""
        latency = self.limits.max_latency_s
        out = [Resource("latency", self.costs.latency_s, math.inf if latency is None else latency, rises=1.0)]
        if math.isfinite(self.problem.dram_bytes_per_s):
            amount = self._uneven_bytes(period_s) if self.manner == "even" else self.costs.dram_bytes
            out.append(Resource("DRAM", amount, period_s * self.problem.dram_bytes_per_s))
        if self.costs.work_s is not None:
            out.append(Resource("core-seconds", self.costs.work_s, period_s * self.cores))
        memory = self.limits.node_memory_bytes
        if memory is not None:
            spread = self.manner == "spread"
            found = places(self.costs, self.space.memory, self.space.problem, period_s, memory, spread=spread)
            if self.manner == "own nodes":
                out.append(Resource("nodes", found.nodes, self.space.nodes))
            else:
                out.append(Resource("memory", found.held, memory * self.space.nodes))
        return out

    def _uneven_bytes(self, period_s: float) -> Array:
        """DRAM bytes of each stage, as many times as all nodes together would draw if each drew what the one does that
        has most of the stage's replicas."""
        replicas, nodes = replicas_needed(self.costs, period_s), self.space.nodes
        memory = self.space.problem.memory
        spans = [memory.span(int(cores)) if memory else 1 for cores in self.costs.cores]
        shares = replicas * np.array(spans, dtype=float)[:, None]
        out: Array = self.costs.dram_bytes * np.nan_to_num(nodes * np.ceil(shares / nodes) / shares, nan=1.0)
        return out

    def found(self, covers: Covers, cells: tuple[Cell, ...]) -> Found:
        """`cells` with their replicas and what they come to."""
        replicas = tuple(covers.replicas(cell) for cell in cells)
        loads = [float(self.costs.load_s[cell.option, cell.pair]) + cell.rise_s for cell in cells]
        period = max([load / r for load, r in zip(loads, replicas, strict=True)] + [self._dram_s(cells)])
        cores = sum(
            stage_cores(self.costs, x, r, self.problem.cores_per_group) for x, r in zip(cells, replicas, strict=True)
        )
        return Found(cells, replicas, period, sum(loads), cores)

    def _dram_s(self, cells: tuple[Cell, ...]) -> float:
        return (
            float(sum(self.costs.dram_bytes[cell.option, cell.pair] for cell in cells)) / self.problem.dram_bytes_per_s
        )

    # the best period

    def least_period(self, tolerance: float, known_s: float = 0.0) -> tuple[Found, float] | None:
        """The best cover and a proved bound, at least the one that is known; None where the limits allow none.

        The first probe is just below the best single stage: that is often it.
        """
        best = self.feasible(self.limits.max_period_s)
        if best is None:
            return None
        single = self.single_stage()
        best = single if single is not None and single.period_s < best.period_s else best
        self.refuted = min(max(known_s, bounds.area(self.space.exact.problem, self.limits)), best.period_s)
        try:
            for found in self._better(best, tolerance):
                best = found
                self.space.progress(f"period {format_seconds(best.period_s)}, bound {format_seconds(self.refuted)}")
        except KeyboardInterrupt:
            self.space.stop.now()
        return best, min(self.refuted, best.period_s)

    def _better(self, best: Found, tolerance: float) -> Iterator[Found]:
        """The best cover after each probe, until bound and period meet or the time is up."""
        low, at, reach = self.refuted, best.period_s * (1 - tolerance), FIRST_REACH
        while low < best.period_s * (1 - tolerance) and not self.space.stop.reached:
            found = self.feasible(at)
            if found is None:
                low, reach = max(low, at), 4 * reach
            elif found.period_s < best.period_s:
                best = found
            yield best
            at = min(math.sqrt(low * best.period_s), low * (1 + reach))
            at = min(max(at, low * (1 + tolerance / 4)), best.period_s * (1 - tolerance / 2))

    def single_stage(self) -> Found | None:
        """The best copies of the whole model, or None where the limits forbid any (or memory is limited, which decides
        how many there can be)."""
        if (
            self.limits.stages not in (None, 1)
            or self.limits.node_memory_bytes is not None
            or self.manner in ("even", "own nodes")
        ):
            return None
        latency = self.limits.max_latency_s or math.inf
        found = [self._copies(Cell(self.costs.whole, option)) for option in range(len(self.costs.config))]
        usable = [x for x in found if x is not None and x.latency_s <= latency]
        return min(usable, key=lambda x: (x.period_s, x.cores), default=None)

    def _copies(self, cell: Cell) -> Found | None:
        """As many copies of the stage `cell` as there is room for."""
        size, group = int(self.costs.cores[cell.option]), self.problem.cores_per_group
        copies = self.cores // size
        if self.costs.exclusive[cell.option]:
            copies = self.cores // group * (group // size)
        copies = min(copies, self.limits.max_replicas or copies)
        load = float(self.costs.load_s[cell.option, cell.pair])
        if copies < 1 or not math.isfinite(load):
            return None
        period = max(load / copies, self._dram_s((cell,)))
        return Found((cell,), (copies,), period, load, stage_cores(self.costs, cell, copies, group))

    # of equally good plans the simplest

    def fewest_stages(self, best: Found, within_s: float, tolerance: float) -> Found:
        """The plan with the fewest stages whose period is at most `within_s`; of those the best period found.

        Where nothing may be lost and stages would have to be counted for it, `best` with the fewest cores.
        """
        exactly = within_s <= best.period_s and not self.core_a_stage
        if self.limits.stages is not None or len(best.cells) == 1 or exactly or self.space.stop.reached:
            return self._fewest_cores(best, None if exactly else len(best.cells))
        found = self.feasible(within_s, len(best.cells) - 1)
        if found is None:
            return self._fewest_cores(best, len(best.cells))
        tightened = self._tightened(found, best.period_s, len(found.cells), tolerance)
        return self._fewest_cores(tightened, len(tightened.cells))

    def _tightened(self, found: Found, low: float, stages: int, tolerance: float) -> Found:
        """Lowers the period with at most `stages` stages, by halves down to `tolerance`."""
        while low < found.period_s * (1 - tolerance) and not self.space.stop.reached:
            at = math.sqrt(low * found.period_s * (1 - tolerance / 2))
            at = max(at, low * (1 + tolerance / 4))
            better = self.feasible(at, stages)
            if better is None:
                low = at
            else:
                found = better
        return found

    def _fewest_cores(self, found: Found, stages: int | None) -> Found:
        """Of covers with the same period and at most `stages` the one with the fewest cores, then least latency."""
        if self.space.stop.reached or found.final:
            return found
        again = self.feasible(found.period_s * (1 + 1e-12), stages)
        return again if again is not None and again.period_s <= found.period_s * WITHIN else found

    # in terms of the original ops

    def solution(self, found: Found, best_period_s: float, bound_s: float) -> Solution:
        """`found` as stages of the original ops. `bound_s` holds for what was searched."""
        space = self.space
        member, restore = space.ideals.member, space.reduction.restore
        stages = []
        for cell, replicas in zip(found.cells, found.replicas, strict=True):
            ops = member[self.costs.target[cell.pair]] & ~member[self.costs.source[cell.pair]]
            held = space.memory if self.limits.node_memory_bytes is not None else None
            stages.append(
                StageChoice(
                    restore(int(v) for v in ops.nonzero()[0]),
                    int(self.costs.config[cell.option]),
                    replicas,
                    bool(self.costs.exclusive[cell.option]),
                    float(self.costs.load_s[cell.option, cell.pair]),
                    float(self.costs.dram_bytes[cell.option, cell.pair]),
                    float(held.shared[cell.pair]) if held else 0.0,
                    float(held.each[cell.pair]) if held else 0.0,
                )
            )
        whole = space.ideals.complete and space.blocks is None
        proved = bound_s if whole else min(bound_s, self.bound_of_all())
        stopped = space.stop.reached
        return Solution(tuple(stages), found.period_s, best_period_s, proved, whole, space.passes, stopped=stopped)

    def bound_of_all(self) -> float:
        """A bound on the period of every plan, also of those that are not searched."""
        problem = self.space.exact.problem
        return bounds.around(problem, self.limits, bounds.area(problem, self.limits))


def _pick(covers: Covers, counts: Sequence[int | None], least: bool) -> tuple[Cell, ...] | None:
    """The first of `counts` stages that works, then the fewest cores; or, if `least`, the least value of all."""
    if least:
        counts = [min(counts, key=lambda count: float(covers.front(count)[-1]))]
    for stages in counts:
        front = covers.front(stages)
        cores = int(front.argmin()) if least else int((front < math.inf).argmax())
        if front[cores] < math.inf:
            return covers.chain(cores, stages)
    return None


def restricted(costs: Intervals, problem: Problem, limits: Limits) -> Intervals:
    """`costs` with the options of the allowed configurations only."""
    if limits.configurations is None:
        return costs
    allowed = {problem.configs.index(config) for config in limits.configurations}
    keep = [o for o, c in enumerate(costs.config) if int(c) in allowed]
    return replace(
        costs,
        load_s=costs.load_s[keep],
        apart_s=None if costs.apart_s is None else costs.apart_s[keep],
        work_s=None if costs.work_s is None else costs.work_s[keep],
        dram_bytes=costs.dram_bytes[keep],
        config=costs.config[keep],
        cores=costs.cores[keep],
        exclusive=costs.exclusive[keep],
    )
