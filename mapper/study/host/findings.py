"""What the measurements say of each mechanism that may make pipelines gain over native.

Nothing here is fitted or judged by how well it suits a published figure: each finding is a quotient of two measured
values, in words. The mechanisms are those that the study models (`sg2042/parameters.MECHANISMS`). What others disturbed
says nothing of times, but which cores worked it does say.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence

from mapper.measure.calibrate import LOUD, Row
from mapper.study.host.record import Cell, Finding, MemoryRow, OpRow, Ratio, Way
from mapper.units import format_seconds

UNTOLD = "it cannot be told: one core, or others were at work in every round"
APART = 1.2
"""Threads over the cores that a spread over images keeps busy: with less, the two cannot be told apart."""


def findings(
    ops: Sequence[OpRow], memory: Sequence[MemoryRow], cells: Sequence[Cell], calibrated: Sequence[Row],
    others_busy: float = 0.0,
) -> tuple[Finding, ...]:  # fmt: skip
    """All of them, in the order of the estimate's list. `others_busy` is what others took during the calibration."""
    return (
        *_fork_join(calibrated, others_busy), *_products(ops), *_batch_split(ops), *_group_loop(ops),
        *_controllers(memory), *_interleaving(cells), *_best_team(cells), *_pipelines(cells), *_model(cells),
    )  # fmt: skip


def _fork_join(calibrated: Sequence[Row], others_busy: float) -> Iterator[Finding]:
    """The largest team's."""
    rows = [row for row in calibrated if row.place.startswith("/overheads/fork_join_s/") and row.state == "measured"]
    if not rows or others_busy > LOUD:
        yield Finding(mechanism="fork and join", value=None, words=UNTOLD)
    else:
        threads, row = max((int(row.place.rpartition("/")[2]), row) for row in rows)
        assert row.value is not None, "chosen so"
        words = f"starting and joining a team of {threads} takes {format_seconds(row.value)}"
        yield Finding(mechanism="fork and join", value=row.value, words=words)


def _products(ops: Sequence[OpRow]) -> Iterator[Finding]:
    """What all threads gain over one on products of matrices."""
    gains = [gain for _, gain, _ in _speedups(ops, "matmul")]
    if not gains:
        yield Finding(mechanism="products by threads", value=None, words=UNTOLD)
    else:
        threads = max(row.threads for row in ops)
        least, most = min(gains), max(gains)
        words = f"{threads} threads compute products {least:.2g} to {most:.2g} times as fast as one"
        yield Finding(mechanism="products by threads", value=statistics.median_high(gains), words=words)


def _batch_split(ops: Sequence[OpRow]) -> Iterator[Finding]:
    """How many cores are busy in convolutions whose images do not come out even among the threads."""
    name = "convolutions spread over images only"
    threads = max((row.threads for row in ops), default=1)
    told = False
    for row in ops:
        if row.sort not in ("conv", "conv.pointwise") or row.items == 1 or row.threads != threads:
            continue
        if row.busy_cores is None or threads < APART * (spread := images_busy(row.items, threads)):
            continue
        split, told = row.busy_cores < (spread + threads) / 2, True
        words = (f"{row.items} images of {row.sort} {'x'.join(map(str, row.sizes[1:]))} keep {row.busy_cores:.1f} of "
                 f"{threads} cores busy; spread over images only it would be {spread:.3g}: "
                 + ("that is what happens" if split else "more is spread"))  # fmt: skip
        yield Finding(mechanism=name, value=row.busy_cores / spread, words=words)
    if not told:
        yield Finding(mechanism=name, value=None, words="no convolution that was measured could show it here")


def images_busy(images: int, threads: int) -> float:
    """Cores that are busy where a team takes whole images, as many turns as it needs."""
    return images / math.ceil(images / threads)


def _group_loop(ops: Sequence[OpRow]) -> Iterator[Finding]:
    """What all threads gain over one on a depthwise convolution of one image."""
    name, told = "group-wise convolutions in series", False
    for row, gain, threads in _speedups([row for row in ops if row.items == 1], "conv.depthwise"):
        told = True
        words = f"{threads} threads compute a depthwise convolution of {row.sizes[1]} channels {gain:.2g} times as fast"
        words += " as one" + (": the team costs more than it brings" if gain < 1 else "")
        yield Finding(mechanism=name, value=gain, words=words)
    if not told:
        yield Finding(mechanism=name, value=None, words=UNTOLD)


