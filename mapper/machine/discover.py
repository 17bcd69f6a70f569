"""A `Machine` from what Linux shows of one: this host, or a captured `sys` and `proc` under another root.

`sysfs` and `cpuinfo` read, this module decides: which PUs are a core, which cores a group, which groups a node, and
at which level each cache sits. What no file shows is a figure of `defaults`, with its source.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mapper.errors import MachineMismatch
from mapper.machine import cpuinfo, defaults, sysfs
from mapper.machine.model import Cache, Compute, Figure, Machine, Memory, Node, format_pus
from mapper.machine.sysfs import Pus, Seen, SeenCache, SeenPu

Scope = Literal["core", "group", "package"]
Block = tuple[Pus, int | None]
"""A package (its online PUs) and the OS number of a node in it: the cores of one `Node`."""


@dataclass(frozen=True)
class SeenCore:
    """A core with all its online PUs, those of its group, and the package and node that it is in."""

    pus: Pus
    group: Pus
    block: Block
    caches: tuple[SeenCache, ...]


def discover(root: Path = Path("/"), allowed: Collection[int] | None = None) -> Machine:
    """The machine whose `sys` and `proc` are in `root`, restricted to the PUs in `allowed`.

    `allowed` defaults to what this process may use when `root` is `/`, and to every online PU otherwise. Groups and
    cache sizes are those of the whole machine: a restriction takes cores away, not cache.

    Raises: BadInput when `root` shows no CPU; MachineMismatch when none of `allowed` is online.
    """
    seen = sysfs.read(root)
    if allowed is None:
        allowed = os.sched_getaffinity(0) if root == Path("/") else seen.pus.keys()
    usable = frozenset(allowed).intersection(seen.pus)
    if not usable:
        raise MachineMismatch(f"none of the allowed PUs {format_pus(sorted(allowed))} is online",
                              advice=f"Online are {format_pus(sorted(seen.pus))}.")  # fmt: skip
    cores = [core for core in _cores(seen) if core.pus & usable]
    blocks = _blocks(cores)
    nodes = tuple(_node(block, blocks, cores, seen, usable) for block in blocks)
    distances, notes = _distances(blocks, seen)
    cpu = cpuinfo.read(root)
    return Machine(
        name="host",
        title=cpu.model,
        cpu_model=cpu.model,
        isa=cpu.isa,
        frequency_hz=cpu.frequency_hz,
        nodes=nodes,
        distances=distances,
        caches=tuple(_caches(cores)),
        memory=_memory(nodes),
        compute=_compute(cpu),
        overheads=defaults.OVERHEADS,
        links=defaults.LINKS,
        notes=notes,
    )


def _cores(seen: Seen) -> list[SeenCore]:
    """All online cores, by their least PU. A PU that two files disagree about stays where it was first."""
    blocks = {n: (pu.package, _node_of(pu, seen)) for n, pu in seen.pus.items()}
    found: list[SeenCore] = []
    groups: dict[int, Pus] = {}
    placed: set[int] = set()
    for n, pu in seen.pus.items():
        if n in placed:
            continue
        same_block = frozenset(m for m in pu.package if blocks[m] == blocks[n])
        core = (pu.core & same_block) - placed
        if n not in groups:
            group = (_group(pu) & same_block).difference(groups) | core
            groups |= dict.fromkeys(group, group)
        placed |= core
        found.append(SeenCore(core, groups[n], blocks[n], pu.caches))
    return found


def _node_of(pu: SeenPu, seen: Seen) -> int | None:
    """The OS number of the smallest node that lists `pu`; None where none does."""
    holders = [node for node in seen.nodes if pu.number in node.pus]
    return min(holders, key=lambda node: len(node.pus)).os_index if holders else None


def _group(pu: SeenPu) -> Pus:
    """The PUs that share the outermost cache which the whole package does not share, where that is more than a
    core; else the cluster that the kernel names; else the core."""
    inner = [cache for cache in pu.caches if not cache.pus >= pu.package]
    if inner and (shared := max(inner, key=lambda cache: cache.level).pus) > pu.core:
        return shared
    if pu.cluster is not None and pu.core < pu.cluster < pu.package:
        return pu.cluster
    return pu.core


def _blocks(cores: Iterable[SeenCore]) -> list[Block]:
    """The nodes in their order: as the OS numbers them (those without a number last), then by their least PU."""
    least: dict[Block, int] = {}
    for core in cores:
        least.setdefault(core.block, min(core.pus))
    return sorted(least, key=lambda block: (block[1] is None, block[1] or 0, least[block]))


def _node(block: Block, blocks: Sequence[Block], cores: Sequence[SeenCore], seen: Seen, usable: Pus) -> Node:
    package, os_index = block
    packages = list(dict.fromkeys(package for package, _ in blocks))
    groups: dict[Pus, list[tuple[int, ...]]] = {}
    for core in cores:
        if core.block == block:
            groups.setdefault(core.group, []).append(tuple(sorted(core.pus & usable)))
    return Node(
        package=packages.index(package),
        os_index=os_index,
        memory_bytes=_node_memory(block, seen),
        groups=tuple(tuple(group) for group in sorted(groups.values())),
    )


def _node_memory(block: Block, seen: Seen) -> Figure | None:
    """The memory of a node. One that spans packages, and a machine without nodes, is shared out by PUs.

    A single node has all the memory there is: its own file leaves out what was plugged in later.
    """
    package, os_index = block
    node = next((node for node in seen.nodes if node.os_index == os_index), None)
    later = len(seen.nodes) == 1 and (seen.memory_bytes or 0) > (seen.nodes[0].memory_bytes or 0)
    if node is not None and not later:
        whole, pus, source = node.memory_bytes, node.pus, f"MemTotal in node{os_index}/meminfo"
    else:
        whole, pus, source = seen.memory_bytes, frozenset(seen.pus), "MemTotal in proc/meminfo"
        if any(other.memory_bytes and other.pus for other in seen.nodes):
            return None
    if not whole:
        return None
    if pus <= package:
        return Figure(value=whole, kind="specified", source=source)
    share = len(pus & package) / len(pus)
    return Figure(value=float(round(whole * share)), kind="inferred", source=f"{source}, shared out over packages")


def _distances(blocks: Sequence[Block], seen: Seen) -> tuple[tuple[tuple[float, ...], ...] | None, tuple[str, ...]]:
    """The firmware's distances between the nodes that have cores, None (and why) where they are not usable."""
    rows = {node.os_index: node.distances for node in seen.nodes}
    columns = {node.os_index: i for i, node in enumerate(seen.nodes)}
    known = [os_index for _, os_index in blocks if os_index is not None]
    if not known or not any(rows[n] for n in known):
        return None, ()
    if len(known) < len(blocks) or any(len(rows[n]) != len(seen.nodes) for n in known):
        return None, ("The firmware's table of distances does not cover every node: left out.",)
    table = tuple(tuple(rows[a][columns[b]] for b in known) for a in known)
    for i, row in enumerate(table):
        for j, value in enumerate(row):
            if value != table[j][i] or value < max(row[i], table[j][j]) or value <= 0:
                pair = f"{value:g} from node {known[i]} to {known[j]}, {table[j][i]:g} back"
                return None, (f"The firmware's table of distances is inconsistent ({pair}): left out.",)
    return table, ()


