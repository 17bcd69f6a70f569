"""A machine: hosts, packages, NUMA nodes, groups, cores and PUs, with what each of them can do.

Words (see docs): a *PU* is a hardware thread, what the OS calls a CPU; a *core* holds one or more PUs; a *group* is
the cores that share the outermost cache which the whole package does not share (the L2 cluster on SG2042, the CCX on
EPYC, a core by itself where there is none); a *node* is a NUMA node.

Cores are known by their *logical number*: their position in the order node, group, core of the file. What the OS
calls a PU appears only in `Core.pus`.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from mapper import jsonio
from mapper.jsonio import Record
from mapper.machine.figures import Figure, Positive
from mapper.machine.parts import (
    Cache,
    Compute,
    Core,
    CoreKind,
    Distance,
    Host,
    Layout,
    Link,
    Memory,
    Node,
    Overheads,
    PartOf,
    Power,
    Scope,
)  # fmt: skip
from mapper.machine.shape import Regular, read_nodes

SCHEMA = "mapper-topology/1"

Nodes = Annotated[
    tuple[Node, ...],
    BeforeValidator(read_nodes, json_schema_input_type=Regular | list[Node]),
    Field(min_length=1),
]
"""The nodes, in a file one by one or, where they are all alike, as a shape (`Regular`)."""

_CITED = re.compile(r"\[([^\[\]]+)\]")


class Machine(Record):
    """A machine with every figure that planning needs, each with its provenance."""

    schema_: Literal["mapper-topology/1"] = Field(default="mapper-topology/1", alias="schema")
    name: str
    title: str = ""
    cpu_model: str = ""
    isa: str = ""
    frequency_hz: Positive | None = None
    nodes: Nodes
    distances: tuple[tuple[float, ...], ...] | None = Field(
        default=None, description="relative memory latency between nodes, as the firmware states it"
    )
    caches: tuple[Cache, ...] = ()
    memory: Memory
    compute: Compute
    overheads: Overheads
    links: dict[Distance, Link]
    hosts: tuple[Host, ...] | None = Field(default=None, description="what the hosts are called, by their numbers")
    core_kinds: tuple[CoreKind, ...] = Field(default=(), description="where cores differ: every core in one of them")
    power: Power | None = None
    cpu_quota: Positive | None = Field(
        default=None, description="seconds of PU time a second that the system grants (a container's quota)"
    )
    layout: Layout | None = None
    part_of: PartOf | None = None
    sources: dict[str, str] = Field(default={}, description="what figures cite as [name]")
    notes: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _check_cores(self.nodes)
        _check_distances(self.distances, len(self.nodes))
        _check_caches(self.caches)
        missing = [d for d in self._needed_links() if d not in self.links]
        if missing:
            raise ValueError(f"/links: the distance {missing[0]!r} is missing")
        _check_kinds(self.core_kinds, self.counts["cores"])
        _check_layout(self.layout, self.counts)
        _check_hosts(self.hosts, self.nodes)
        if self.part_of is not None and len(self.part_of.cores) != self.counts["cores"]:
            raise ValueError(f"/part_of/cores: {len(self.part_of.cores)} cores, but the machine has {len(self.cores)}")
        _check_citations(self)
        return self

    def _needed_links(self) -> Iterator[Distance]:
        counts = self.counts
        if counts["cores"] > counts["groups"]:
            yield "group"
        if counts["groups"] > counts["nodes"]:
            yield "node"
        if counts["nodes"] > counts["packages"]:
            yield "package"
        if counts["packages"] > counts["hosts"]:
            yield "host"
        if counts["hosts"] > 1:
            yield "cluster"

    @cached_property
    def cores(self) -> tuple[Core, ...]:
        """All cores in the order of their logical numbers."""
        found: list[Core] = []
        group = itertools.count()
        for number, node in enumerate(self.nodes):
            for cores in node.groups:
                index = next(group)
                found += [
                    Core(logical=len(found) + i, group=index, node=number, pus=pus) for i, pus in enumerate(cores)
                ]
        return tuple(found)

    @cached_property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """The logical numbers of each group's cores."""
        out: dict[int, list[int]] = {}
        for core in self.cores:
            out.setdefault(core.group, []).append(core.logical)
        return tuple(tuple(cores) for cores in out.values())

    @cached_property
    def node_of_group(self) -> tuple[int, ...]:
        """For each group, the number of its node."""
        return tuple(self.cores[cores[0]].node for cores in self.groups)

    @cached_property
    def counts(self) -> dict[str, int]:
        """How many hosts, packages, nodes, groups, cores and PUs there are."""
        return {
            "hosts": len({node.host for node in self.nodes}),
            "packages": len({(node.host, node.package) for node in self.nodes}),
            "nodes": len(self.nodes),
            "groups": sum(len(node.groups) for node in self.nodes),
            "cores": sum(len(group) for node in self.nodes for group in node.groups),
            "pus": sum(len(core) for node in self.nodes for group in node.groups for core in group),
        }

    @property
    def fingerprint(self) -> str:
        """A hash of the shape: hosts, packages, groups, cores per group. Blind to numbering, nodes and caches."""
        shape: dict[tuple[int, int], list[int]] = {}
        for node in self.nodes:
            shape.setdefault((node.host, node.package), []).extend(len(group) for group in node.groups)
        hosts: dict[int, list[list[int]]] = {}
        for (host, _), sizes in shape.items():
            hosts.setdefault(host, []).append(sorted(sizes))
        return hashlib.sha256(jsonio.canonical(sorted(sorted(h) for h in hosts.values()))).hexdigest()[:16]

    def distance(self, a: int, b: int) -> Distance:
        """What the cores with logical numbers `a` and `b` share at least."""
        first, second = self.cores[a], self.cores[b]
        if a == b:
            return "core"
        if first.group == second.group:
            return "group"
        if first.node == second.node:
            return "node"
        left, right = self.nodes[first.node], self.nodes[second.node]
        if left.host != right.host:
            return "cluster"
        return "package" if left.package == right.package else "host"

    @cached_property
    def cores_per_group(self) -> int:
        """The size that whole groups are planned with: the one that covers most cores, groups of one core aside unless
        they are most of the machine. Cores of smaller groups take single cores and parts."""
        sizes = [len(cores) for cores in self.groups]
        covered = {size: size * sum(other >= size for other in sizes) for size in set(sizes)}
        best = max(covered, key=lambda size: (covered[size] if size > 1 else 0, size))
        return best if 2 * covered[best] >= len(sizes) else 1

    @cached_property
    def whole_groups(self) -> tuple[int, ...]:
        """The numbers of the groups that have `cores_per_group` cores."""
        return tuple(g for g, cores in enumerate(self.groups) if len(cores) >= self.cores_per_group)

    @property
    def slowest(self) -> float:
        """Speed of the slowest cores, 1 where all are alike. Planning takes every core as one of them."""
        return min((kind.speed.value for kind in self.core_kinds), default=1.0)

    @property
    def dram_bytes_per_s(self) -> float:
        """DRAM bandwidth of all packages together, infinite where nothing limits it."""
        return _rate(self.memory.package_bandwidth_bytes_per_s) * self.counts["packages"]

    @property
    def core_dram_bytes_per_s(self) -> float:
        """DRAM bytes per second that one core can draw, infinite where nothing limits it."""
        return _rate(self.memory.core_bandwidth_bytes_per_s)

    def link_bytes_per_s(self, distance: Distance) -> float:
        """Bytes per second between cores at `distance`, infinite where nothing limits it."""
        link = self.links.get(distance)
        return _rate(link.bandwidth_bytes_per_s if link else None)

    def team_dram_bytes_per_s(self, cores: int, groups: int, *, spread: int = 1) -> float:
        """DRAM bytes per second that `cores` cores in `groups` groups can draw together.

        `spread`: from pages that lie on all nodes of so many groups, as the weights of a team that spans nodes do. A
        core waits for its lines, so it draws less from a node in proportion to the latency.
        """
        own, shared = self.core_dram_bytes_per_s * cores, _rate(self.memory.group_bandwidth_bytes_per_s) * groups
        return min(own / self.interleaved_latency(spread), shared, self.dram_bytes_per_s)

    def interleaved_latency(self, groups: int) -> float:
        """Mean latency, relative to the own node's, of memory spread over the nodes that `groups` groups span; 1 where
        they span one node or no distances are known."""
        return self.mean_latency(groups, self._spanned(groups))

    def mean_latency(self, groups: int, homes: Sequence[int]) -> float:
        """Mean latency, relative to the own node's, of memory spread over the nodes `homes`, for the cores of as many
        groups, the first ones; 1 where no distances are known."""
        nodes, distances = self._spanned(groups), self.distances
        if distances is None:
            return 1.0
        return sum(distances[a][b] / distances[a][a] for a in nodes for b in homes) / (len(nodes) * len(homes))

    def _spanned(self, groups: int) -> range:
        """The nodes that the first `groups` groups are in."""
        return range(min(len(self.nodes), -(-groups * len(self.nodes) // self.counts["groups"])))

    @property
    def group_cache(self) -> Cache | None:
        """The outermost cache that a group has to itself, None where there is none."""
        found = self.cache("group")
        return self.cache("core") if found is None and max(map(len, self.groups)) == 1 else found

    @property
    def package_cache(self) -> Cache | None:
        """The cache that a whole package shares, else a whole node; None where there is neither."""
        return self.cache("package") or self.cache("node")

    def cache(self, shared_by: Scope) -> Cache | None:
        """The outermost cache that each core, group, node or package has to itself, None where there is none."""
        found = [cache for cache in self.caches if cache.shared_by == shared_by]
        return max(found, key=lambda cache: cache.level, default=None)


def _check_cores(nodes: tuple[Node, ...]) -> None:
    """Every PU stands once in its host, every group has cores, every core PUs."""
    seen: dict[tuple[int, int], str] = {}
    for n, node in enumerate(nodes):
        for g, group in enumerate(node.groups):
            place = f"/nodes/{n}/groups/{g}"
            if not group or not all(group):
                raise ValueError(f"{place}: a group needs at least one core, a core at least one PU")
            pus = [pu for core in group for pu in core]
            homes = {seen.get((node.host, pu)) for pu in pus}
            if len(homes) == 1 and (home := homes.pop()) is not None:
                raise ValueError(f"{place}: this group is already {home}; a group belongs to one node")
            for pu in pus:
                if (home := seen.get((node.host, pu))) == place:
                    raise ValueError(f"{place}: PU {pu} is given twice")
                if home is not None:
                    raise ValueError(f"{place}: PU {pu} is already in {home}; a core belongs to one group")
                seen[node.host, pu] = place
    if not seen:
        raise ValueError("/nodes: no core at all")


def _rate(figure: Figure | None) -> float:
    return math.inf if figure is None else figure.value


def _check_caches(caches: Iterable[Cache]) -> None:
    seen: set[tuple[Scope, int]] = set()
    for cache in caches:
        if (cache.shared_by, cache.level) in seen:
            raise ValueError(f"/caches: two caches of one level are shared by each {cache.shared_by}")
        seen.add((cache.shared_by, cache.level))


def _check_kinds(kinds: tuple[CoreKind, ...], cores: int) -> None:
    """Every core is of one kind, the fastest of speed 1."""
    if not kinds:
        return
    seen: set[int] = set()
    for k, kind in enumerate(kinds):
        for core in kind.cores:
            if core in seen or core >= cores:
                reason = "is in two kinds" if core in seen else f"does not exist, there are {cores}"
                raise ValueError(f"/core_kinds/{k}/cores: core {core} {reason}")
            seen.add(core)
    if len(seen) != cores:
        raise ValueError(f"/core_kinds: core {min(set(range(cores)) - seen)} is of no kind")


def _check_hosts(hosts: tuple[Host, ...] | None, nodes: tuple[Node, ...]) -> None:
    """Every host that there is has a name, and no two the same."""
    if hosts is None:
        return
    most = max(node.host for node in nodes)
    if len(hosts) <= most:
        raise ValueError(f"/hosts: {len(hosts)} names, but there is a host {most}")
    names = [host.name for host in hosts if host.name]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"/hosts: two hosts are called {twice!r}")


def _check_layout(layout: Layout | None, counts: dict[str, int]) -> None:
    if layout is None:
        return
    if len(layout.groups) != counts["groups"]:
        raise ValueError(f"/layout/groups: {len(layout.groups)} places, but there are {counts['groups']} groups")
    if len(set(layout.groups)) != len(layout.groups):
        raise ValueError("/layout/groups: two groups lie in one place")
    for c, controller in enumerate(layout.controllers):
        if controller.node >= counts["nodes"]:
            raise ValueError(f"/layout/controllers/{c}/node: there are {counts['nodes']} nodes, from 0")


def _check_citations(machine: Machine) -> None:
    """Every name in brackets at the beginning of a figure's source is one of `sources`."""
    for place, figure in figures(machine):
        cited = _CITED.match(figure.source)
        if cited and cited[1] not in machine.sources:
            raise ValueError(f"{place}/source: [{cited[1]}] is not in /sources")


def figures(part: Any, place: str = "") -> Iterator[tuple[str, Figure]]:
    """Every figure in a record, a table or a list, with its JSON pointer."""
    if isinstance(part, Figure):
        yield place, part
    elif isinstance(part, Record):
        for name in type(part).model_fields:
            yield from figures(getattr(part, name), f"{place}/{name}")
    elif isinstance(part, dict):
        for key, value in part.items():
            yield from figures(value, f"{place}/{key}")
    elif isinstance(part, tuple) and part and isinstance(part[0], Record):
        for i, value in enumerate(part):
            yield from figures(value, f"{place}/{i}")


def _check_distances(distances: tuple[tuple[float, ...], ...] | None, nodes: int) -> None:
    if distances is None:
        return
    if len(distances) != nodes or any(len(row) != nodes for row in distances):
        raise ValueError(f"/distances: a {nodes} × {nodes} matrix was expected, one row a node")
    for a, b in itertools.product(range(nodes), repeat=2):
        if distances[a][b] <= 0:
            raise ValueError(f"/distances/{a}/{b}: must be greater than zero, not {distances[a][b]:g}")
    for a, b in itertools.combinations(range(nodes), 2):
        if distances[a][b] != distances[b][a]:
            raise ValueError(f"/distances/{a}/{b}: {distances[a][b]:g}, but /distances/{b}/{a} is {distances[b][a]:g}")
        if distances[a][b] < max(distances[a][a], distances[b][b]):
            raise ValueError(f"/distances/{a}/{b}: nearer than the node is to itself")
