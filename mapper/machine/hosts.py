"""The hosts of a machine: which there are, whose cores are whose, and each by itself."""

from __future__ import annotations

from collections.abc import Sequence

from mapper.machine.model import Machine
from mapper.machine.restrict import with_cores


def host_numbers(machine: Machine) -> tuple[int, ...]:
    """The numbers of all hosts, ascending; a part of a machine keeps those of the whole."""
    return tuple(sorted({node.host for node in machine.nodes}))


def feeder_host(machine: Machine) -> int:
    """The host on which items are handed in and results collected: the first one."""
    return host_numbers(machine)[0]


def host_of(machine: Machine, core: int) -> int:
    """The host that has the core with this logical number."""
    return machine.nodes[machine.cores[core].node].host


def cores_of(machine: Machine, host: int) -> tuple[int, ...]:
    """The logical numbers of the cores of a host, ascending."""
    return tuple(core.logical for core in machine.cores if machine.nodes[core.node].host == host)


def on_hosts(machine: Machine, hosts: Sequence[int]) -> Machine:
    """Some hosts by themselves, as `on_host`."""
    if set(host_numbers(machine)) <= set(hosts):
        return machine
    part = with_cores(machine, [core for host in hosts for core in cores_of(machine, host)])
    part.__dict__["cores_per_group"] = machine.cores_per_group  # what `cached_property` would find
    return part


def on_host(machine: Machine, host: int) -> Machine:
    """A host by itself: its cores in the order of `cores_of`, its whole groups planned with the size of all hosts'."""
    return on_hosts(machine, [host])


def largest_host(machine: Machine) -> Machine:
    """The host that has the most groups, by itself: a team lies in one host, so that costs are those of a host."""
    numbers = host_numbers(machine)
    if len(numbers) == 1:
        return machine
    groups = {host: sum(len(node.groups) for node in machine.nodes if node.host == host) for host in numbers}
    return on_host(machine, max(numbers, key=lambda host: groups[host]))


def name_of(machine: Machine, host: int) -> str:
    """What people call a host: `host 2`, with its own name behind it where it has one."""
    named = machine.hosts[host].name if machine.hosts else ""
    return f"host {host} ({named})" if named else f"host {host}"
