"""A comparison as a table, the verdict first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mapper.reports.table import table
from mapper.units import format_rate, format_seconds

if TYPE_CHECKING:
    from mapper.study.bench import Bench


def bench_text(result: Bench) -> list[str]:
    """Lines for people."""
    rows = []
    for row in result.alternatives:
        rate, ratio = row.throughput_per_s, row.chosen_over_this
        rows.append([
            row.name, str(row.stages), str(row.workers), format_rate(rate.median),
            f"{format_rate(rate.low)} to {format_rate(rate.high)}", format_rate(row.predicted_throughput_per_s),
            format_seconds(row.latency_s), f"{ratio.median:.3f} ({ratio.low:.3f} to {ratio.high:.3f})" if ratio else "",
        ])  # fmt: skip
    head = ["", "stages", "workers", "items/s", "range", "predicted", "latency", "chosen / this"]
    return [
        f"{result.model}, {result.rounds} interleaved rounds on {result.machine}: {result.verdict}",
        "",
        *table(head, rows, right="12356"),
    ]
