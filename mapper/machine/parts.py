"""What a machine is made of: nodes, caches, memory, links, and what its cores and its software cost."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, SerializerFunctionWrapHandler, model_serializer

from mapper.jsonio import Record
from mapper.machine.figures import Figure, Fraction, NotNegative, Positive
from mapper.machine.pus import GroupCores, format_pus, parse_pus

Distance = Literal["core", "group", "node", "package", "host", "cluster"]
DISTANCES: tuple[Distance, ...] = ("core", "group", "node", "package", "host", "cluster")
"""What two cores share, nearest first: the core, the group, the node, the package, the host, the cluster of hosts."""

Scope = Literal["core", "group", "node", "package"]
"""What has a cache to itself."""

CoreNumbers = Annotated[
    tuple[int, ...],
    BeforeValidator(lambda given: parse_pus(given) if isinstance(given, str) else given, json_schema_input_type=str),
    PlainSerializer(format_pus, return_type=str),
]
"""Logical numbers of cores, in a file a list such as `0-31`."""


class Node(Record):
    """A NUMA node: memory with the groups next to it."""

    host: int = Field(default=0, ge=0)
    package: int = Field(default=0, ge=0, description="number of the package within all hosts")
    os_index: int | None = Field(default=None, ge=0, description="what the OS calls the node")
    memory_bytes: Positive | None = None
    groups: tuple[GroupCores, ...]


class Cache(Record):
    """One level of cache: `bytes` for each core, group, node or package that has one to itself.

    `fill` is the part of it that a working set can count on; the bandwidth is what one core reads from it, the
    latency that of a load which depends on the one before.
    """

    name: str
    level: int = Field(ge=1, le=5)
    shared_by: Scope
    bytes: Positive
    fill: Fraction = Figure(value=0.8)
    core_bandwidth_bytes_per_s: Positive | None = None
    latency_s: Positive | None = None


class Memory(Record):
    """Main memory: what a whole package, the controllers of one node, the cores of one group and one core can draw.

    A bandwidth that is absent limits nothing.
    """

    package_bandwidth_bytes_per_s: Positive | None = None
    node_bandwidth_bytes_per_s: Positive | None = None
    group_bandwidth_bytes_per_s: Positive | None = None
    core_bandwidth_bytes_per_s: Positive | None = None
    latency_s: Positive | None = None


class Link(Record):
    """What passing data costs between two cores of one distance. A bandwidth that is absent limits nothing.

    Between hosts (`cluster`) it is a network: `line_s` is the time that a small message is on its way, `message_s` what
    each side's cores do for one. The bandwidth, that of each direction, is shared by all that crosses a host's border.
    """

    line_s: NotNegative = Field(
        description="seconds for one cache line that the other core has written; between hosts for a small message"
    )
    bandwidth_bytes_per_s: Positive | None = None
    message_s: NotNegative | None = Field(
        default=None, description="between hosts, seconds of either side for a message: serialising, system calls"
    )

    def seconds(self, size: float) -> float:
        """Seconds for `size` bytes, without what it takes to begin."""
        return size / self.bandwidth_bytes_per_s.value if self.bandwidth_bytes_per_s else 0.0


Path = Literal["onednn", "native-aten"]
"""How PyTorch executes ops on a machine (see `mapper.cost.paths`)."""


class Rate(Record):
    """What ops of one sort take on one core: `start_s` + `unit_s` · units + `weight_byte_s` · weight bytes, of which
    all but the first is shared by a team. Units are FLOP of products, elements of the rest (docs/costs.md)."""

    start_s: NotNegative = Field(description="an op of no work, called by the eager back end")
    unit_s: NotNegative = Field(description="a FLOP or an element more")
    weight_byte_s: NotNegative = Field(default=Figure(value=0), description="laying out a byte of weights at each call")
    dram_byte_s: NotNegative = Field(default=Figure(value=0), description="at least, a byte of weights from DRAM")
    speedup: dict[int, Positive] = Field(default={}, description="how much faster a team is, by threads; 1 is none")


class Compute(Record):
    """What one core computes. `efficiency` is the part of the peak that an op kind reaches;
    `seconds_per_element` prices the kinds that are bound by neither FLOP nor memory. Where a calibration measured
    `rates` of a sort of ops (`conv.depthwise`) or a kind (`conv`), these count instead, and instead of dispatch."""

    peak_flop_per_s: Positive
    efficiency: dict[str, Fraction]
    seconds_per_element: dict[str, NotNegative]
    rates: dict[str, Rate] = Field(default={}, description="measured, by sort or kind of op")
    path: Path | None = Field(default=None, description="how PyTorch executes ops here [by the instruction set]")
    busy_slowdown: Positive = Field(description="how much slower a core is when all cores are busy, 1 = not at all")
    imbalance: NotNegative = Field(
        description="part of a parallel op's time lost at 64 threads, log2(threads)/6 of it below"
    )

    @model_serializer(mode="wrap")
    def _measured_only(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without `rates` where none was measured."""
        return {name: value for name, value in handler(self).items() if name != "rates" or value}


