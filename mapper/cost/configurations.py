"""The list of configurations that plans choose from: how many cores of how many groups a replica gets."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from mapper.errors import UsageError
from mapper.machine.model import Machine

_NAME = re.compile(r"(\d+)x(\d+)")


@dataclass(frozen=True)
class Config:
    """`cores_per_group` cores of each of `groups` groups, one thread a core. Its name is `groups`x`cores_per_group`."""

    groups: int
    cores_per_group: int

    @property
    def cores(self) -> int:
        """Cores of one replica."""
        return self.groups * self.cores_per_group

    @property
    def name(self) -> str:
        """Such as 2x4: four cores of each of two groups."""
        return f"{self.groups}x{self.cores_per_group}"


def configurations(machine: Machine) -> tuple[Config, ...]:
    """1, 2, 4, … cores of a group, each a divisor of the next, and every number of whole groups of a host (problem.md).

    That sizes divide each other is what makes any mix of them pack into groups.
    """
    size = machine.cores_per_group
    parts = [n for n in (2**k for k in range(size.bit_length())) if size % n == 0 and n < size]
    whole = [Config(groups, size) for groups in range(1, _most_groups(machine) + 1)]
    return tuple([Config(1, n) for n in parts] + whole)


def _most_groups(machine: Machine) -> int:
    """The most whole groups of a host: a team never spans hosts."""
    hosts = [machine.nodes[machine.node_of_group[group]].host for group in machine.whole_groups]
    return max((hosts.count(host) for host in set(hosts)), default=0)


def parse_configurations(text: str, known: Sequence[Config]) -> tuple[Config, ...]:
    """The configurations that `text` names, such as `1x4,2x4`, all of which must be among `known`."""
    by_name = {config.name: config for config in known}
    chosen = []
    for name in (part.strip() for part in text.split(",")):
        if not _NAME.fullmatch(name) or name not in by_name:
            names = ", ".join(by_name) if len(by_name) < 24 else f"{', '.join(list(by_name)[:22])}, …"
            raise UsageError(f"{name!r} is no configuration of this machine", advice=f"groups x cores of each: {names}")
        chosen.append(by_name[name])
    return tuple(dict.fromkeys(chosen))
