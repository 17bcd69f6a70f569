"""What a source (the kernel's files, an hwloc export) shows of a machine, before anything is decided about it."""

from __future__ import annotations

from dataclasses import dataclass, field

from mapper.machine.figures import Figure

Pus = frozenset[int]


@dataclass(frozen=True)
class SeenCache:
    """A data or unified cache as one PU sees it: its `level`, its size, and the online PUs that share it."""

    level: int
    bytes: int
    pus: Pus


@dataclass(frozen=True)
class SeenPu:
    """A PU with the online PUs of its core, of its cluster (None where none is named) and of its package."""

    number: int
    core: Pus
    cluster: Pus | None
    package: Pus
    caches: tuple[SeenCache, ...]


@dataclass(frozen=True)
class SeenNode:
    """A NUMA node: what the OS calls it, its online PUs, its memory, and its row of the firmware's distances."""

    os_index: int
    pus: Pus
    memory_bytes: int | None
    distances: tuple[float, ...]


@dataclass(frozen=True)
class SeenKind:
    """PUs of one kind of core in a hybrid machine, with their speed relative to the fastest kind."""

    name: str
    pus: Pus
    speed: Figure


@dataclass(frozen=True)
class SeenCpu:
    """The CPU's `model` as the source names it ("" where it does not), its instruction set as `isa` in words and as
    `features` (flags), and the frequency of its fastest core."""

    model: str
    isa: str
    features: frozenset[str]
    frequency_hz: Figure


@dataclass(frozen=True)
class Seen:
    """All online PUs by number, the nodes in the order of their numbers, the memory of the whole machine, the CPU,
    and the kinds of core where there are several. `where` says for each sort of fact where it was read.

    `hart` gives the number of a PU's hardware thread where the source shows one that no boot order changes.
    """

    pus: dict[int, SeenPu]
    nodes: tuple[SeenNode, ...]
    memory_bytes: int | None
    cpu: SeenCpu
    where: Where
    kinds: tuple[SeenKind, ...] = ()
    hart: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Where:
    """In words, where the sizes of caches and the memory of nodes (`{node}` for the number) and of all were read."""

    caches: str
    node: str
    memory: str


SYSFS = Where(
    caches="size in sys/devices/system/cpu/cpu*/cache",
    node="MemTotal in node{node}/meminfo",
    memory="MemTotal in proc/meminfo",
)