def _caches(cores: Sequence[SeenCore]) -> Iterable[Cache]:
    """One `Cache` a level, the smallest where cores differ; the outermost that a group has to itself is the group's."""
    levels = sorted({cache.level for core in cores for cache in core.caches})
    seen = {level: [(core, c) for core in cores for c in core.caches if c.level == level] for level in levels}
    scopes: dict[int, Scope] = {level: _scope(seen[level], level == levels[-1]) for level in levels}
    inner = [level for level in levels if scopes[level] != "package"]
    own = [level for level in inner if all(cache.pus == core.group for core, cache in seen[level])]
    single = all(core.pus == core.group for core in cores)
    for level in own[-1:] if single else own:
        scopes[level] = "group"
    for level in levels:
        yield _cache(level, scopes[level], seen[level], everywhere=len(seen[level]) == len(cores))


def _scope(found: Sequence[tuple[SeenCore, SeenCache]], outermost: bool) -> Scope:
    """`package` for a cache of whole packages; where packages are single cores, only the outermost is theirs."""
    whole = all(cache.pus >= core.block[0] for core, cache in found)
    single = all(core.pus == core.block[0] for core, _ in found)
    return "package" if whole and (outermost or not single) else "core"


def _cache(level: int, scope: Scope, found: Sequence[tuple[SeenCore, SeenCache]], everywhere: bool) -> Cache:
    """A cache that is shared by neither a core, a group nor a package counts as each core's part of it."""
    sizes: dict[float, str] = {}
    for core, cache in found:
        sharers = 1.0 if scope != "core" or cache.pus <= core.pus else len(cache.pus) / len(core.pus)
        sizes[cache.bytes / sharers] = "" if sharers == 1 else f", a core's part of {cache.bytes} bytes"
    source = "size in sys/devices/system/cpu/cpu*/cache" + sizes[min(sizes)]
    source += ", the smallest" if len(sizes) > 1 else ""
    source += "" if everywhere else ", not shown for every core"
    exact = len(sizes) == 1 and everywhere and sizes[min(sizes)] == ""
    bandwidth = defaults.CACHE_BANDWIDTH_BYTES_PER_S
    return Cache(
        name="L1d" if level == 1 else f"L{level}",
        level=level,
        shared_by=scope,
        bytes=Figure(value=min(sizes), kind="specified" if exact else "inferred", source=source),
        fill=defaults.CACHE_FILL,
        core_bandwidth_bytes_per_s=bandwidth[min(level, max(bandwidth))],
    )


