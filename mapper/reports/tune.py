"""What tuning tried, in words: the kept plan, what else was measured, and why it stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mapper.reports.table import table
from mapper.units import format_rate

if TYPE_CHECKING:
    from mapper.study.tune import Tried, Tuning

BUSY = 0.05
"""Share of the cores that others may take before it is said."""


def tuning_text(tuning: Tuning) -> list[str]:
    """Lines for people: the answer, the table of what was tried, fastest first, and why it ended."""
    kept = next(row for row in tuning.tried if row.kept)
    rows = [_row(row) for row in sorted(tuning.tried, key=lambda row: (not row.kept, -row.measured_per_s))]
    head = ["", "turn", "stages", "workers", "predicted", "items/s", "rounds", "kept / this"]
    return [
        f"{tuning.model} with {tuning.backend} on {tuning.machine}: {tuning.kept}, {format_rate(kept.measured_per_s)} "
        f"items/s{_verdict(tuning)}",
        "",
        *table(head, rows, right="123456", fold="146", whole="7"),
        "",
        f"It stopped because {tuning.stopped}.",
        *([f"Warning: others took {tuning.others_busy:.0%} of the cores meanwhile: do not rely on this."]
          if tuning.others_busy > BUSY else []),
    ]  # fmt: skip


def _row(row: Tried) -> list[str]:
    ratio = row.kept_over_this
    over = "kept" if row.kept else f"{ratio.median:.3f} ({ratio.low:.3f} to {ratio.high:.3f})" if ratio else "slower"
    return [row.name, str(row.turn), str(row.stages), str(row.workers), format_rate(row.predicted_per_s),
            format_rate(row.measured_per_s), str(row.rounds), over]  # fmt: skip


def _verdict(tuning: Tuning) -> str:
    """Against the nearest other plan of the deciding rounds."""
    rivals = [row for row in tuning.tried if row.kept_over_this is not None]
    if not rivals:
        return ", the only one that came near" if len(tuning.tried) > 1 else ""
    near = min(rivals, key=lambda row: row.kept_over_this.median if row.kept_over_this else 0.0)
    assert near.kept_over_this is not None, "rivals have one"
    if near.kept_over_this.low > 1:
        return f", faster than all others (by {near.kept_over_this.median - 1:.1%} than {near.name})"
    return f", no slower beyond the noise than any other ({near.name} is nearest)"
