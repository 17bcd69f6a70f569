"""Writes the `sys` and `proc` files that Linux would show of a `Machine`, for testing discovery."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path

from mapper.machine.model import Machine
from mapper.machine.parts import Node
from mapper.machine.pus import format_pus


def write_tree(
    root: Path,
    machine: Machine,
    *,
    caches: bool = True,
    clusters: bool = True,
    nodes: bool = True,
    lists: bool = True,
    offline: Collection[int] = (),
    cpuinfo: str = "",
    harts: Callable[[int], int] | None = None,
    capacity: Callable[[int], int] | None = None,
) -> Path:
    """The tree of `machine` under `root`: without cache folders, cluster lists or NUMA folders where told so, with
    masks only (as old kernels) where `lists` is False, and with the PUs in `offline` switched off. `harts` gives the
    hart of a PU as RISC-V kernels tell it, `capacity` what they say a PU can do. Gives `root`."""
    writer = _Writer(root, machine, frozenset(offline), lists)
    writer.system(clusters, caches)
    if nodes:
        writer.nodes()
    total = sum(node.memory_bytes.value for node in machine.nodes if node.memory_bytes)
    _write(root / "proc/meminfo", f"MemTotal:       {total / 1024:.0f} kB")
    every = sorted(set(_pus_of(machine.nodes)) - set(offline))
    if harts is not None:
        cpuinfo = "\n".join(f"processor\t: {pu}\nhart\t\t: {harts(pu)}\nisa\t\t: rv64imafdc\n" for pu in every)
    _write(root / "proc/cpuinfo", cpuinfo)
    if capacity is not None:
        for pu in every:
            _write(root / f"sys/devices/system/cpu/cpu{pu}/cpu_capacity", str(capacity(pu)))
    return root


def renumbered(machine: Machine, number: Callable[[int], int]) -> Machine:
    """`machine` with each PU p called `number(p)`, groups again by their least PU."""

    def moved(node: Node) -> Node:
        groups = [sorted(tuple(sorted(map(number, core))) for core in group) for group in node.groups]
        return node.model_copy(update={"groups": tuple(sorted(tuple(group) for group in groups))})

    return machine.model_copy(update={"nodes": tuple(map(moved, machine.nodes))})


def booted_on(machine: Machine, hart: int) -> Machine:
    """`machine`, whose PUs are called by their harts, as Linux numbers it when `hart` boots: that one becomes 0, the
    lower ones shift up by one."""
    return renumbered(machine, lambda pu: 0 if pu == hart else pu + 1 if pu < hart else pu)


def parts(machine: Machine) -> dict[str, object]:
    """Which PUs are a core, a group, a node and a package together, blind to the order in the file."""
    cores = {frozenset(core.pus) for core in machine.cores}
    groups = {frozenset(pu for c in group for pu in machine.cores[c].pus) for group in machine.groups}
    nodes = {node.os_index: frozenset(_pus_of([node])) for node in machine.nodes}
    packages = {frozenset(_pus_of(n for n in machine.nodes if n.package == p.package)) for p in machine.nodes}
    return {"cores": cores, "groups": groups, "nodes": nodes, "packages": packages}


def _pus_of(nodes: Iterable[Node]) -> list[int]:
    return [pu for node in nodes for group in node.groups for core in group for pu in core]


class _Writer:
    def __init__(self, root: Path, machine: Machine, offline: frozenset[int], lists: bool) -> None:
        self.folder = root / "sys/devices/system"
        self.machine = machine
        self.offline = offline
        self.lists = lists

    def system(self, clusters: bool, caches: bool) -> None:
        every = sorted(_pus_of(self.machine.nodes))
        if self.lists:
            _write(self.folder / "cpu/online", format_pus([pu for pu in every if pu not in self.offline]))
        for core in self.machine.cores:
            for pu in core.pus:
                _write(self.folder / f"cpu/cpu{pu}/online", str(int(pu not in self.offline)))
                if pu not in self.offline:
                    self._pu(pu, core.logical, clusters, caches)

    def nodes(self) -> None:
        for n, node in enumerate(self.machine.nodes):
            folder = self.folder / f"node/node{node.os_index}"
            self._pus(folder, "cpumap", "cpulist", _pus_of([node]))
            size = node.memory_bytes.value if node.memory_bytes else 0
            _write(folder / "meminfo", f"Node {node.os_index} MemTotal:        {size / 1024:.0f} kB")
            if self.machine.distances:
                _write(folder / "distance", " ".join(f"{d:g}" for d in self.machine.distances[n]))

    def _pu(self, pu: int, logical: int, clusters: bool, caches: bool) -> None:
        machine, folder = self.machine, self.folder / f"cpu/cpu{pu}"
        core = machine.cores[logical]
        group = [p for c in machine.groups[core.group] for p in machine.cores[c].pus]
        package = machine.nodes[core.node].package
        whole = _pus_of(node for node in machine.nodes if node.package == package)
        topology = folder / "topology"
        _write(topology / "physical_package_id", str(package))
        _write(topology / "core_id", str(machine.groups[core.group].index(logical)))
        for stem, pus in [("thread_siblings", core.pus), ("core_siblings", whole)]:
            self._pus(topology, stem, f"{stem}_list", pus)
        if clusters:
            self._pus(topology, "cluster_cpus", "cluster_cpus_list", group)
        for i, cache in enumerate(machine.caches if caches else ()):
            index = folder / f"cache/index{i}"
            _write(index / "level", str(cache.level))
            _write(index / "type", "Data" if cache.level == 1 else "Unified")
            _write(index / "size", f"{cache.bytes.value / 1024:.0f}K")
            node = _pus_of([machine.nodes[core.node]])
            shared = {"core": core.pus, "group": group, "node": node, "package": whole}[cache.shared_by]
            self._pus(index, "shared_cpu_map", "shared_cpu_list", shared)

    def _pus(self, folder: Path, mask: str, listed: str, pus: Sequence[int]) -> None:
        online = sorted(set(pus) - self.offline)
        digits = f"{sum(1 << pu for pu in online):x}"
        digits = digits.zfill(-(-len(digits) // 8) * 8)
        _write(folder / mask, ",".join(digits[i : i + 8] for i in range(0, len(digits), 8)))
        if self.lists:
            _write(folder / listed, format_pus(online))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")
