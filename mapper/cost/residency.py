"""Where a stage's working set lives: the nearest cache that holds it (problem.md, *residency*)."""

from __future__ import annotations

from dataclasses import dataclass

from mapper.machine.model import Machine

GROUP, PACKAGE, DRAM = 0, 1, 2
"""Indices of the residencies, nearest first. All machines have all three; a cache that is absent holds nothing."""
DRAM_NAME = "DRAM"
"""What plans call the residency of what no cache holds."""


@dataclass(frozen=True)
class Caches:
    """What counts on a machine: usable bytes of one group's cache and of the package's, 0 where there is none."""

    group_bytes: float
    package_bytes: float
    names: tuple[str, str, str]

    def fits_share(self, weights: float, private: float, cores: int, of: int) -> bool:
        """Whether a replica of `cores` cores of a group of `of` fits its share of the group's cache."""
        return weights + private <= self.group_bytes * cores / of

    def fits_exclusive(self, weights: float, private: float, cores: int, of: int) -> bool:
        """Whether replicas of `cores` cores fit a group of `of` cores that they have to themselves, weights shared."""
        return weights + private * of / cores <= self.group_bytes

    def holds_model(self, weights: float) -> bool:
        """Whether the package's cache holds all weights of the plan."""
        return weights <= self.package_bytes


def caches_of(machine: Machine) -> Caches:
    """The caches of `machine` that decide residency."""
    group, package = machine.group_cache, machine.package_cache
    return Caches(
        group.bytes.value * group.fill.value if group else 0.0,
        package.bytes.value * package.fill.value if package else 0.0,
        (group.name if group else "no group cache", package.name if package else "no package cache", DRAM_NAME),
    )
