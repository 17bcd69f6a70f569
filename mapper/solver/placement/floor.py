"""Groups being filled with replicas, for the placement strategies: what is free, and what a unit would take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from mapper.machine.model import Machine
from mapper.solver.problem import Problem, StageChoice

Replica = tuple[int, int]
"""(stage, number of the replica)."""


@dataclass(frozen=True)
class Unit:
    """Replicas of a stage that are placed as one: `groups` whole groups, or with 0 groups `cores` cores of one."""

    stage: int
    replicas: tuple[int, ...]
    groups: int
    cores: int


@dataclass(frozen=True)
class Held:
    """What the stages hold in memory: whole weights, once a node, and what each replica holds besides; bytes.

    `most`: of a node.
    """

    weights: tuple[float, ...]
    replica: tuple[float, ...]
    most: float


def units_of(problem: Problem, stages: Sequence[StageChoice]) -> list[Unit]:
    """The units of `stages`, in their order. Parts of a group that a stage has to itself are one unit a group."""
    size, units = problem.cores_per_group, []
    for s, stage in enumerate(stages):
        config = problem.configs[stage.config]
        each = 1 if config.cores >= size or not stage.exclusive else size // config.cores
        groups = config.groups if config.cores >= size else int(stage.exclusive)
        for at in range(0, stage.replicas, each):
            units.append(Unit(s, tuple(range(at, min(at + each, stage.replicas))), groups, config.cores))
    return units


def unit_of(units: Sequence[Unit]) -> dict[Replica, int]:
    """The number of the unit that each replica is in."""
    return {(unit.stage, r): u for u, unit in enumerate(units) for r in unit.replicas}


@dataclass
class Floor:
    """The groups of a machine while they are filled. `free[g]`: cores by logical number; `tenants[g]`: the stages that
    have cores there; `whole`: groups that are taken by one unit; `turn`: the group that was filled last."""

    machine: Machine
    size: int
    free: list[list[int]]
    tenants: list[set[int]]
    whole: set[int] = field(default_factory=set)
    turn: int = -1
    placed: dict[Replica, tuple[int, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, machine: Machine) -> Floor:
        """The empty floor of `machine`."""
        return cls(machine, machine.cores_per_group, [list(g) for g in machine.groups], [set() for _ in machine.groups])

    def copy(self) -> Floor:
        """The same, to try something on."""
        return Floor(self.machine, self.size, [list(cores) for cores in self.free], [set(t) for t in self.tenants],
                     set(self.whole), self.turn, dict(self.placed))  # fmt: skip

    def has_room(self, group: int, unit: Unit) -> bool:
        """Whether `group` can be one of the unit's whole groups, or holds a part more."""
        if unit.groups:
            return not self.tenants[group]
        return group not in self.whole and len(self.free[group]) >= unit.cores

    def put(self, unit: Unit, groups: Sequence[int]) -> None:
        """Places `unit` on `groups`, which have room for it."""
        if unit.groups:
            cores = [core for group in groups for core in self.free[group][: self.size]]
            self.whole |= set(groups)
        else:
            cores = self.free[groups[0]][: unit.cores]
        for group in groups:
            self.free[group] = [core for core in self.free[group] if core not in cores]
            self.tenants[group].add(unit.stage)
            self.turn = group
        for i, replica in enumerate(unit.replicas):
            self.placed[unit.stage, replica] = tuple(cores[i * unit.cores : (i + 1) * unit.cores])

    def free_of_node(self, node: int) -> int:
        """Free cores of a NUMA node."""
        homes = self.machine.node_of_group
        return sum(len(cores) for group, cores in enumerate(self.free) if homes[group] == node)

    def host(self, group: int) -> int:
        """The host that has a group."""
        return self.machine.nodes[self.machine.node_of_group[group]].host
