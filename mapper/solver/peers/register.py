"""What a planner of others is given and gives back, and the register of those that are known by name."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mapper.cost.residency import DRAM, PACKAGE
from mapper.errors import Infeasible, UsageError, one_of
from mapper.solver.problem import Array, Limits, Problem


@dataclass(frozen=True)
class Proposal:
    """A stage as a planner proposes it: ops and configuration by index, how many replicas, and whether its groups are
    to hold no other stage."""

    ops: tuple[int, ...]
    config: int
    replicas: int
    alone: bool = False


@dataclass(frozen=True)
class Task:
    """What a planner is given: a problem whose ops can run in their order, limits, and the FLOP of each op if known.

    Ops that must share a stage are one op. A *worker* is a whole group, as a device is to planners for accelerators.
    """

    problem: Problem
    limits: Limits
    flop: Array | None = None

    @property
    def cores(self) -> int:
        """Cores that may be used."""
        return min(self.problem.cores, self.limits.max_cores or self.problem.cores)

    @property
    def workers(self) -> int:
        """Whole groups that may be used. Raises: Infeasible when there is not one."""
        problem = self.problem
        found = min(problem.groups, self.cores // problem.cores_per_group)
        if found < 1:
            size = problem.cores_per_group
            raise Infeasible(f"a worker is a group of {size} cores, more than may be used", [f"--max-cores {size}"])
        return found

    @property
    def group(self) -> int:
        """Index of the configuration that is one whole group. Raises: UsageError when there is none."""
        size = self.problem.cores_per_group
        for c, config in enumerate(self.problem.configs):
            if config.groups == 1 and config.cores_per_group == size:
                return c
        raise UsageError("a worker is a whole group, and no configuration is one")

    @property
    def stages(self) -> int:
        """How many stages to make of one worker each: as many as asked for, else as there are workers.

        Raises: Infeasible when more are asked for than there are workers or ops to share out.
        """
        most = min(self.workers, self.problem.ops)
        if self.limits.stages is not None and self.limits.stages > most:
            raise Infeasible(f"{self.limits.stages} stages of a group each were asked for, {most} can be made",
                             [f"--stages {most}"])  # fmt: skip
        return self.limits.stages or min(most, self.limits.max_stages or most)

    def seconds(self, config: int) -> Array:
        """Seconds of each op by itself on configuration `config`, its weights where those of a whole model are."""
        far = PACKAGE if self.problem.caches.holds_model(self.problem.weight_bytes) else DRAM
        out: Array = self.problem.seconds[:, config, far]
        return out

    def runs(self, borders: Sequence[int]) -> tuple[Proposal, ...]:
        """A stage of one worker for each run of ops between two of `borders`, which begin with 0 and end with all."""
        pairs = [(a, b) for a, b in itertools.pairwise(borders) if a < b]
        return tuple(Proposal(tuple(range(a, b)), self.group, 1) for a, b in pairs)


Choose = Callable[[Task], tuple[Proposal, ...]]


@dataclass(frozen=True)
class Planner:
    """How others would plan: its name, who says so, and the function. `blocks`: it is given at most about so many
    ops, neighbours made one (`coarsen`), because its time grows with their square."""

    name: str
    source: str
    choose: Choose
    blocks: int | None = None


PLANNERS: dict[str, Planner] = {}
"""All planners by name, in the order in which they are shown; `mapper.solver.peers.choose` fills it."""


def planner(name: str, *, source: str, blocks: int | None = None) -> Callable[[Choose], Choose]:
    """Registers a function as the planner called `name`, as published in `source`."""

    def register(choose: Choose) -> Choose:
        assert name not in PLANNERS
        PLANNERS[name] = Planner(name, source, choose, blocks)
        return choose

    return register


def planner_called(name: str) -> Planner:
    """The planner called `name`. Raises: UsageError naming those that there are."""
    if name not in PLANNERS:
        raise UsageError(f"there is no planner {name!r}", advice=one_of(name, ["optimal", *PLANNERS]))
    return PLANNERS[name]
