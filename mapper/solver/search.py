"""The search: the best cover by ideals within limits; of nearly best covers, the one with fewest stages."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property

from mapper.errors import Infeasible
from mapper.solver.coarsen import coarsen
from mapper.solver.ideals import Ideals, ideals, most_ideals
from mapper.solver.infeasible import infeasible
from mapper.solver.intervals import Intervals, intervals
from mapper.solver.memory import StageMemory, stage_memory
from mapper.solver.problem import Limits, Problem, Solution, multiplied, renamed, shared
from mapper.solver.reduce import Reduction, reduce
from mapper.solver.request import Request
from mapper.solver.stop import Stop

Progress = Callable[[str], None]
TOLERANCE = 1e-4
"""A plan whose best value is proved to this relative precision is called optimal."""
PRECISION = TOLERANCE / 4
"""Of the search, so that the distances of the placement, which come on top, seldom spend the rest."""


def silent(message: str) -> None:
    """Reports nothing."""


class Search:
    """All plans of one problem; the costs of stages are computed once and serve any number of requests."""

    def __init__(
        self, problem: Problem, *, progress: Progress = silent, idle: bool = True, stop: Stop | None = None
    ) -> None:
        self.problem = problem
        self.progress = progress
        self.stop = stop or Stop()
        self.exact: Reduction = reduce(problem, idle=idle and not problem.apart)
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

    @property
    def nodes(self) -> int:
        """NUMA nodes of the machine."""
        return len(self.problem.memory.nodes) if self.problem.memory else 1

    @cached_property
    def memory(self) -> StageMemory:
        """What every stage holds in memory."""
        return stage_memory(self.problem, self.reduction, self.ideals.member, self.costs)

    def throughput(
        self,
        limits: Limits,
        near_optimal: float = 0.0,
        tolerance: float = PRECISION,
        *,
        even: bool = False,
        proof_s: float = 0.0,
    ) -> Solution:
        """The least period under `limits`; of plans within `near_optimal` of it the one with fewest stages.

        Where the time is up or the user interrupts, the best plan so far (`Solution.stopped`). With `even` the best of
        the plans whose stages each draw on all nodes' DRAM evenly; the bound is that of such plans then. Where not all
        plans were searched, up to `proof_s` seconds go into a better one and a better bound (`cpsat.prove`).

        Raises: Infeasible, with the smallest change of each limit that would help.
        """
        apart = reduce(self.problem, idle=False) if limits.stages is not None else self.exact
        if apart.problem.ops > self.exact.problem.ops:
            other = Search(self.problem, progress=self.progress, idle=False, stop=self.stop)
            return other.throughput(limits, near_optimal, tolerance, even=even, proof_s=proof_s)
        request = Request(self, limits, even=even)
        found = request.least_period(tolerance)
        if found is None:
            raise infeasible(self, limits)
        best, proved = found
        try:
            chosen = request.fewest_stages(best, best.period_s * (1 + near_optimal), tolerance)
        except KeyboardInterrupt:
            self.stop.now()
            chosen = best
        solution = request.solution(chosen, best.period_s, proved)
        strict = request.solution(best, best.period_s, proved) if chosen.period_s > best.period_s else None
        solution = replace(solution, strict=strict)
        return (
            solution if solution.whole_space or not proof_s else self._proved(solution, limits, near_optimal, proof_s)
        )

    def _proved(self, found: Solution, limits: Limits, near_optimal: float, proof_s: float) -> Solution:
        """`found` or a better solution, and the better bound, from a search that needs no list of ideals."""
        from mapper.solver.cpsat.prove import prove

        left = self.stop.left_s
        best, bound_s = prove(
            self.exact.problem, limits, renamed(found, self.exact.gather), found.bound_s, progress=self.progress,
            time_limit_s=proof_s if left is None else left, near_optimal=near_optimal, stop=self.stop,
        )  # fmt: skip
        return replace(renamed(best, self.exact.restore), bound_s=bound_s, passes=found.passes)

    def alike(self, parts: int, limits: Limits, near_optimal: float, tolerance: float) -> Solution | None:
        """The least period of plans that are the same on each of `parts` equal parts of the machine, None where there
        is none. The bound is that of such plans only."""
        if any(number and number < parts for number in (limits.max_replicas, limits.max_cores)):
            return None
        part = copy.copy(self)
        part.problem, reduced = shared(self.problem, parts), shared(self.reduction.problem, parts)
        part.exact = replace(self.exact, problem=shared(self.exact.problem, parts))
        part.reduction = part.exact if self.reduction is self.exact else replace(self.reduction, problem=reduced)
        known = limits.configurations or self.problem.configs
        smaller = replace(
            limits,
            max_replicas=limits.max_replicas and limits.max_replicas // parts,
            max_cores=limits.max_cores and limits.max_cores // parts,
            min_throughput_per_s=limits.min_throughput_per_s and limits.min_throughput_per_s / parts,
            configurations=tuple(config for config in known if config.groups <= part.problem.groups),
        )
        try:
            found = part.throughput(smaller, near_optimal, tolerance)
        except Infeasible:
            return None
        return multiplied(found, parts)

    def least_latency(self, limits: Limits, tolerance: float = PRECISION) -> tuple[float, float]:
        """The least sum of loads under `limits` but that on latency, and a proved bound of it.

        Raises: Infeasible, as `throughput`.
        """
        free = replace(limits, max_latency_s=None)
        found = Request(self, free).feasible(limits.max_period_s)
        if found is None:
            raise infeasible(self, free)
        least = low = proved = self._latency_alone(free)
        best, at = found.latency_s, least * (1 + tolerance / 4)
        while low < best * (1 - tolerance) and not self.stop.reached:
            request = Request(self, replace(free, max_latency_s=at))
            decision = request.decide(limits.max_period_s)
            if decision.cells is not None and decision.covers is not None:
                best = min(best, request.found(decision.covers, decision.cells).latency_s)
            else:
                low = at
                proved = at if decision.refuted else proved
            at = max(math.sqrt(low * best), low * (1 + tolerance / 2))
        return best, min(proved, best)

    def _latency_alone(self, limits: Limits) -> float:
        """The least sum of loads where neither DRAM nor memory limits anything: a bound."""
        request = Request(self, replace(limits, node_memory_bytes=None))
        covers = request.cover(limits.max_period_s)
        return min(float(covers.front(n)[-1]) for n in request.counts())

    def fewest_cores(self, limits: Limits) -> tuple[int, int]:
        """The fewest cores with which `limits` can be kept, and a proved bound of it.

        Raises: Infeasible, as `throughput`.
        """
        request = Request(self, limits)
        found = request.feasible(limits.max_period_s)
        if found is None:
            raise infeasible(self, limits)
        low = proved = 0
        best = found.cores
        while best - low > 1 and not self.stop.reached:
            middle = (low + best) // 2
            decision = request.decide(limits.max_period_s, cores=middle)
            if decision.cells is not None:
                best = middle
            else:
                low = middle
                proved = middle if decision.refuted else proved
        return best, proved + 1
