"""The SG2042 study as pictures: gains against item size with their ranges, and for each model what its uncertain
figures and its mechanisms change."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mapper.errors import SystemRefused
from mapper.machine.draw import printable
from mapper.reports import style
from mapper.reports.picture import format_of, write_sheet
from mapper.reports.scale import Scale
from mapper.reports.sheet import Box, Sheet, Stroke, Words, text_width
from mapper.reports.table import cut

if TYPE_CHECKING:
    from mapper.study.sg2042.study import Row, Study

Drawn = tuple[Sheet, float, float]
"""A sheet with its width and height in inches."""

PIPELINE, COPIES, PLANNER, LIMITED, NATIVE, PUBLISHED = (style.STAGES[i] for i in (4, 0, 2, 6, 7, 5))
BAND = "#C6DEED"
"""The range of the best pipeline: a tint of its colour."""
MOST_INFLUENCES = 12
_MARGIN, _LETTERS = 0.35, style.SMALL


def write_figures(found: Study, folder: Path, kind: str = "svg") -> list[Path]:
    """Writes `gains` and, for each model with sensitivities, `sensitivity_MODEL` into `folder`, as `kind` svg or png.

    Raises: UsageError for another kind, MissingFeature without matplotlib, SystemRefused where they cannot be written.
    """
    models = list(dict.fromkeys(influence.model for influence in found.influences))
    drawn = {"gains": gains_sheet(found)} | {f"sensitivity_{m}": sensitivity_sheet(found, m) for m in models}
    return write_drawn(drawn, folder, kind)


def write_drawn(drawn: Mapping[str, Drawn], folder: Path, kind: str) -> list[Path]:
    """Writes pictures by name into `folder`, as `kind`; gives where they are. Raises: as `write_figures`."""
    paths = [folder / f"{name}.{kind}" for name in drawn]
    known = format_of(Path(f"figure.{kind}"), "figure")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SystemRefused(f"{folder} cannot be made: {error.strerror}") from error
    for path, (sheet, width, height) in zip(paths, drawn.values(), strict=True):
        write_sheet(path, known, sheet, width, height)
    return paths


# gains against item size

Line = tuple[str, str, Callable[["Row"], float | None]]
_PANEL, _SIDE, _BETWEEN = (2.55, 2.0), 0.5, 0.62


def gains_sheet(found: Study) -> Drawn:
    """A panel a model: gains over native with all threads by item size, the range of the best pipeline as bars."""
    models = list(dict.fromkeys(row.model for row in found.rows))
    columns = min(4, len(models))
    width = max(2 * _MARGIN + columns * (_PANEL[0] + _SIDE), 8.0)
    sheet, y = Sheet(), _MARGIN
    title = f"Gains over native PyTorch on {printable(found.machine)}"
    sheet.add(Words(_MARGIN, y, title, style.TITLE, bold=True))
    words = (f"native: all threads, default pages; bars: 5th to 95th percentile of {found.samples} samples of the "
             "best pipeline without copies")  # fmt: skip
    sheet.add(Words(_MARGIN, y + 0.25, words, style.SUBTITLE, style.MUTED))
    reported = _reported(found)
    entries = [(name, colour) for name, colour, _ in _lines()]
    entries += [(f"{reported:g}, the largest gain reported for it", PUBLISHED)] if reported else []
    y = _key(sheet, entries, y + 0.5) + 0.38
    low, high = _extent_of_gains(found.rows, reported)
    for m, model in enumerate(models):
        left = _MARGIN + _SIDE + m % columns * (_PANEL[0] + _SIDE)
        top = y + m // columns * (_PANEL[1] + _BETWEEN)
        rows = [row for row in found.rows if row.model == model]
        up = Scale(low, high, top + _PANEL[1], -_PANEL[1], logarithmic=True)
        _gains_of(sheet, model, rows, left, up, reported)
    return sheet, width, y + -(-len(models) // columns) * (_PANEL[1] + _BETWEEN) + 0.1


def _reported(found: Study) -> float | None:
    """The headline figure, where the study is of the machine that it is of."""
    from mapper.study.sg2042.bands import MACHINE
    from mapper.study.sg2042.bands import PUBLISHED as GAIN

    return GAIN if found.machine == MACHINE else None


def _lines() -> list[Line]:
    def best(kind: str) -> Callable[[Row], float | None]:
        return lambda row: max((gain.ratio for gain in row.gains if gain.kind == kind), default=None)

    def named(name: str) -> Callable[[Row], float | None]:
        return lambda row: next((gain.ratio for gain in row.gains if gain.name == name), None)

    return [
        ("best native", NATIVE, lambda row: row.best_native_ratio),
        ("best copies", COPIES, best("copies")),
        ("planner, latency limit", LIMITED, named("planner, latency limit")),
        ("planner", PLANNER, named("planner")),
        ("best pipeline", PIPELINE, lambda row: row.best_pipeline.ratio if row.best_pipeline else None),
    ]


def _extent_of_gains(rows: Sequence[Row], reported: float | None) -> tuple[float, float]:
    values = [value for row in rows for _, _, of in _lines() if (value := of(row)) is not None]
    values += [end for row in rows if row.best_pipeline for end in (row.best_pipeline.low, row.best_pipeline.high)]
    return min(0.5, *(v / 1.1 for v in values if v > 0)), max(2.0, (reported or 0.0) * 1.3, *(v * 1.15 for v in values))


def _gains_of(sheet: Sheet, model: str, rows: Sequence[Row], left: float, up: Scale, reported: float | None) -> None:
    items = [row.item for row in rows]
    across = Scale(min(items) / 1.25, max(items) * 1.25, left, _PANEL[0], logarithmic=True)
    sheet.add(Words(left, up.at(up.high) - 0.12, printable(model), style.LABEL + 1, bold=True))
    for value in up.ticks():
        y = up.at(value)
        sheet.add(Stroke(((left, y), (left + _PANEL[0], y)), style.CORE, 0.5))
        sheet.add(Words(left - 0.05, y, f"{value:g}", _LETTERS, style.MUTED, "right"))
    for row in rows:
        if row.best_pipeline and row.best_pipeline.high > row.best_pipeline.low:
            ends = up.at(row.best_pipeline.high), up.at(row.best_pipeline.low)
            sheet.add(Box(across.at(row.item) - 0.05, ends[0], 0.1, ends[1] - ends[0], BAND))
    for value, colour in ((1.0, style.INK), *([(reported, PUBLISHED)] if reported else [])):
        y = up.at(value)
        sheet.add(Stroke(((left, y), (left + _PANEL[0], y)), colour, 0.9))
    for _, colour, of in _lines():
        known = [(row.item, of(row)) for row in rows]
        points = [(across.at(item), up.at(gain)) for item, gain in known if gain is not None]
        if len(points) > 1:
            sheet.add(Stroke(tuple(points), colour, 1.4))
        sheet.add(*(Box(x - 0.022, y - 0.022, 0.044, 0.044, colour) for x, y in points))
    sheet.add(Box(left, up.at(up.high), _PANEL[0], -up.length, "none", style.LINE, 0.7))
    _item_ticks(sheet, items, across, up.start)
    words = "elements of a native item"
    sheet.add(Words(left + _PANEL[0] / 2, up.start + 0.26, words, style.LABEL, style.MUTED, "center"))


def _item_ticks(sheet: Sheet, items: Sequence[int], across: Scale, y: float) -> None:
    """The item sizes, as far as their words keep apart."""
    last = -math.inf
    for item in items:
        x, room = across.at(item), text_width(str(item), _LETTERS)
        if x - room / 2 > last + 0.03:
            sheet.add(Words(x, y + 0.1, str(item), _LETTERS, style.MUTED, "center"))
            last = x + room / 2


def _key(sheet: Sheet, entries: Sequence[tuple[str, str]], y: float) -> float:
    x = _MARGIN
    for words, colour in entries:
        sheet.add(Stroke(((x, y), (x + 0.2, y)), colour, 2.0), Words(x + 0.27, y, words, style.LABEL))
        x += 0.27 + text_width(words, style.LABEL) + 0.12
    return y


# what parameters and mechanisms change

LOW_END, HIGH_END, WITHOUT = style.STAGES[0], style.STAGES[4], style.STAGES[2]
_WIDE, _NAMES, _ROOM, _BAR = 2.7, 2.45, 0.35, 0.17


@dataclass(frozen=True)
class Bars:
    """A name, and what a gain becomes in one or two ways, each with its colour."""

    name: str
    values: tuple[tuple[float, str], ...]


def sensitivity_sheet(found: Study, model: str) -> Drawn:
    """For each item size that was looked at: what the best pipeline's gain becomes with each uncertain figure at its
    ends, most first, and without each mechanism, on one scale."""
    items = list(dict.fromkeys(i.item for i in found.influences if i.model == model))
    sheet, y = Sheet(), _MARGIN
    width = max(2 * _MARGIN + len(items) * (_NAMES + _ROOM + _WIDE + 0.5), 7.0)
    title = f"{printable(model)}: what the best pipeline's gain over native depends on"
    sheet.add(Words(_MARGIN, y, title, style.TITLE, bold=True))
    words = f"on {printable(found.machine)}; the line is the gain at the central figures, with all mechanisms"
    sheet.add(Words(_MARGIN, y + 0.25, words, style.SUBTITLE, style.MUTED))
    entries = [("a figure at its low end", LOW_END), ("at its high end", HIGH_END), ("without a mechanism", WITHOUT)]
    y = _key(sheet, entries, y + 0.5) + 0.3
    ends = [_sensitivities_of(sheet, found, model, item, _MARGIN + n * (_NAMES + _ROOM + _WIDE + 0.5), y)
            for n, item in enumerate(items)]  # fmt: skip
    return sheet, width, max(ends, default=y) + _MARGIN


def _sensitivities_of(sheet: Sheet, found: Study, model: str, item: int, left: float, y: float) -> float:
    """The two lists of one item size; gives where they end."""
    central = next(i.central for i in found.influences if (i.model, i.item) == (model, item))
    figures = [Bars(i.parameter, ((i.low, LOW_END), (i.high, HIGH_END)))
               for i in found.influences if (i.model, i.item) == (model, item)]  # fmt: skip
    figures.sort(key=lambda bars: -max(abs(value - central) for value, _ in bars.values))
    mechanisms = [Bars(k.mechanism, ((k.without, WITHOUT),))
                  for k in found.knockouts if (k.model, k.item) == (model, item)]  # fmt: skip
    shown = [*figures[:MOST_INFLUENCES], *mechanisms]
    across = _scale(central, [value for bars in shown for value, _ in bars.values], left + _NAMES + _ROOM)
    sheet.add(Words(left, y, f"items of {item}: gain {central:.3g}", style.LABEL + 1, bold=True))
    top = y = y + 0.22
    for part in (figures[:MOST_INFLUENCES], mechanisms):
        for bars in part:
            _bars(sheet, bars, central, across, left, y)
            y += _BAR
        y += 0.1
    x = across.at(central)
    sheet.add(Stroke(((x, top - 0.04), (x, y - 0.04)), style.INK, 0.9))
    return _gain_axis(sheet, across, y)


def _scale(central: float, values: Sequence[float], start: float) -> Scale:
    """A scale with room for all values and the words beside them; no finer than 5 % of the central one."""
    low, high = min(central * 0.975, *values), max(central * 1.025, *values)
    room = (high - low) * 0.16
    return Scale(max(0.0, low - room), high + room, start, _WIDE)


def _bars(sheet: Sheet, bars: Bars, central: float, across: Scale, left: float, y: float) -> None:
    """A line: the name, and a bar from the central gain for each value, its figure beside it where it differs."""
    sheet.add(Words(left + _NAMES - 0.08, y + _BAR / 2, cut(bars.name, 44), _LETTERS, align="right"))
    thick = (_BAR - 0.03) / len(bars.values)
    told: dict[str, float] = {}
    for i, (value, colour) in enumerate(bars.values):
        start, end = sorted((across.at(central), across.at(value)))
        sheet.add(Box(start, y + i * thick, end - start, thick, colour))
        if abs(value / central - 1) >= 0.005:
            side = "right" if value < central else "left"
            further = max if side == "left" else min
            told[side] = further(told.get(side, value), value)
    for side, value in told.items():
        x = across.at(value) + (-0.04 if side == "right" else 0.04)
        sheet.add(Words(x, y + _BAR / 2 - 0.01, f"{value:.3g}", _LETTERS, style.INK, side))


def _gain_axis(sheet: Sheet, across: Scale, y: float) -> float:
    sheet.add(Stroke(((across.start, y), (across.start + across.length, y)), style.LINE, 0.8))
    for value in _distinct(across.ticks()):
        x = across.at(value)
        sheet.add(Stroke(((x, y), (x, y + 0.05)), style.LINE, 0.8))
        sheet.add(Words(x, y + 0.13, f"{value:.4g}", _LETTERS, style.MUTED, "center"))
    words = "gain of the best pipeline over native"
    sheet.add(Words(across.start + across.length / 2, y + 0.3, words, style.LABEL, style.MUTED, "center"))
    return y + 0.4


def _distinct(values: Sequence[float]) -> Iterator[float]:
    """`values` without those that are written alike."""
    seen: set[str] = set()
    for value in values:
        if f"{value:.4g}" not in seen:
            seen.add(f"{value:.4g}")
            yield value