def _controllers(memory: Sequence[MemoryRow]) -> Iterator[Finding]:
    """What all cores read from one node's memory over what they read from all."""
    most = max((len(row.cores_of) for row in memory), default=0)
    one = [row for row in memory if len(row.cores_of) == most and len(row.memory_of) == 1 < most]
    every = [row for row in memory if len(row.cores_of) == most and len(row.memory_of) == most]
    if one and every:
        share = one[0].bytes_per_s.median / every[0].bytes_per_s.median
        words = f"all cores read {share:.2f} times as fast from one node's memory as from that of all {most}"
        yield Finding(mechanism="one memory controller", value=share, words=words)
    elif every:
        yield Finding(mechanism="one memory controller", value=None, words="the machine shows a single node")


def _interleaving(cells: Sequence[Cell]) -> Iterator[Finding]:
    """What native gains where its weights lie on all nodes."""
    for cell in cells:
        first = cell.ways[0] if cell.ways else None
        for way in cell.ways:
            if first and way.pages == "interleaved" and way.threads == first.threads and way.over_native:
                gain = way.over_native.median
                words = f"{_of(cell)}: native with interleaved pages is {gain:.2f} times as fast"
                words += _marked(way.over_native)
                yield Finding(mechanism="weights on one node", value=gain, words=words)


def _best_team(cells: Sequence[Cell]) -> Iterator[Finding]:
    """What native gains with fewer threads than there are cores."""
    for cell in cells:
        fewer = [way for way in cell.ways if "native" in way.kinds and way.pages == "first touch" and way.over_native]
        best = _best(fewer)
        if best is not None and best.over_native is not None and best.over_native.low > 1:
            ratio = best.over_native
            words = f"{_of(cell)}: native with a team of {best.threads} is {ratio.median:.2f} times as fast as with all"
            yield Finding(mechanism="native's best team", value=ratio.median, words=words + _marked(ratio))


def _pipelines(cells: Sequence[Cell]) -> Iterator[Finding]:
    """What the best pipeline without copies gains over native with all threads, and the best of all ways."""
    for cell in cells:
        for kinds, mechanism in ((("pipeline",), "best pipeline"), (("pipeline", "copies", "planner"), "best mapping")):
            ways = [way for way in cell.ways if set(way.kinds) & set(kinds) and way.over_native is not None]
            best = _best(ways)
            if best is not None and best.over_native is not None:
                ratio = best.over_native
                words = f"{_of(cell)}: {best.names[0]} reaches {ratio.median:.2f} ({ratio.low:.2f} to {ratio.high:.2f})"
                words += " times native with all threads"
                yield Finding(mechanism=mechanism, value=ratio.median, words=words + _marked(ratio))


def _model(cells: Sequence[Cell]) -> Iterator[Finding]:
    """How far the machine model is off, over all ways."""
    off = [abs(math.log(way.predicted_rate_per_s / way.rate_per_s.median)) for cell in cells for way in cell.ways]
    if off:
        factor = math.exp(statistics.median_high(off))
        words = f"half of {len(off)} rates are predicted within a factor of {factor:.2f}"
        yield Finding(mechanism="machine model", value=factor, words=words)


def _speedups(ops: Sequence[OpRow], sort: str) -> Iterator[tuple[OpRow, float, int]]:
    """Of each op of `sort`: what the largest team gains over one thread."""
    alone = {(row.sort, row.sizes): row for row in ops if row.threads == 1}
    threads = max((row.threads for row in ops), default=1)
    for row in ops:
        one = alone.get((row.sort, row.sizes))
        if row.sort == sort and row.threads == threads > 1 and one is not None and not (row.noisy or one.noisy):
            yield row, one.seconds.median / row.seconds.median, threads


def _best(ways: Sequence[Way]) -> Way | None:
    """The one that gains most over native."""
    return max(ways, key=lambda way: way.over_native.median if way.over_native else 0.0, default=None)


def _marked(ratio: Ratio) -> str:
    return ", disturbed by others" if ratio.disturbed else ""


def _of(cell: Cell) -> str:
    return f"{cell.model}, items of {cell.item}"
