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
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, model_validator

from mapper import jsonio
from mapper.jsonio import Record

SCHEMA = "mapper-topology/1"

Distance = Literal["core", "group", "node", "package", "host", "cluster"]
DISTANCES: tuple[Distance, ...] = ("core", "group", "node", "package", "host", "cluster")
"""What two cores share, nearest first: the core, the group, the node, the package, the host, the cluster of hosts."""


class Figure(Record):
    """A number with where it is from. `low` and `high` bound it where the source gives a range.

    In a file, a bare number stands for a figure that somebody assumed.
    """

    value: float
    low: float | None = None
    high: float | None = None
    kind: Literal["specified", "measured", "inferred", "assumed"] = "assumed"
    source: str = ""

    @model_validator(mode="before")
    @classmethod
    def _from_number(cls, given: Any) -> Any:
        return {"value": given} if isinstance(given, int | float) and not isinstance(given, bool) else given

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if (self.low is not None and self.low > self.value) or (self.high is not None and self.high < self.value):
            raise ValueError("low, value and high must be in this order")
        return self


def _positive(figure: Figure) -> Figure:
    if figure.value <= 0:
        raise ValueError(f"must be greater than zero, not {figure.value:g}")
    return figure


def _not_negative(figure: Figure) -> Figure:
    if figure.value < 0:
        raise ValueError(f"must not be negative, not {figure.value:g}")
    return figure


def _fraction(figure: Figure) -> Figure:
    if not 0 < figure.value <= 1:
        raise ValueError(f"must be in (0, 1], not {figure.value:g}")
    return figure


Positive = Annotated[Figure, AfterValidator(_positive)]
NotNegative = Annotated[Figure, AfterValidator(_not_negative)]
Fraction = Annotated[Figure, AfterValidator(_fraction)]


def parse_pus(text: str) -> tuple[int, ...]:
    """The PU numbers of a Linux CPU list such as `0-3,8,10-14:2`, in the order written.

    Raises: ValueError naming the part that is wrong.
    """
    numbers: list[int] = []
    for part in filter(None, (p.strip() for p in text.split(","))):
        span, _, stride = part.partition(":")
        first, dash, last = span.partition("-")
        try:
            low, high, step = int(first), int(last) if dash else int(first), int(stride) if stride else 1
        except ValueError:
            raise ValueError(f"{part!r} is not a CPU list such as 0-3,8") from None
        if low < 0 or high < low or step < 1 or high - low > 1_000_000:
            raise ValueError(f"{part!r} is not a CPU list such as 0-3,8")
        numbers.extend(range(low, high + 1, step))
    return tuple(numbers)


def format_pus(numbers: Sequence[int]) -> str:
    """The shortest CPU list that `parse_pus` reads as `numbers`, order kept."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(f"{a}" if a == b else f"{a}-{b}" for a, b in runs)


def _read_group(given: Any) -> Any:
    """A group in a file: a CPU list, each PU a core; or a list of CPU lists, one a core (SMT)."""
    if isinstance(given, str):
        return tuple((pu,) for pu in parse_pus(given))
    if isinstance(given, list) and all(isinstance(core, str) for core in given):
        return tuple(parse_pus(core) for core in given)
    return given


def _write_group(cores: tuple[tuple[int, ...], ...]) -> str | list[str]:
    if all(len(core) == 1 for core in cores):
        return format_pus([core[0] for core in cores])
    return [format_pus(core) for core in cores]


GroupCores = Annotated[
    tuple[tuple[int, ...], ...],
    BeforeValidator(_read_group, json_schema_input_type=str | list[str]),
    PlainSerializer(_write_group, return_type=str | list[str]),
]
"""The cores of one group, each as the OS numbers of its PUs."""


class Node(Record):
    """A NUMA node: memory with the groups next to it."""

    host: int = Field(default=0, ge=0)
    package: int = Field(default=0, ge=0, description="number of the package within all hosts")
    os_index: int | None = Field(default=None, ge=0, description="what the OS calls the node")
    memory_bytes: Positive | None = None
    groups: tuple[GroupCores, ...]


class Cache(Record):
    """One level of cache: `bytes` for each core, group or package that has one to itself.

    `fill` is the part of it that a working set can count on.
    """

    name: str
    level: int = Field(ge=1, le=5)
    shared_by: Literal["core", "group", "package"]
    bytes: Positive
    fill: Fraction = Figure(value=0.8)
    core_bandwidth_bytes_per_s: Positive | None = None
    latency_s: Positive | None = None


class Memory(Record):
    """Main memory: bandwidth of the whole package, of one node's controllers, and what one core can draw."""

    package_bandwidth_bytes_per_s: Positive
    node_bandwidth_bytes_per_s: Positive | None = None
    core_bandwidth_bytes_per_s: Positive


