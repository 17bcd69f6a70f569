"""A `Machine` from what a source shows of one (`seen`): which PUs are a core, which cores a group, which groups a
node, and at which level each cache sits. What is not shown is a figure of `defaults`, with its source.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from mapper.machine import defaults
from mapper.machine.figures import Figure
from mapper.machine.model import Machine
from mapper.machine.parts import Cache, CoreKind, Node, Scope
from mapper.machine.seen import Pus, Seen, SeenCache, SeenPu
from mapper.units import format_bytes

Block = tuple[Pus, int | None]
"""A package (its online PUs) and the OS number of a node in it: the cores of one `Node`."""


@dataclass(frozen=True)
class SeenCore:
    """A core with all its online PUs, those of its group and of its node, and the package and node that it is in."""

    pus: Pus
    group: Pus
    node: Pus
    block: Block
    caches: tuple[SeenCache, ...]


def assemble(seen: Seen, name: str = "host") -> Machine:
    """The machine with all the PUs that were seen."""
    cores = _cores(seen)
    blocks = _blocks(cores)
    nodes = tuple(_node(block, blocks, cores, seen) for block in blocks)
    distances, notes = _distances(blocks, seen)
    of_package = Counter(core.block[0] for core in cores)
    of_nodes = Counter(package for package, _ in blocks)
    machine = Machine(
        name=name,
        title=seen.cpu.model,
        cpu_model=seen.cpu.model,
        isa=seen.cpu.isa,
        frequency_hz=seen.cpu.frequency_hz,
        nodes=nodes,
        distances=distances,
        caches=tuple(_caches(cores, seen)),
        memory=defaults.memory(max(of_package.values()), max(of_nodes.values())),
        compute=defaults.compute(seen.cpu.features, seen.cpu.frequency_hz),
        overheads=defaults.OVERHEADS,
        links=defaults.LINKS,
        notes=(*notes, *_without_cores(seen)),
    )
    return machine.model_copy(update={"core_kinds": _kinds(machine, seen)})


def _cores(seen: Seen) -> list[SeenCore]:
    """All online cores, by their least PU. A PU that two files disagree about stays where it was first."""
    blocks = {n: (pu.package, _node_of(pu, seen)) for n, pu in seen.pus.items()}
    members: dict[Block, set[int]] = {}
    for n, block in blocks.items():
        members.setdefault(block, set()).add(n)
    whole = {block: frozenset(pus) for block, pus in members.items()}
    found: list[SeenCore] = []
    groups: dict[int, Pus] = {}
    placed: set[int] = set()
    for n, pu in seen.pus.items():
        if n in placed:
            continue
        node = whole[blocks[n]]
        core = (pu.core & node) - placed
        if n not in groups:
            group = (_group(pu) & node).difference(groups) | core
            groups |= dict.fromkeys(group, group)
        placed |= core
        found.append(SeenCore(core, groups[n], node, blocks[n], pu.caches))
    return found


def _node_of(pu: SeenPu, seen: Seen) -> int | None:
    """The OS number of the smallest node that lists `pu`; None where none does."""
    holders = [node for node in seen.nodes if pu.number in node.pus]
    return min(holders, key=lambda node: len(node.pus)).os_index if holders else None


def _group(pu: SeenPu) -> Pus:
    """The PUs that share the outermost cache which the whole package does not share, where that is more than a core,
    else the core. A named cluster that has no cache of its own (but an interconnect) comes instead where it is a part
    of the PUs that share that cache, and where no cache is shown at all."""
    inner = [cache for cache in pu.caches if not cache.pus >= pu.package]
    shared = max(inner, key=lambda cache: cache.level).pus if inner else pu.core
    within = shared if pu.caches else pu.package
    cluster = pu.cluster
    if cluster is not None and pu.core < cluster < within and cluster not in {cache.pus for cache in inner}:
        return cluster
    return shared if shared > pu.core else pu.core


def _blocks(cores: Iterable[SeenCore]) -> list[Block]:
    """The nodes in their order: as the OS numbers them (those without a number last), then by their least PU."""
    least: dict[Block, int] = {}
    for core in cores:
        least.setdefault(core.block, min(core.pus))
    return sorted(least, key=lambda block: (block[1] is None, block[1] or 0, least[block]))


def _node(block: Block, blocks: Sequence[Block], cores: Sequence[SeenCore], seen: Seen) -> Node:
    """Groups and cores are in the order of their hardware threads where the source shows one, else of their PUs."""
    package, os_index = block
    packages = list(dict.fromkeys(package for package, _ in blocks))

    def rank(pus: Iterable[int]) -> list[int]:
        return sorted(seen.hart.get(pu, pu) for pu in pus)

    groups: dict[Pus, list[tuple[int, ...]]] = {}
    for core in cores:
        if core.block == block:
            groups.setdefault(core.group, []).append(tuple(sorted(core.pus)))
    ordered = [tuple(sorted(group, key=rank)) for group in groups.values()]
    return Node(
        package=packages.index(package),
        os_index=os_index,
        memory_bytes=_node_memory(block, seen),
        groups=tuple(sorted(ordered, key=lambda group: rank(group[0]))),
    )


def _node_memory(block: Block, seen: Seen) -> Figure | None:
    """The memory of a node. One that spans packages, and a machine without nodes, is shared out by PUs.

    A single node has all the memory there is: its own file leaves out what was plugged in later.
    """
    package, os_index = block
    node = next((node for node in seen.nodes if node.os_index == os_index), None)
    later = len(seen.nodes) == 1 and (seen.memory_bytes or 0) > (seen.nodes[0].memory_bytes or 0)
    if node is not None and not later:
        whole, pus, source = node.memory_bytes, node.pus, seen.where.node.format(node=os_index)
    else:
        whole, pus, source = seen.memory_bytes, frozenset(seen.pus), seen.where.memory
        if not later and any(other.memory_bytes and other.pus for other in seen.nodes):
            return None
    if not whole:
        return None
    if pus <= package:
        return Figure(value=whole, kind="specified", source=source)
    share = len(pus & package) / len(pus)
    return Figure(value=float(round(whole * share)), kind="inferred", source=f"{source}, shared out over packages")


def _without_cores(seen: Seen) -> Iterable[str]:
    """A note for every node that has memory but no PU."""
    for node in seen.nodes:
        if not node.pus and node.memory_bytes:
            yield f"Node {node.os_index} has memory only ({format_bytes(node.memory_bytes)}): plans do not use it."


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


def _caches(cores: Sequence[SeenCore], seen: Seen) -> Iterable[Cache]:
    """One `Cache` a level, the smallest where cores differ; the outermost that a group has to itself is the group's."""
    levels = sorted({cache.level for core in cores for cache in core.caches})
    found = {level: [(core, c) for core in cores for c in core.caches if c.level == level] for level in levels}
    scopes: dict[int, Scope] = {level: _scope(found[level], level == levels[-1]) for level in levels}
    inner = [level for level in levels if scopes[level] != "package"]
    own = [level for level in inner if _everywhere(found[level], lambda core: core.group)]
    single = all(core.pus == core.group for core in cores)
    for level in own[-1:] if single else own:
        scopes[level] = "group"
    for level in inner:
        if scopes[level] == "core" and _everywhere(found[level], lambda core: core.node) and level not in own:
            scopes[level] = "node"
    for level in levels:
        yield _cache(level, scopes[level], found[level], len(found[level]) == len(cores), seen.where.caches)