def _memory(nodes: Sequence[Node]) -> Memory:
    cores: Counter[int] = Counter()
    for node in nodes:
        cores[node.package] += sum(len(group) for group in node.groups)
    whole = min(
        defaults.PACKAGE_DRAM_MOST_BYTES_PER_S,
        max(defaults.PACKAGE_DRAM_LEAST_BYTES_PER_S, defaults.PACKAGE_DRAM_PER_CORE_BYTES_PER_S * max(cores.values())),
    )
    most = max(Counter(node.package for node in nodes).values())
    return Memory(
        package_bandwidth_bytes_per_s=Figure(value=whole, kind="assumed", source=defaults.PACKAGE_DRAM_SOURCE),
        node_bandwidth_bytes_per_s=Figure(
            value=whole / most, kind="assumed", source=f"{defaults.PACKAGE_DRAM_SOURCE}; its part of {most}"
        ),
        core_bandwidth_bytes_per_s=defaults.CORE_DRAM_BYTES_PER_S,
    )


def _compute(cpu: cpuinfo.CpuInfo) -> Compute:
    clock, simd = cpu.frequency_hz, cpu.simd
    source = f"{simd.flop_per_cycle:g} fp32 FLOP a cycle ({simd.explanation}) at {clock.value / 1e9:.3g} GHz"
    kind: Literal["inferred", "assumed"] = "assumed" if clock.kind == "assumed" else "inferred"
    return Compute(
        peak_flop_per_s=Figure(value=simd.flop_per_cycle * clock.value, kind=kind, source=source),
        efficiency=simd.efficiency,
        seconds_per_element=simd.seconds_per_element,
        busy_slowdown=defaults.BUSY_SLOWDOWN,
        imbalance=defaults.IMBALANCE,
    )
