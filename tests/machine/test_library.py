"""The machine files that come with mapper: counts as the makers state, plausible figures, and shapes that discovery
finds again."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from mapper.machine.discover import discover
from mapper.machine.files import bundled_names, load_machine, save_machine
from mapper.machine.model import Machine
from tests.machines.trees import parts, write_tree


class Stated(NamedTuple):
    """What the maker states of a machine: its counts, the memory channels of 8 bytes of a package and their transfers
    a second; and what a planner must see: the cores of its groups, smallest and largest, and the caches of a group
    and of a package."""

    packages: int
    nodes: int
    groups: int
    cores: int
    pus: int
    channels: int
    transfers_per_s: float
    group_cores: tuple[int, int]
    group_cache: tuple[str, float]
    package_cache: tuple[str, float] | None


MIB = 2**20
LIBRARY = {
    "altra-q80-30": Stated(1, 1, 80, 80, 80, 8, 3200e6, (1, 1), ("L2", MIB), ("SLC", 32 * MIB)),
    "core-i9-12900k": Stated(1, 1, 10, 16, 24, 2, 4800e6, (1, 4), ("L2", 1.25 * MIB), ("L3", 30 * MIB)),
    "epyc-7763": Stated(1, 4, 8, 64, 128, 8, 3200e6, (8, 8), ("L3", 32 * MIB), None),
    "epyc-9684x": Stated(1, 4, 12, 96, 192, 12, 4800e6, (8, 8), ("L3", 96 * MIB), None),
    "graviton3": Stated(1, 1, 64, 64, 64, 8, 4800e6, (1, 1), ("L2", MIB), ("L3", 32 * MIB)),
    "ryzen-7-7840u": Stated(1, 1, 8, 8, 16, 2, 6400e6, (1, 1), ("L2", MIB), ("L3", 16 * MIB)),
    "sg2042": Stated(1, 4, 16, 64, 64, 4, 3200e6, (4, 4), ("L2", MIB), ("L3", 64 * MIB)),
    "sg2042-2s": Stated(2, 8, 32, 128, 128, 4, 3200e6, (4, 4), ("L2", MIB), ("L3", 64 * MIB)),
    "sg2044": Stated(1, 1, 16, 64, 64, 8, 8533e6, (4, 4), ("L2", 2 * MIB), ("L3", 64 * MIB)),
    "xeon-8480-snc4": Stated(1, 4, 56, 56, 112, 8, 4800e6, (1, 1), ("L2", 2 * MIB), ("L3", 105 * MIB)),
}
FIRST_CORES = {
    "altra-q80-30": [(0,), (1,)],
    "core-i9-12900k": [(0, 1), (2, 3)],
    "epyc-7763": [(0, 64), (1, 65)],
    "epyc-9684x": [(0, 96), (1, 97)],
    "graviton3": [(0,), (1,)],
    "ryzen-7-7840u": [(0, 8), (1, 9)],
    "sg2042": [(0,), (1,)],
    "sg2042-2s": [(0,), (1,)],
    "sg2044": [(0,), (1,)],
    "xeon-8480-snc4": [(0, 56), (1, 57)],
}
library = pytest.mark.parametrize("name", sorted(LIBRARY))


def cache_sizes(machine: Machine) -> list[tuple[int, str, float]]:
    return [(cache.level, cache.shared_by, cache.bytes.value) for cache in machine.caches]


def test_every_bundled_machine_is_tested_here() -> None:
    assert bundled_names() == sorted(LIBRARY) == sorted(FIRST_CORES)


@library
def test_counts_are_those_that_the_maker_states(name: str) -> None:
    machine, stated = load_machine(name), LIBRARY[name]
    counts = {key: getattr(stated, key) for key in ("packages", "nodes", "groups", "cores", "pus")}
    assert machine.counts == {"hosts": 1, **counts}
    assert machine.title
    assert machine.cpu_model
    assert [core.pus for core in machine.cores[:2]] == FIRST_CORES[name]
    assert sorted(pu for core in machine.cores for pu in core.pus) == list(range(stated.pus))


@library
def test_a_planner_sees_the_group_and_its_caches(name: str) -> None:
    machine, stated = load_machine(name), LIBRARY[name]
    sizes = sorted(map(len, machine.groups))
    assert (sizes[0], sizes[-1]) == stated.group_cores
    group, package = machine.group_cache, machine.package_cache
    assert group is not None
    assert (group.name, group.bytes.value) == stated.group_cache
    assert (package and (package.name, package.bytes.value)) == stated.package_cache


@library
def test_memory_is_not_faster_than_its_channels(name: str) -> None:
    machine, stated = load_machine(name), LIBRARY[name]
    memory, nodes = machine.memory, stated.nodes // stated.packages
    package, node, core = (
        memory.package_bandwidth_bytes_per_s, memory.node_bandwidth_bytes_per_s, memory.core_bandwidth_bytes_per_s
    )  # fmt: skip
    assert package is not None
    assert node is not None
    assert core is not None
    peak = stated.channels * stated.transfers_per_s * 8
    assert 0.2 * peak < package.value <= (package.high or package.value) <= peak
    assert package.value / nodes <= 1.001 * node.value <= peak / nodes
    assert core.value < node.value
    assert core.value * stated.cores / stated.packages > package.value, "all cores together can use the whole memory"
    group = memory.group_bandwidth_bytes_per_s
    assert group is None or core.value <= group.value <= node.value


@library
def test_a_nearer_core_costs_no_more_except_in_an_e_core_cluster(name: str) -> None:
    links = load_machine(name).links
    lines = [links[d].line_s.value for d in ("group", "node", "package", "host") if d in links]
    assert lines
    assert lines == sorted(lines, reverse=name == "core-i9-12900k")


@library
def test_a_machine_saved_and_read_back_is_equal(name: str, tmp_path: Path) -> None:
    save_machine(load_machine(name), tmp_path / "copy.json")
    assert load_machine(tmp_path / "copy.json") == load_machine(name)


@library
def test_what_the_kernel_would_show_is_discovered_as_the_same_machine(name: str, tmp_path: Path) -> None:
    machine = load_machine(name)
    found = discover(write_tree(tmp_path, machine))
    assert found.fingerprint == machine.fingerprint
    assert found.counts == machine.counts
    assert parts(found) == parts(machine)
    assert [core.pus for core in found.cores] == [core.pus for core in machine.cores]
    assert found.distances == machine.distances
    assert cache_sizes(found) == cache_sizes(machine)
    group, package = machine.group_cache, machine.package_cache
    assert group is not None
    assert found.group_cache is not None
    assert found.group_cache.bytes.value == group.bytes.value
    assert (found.package_cache and found.package_cache.level) == (package and package.level)


def test_core_i9_has_two_kinds_of_core_in_the_order_of_their_numbers() -> None:
    kinds = load_machine("core-i9-12900k").core_kinds
    assert [(kind.name, kind.cores) for kind in kinds] == [
        ("P-core", tuple(range(8))),
        ("E-core", tuple(range(8, 16))),
    ]
    assert kinds[0].speed.value == 1 > kinds[1].speed.value


def test_two_sockets_of_sg2042_are_two_of_the_chip() -> None:
    one, two = load_machine("sg2042"), load_machine("sg2042-2s")
    assert [node.package for node in two.nodes] == [0] * 4 + [1] * 4
    for n, node in enumerate(one.nodes):
        assert two.nodes[n].groups == node.groups
        assert two.nodes[n + 4].groups == tuple(
            tuple(tuple(pu + 64 for pu in core) for core in group) for group in node.groups
        )
    assert one.distances is not None
    assert two.distances is not None
    assert two.distances[0] == (10, 15, 25, 30, 110, 115, 125, 130)
    assert [row[:4] for row in two.distances[:4]] == [row[4:] for row in two.distances[4:]] == list(one.distances)
    assert two.layout is not None
    assert len({controller.at for controller in two.layout.controllers}) == 8