class Overheads(Record):
    """Seconds that software adds. A team of T threads costs what `fork_join_s` says for T a parallel op (between its
    entries in proportion), or where nothing was measured
    `fork_join_base_s + fork_join_factor · Σ line_s over its members + fork_join_jitter_s · T / 64`."""

    dispatch_s: NotNegative
    fork_join_base_s: NotNegative
    fork_join_factor: NotNegative
    fork_join_jitter_s: NotNegative
    fork_join_s: dict[int, NotNegative] = Field(default={}, description="measured, by threads, on neighbouring cores")
    grain_elements: NotNegative = Field(description="elementwise ops on fewer elements stay on one core")
    handoff_s: NotNegative = Field(description="passing one tensor to another worker, without its bytes")
    process_bytes: NotNegative = Field(description="memory of one worker before it holds weights or activations")
    panel_factor: NotNegative | None = Field(
        default=None,
        description="line transfers a member causes for each panel of 256 of the inner dimension of a product that a "
        "team computes with OpenBLAS",
    )
    page_fault_s: NotNegative | None = Field(
        default=None, description="first touch of a page of 4 KiB, by each op that makes a tensor of over 32 MiB"
    )
    page_faults_at_once: Positive | None = Field(
        default=None, description="page faults of a team that the kernel serves side by side [one]"
    )


class CoreKind(Record):
    """Cores of one kind in a machine that has several: their logical numbers and their speed, 1 for the fastest."""

    name: str
    cores: CoreNumbers
    speed: Fraction


class Host(Record):
    """A host of a cluster: what people call it, where it is reached, and the machine that it is."""

    name: str = ""
    address: str = Field(default="", description="a name or number that the other hosts reach it by")
    machine: str = Field(default="", description="the name of the machine that it is")


class Power(Record):
    """Electrical power: of a package with all cores busy (its design power, where nobody measured) and idle."""

    package_w: Positive | None = None
    package_idle_w: Positive | None = None


class Controller(Record):
    """A memory controller in a drawing: the node whose memory it serves, and where it lies."""

    name: str
    node: int = Field(ge=0)
    at: tuple[float, float]


class Layout(Record):
    """Where the groups (in the order of their numbers) and memory controllers lie, for drawings: columns from the
    left, rows from the bottom."""

    groups: tuple[tuple[float, float], ...]
    controllers: tuple[Controller, ...] = ()


class PartOf(Record):
    """The whole machine that this one is a part of: its fingerprint, and which of its cores these are, in order."""

    fingerprint: str
    cores: CoreNumbers


class Core(Record):
    """A core as plans know it: `logical` number, the group and node that hold it, its PUs as the OS numbers them."""

    logical: int
    group: int
    node: int
    pus: tuple[int, ...]

    def __str__(self) -> str:
        return f"PU {format_pus(self.pus)} (core {self.logical})"
