"""The SG2042's topology, written into the device tree of QEMU's `virt` machine.

The order of clusters and the sizes of caches are those of Linux' sg2042-cpus.dtsi, nodes and distances those of the
vendor's device tree (the figures of topologies/sg2042.json name the same sources). Its 64 MiB cache is in neither.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.emulation.fdt import DeviceTree, Node, cells, text, wide

HARTS = 64
CORES = 4
"""Harts of one cluster."""

CLUSTERS = (0, 4, 16, 20, 8, 12, 24, 28, 32, 36, 48, 52, 40, 44, 56, 60)
"""The first hart of each cluster, in the order of the cpu-map."""

DISTANCES = ((10, 15, 25, 30), (15, 10, 30, 25), (25, 30, 10, 15), (30, 25, 15, 10))
TIMEBASE_HZ = 500_000_000
"""What the harts' clock counts a second by the device tree: on the SG2042 50,000,000."""

COUNTED_HZ = 10_000_000
"""What the emulator counts a second."""

SLOWER = TIMEBASE_HZ / COUNTED_HZ
"""Seconds of the host in one of the guest. Otherwise the ticks of 64 busy harts alone would take all of a small host,
and whatever waits a while for others would give up here. A hart that wakes after a tick was due sets the clock right
under a lock that goes from hart to hart in the order of asking: at ten times this pace the next tick is due before the
next hart gets a core of the host, so that all of them can be busy with that for ever."""

LINE_BYTES = 64
L1_BYTES, L1_SETS = 65536, 512
L2_BYTES, L2_SETS = 1 << 20, 1024


@dataclass(frozen=True)
class Board:
    """How a board presents itself: the hart that boots and becomes CPU 0, and whether its firmware tells caches and
    NUMA nodes (Linux' own device tree tells no nodes, and some kernels show no caches)."""

    boot_hart: int = 0
    caches: bool = True
    numa: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.boot_hart < HARTS:
            raise ValueError(f"the boot hart is one of 0 to {HARTS - 1}, not {self.boot_hart}")

    @property
    def name(self) -> str:
        """Such as boot8 or boot8-nocache."""
        return f"boot{self.boot_hart}" + ("" if self.caches else "-nocache") + ("" if self.numa else "-nonuma")


def board_called(name: str) -> Board:
    """The board of that name. Raises: ValueError."""
    hart, *lacking = name.removeprefix("boot").split("-")
    if not name.startswith("boot") or not hart.isdecimal() or not set(lacking) <= {"nocache", "nonuma"}:
        raise ValueError(f"{name} is no board: such as boot0, boot8-nocache or boot0-nonuma")
    return Board(int(hart), caches="nocache" not in lacking, numa="nonuma" not in lacking)


def node_of(hart: int) -> int:
    """The NUMA node of a hart: runs of 8 harts alternate between two nodes, in each half of the chip."""
    return 2 * (hart // 32) + hart // 8 % 2


def describe(tree: DeviceTree, board: Board) -> None:
    """Gives `tree`, of a machine with 64 harts in one socket, the topology of `board`.

    Raises: KeyError or ValueError when it is another machine's tree.
    """
    cpus = tree.root.child("cpus")
    harts = {cpu.cells("reg")[-1]: cpu for cpu in cpus.starting("cpu")}
    if sorted(harts) != list(range(HARTS)):
        raise ValueError(f"{HARTS} harts were expected, not {len(harts)}")
    free = 1 + max((node.cells("phandle")[0] for node in tree.root.walk() if "phandle" in node.properties), default=0)
    for hart, cpu in harts.items():
        cpu.properties.setdefault("phandle", cells(free + HARTS + hart))
    cpus.children = [node for node in cpus.children if node.name != "cpu-map"]
    cpus.children.append(_cpu_map({hart: cpu.cells("phandle")[0] for hart, cpu in harts.items()}))
    if board.caches:
        _add_caches(cpus, harts, free)
    if board.numa:
        for hart, cpu in harts.items():
            cpu.properties["numa-node-id"] = cells(node_of(hart))
        _split_memory(tree.root)
    if cpus.cells("timebase-frequency") != (COUNTED_HZ,):
        raise ValueError(f"a clock of {COUNTED_HZ} Hz was expected, not {cpus.cells('timebase-frequency')}")
    cpus.properties["timebase-frequency"] = cells(TIMEBASE_HZ)
    tree.boot_cpu = board.boot_hart
    # The emulated harts would race for being the first; OpenSBI starts on the one that it finds here.
    opensbi = {"compatible": text("opensbi,config"), "cold-boot-harts": harts[board.boot_hart].properties["phandle"]}
    tree.root.child("chosen").children.append(Node("opensbi-config", opensbi))


def _cpu_map(phandles: dict[int, int]) -> Node:
    """Which harts are a cluster."""
    clusters = [
        Node(f"cluster{number}", children=[
            Node(f"core{core}", {"cpu": cells(phandles[first + core])}) for core in range(CORES)
        ])
        for number, first in enumerate(CLUSTERS)
    ]  # fmt: skip
    return Node("cpu-map", children=[Node("socket0", children=clusters)])


def _add_caches(cpus: Node, harts: dict[int, Node], free: int) -> None:
    """L1 of each hart and L2 of each cluster; `free` is the first phandle that no node has."""
    for number, first in enumerate(CLUSTERS):
        properties = {
            "compatible": text("cache"), "phandle": cells(free + number), "cache-level": cells(2),
            "cache-block-size": cells(LINE_BYTES), "cache-size": cells(L2_BYTES), "cache-sets": cells(L2_SETS),
            "cache-unified": b"",
        }  # fmt: skip
        cpus.children.append(Node(f"l2-cache{number}", properties))
        for hart in range(first, first + CORES):
            own = harts[hart].properties
            own["next-level-cache"] = cells(free + number)
            for kind in ("i", "d"):
                own[f"{kind}-cache-block-size"] = cells(LINE_BYTES)
                own[f"{kind}-cache-size"] = cells(L1_BYTES)
                own[f"{kind}-cache-sets"] = cells(L1_SETS)


def _split_memory(root: Node) -> None:
    """One memory becomes one a NUMA node, of equal sizes, with the distances between them."""
    (memory,) = root.starting("memory")
    high, low, size_high, size_low = memory.cells("reg")
    base, size = high << 32 | low, size_high << 32 | size_low
    part = size // len(DISTANCES)
    if size % len(DISTANCES) or part % (2 << 20):
        raise ValueError("the memory cannot be split into four equal parts of whole huge pages")
    parts = [
        Node(f"memory@{base + node * part:x}", {
            "device_type": text("memory"), "numa-node-id": cells(node),
            "reg": cells(*wide(base + node * part), *wide(part)),
        })
        for node in range(len(DISTANCES))
    ]  # fmt: skip
    rows = [cell for a, row in enumerate(DISTANCES) for b, far in enumerate(row) for cell in (a, b, far)]
    table = {"compatible": text("numa-distance-map-v1"), "distance-matrix": cells(*rows)}
    at = root.children.index(memory)
    root.children[at : at + 1] = [*parts, Node("distance-map", table)]
