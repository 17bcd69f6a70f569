"""A comparison as tables, the verdict first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mapper.reports.table import cut, table
from mapper.units import format_rate, format_seconds

if TYPE_CHECKING:
    from mapper.study.bench import Bench, BenchRow, Ratio
    from mapper.study.host.record import Ratio as HostRatio

WIDEST = 44
"""Columns of a name; longer ones are cut in tables, and told in full below."""


def bench_text(result: Bench) -> list[str]:
    """Lines for people."""
    about = f"{result.model}, {result.backend}, {result.rounds} interleaved rounds on {result.machine}"
    least = "" if result.at_least is None else f" At least {result.at_least:.3f} times the best alternative (95 %)."
    closed = _closed(result.alternatives, result.counts)
    lines = [
        f"{about}: {result.verdict}.{least}",
        "",
        *table(*closed, right="12356", fold="5124", whole="47", bars=_rates(result.alternatives)),
    ]
    if any(row.open_loop for row in result.alternatives):
        lines += ["", "Poisson arrivals; latency from when an item was due:", ""]
        lines += table(*_open(result.alternatives), right="123456")
    cut = [row.name for row in result.alternatives if len(row.name) > WIDEST]
    lines += ["", *(f"{_short(name)} is: {name}" for name in cut)] if cut else []
    lines += ["", *(f"Note: {note}." for note in result.notes)] if result.notes else []
    return lines


def _closed(rows: Sequence[BenchRow], counts: str) -> tuple[list[str], list[list[str]]]:
    """The closed-loop table."""
    several = len({row.backend for row in rows}) > 1
    cells = []
    for row in rows:
        rate = row.throughput_per_s
        predicted = "" if row.predicted_throughput_per_s is None else format_rate(row.predicted_throughput_per_s)
        marks = ("" if row.steady else "~") + ("!" if row.disturbed_rounds else "")
        cells.append([
            _short(row.name) + (f" [{row.backend}]" if several else ""), str(row.stages), str(row.workers),
            format_rate(rate.median) + marks, f"{format_rate(rate.low)} to {format_rate(rate.high)}", predicted,
            format_seconds(row.latency_s.p50),
            ratio_text(row.chosen_over_this) + ("!" if row.ratio_disturbed else ""),
        ])  # fmt: skip
    return ["", "stages", "workers", f"{counts}/s", "range", "predicted", "latency", "chosen / this"], cells


def _rates(rows: Sequence[BenchRow]) -> list[float]:
    """Each rate as a share of the best."""
    most = max((row.throughput_per_s.median for row in rows), default=0.0)
    return [row.throughput_per_s.median / most if most else 0.0 for row in rows]


def _open(rows: Sequence[BenchRow]) -> tuple[list[str], list[list[str]]]:
    """The open-loop table: a line for each rate and alternative."""
    cells = []
    for i in range(len(rows[0].open_loop)):
        for row in rows:
            load = row.open_loop[i]
            latency = [format_seconds(x) for x in (load.latency_s.p50, load.latency_s.p90, load.latency_s.p99)]
            done = format_rate(load.completed_per_s) + ("!" if load.disturbed_rounds else "")
            cells.append([_short(row.name), format_rate(load.rate_per_s), done, *latency, str(load.items),
                          "overloaded" if load.overloaded else ""])  # fmt: skip
    return ["", "due/s", "done/s", "p50", "p90", "p99", "items", ""], cells


def ratio_text(ratio: Ratio | HostRatio | None) -> str:
    """Such as `1.040 (1.010 to 1.080)`."""
    return f"{ratio.median:.3f} ({ratio.low:.3f} to {ratio.high:.3f})" if ratio else ""


def _short(name: str) -> str:
    return cut(name, WIDEST)
