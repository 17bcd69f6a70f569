"""A part of a machine: some of its cores, with everything else as it is. No restriction ever adds a core."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from mapper.errors import UsageError
from mapper.machine.model import Machine
from mapper.machine.parts import CoreKind, Layout, Node, PartOf
from mapper.machine.pus import format_pus, parse_pus

_RESERVE = re.compile(r"(\d+)(?:/(group|node|package|host))?")


def restrict(
    machine: Machine, *, cores: str | None = None, groups: str | None = None, reserve: str | None = None,
    hosts: str | None = None,
) -> Machine:  # fmt: skip
    """`machine` with the cores that the options leave, all of them in logical numbers of `machine`.

    `cores` is a list such as `0-31`; `groups` how many of the first groups, or with a comma or dash a list such as
    `0-3,8`; `reserve` how many cores are left to others, such as `1/group` (also `/node`, `/package`, `/host`, or
    `2` in all): the first ones, where the system does its own work; `hosts` a list of hosts such as `0,1`, which keep
    their numbers. Hosts and groups are chosen first, then cores, then the reserve is taken from what is left.

    >>> from mapper.machine.files import load_machine
    >>> left = restrict(load_machine("sg2042"), groups="4", reserve="1/node")
    >>> len(left.groups), len(left.cores)
    (4, 15)

    Raises: UsageError when an option names what does not exist or leaves no core.
    """
    kept = list(range(len(machine.cores)))
    if hosts is not None:
        wanted = _numbers(hosts, 1 + max(node.host for node in machine.nodes), "--hosts", "host")
        kept = [core for core in kept if machine.nodes[machine.cores[core].node].host in wanted]
    if groups is not None:
        chosen = _groups(groups, len(machine.groups))
        kept = [core for core in kept if machine.cores[core].group in chosen]
    if cores is not None:
        numbers = _numbers(cores, len(machine.cores), "--cores", "core")
        kept = [core for core in kept if core in numbers]
    if reserve is not None:
        taken = _reserved(machine, kept, reserve)
        kept = [core for core in kept if core not in taken]
    if not kept:
        raise UsageError("the restriction leaves no core", advice=f"The machine has cores 0-{len(machine.cores) - 1}.")
    return with_cores(machine, kept)


def with_cores(machine: Machine, kept: Collection[int]) -> Machine:
    """`machine` with only the cores whose logical numbers are in `kept`."""
    return _part(machine, {core: machine.cores[core].pus for core in sorted(kept)})


def with_pus(machine: Machine, usable: Collection[int]) -> Machine:
    """`machine` with only the PUs that are in `usable` (as the OS numbers them), and the cores that have any."""
    kept = {core.logical: tuple(pu for pu in core.pus if pu in usable) for core in machine.cores}
    return _part(machine, {core: pus for core, pus in kept.items() if pus})


def _part(machine: Machine, kept: dict[int, tuple[int, ...]]) -> Machine:
    """`machine` with the cores and PUs in `kept`; itself where nothing goes."""
    if kept == {core.logical: core.pus for core in machine.cores}:
        return machine
    nodes = [_node(machine, n, kept) for n in range(len(machine.nodes))]
    left = [n for n, node in enumerate(nodes) if node.groups]
    distances = machine.distances and tuple(tuple(machine.distances[a][b] for b in left) for a in left)
    update = {
        "nodes": tuple(nodes[n] for n in left),
        "distances": distances,
        "core_kinds": _kinds(machine.core_kinds, list(kept)),
        "layout": machine.layout and _layout(machine, machine.layout, kept, left),
        "part_of": _part_of(machine, kept),
    }
    return machine.model_copy(update=update)


def _part_of(machine: Machine, kept: Iterable[int]) -> PartOf | None:
    """Where the cores in `kept` are in the whole machine, which `machine` may be a part of itself."""
    cores = tuple(kept)
    if len(cores) == len(machine.cores):
        return machine.part_of
    if machine.part_of is None:
        return PartOf(fingerprint=machine.fingerprint, cores=cores)
    return machine.part_of.model_copy(update={"cores": tuple(machine.part_of.cores[core] for core in cores)})


def _node(machine: Machine, number: int, kept: dict[int, tuple[int, ...]]) -> Node:
    groups: dict[int, list[tuple[int, ...]]] = {}
    for core, pus in kept.items():
        if machine.cores[core].node == number:
            groups.setdefault(machine.cores[core].group, []).append(pus)
    return machine.nodes[number].model_copy(update={"groups": tuple(map(tuple, groups.values()))})


def _kinds(kinds: Iterable[CoreKind], kept: list[int]) -> tuple[CoreKind, ...]:
    """The kinds that still have cores, these by their new numbers."""
    position = {core: i for i, core in enumerate(kept)}
    left = [
        kind.model_copy(update={"cores": tuple(position[core] for core in kind.cores if core in position)})
        for kind in kinds
    ]
    return tuple(kind for kind in left if kind.cores)


def _layout(machine: Machine, layout: Layout, kept: Iterable[int], nodes: list[int]) -> Layout:
    groups = dict.fromkeys(machine.cores[core].group for core in kept)
    controllers = [c.model_copy(update={"node": nodes.index(c.node)}) for c in layout.controllers if c.node in nodes]
    return Layout(groups=tuple(layout.groups[g] for g in groups), controllers=tuple(controllers))


def _groups(text: str, count: int) -> set[int]:
    """The groups that `text` names: the first N, or those of a list."""
    if text.strip().isdigit():
        number = int(text)
        if not 1 <= number <= count:
            raise UsageError(f"--groups {text}: the machine has {count} groups")
        return set(range(number))
    return _numbers(text, count, "--groups", "group")


def _numbers(text: str, count: int, option: str, what: str) -> set[int]:
    try:
        numbers = parse_pus(text)
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from None
    absent = [n for n in numbers if n >= count]
    if absent:
        raise UsageError(f"{option} {text}: there is no {what} {format_pus(absent)}, the last one is {count - 1}")
    return set(numbers)


def _reserved(machine: Machine, kept: list[int], text: str) -> set[int]:
    """The cores that `text` leaves to others: the first of each part."""
    match = _RESERVE.fullmatch(text.replace(" ", ""))
    if match is None:
        raise UsageError(f"--reserve {text}: a number of cores, such as 2, 1/group, 1/node, 1/package or 1/host")
    parts: dict[object, list[int]] = {}
    for number in kept:
        core = machine.cores[number]
        node = machine.nodes[core.node]
        part = {"group": core.group, "node": core.node, "package": node.package, "host": node.host}.get(match[2], 0)
        parts.setdefault(part, []).append(number)
    return {core for cores in parts.values() for core in cores[: int(match[1])]}
