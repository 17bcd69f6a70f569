"""The SG2042 study as tables: gains over native, bands, mechanisms, sensitivities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mapper.reports.table import table
from mapper.units import format_seconds

if TYPE_CHECKING:
    from mapper.study.sg2042.bands import Band
    from mapper.study.sg2042.study import Gain, Row, Study

SHOWN_ITEMS = (1, 8, 64)
MOST_INFLUENCES = 6
_COLUMNS = {
    "16 × 4": "16 stages × 4", "one pipeline": "", "4 copies": "4 copies × 16", "16 copies": "16 copies × 4",
    "64 copies": "64 copies × 1", "a node": "a pipeline a node", "a group": "a pipeline a group", "planner": "planner",
    "planner, limit": "planner, latency limit",
}  # fmt: skip
"""Columns and the mappings in them; the empty one is the best of all single pipelines."""


def study_text(found: Study, bands: Sequence[Band]) -> list[str]:
    """Everything for people."""
    items = [item for item in SHOWN_ITEMS if any(row.item == item for row in found.rows)]
    rows = [row for row in found.rows if row.item in (items or [found.rows[0].item])]
    return [
        f"Gains over native PyTorch with all threads and default pages on {found.machine}: central figures, and in "
        f"brackets the 5th and 95th percentile of {found.samples} samples of the uncertain ones.",
        "",
        *_gains(rows),
        "",
        *_bands(bands),
        "",
        *_knockouts(found),
        "",
        *_influences(found),
    ]


def _gains(rows: Sequence[Row]) -> list[str]:
    head = ["model", "item", "native", "interleaved", "best native", *_COLUMNS]
    lines = [
        [r.model, str(r.item), format_seconds(r.native_s), f"{r.interleaved:.2f}",
         f"{r.best_native_ratio:.2f} ({r.best_native.removeprefix('native, ')})",
         *(_gain(_found(r, name)) for name in _COLUMNS.values())]
        for r in rows
    ]  # fmt: skip
    return table(head, lines, right="123", indent="")


def _found(row: Row, name: str) -> Gain | None:
    if not name:
        return row.best_pipeline
    exact = next((g for g in row.gains if g.name == name), None)
    return exact or next((g for g in row.gains if name.startswith("a ") and g.name.startswith(f"{name}:")), None)


def _gain(gain: Gain | None) -> str:
    if gain is None:
        return "-"
    if gain.low == gain.high:
        return f"{gain.ratio:.3g}"
    return f"{gain.ratio:.3g} [{gain.low:.3g}, {gain.high:.3g}]"


def _bands(bands: Sequence[Band]) -> list[str]:
    lines = [
        [band.name, f"{band.low:g} to {band.high:g}", "-" if band.found is None else f"{band.found:.3g}",
         {True: "met", False: "refuted", None: "no data"}[band.met], band.where]
        for band in bands
    ]  # fmt: skip
    return table(["expected", "", "found", "", "where"], lines, right="2", indent="")


def _knockouts(found: Study) -> list[str]:
    """The best pipeline's gain without each mechanism."""
    places = list(dict.fromkeys((k.model, k.item) for k in found.knockouts))
    names = list(dict.fromkeys(k.mechanism for k in found.knockouts))
    values = {(k.model, k.item, k.mechanism): k.without for k in found.knockouts}
    central = {(k.model, k.item): k.central for k in found.knockouts}
    lines = [["nothing", *(f"{central[place]:.3g}" for place in places)]]
    lines += [[name, *(f"{values[(*place, name)]:.3g}" for place in places)] for name in names]
    head = ["the best pipeline's gain without", *(f"{model} {item}" for model, item in places)]
    return table(head, lines, right="".join(map(str, range(1, 10))), indent="") if places else []


def _influences(found: Study) -> list[str]:
    """What moves the best pipeline's gain most, for each model and item size."""
    lines = []
    for place in dict.fromkeys((i.model, i.item) for i in found.influences):
        mine = [i for i in found.influences if (i.model, i.item) == place]
        most = sorted(mine, key=lambda i: -abs(i.high - i.low))[:MOST_INFLUENCES]
        told = "; ".join(f"{i.parameter} {i.low:.3g} to {i.high:.3g}" for i in most)
        lines.append([f"{place[0]}, items of {place[1]}", f"{mine[0].central:.3g}", told])
    head = ["the best pipeline's gain", "", "with a parameter from its low to its high end"]
    return table(head, lines, right="1", indent="") if lines else []
