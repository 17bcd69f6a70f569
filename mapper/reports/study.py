"""The study as tables: gains over native, bands, mechanisms, sensitivities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mapper.reports.table import table
from mapper.units import format_seconds

if TYPE_CHECKING:
    from mapper.study.sg2042.bands import Band
    from mapper.study.sg2042.study import Gain, Row, Shape, Study

SHOWN_ITEMS = (1, 8, 64)
MOST_INFLUENCES = 6
BUILDS = {
    "onednn": "PyTorch with oneDNN, as its builds for x86-64 and AArch64 have it",
    "native-aten": "PyTorch without oneDNN (ATen's own kernels and OpenBLAS), as its build for RISC-V is",
}
"""What native is, by path."""


def study_text(found: Study, bands: Sequence[Band]) -> list[str]:
    """Everything for people."""
    items = [item for item in SHOWN_ITEMS if any(row.item == item for row in found.rows)]
    rows = [row for row in found.rows if row.item in (items or [found.rows[0].item])]
    shape = found.shape
    return [
        f"Gains over native PyTorch with all {shape.cores} threads and default pages on {found.machine}: central "
        f"figures, {_ranges(found)}.",
        f"Native is {BUILDS[found.path]} (path {found.path}). A group is {shape.cores_per_group} "
        f"core{'s' * (shape.cores_per_group != 1)}, a node {shape.cores // shape.nodes}.",
        "",
        *_gains(rows, _columns(shape)),
        *_parted(_bands(bands)),
        *_parted(_knockouts(found)),
        *_parted(_influences(found)),
    ]


def _ranges(found: Study) -> str:
    """What the brackets are, and what they leave out."""
    if not found.ranged or not found.samples:
        why = "were asked for" if found.ranged else "are in the file of the machine"
        return f"and no ranges, since no {'samples' if found.ranged else 'ranges of figures'} {why}"
    left = f"; assumed without a range, so not in them: {', '.join(found.unranged)}" if found.unranged else ""
    return f"and in brackets the 5th and 95th percentile of {found.samples} samples of the {found.ranged} uncertain " \
           f"ones{left}"  # fmt: skip


def _parted(lines: Sequence[str]) -> list[str]:
    """`lines` after an empty one, if there are any."""
    return ["", *lines] if lines else []


def _columns(shape: Shape) -> dict[str, str]:
    """Columns and the mappings in them; the empty one is the best of all single pipelines."""
    cores, size, groups, nodes = shape.cores, shape.cores_per_group, shape.groups, shape.nodes
    known = [
        (f"{groups} × {size}", f"{groups} stages × {size}", groups > 1),
        ("one pipeline", "", True),
        (f"{nodes} copies", f"{nodes} copies × {cores // nodes}", 1 < nodes < groups),
        (f"{groups} copies", f"{groups} copies × {size}", 1 < groups < cores),
        (f"{cores} copies", f"{cores} copies × 1", True),
        ("a node", "a pipeline a node", 1 < nodes < groups),
        ("a group", "a pipeline a group", 1 < groups < cores),
        ("planner", "planner", True),
        ("planner, limit", "planner, latency limit", True),
    ]
    return {column: name for column, name, there in known if there}


def _gains(rows: Sequence[Row], columns: Mapping[str, str]) -> list[str]:
    head = ["model", "item", "native", "interleaved", "best native", *columns]
    last = {head.index(name) for name in ("planner", "one pipeline")}
    fold = [3, 4, *(i for i in reversed(range(5, len(head))) if i not in last)]
    lines = [
        [r.model, str(r.item), format_seconds(r.native_s), f"{r.interleaved:.2f}",
         f"{r.best_native_ratio:.2f} ({r.best_native.removeprefix('native, ')})",
         *(_gain(_found(r, name)) for name in columns.values())]
        for r in rows
    ]  # fmt: skip
    return table(head, lines, right="123", indent="", fold=fold, whole=range(4, len(head)))


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
    head = ["expected", "", "found", "", "where"]
    return table(head, lines, right="2", indent="", fold="41", whole="14") if lines else []


def _knockouts(found: Study) -> list[str]:
    """The best pipeline's gain without each mechanism."""
    places = list(dict.fromkeys((k.model, k.item) for k in found.knockouts))
    names = list(dict.fromkeys(k.mechanism for k in found.knockouts))
    values = {(k.model, k.item, k.mechanism): k.without for k in found.knockouts}
    central = {(k.model, k.item): k.central for k in found.knockouts}
    lines = [["nothing", *(f"{central[place]:.3g}" for place in places)]]
    lines += [[name, *(f"{values[(*place, name)]:.3g}" for place in places)] for name in names]
    head = ["the best pipeline's gain without", *(f"{model} {item}" for model, item in places)]
    return table(head, lines, right=range(1, len(head)), indent="", whole="0") if places else []


def _influences(found: Study) -> list[str]:
    """What moves the best pipeline's gain most, for each model and item size."""
    lines = []
    for place in dict.fromkeys((i.model, i.item) for i in found.influences):
        mine = [i for i in found.influences if (i.model, i.item) == place]
        most = sorted(mine, key=lambda i: -abs(i.high - i.low))[:MOST_INFLUENCES]
        told = "; ".join(f"{i.parameter} {i.low:.3g} to {i.high:.3g}" for i in most)
        lines.append([f"{place[0]}, items of {place[1]}", f"{mine[0].central:.3g}", told])
    head = ["the best pipeline's gain", "", "with a parameter from its low to its high end"]
    return table(head, lines, right="1", indent="", fold="2", whole="02") if lines else []
