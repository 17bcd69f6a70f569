"""The space of plans of one problem: the ideals of its reduced graph, and what each stage costs."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property

from mapper.solver.coarsen import coarsen
from mapper.solver.ideals import Ideals, ideals, most_ideals
from mapper.solver.intervals import Intervals, intervals
from mapper.solver.memory import StageMemory, stage_memory
from mapper.solver.problem import Limits, Problem, shared
from mapper.solver.reduce import Reduction, reduce
from mapper.solver.stop import Stop

Progress = Callable[[str], None]


def silent(message: str) -> None:
    """Reports nothing."""


class Space:
    """All plans of one problem; the costs of stages are computed once and serve any number of requests.

    `exact` is the reduced problem, `reduction` the one that is searched: the same, or blocks of it.
    """

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

    def counted(self, limits: Limits) -> Space:
        """The space for `limits`: one with more ops where an exact number of stages may need ops that are kept together
        otherwise."""
        if limits.stages is None or reduce(self.problem, idle=False).problem.ops == self.exact.problem.ops:
            return self
        return Space(self.problem, progress=self.progress, idle=False, stop=self.stop)

    def part(self, parts: int) -> Space:
        """The space of one of `parts` equal parts of the machine."""
        part = copy.copy(self)
        part.problem = shared(self.problem, parts)
        part.exact = replace(self.exact, problem=shared(self.exact.problem, parts))
        reduced = replace(self.reduction, problem=shared(self.reduction.problem, parts))
        part.reduction = part.exact if self.reduction is self.exact else reduced
        return part
