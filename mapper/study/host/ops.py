"""Single ops of the study: which, with which teams, and their rounds made into rows.

They are what tells the mechanisms apart: products show what a team gains where work is shared well, convolutions of
1 to 64 images whether they are spread over the images only, depthwise ones whether groups are a series.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from mapper.host.load import busy_between, snapshot
from mapper.jsonio import Record
from mapper.machine.model import Machine
from mapper.measure.calibrate import LOUD
from mapper.measure.cases import Case
from mapper.measure.software import Software
from mapper.measure.spread import middle_half
from mapper.measure.wanted import BEYOND, LEAST_BEYOND, NO_CACHES_BYTES, team_sizes
from mapper.study.host.record import MemoryRow, OpRow, Range, Skipped

MOST_ROUNDS = 5
OP_S = 0.08
"""About how long an op is timed in a round, at least three calls."""
MOST_OP_S = 60.0
"""What one round of an op may take; more is left out."""
CALLS = 3
MOST_SPREAD = 0.25
"""Spread of the middle half of the rounds, as part of the median, from which a row is marked."""

PRODUCTS = (
    Case("matmul", (512, 512, 512)), Case("matmul", (1024, 1024, 1024)),
    Case("matmul", (197, 768, 768)), Case("matmul", (197, 768, 3072)), Case("matmul", (128, 768, 3072)),
    Case("matmul", (3136, 576, 64)), Case("matmul", (784, 1152, 128)), Case("matmul", (49, 4608, 512)),
    Case("matmul.vector", (1, 768, 3072)), Case("matmul.vector", (1, 4096, 4096)),
)  # fmt: skip
"""Rows, inner, columns: squares; layers of ViT and BERT; ResNet-50's 3 × 3 convolutions as products, pixels by window ·
channels by channels; layers with one token, in cache and beyond it."""
CONVOLUTIONS = (
    ("conv", (64, 56, 64, 3, 1)), ("conv", (512, 14, 512, 3, 1)), ("conv.pointwise", (256, 14, 1024, 1, 1)),
    ("conv.depthwise", (144, 56, 144, 3, 1)), ("conv.depthwise", (960, 7, 960, 3, 1)),
)  # fmt: skip
"""Channels, side, outputs, window, stride: of ResNet-50, VGG-16, ResNet-50 and twice MobileNetV2."""
IMAGES = (1, 2, 8, 64)
OTHERS = (Case("elementwise", (96, 12544)), Case("transcendental.gelu", (197, 3072)),
          Case("normalization.layer", (197, 768)))  # fmt: skip


@dataclass(frozen=True)
class Op:
    """An op with a team on `pus`; `items` are the images of a convolution."""

    case: Case
    items: int
    pus: tuple[int, ...]

    @property
    def place(self) -> str:
        """What tells it from others."""
        return f"{self.case.name}, {len(self.pus)} threads"

    @property
    def flop(self) -> float:
        """FLOP of a call, 0 for ops that are no products."""
        return self.case.units if self.case.kind in ("matmul", "conv") else 0.0


@dataclass(frozen=True)
class Memory:
    """A read of `bytes` by a team on `pus`, the cores of some nodes, from the memory of some nodes: by our numbers, and
    by those of the system (none: wherever it lies)."""

    pus: tuple[int, ...]
    cores_of: tuple[int, ...]
    memory_of: tuple[int, ...]
    os_nodes: tuple[int, ...]
    bytes: int

    @property
    def place(self) -> str:
        """What tells it from others."""
        return f"read, cores of {self.cores_of}, memory of {self.memory_of}"


class Round(Record):
    """One round of an op or a read: seconds or bytes a second, cores that were busy where that was looked at, and the
    part of the cores that others had. `skipped`: why there is none."""

    place: str
    round: int
    value: float = 0.0
    busy_cores: float | None = None
    others_busy: float = 0.0
    skipped: str = ""


def ops_of(machine: Machine, images: Sequence[int] = IMAGES) -> list[Op]:
    """All ops of a round, with 1, 2, 4, ... and all threads; fewer images before more. Where no number of images could
    show that a convolution is spread over images, one more than there are threads does: it takes two turns."""
    pus = tuple(core.pus[0] for core in machine.cores)
    if len(pus) > 1 and not any(1 < count < len(pus) for count in images):
        images = sorted({*images, len(pus) + 1})
    cases = [(case, 1) for case in (*PRODUCTS, *OTHERS)]
    cases += [(Case(sort, (count, *sizes)), count) for count in images for sort, sizes in CONVOLUTIONS]
    teams = [1, *team_sizes(len(pus))]
    return [Op(case, count, pus[:threads]) for case, count in cases for threads in teams]


def reads_of(machine: Machine, free_bytes: float) -> tuple[list[Memory], list[Skipped]]:
    """Reads that tell one memory controller from all: all cores from the memory of the first node, which is where
    native's weights lie, all from all nodes, and the first node's cores from their own. What cannot be told here."""
    caches = max((cache.bytes.value for cache in machine.caches), default=NO_CACHES_BYTES / BEYOND)
    aim = int(max(NO_CACHES_BYTES, BEYOND * caches * machine.counts["packages"]))
    size = min(aim, int(free_bytes)) // 2**20 * 2**20
    if size < aim * LEAST_BEYOND / BEYOND:
        return [], [Skipped(what="bandwidth by node", reason=f"too little memory: {aim} bytes are needed")]
    pus = tuple(core.pus[0] for core in machine.cores)
    every = tuple(range(len(machine.nodes)))
    if len(every) == 1:
        reason = "the kernel shows one node: there is only the whole to measure"
        return [Memory(pus, every, every, (), size)], [Skipped(what="bandwidth of one node of several", reason=reason)]
    numbers = [node.os_index if node.os_index is not None else i for i, node in enumerate(machine.nodes)]
    own = tuple(core.pus[0] for core in machine.cores if core.node == 0)
    return [
        Memory(pus, every, (0,), (numbers[0],), size),
        Memory(pus, every, every, tuple(numbers), size),
        Memory(own, (0,), (0,), (numbers[0],), size),
    ], []  # fmt: skip


class OpTimer:
    """Measures rounds of ops and reads: one process that spins as torch does, one whose waiting threads sleep."""

    def __init__(self, spinning: Software, passive: Software, own_s: Callable[[], float]) -> None:
        self.spinning, self.passive, self._own_s = spinning, passive, own_s
        self._known: dict[tuple[str, tuple[int, ...], int], float] = {}

    def op(self, op: Op, number: int, seconds: float = OP_S) -> Round:
        """Round `number` of `op`; the first one also finds out how many cores are busy. Left out where it would take
        too long, judged by what fewer images took.

        Raises: ExecutionFailed when the process cannot do it.
        """
        expected = self._expected_s(op)
        if CALLS * expected > MOST_OP_S:
            return Round(place=op.place, round=number, skipped=f"a call would take about {expected:.0f} s")
        question = {"pus": list(op.pus), "sort": op.case.sort, "sizes": list(op.case.sizes), "seconds": seconds}
        before, own = snapshot(), self._own_s()
        taken = float(self.spinning.value("worked", MOST_OP_S * CALLS, **question)["seconds"])
        busy = None
        if number == 0:
            busy = float(self.passive.value("worked", MOST_OP_S * CALLS, **question)["busy_cores"])
        others = others_between(before, op.pus, self._own_s() - own)
        self._known[op.case.sort, op.case.sizes[1:], len(op.pus)] = taken / op.items
        return Round(place=op.place, round=number, value=taken, busy_cores=busy, others_busy=others)

    def read(self, read: Memory, number: int, seconds: float) -> Round:
        """Round `number` of `read`. Raises: ExecutionFailed where the system does not put memory there."""
        before, own = snapshot(), self._own_s()
        rate = float(self.spinning.value("read", MOST_OP_S, pus=list(read.pus), nodes=list(read.os_nodes),
                                         size=read.bytes, seconds=seconds))  # fmt: skip
        others = others_between(before, read.pus, self._own_s() - own)
        return Round(place=read.place, round=number, value=rate, others_busy=others)

    def _expected_s(self, op: Op) -> float:
        """About what a call takes: in proportion to what fewer images took; 0 where nothing is known."""
        return self._known.get((op.case.sort, op.case.sizes[1:], len(op.pus)), 0.0) * op.items


def others_between(before: dict[int, tuple[float, float]], pus: Sequence[int], own_s: float) -> float:
    """The part of `pus` that others had since `before`, 0 to 1, to four digits."""
    return round(busy_between(before, snapshot(), pus, own_s), 4)


def op_rows(ops: Iterable[Op], rounds: Sequence[Round]) -> tuple[list[OpRow], list[Skipped]]:
    """A row for each op that was measured, and why others were not."""
    rows, skipped = [], []
    for op in ops:
        mine = [r for r in rounds if r.place == op.place]
        if left_out := [r for r in mine if r.skipped]:
            skipped.append(Skipped(what=op.place, reason=left_out[0].skipped))
            continue
        if not mine:
            continue
        kept = [r for r in mine if r.others_busy <= LOUD] or mine
        values = [r.value for r in kept]
        busy = next((r.busy_cores for r in mine if r.busy_cores is not None), None)
        others = statistics.median(r.others_busy for r in mine)
        rows.append(OpRow(
            sort=op.case.sort, sizes=op.case.sizes, items=op.items, threads=len(op.pus), seconds=range_of(values),
            flop=op.flop, busy_cores=None if busy is None else round(busy, 2), rounds=len(kept), others_busy=others,
            noisy=others > LOUD or middle_half(values) > MOST_SPREAD,
        ))  # fmt: skip
    return rows, skipped


def memory_rows(reads: Iterable[Memory], rounds: Sequence[Round]) -> tuple[list[MemoryRow], list[Skipped]]:
    """A row for each read that was measured, and why others were not."""
    rows, skipped = [], []
    for read in reads:
        mine = [r for r in rounds if r.place == read.place]
        if left_out := [r for r in mine if r.skipped]:
            skipped.append(Skipped(what=read.place, reason=left_out[0].skipped))
        elif mine:
            rows.append(MemoryRow(
                threads=len(read.pus), cores_of=read.cores_of, memory_of=read.memory_of, bytes=read.bytes,
                bytes_per_s=range_of([r.value for r in mine]), rounds=len(mine),
                others_busy=statistics.median(r.others_busy for r in mine),
            ))  # fmt: skip
    return rows, skipped


def range_of(values: Sequence[float]) -> Range:
    """The median of `values` between the least and the greatest."""
    return Range(median=statistics.median(values), low=min(values), high=max(values))
