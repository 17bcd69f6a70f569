"""The space of plans of one problem: the ideals of its reduced graph, and what each stage costs."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property

import numpy as np

from mapper.machine.model import Machine
from mapper.solver.covers.ideals import Ideals, all_ideals, ideals, most_ideals
from mapper.solver.covers.intervals import Intervals, intervals
from mapper.solver.problem import Limits, Problem, shared, sized
from mapper.solver.reductions.blocks import Blocked, blocked, floor_of, lowered
from mapper.solver.reductions.coarsen import coarsen
from mapper.solver.reductions.reduce import Reduction, merge, reduce
from mapper.solver.search.memory import StageMemory, least_memory, stage_memory
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
        self.blocked: Blocked | None = None
        self.reduction, self.ideals = self._searched(most_ideals(problem))
        self.costs: Intervals = intervals(self.reduction.problem, self.ideals)
        self.passes = 0
        kind = "all" if self.ideals.complete else "some of the"
        sizes = (self.reduction.problem.ops, len(self.ideals.member), len(self.costs.source))
        noun = "blocks of ops" if self.blocks else "ops"
        progress(f"{sizes[0]} {noun}, {kind} {sizes[1]} ideals, {sizes[2]} stages to choose from")

    def _searched(self, most: int) -> tuple[Reduction, Ideals]:
        """The problem that is searched, and its ideals: of all ops, of blocks around the larger ones, or of runs of ops
        and of some orders only."""
        every = all_ideals(self.exact.problem, most)
        if every is not None:
            return self.exact, every
        if len(self.problem.configs) > 1:
            self.blocked = blocked(self.exact, most // 2)  # which are searched two or three times
        if self.blocked is not None:
            return self.blocked.reduction, self.blocked.ideals
        runs = coarsen(self.exact, most)
        return runs, ideals(runs.problem)

    @cached_property
    def floor(self) -> Space | None:
        """Where blocks are searched, the space in which no stage costs more than it can in any plan."""
        if self.blocked is None:
            return None
        found, original = self.blocked.found, self.problem
        floor = floor_of(self.exact.problem, found, self.ideals)
        other = self._copy()
        other.blocked = None
        other.reduction = Reduction(floor.problem, self.reduction.members)
        other.costs = lowered(floor, intervals(floor.problem, self.ideals), intervals(floor.least, self.ideals))
        if original.memory is not None:
            heads = [self.exact.members[head] for head in found.head]
            other.memory = least_memory(original, heads, self.ideals.member, other.costs)
        return other

    @cached_property
    def gathered(self) -> Space | None:
        """Where blocks are searched, the space in which what needs no input is one block."""
        found = self.blocked and self.blocked.gathered(self.exact, most_ideals(self.problem))
        if not found:
            return None
        other = self._copy()
        other.blocked = None
        other.reduction, other.ideals = found
        other.costs = intervals(other.reduction.problem, other.ideals)
        return other

    def priced(self, problem: Problem) -> Space:
        """The same plans with the costs of `problem`, which is this one but for its seconds and links."""
        other = self._copy()
        other.problem = problem
        other.exact = Reduction(merge(problem, self.exact.members), self.exact.members)
        blocks = Reduction(merge(problem, self.reduction.members), self.reduction.members)
        other.reduction = other.exact if self.reduction is self.exact else blocks
        other.costs = intervals(other.reduction.problem, self.ideals)
        return other

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

    def _copy(self) -> Space:
        """Another space to be changed, without what was derived from this one."""
        other = copy.copy(self)
        for name in ("memory", "floor", "gathered"):
            other.__dict__.pop(name, None)
        return other

    def undivided(self) -> Space:
        """The space with one stage only, which holds all ops: its search takes no time."""
        other, costs, ops = self._copy(), self.costs, self.reduction.problem.ops
        pair = [costs.whole]
        other.blocked, other.exact = None, self.reduction
        other.ideals = Ideals(np.array([[False] * ops, [True] * ops]), complete=True)
        other.costs = replace(
            costs, source=np.zeros(1, np.int32), target=np.ones(1, np.int32), begin=np.array([0, 0, 1]),
            load_s=costs.load_s[:, pair], dram_bytes=costs.dram_bytes[:, pair],
        )  # fmt: skip
        return other

    def counted(self, limits: Limits) -> Space:
        """The space for `limits`: one with more ops where an exact number of stages may need ops that are kept together
        otherwise."""
        if limits.stages is None or reduce(self.problem, idle=False).problem.ops == self.exact.problem.ops:
            return self
        return Space(self.problem, progress=self.progress, idle=False, stop=self.stop)

    def part(self, parts: int) -> Space:
        """The space of one of `parts` equal parts of the machine."""
        return self.changed(lambda problem: shared(problem, parts))

    def sized(self, machine: Machine) -> Space:
        """The space of the part `machine` of the machine."""
        return self.changed(lambda problem: sized(problem, machine))

    def changed(self, change: Callable[[Problem], Problem]) -> Space:
        """The same stages at the same costs, with what `change` makes of the machine's size."""
        part = self._copy()
        part.blocked = None
        part.problem = change(self.problem)
        part.exact = replace(self.exact, problem=change(self.exact.problem))
        reduced = replace(self.reduction, problem=change(self.reduction.problem))
        part.reduction = part.exact if self.reduction is self.exact else reduced
        return part
