"""The points of an exploration, which search finds the stages of each, and which cannot be."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace

from mapper.cost.configurations import Config, configurations
from mapper.machine.model import Machine
from mapper.solver.placement.strategies import OPTIMAL
from mapper.solver.plan import within_quota
from mapper.solver.problem import Limits
from mapper.study.exploration.dimensions import Dimensions, Number, Variant


@dataclass(frozen=True)
class Search:
    """What is searched once and placed by every strategy: exactly so many stages, threads a replica, and at most so
    many replicas of a stage (None: any number), on the machine with this number."""

    machine: int
    batch: int
    stages: Number
    threads: Number
    replicas: Number

    def __str__(self) -> str:
        return f"{self.key} (machine/batch/stages/threads/replicas)"

    @property
    def key(self) -> str:
        """What tells it from the others of an exploration."""
        return f"{self.machine}/{self.batch}/{self.stages}/{self.threads}/{self.replicas}"

    def limits(self, machine: Machine) -> Limits:
        """What its plans keep on `machine`, which knows teams of that size."""
        team = None if self.threads is None else _team(machine, self.threads)
        configs = None if team is None else (team,)
        return within_quota(Limits(stages=self.stages, max_replicas=self.replicas, configurations=configs), machine)


@dataclass(frozen=True)
class Point:
    """One point: its number in the order of all, and the value of each dimension as asked for."""

    number: int
    machine: int
    batch: int
    stages: Number
    threads: Number
    replicas: Number
    strategy: str


def points_of(dimensions: Dimensions) -> list[Point]:
    """All points; what differs in the strategy only is next to each other."""
    found = itertools.product(
        range(dimensions.machine_count), dimensions.batches, dimensions.stages, dimensions.threads, dimensions.replicas,
        dimensions.strategies,
    )  # fmt: skip
    return [Point(number, *values) for number, values in enumerate(found)]


def why_not(point: Point, machine: Machine, ops: int) -> str:
    """Why there is no such plan of `ops` ops, as far as numbers tell; empty where there may be one."""
    stages, threads = point.stages or 1, point.threads or 1
    if point.threads is not None and _team(machine, threads) is None:
        return f"no team of this size on the machine ({threads} threads)"
    if stages > ops:
        return f"more stages than ops ({stages} of {ops})"
    if stages * threads > _cores(machine):
        return f"more cores than there are ({stages} stages × {threads} threads on {_cores(machine)})"
    return ""


def search_of(point: Point, machine: Machine) -> Search:
    """The search for `point`: a limit on replicas that more cores than there are would be needed to reach is none."""
    most = _cores(machine) // (point.threads or 1) - (point.stages or 1) + 1
    replicas = None if point.replicas is None or point.replicas >= most else point.replicas
    return Search(point.machine, point.batch, point.stages, point.threads, replicas)


def loosest(search: Search) -> Search:
    """`search` without a limit on replicas. Where its plan keeps a limit, it is the best under that limit, too."""
    return replace(search, replicas=None)


def options_of(source: str, more: Sequence[str], variant: Variant, search: Search, strategy: str) -> str:
    """The options with which `mapper plan` makes the plan of a point of the model `source`; `more` are others."""
    parts = ["--model", source, *more, "--topo", variant.spec]
    if search.batch > 1:
        parts += ["--batch", str(search.batch)]
    if search.stages is not None:
        parts += ["--stages", str(search.stages)]
    if search.threads is not None and (team := _team(variant.machine, search.threads)) is not None:
        parts += ["--configurations", team.name]
    if search.replicas is not None:
        parts += ["--replicas", str(search.replicas)]
    if strategy != OPTIMAL:
        parts += ["--placement", strategy]
    return shlex.join([*parts, "--near-optimal", "0"])


def _cores(machine: Machine) -> int:
    """Cores that plans may use."""
    return within_quota(Limits(), machine).max_cores or machine.counts["cores"]


def _team(machine: Machine, threads: int) -> Config | None:
    """The configuration with so many threads."""
    return next((config for config in configurations(machine) if config.cores == threads), None)
