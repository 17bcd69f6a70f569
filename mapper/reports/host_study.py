"""What was measured of the machine at hand as tables, what it says of each mechanism first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from mapper.reports.bench import WIDEST, ratio_text
from mapper.reports.table import cut, table
from mapper.units import format_count, format_rate, format_seconds

if TYPE_CHECKING:
    from mapper.study.host.record import Build, Cell, HostStudy, OpRow, Way


def host_study_text(found: HostStudy) -> list[str]:
    """Everything for people."""
    counts, build = found.machine.counts, found.build
    torch = "" if build is None else f", {_torch(build, found.asked.backend)}"
    head = (f"{found.machine.title or found.machine.name}: {counts['cores']} cores in {counts['groups']} groups and "
            f"{counts['nodes']} nodes{torch}; {found.asked.rounds} interleaved rounds.")  # fmt: skip
    lines = [head, "", *_findings(found)]
    lines += ["", *_threads(found.ops)] if found.ops else []
    lines += ["", *_memory(found)] if found.memory else []
    for cell in found.cells:
        lines += ["", *_cell(cell)]
    skipped = [f"Not measured: {one.what}: {one.reason}." for one in found.skipped]
    lines += ["", *skipped] if skipped else []
    lines += [f"Warning: {warning}." for warning in _warnings(found)]
    return lines


def _torch(build: Build, backend: str) -> str:
    """Which torch, and with what it computed here."""
    unused = " (not used here)" if build.onednn and backend != "eager" else ""
    return f"torch {build.torch} with{'' if build.onednn else 'out'} oneDNN{unused}, BLAS: {build.blas or 'none'}"


def _findings(found: HostStudy) -> list[str]:
    rows = [[one.mechanism, "-" if one.value is None else _figure(one.mechanism, one.value), one.words]
            for one in found.findings]  # fmt: skip
    return table(["mechanism", "", "what was seen"], rows, right="1", indent="", fold="2", whole="02")


def _figure(mechanism: str, value: float) -> str:
    return format_seconds(value) if mechanism == "fork and join" else f"{value:.3g}"


def _threads(ops: Sequence[OpRow]) -> list[str]:
    """An op a line, a number of threads a column: time, rate of products, and in brackets busy cores."""
    teams = sorted({row.threads for row in ops})
    found: dict[tuple[str, tuple[int, ...]], dict[int, OpRow]] = {}
    for row in ops:
        found.setdefault((row.sort, row.sizes), {})[row.threads] = row
    lines = [
        [f"{sort} {'x'.join(map(str, sizes))}", *(_op(rows.get(threads)) for threads in teams)]
        for (sort, sizes), rows in found.items()
    ]
    head = ["op (in brackets cores that work)", *(f"{n} thread{'s' * (n > 1)}" for n in teams)]
    return table(head, lines, right=range(1, len(head)), indent="", whole="0")


def _op(row: OpRow | None) -> str:
    if row is None:
        return "-"
    seconds = row.seconds.median
    rate = f", {format_count(row.flop / seconds)}FLOP/s" if row.flop else ""
    busy = "" if row.busy_cores is None else f" ({row.busy_cores:.1f})"
    return f"{format_seconds(seconds)}{rate}{busy}{'!' if row.noisy else ''}"


def _memory(found: HostStudy) -> list[str]:
    rows = [
        [_nodes(row.cores_of), _nodes(row.memory_of), str(row.threads), f"{format_count(row.bytes_per_s.median)}B/s",
         f"{format_count(row.bytes_per_s.low)}B/s to {format_count(row.bytes_per_s.high)}B/s"]
        for row in found.memory
    ]  # fmt: skip
    head = ["cores of node", "memory of node", "threads", "read", "range"]
    return table(head, rows, right="23", indent="", whole="014")


def _nodes(numbers: Sequence[int]) -> str:
    return f"{numbers[0]} to {numbers[-1]}" if len(numbers) > 1 else str(numbers[0])


def _cell(cell: Cell) -> Iterator[str]:
    yield f"{cell.model}, items of {cell.item}:"
    if cell.ways:
        head = ["", "workers", "threads", "elements/s", "range", "over native", "predicted", "latency, a call"]
        yield from table(head, [_way(way) for way in cell.ways], right="1236", fold="42167", whole="457")
    for one in cell.skipped:
        yield f"  not measured: {one.what}: {one.reason}"
    for note in cell.notes:
        yield f"  note: {note}"


def _way(way: Way) -> list[str]:
    name, ratio = " = ".join(way.names), way.over_native
    marks = ("" if way.steady else "~") + ("!" if way.disturbed_rounds else "")
    over = "1" if ratio is None else ratio_text(ratio)
    return [
        cut(name, WIDEST), str(way.workers), str(way.threads),
        format_rate(way.rate_per_s.median) + marks,
        f"{format_rate(way.rate_per_s.low)} to {format_rate(way.rate_per_s.high)}",
        over + ("!" if ratio is not None and ratio.disturbed else ""), format_rate(way.predicted_rate_per_s),
        f"{format_seconds(way.latency_s.p50)} (predicted {format_seconds(way.predicted_latency_s)})",
    ]  # fmt: skip


def _warnings(found: HostStudy) -> Iterator[str]:
    from mapper.study.host.record import BUSY

    yield from found.warnings
    if found.others_before > BUSY:
        yield f"others took {found.others_before:.0%} of the cores before it began"
    disturbed = sum(way.disturbed_rounds for cell in found.cells for way in cell.ways)
    if disturbed:
        yield f"others computed during {disturbed} rounds of the table, marked with !"
    if found.interrupted:
        yield "it was interrupted before all was measured"
