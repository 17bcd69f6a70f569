"""A profile in words: what a whole item takes by configuration, against the model's costs, and how well costs fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mapper.reports.table import table
from mapper.units import format_rate, format_seconds

if TYPE_CHECKING:
    from mapper.cost.profile import Profile
    from mapper.cost.profiled import Fit
    from mapper.study.profile import Profiled


def profile_text(made: Profiled) -> list[str]:
    """Lines for people: the answer, the whole model by configuration, what the fit found, and why it ended."""
    found = made.profile
    rows = found.measurements
    noisy = sum(row.noisy for row in rows)
    out = [f"{found.model} with {found.backend} on {found.machine.name}: {len(rows)} measurements of "
           f"{len({row.configuration for row in rows})} configurations"
           + (f", {noisy} of them noisy" if noisy else "")]  # fmt: skip
    if made.fit is not None:
        out.append(f"Costs come within {made.fit.error:.1%} (median) of what segments and stages took.")
    if made.turns:
        last = made.turns[-1]
        out.append(f"The plan: {format_rate(1 / last.period_s)} items/s with {last.stages} stage"
                   f"{'s' * (last.stages != 1)}, after {len(made.turns)} round{'s' * (len(made.turns) != 1)} of "
                   "planning and measuring.")  # fmt: skip
    out.append(f"It ended because {made.ended}." if not made.interrupted else "Interrupted: what was measured is kept.")
    busy = max((row.others_busy for row in rows), default=0.0)
    if noisy:
        out.append(f"Warning: others took up to {busy:.0%} of the cores, or rounds spread widely: what is marked noisy "
                   "counts less; better repeat it on an idle machine.")  # fmt: skip
    return [*out, "", *_whole(found, made.fit)]


def _whole(profile: Profile, fit: Fit | None) -> list[str]:
    """The whole model by configuration."""
    rows = []
    for row in profile.measurements:
        if row.count == len(profile.ops) and row.source != "op":
            bias = fit.bias.get(("op", row.configuration)) if fit else None
            rows.append([
                row.configuration, row.residency, format_seconds(row.median_s),
                f"{format_seconds(row.low_s)} to {format_seconds(row.high_s)}", str(row.rounds),
                f"{1 / bias:.2f}" if bias else "", f"{row.others_busy:.0%}{' noisy' if row.noisy else ''}",
            ])  # fmt: skip
    head = ["configuration", "", "an item", "middle half", "rounds", "whole / ops alone", "others"]
    return table(head, rows, right="2345", fold="4163", whole="0") if rows else []