def _everywhere(found: Sequence[tuple[SeenCore, SeenCache]], part: Callable[[SeenCore], Pus]) -> bool:
    return all(cache.pus == part(core) for core, cache in found)


def _scope(found: Sequence[tuple[SeenCore, SeenCache]], outermost: bool) -> Scope:
    """`package` for a cache of whole packages; where packages are single cores, only the outermost is theirs."""
    whole = all(cache.pus >= core.block[0] for core, cache in found)
    single = all(core.pus == core.block[0] for core, _ in found)
    return "package" if whole and (outermost or not single) else "core"


def _cache(
    level: int, scope: Scope, found: Sequence[tuple[SeenCore, SeenCache]], everywhere: bool, source: str
) -> Cache:
    """A cache that is shared by neither a core, a group, a node nor a package counts as each core's part of it."""
    sizes: dict[float, str] = {}
    for core, cache in found:
        sharers = 1.0 if scope != "core" or cache.pus <= core.pus else len(cache.pus) / len(core.pus)
        sizes[cache.bytes / sharers] = "" if sharers == 1 else f", a core's part of {cache.bytes} bytes"
    source += sizes[min(sizes)]
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


def _kinds(machine: Machine, seen: Seen) -> tuple[CoreKind, ...]:
    """The kinds of core with the logical numbers of their cores."""
    found = []
    for kind in seen.kinds:
        cores = tuple(core.logical for core in machine.cores if core.pus[0] in kind.pus)
        if cores:
            found.append(CoreKind(name=kind.name, cores=cores, speed=kind.speed))
    return tuple(found) if len(found) > 1 else ()