class Link(Record):
    """What passing data costs between two cores of one distance."""

    line_s: Positive = Field(description="seconds for one cache line that the other core has written")
    bandwidth_bytes_per_s: Positive


class Compute(Record):
    """What one core computes. `efficiency` is the part of the peak that an op kind reaches;
    `seconds_per_element` prices the kinds that are bound by neither FLOP nor memory."""

    peak_flop_per_s: Positive
    efficiency: dict[str, Fraction]
    seconds_per_element: dict[str, Positive]
    busy_slowdown: Positive = Field(description="how much slower a core is when all cores are busy, 1 = not at all")
    imbalance: NotNegative = Field(
        description="part of a parallel op's time lost at 64 threads, log2(threads)/6 of it below"
    )


class Overheads(Record):
    """Seconds that software adds. A team of T threads costs
    `fork_join_base_s + fork_join_factor · Σ line_s over its members + fork_join_jitter_s · T / 64` a parallel op."""

    dispatch_s: NotNegative
    fork_join_base_s: NotNegative
    fork_join_factor: NotNegative
    fork_join_jitter_s: NotNegative
    grain_elements: NotNegative = Field(description="elementwise ops on fewer elements stay on one core")
    handoff_s: NotNegative = Field(description="passing one tensor to another worker, without its bytes")
    process_bytes: NotNegative = Field(description="memory of one worker before it holds weights or activations")


class Core(Record):
    """A core as plans know it: `logical` number, the group and node that hold it, its PUs as the OS numbers them."""

    logical: int
    group: int
    node: int
    pus: tuple[int, ...]

    def __str__(self) -> str:
        return f"PU {format_pus(self.pus)} (core {self.logical})"


class Machine(Record):
    """A machine with every figure that planning needs, each with its provenance."""

    schema_: Literal["mapper-topology/1"] = Field(default="mapper-topology/1", alias="schema")
    name: str
    title: str = ""
    cpu_model: str = ""
    isa: str = ""
    frequency_hz: Positive | None = None
    nodes: tuple[Node, ...] = Field(min_length=1)
    distances: tuple[tuple[float, ...], ...] | None = Field(
        default=None, description="relative memory latency between nodes, as the firmware states it"
    )
    caches: tuple[Cache, ...] = ()
    memory: Memory
    compute: Compute
    overheads: Overheads
    links: dict[Distance, Link]
    notes: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _check_cores(self.nodes)
        _check_distances(self.distances, len(self.nodes))
        for kind in ("core", "group", "package"):
            levels = [cache.level for cache in self.caches if cache.shared_by == kind]
            if len(set(levels)) != len(levels):
                raise ValueError(f"/caches: two caches of one level are shared by each {kind}")
        missing = [d for d in self._needed_links() if d not in self.links]
        if missing:
            raise ValueError(f"/links: the distance {missing[0]!r} is missing")
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

    @property
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

    @property
    def cores_per_group(self) -> int:
        """Cores that every group has at least; configurations are made of groups of this size."""
        return min(len(cores) for cores in self.groups)

    @property
    def group_cache(self) -> Cache | None:
        """The outermost cache that a group has to itself, None where there is none."""
        found = self.cache("group")
        return self.cache("core") if found is None and max(map(len, self.groups)) == 1 else found

    @property
    def package_cache(self) -> Cache | None:
        """The cache that a whole package shares, None where there is none."""
        return self.cache("package")

    def cache(self, shared_by: Literal["core", "group", "package"]) -> Cache | None:
        """The outermost cache that each core, group or package has to itself, None where there is none."""
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
