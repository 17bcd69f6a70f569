"""An exploration as a picture: throughput against latency, cores and energy, the front in colour."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mapper.errors import UsageError
from mapper.machine.draw import printable
from mapper.reports import style
from mapper.reports.explore import format_energy, noun_of, subject
from mapper.reports.picture import format_of, write_sheet
from mapper.reports.plan import plural
from mapper.reports.scale import Scale
from mapper.reports.sheet import Box, Sheet, Stroke, Words, fitted
from mapper.study.exploration.explore import Exploration
from mapper.study.exploration.rows import Row, compared
from mapper.units import format_count, format_seconds

_MARGIN, _LEFT, _WIDTH, _HEIGHT, _GAP, _BELOW = 0.35, 0.62, 4.2, 3.9, 0.35, 0.62
_DOT, _POINT = 0.045, 0.1
_GRID = 0.03
"""Dots nearer than this, in inches, are drawn once."""


@dataclass(frozen=True)
class Axis:
    """What lies along an axis: its words, the value of a row, and how values are written."""

    words: str
    value: Callable[[Row], float]
    told: Callable[[float], str]


def draw_explored(found: Exploration, path: Path) -> None:
    """Writes the picture to `path`, SVG or PNG by its ending; the same bytes for the same rows.

    Raises: UsageError for another ending or where no point has a plan, MissingFeature without matplotlib, SystemRefused
    where it cannot be written.
    """
    write_sheet(path, format_of(path), *explored_sheet(found))


def explored_sheet(found: Exploration) -> tuple[Sheet, float, float]:
    """The picture as marks, with its width and height in inches: a dot a plan, those of the front larger and, where
    several machines are compared, in the colour of theirs. Raises: UsageError where no point has a plan."""
    usable = [row for row in found.rows if row.made is not None]
    if not usable:
        raise UsageError("no point has a plan: there is nothing to draw")
    up = Axis(f"{plural(noun_of(found))} a second", lambda row: row.elements_per_s or 0.0, _told_rate)
    across = [
        Axis("latency of an item", lambda row: row.made.latency_s if row.made else 0.0, format_seconds),
        Axis("cores used", lambda row: float(row.made.cores_used) if row.made else 0.0, lambda value: f"{value:g}"),
    ]
    if "element_energy_j" in compared(found.rows) and len(found.variants) > 1:
        words = f"energy of one {noun_of(found)}, all packages at full power"
        across.append(Axis(words, lambda row: row.element_energy_j or 0.0, format_energy))
    width = 2 * _MARGIN + len(across) * (_LEFT + _WIDTH) + (len(across) - 1) * _GAP
    sheet = Sheet()
    y = _headings(sheet, found, usable, width)
    colours = _colours(found)
    y = _legend(sheet, colours, width, y)
    for i, axis in enumerate(across):
        left = _MARGIN + i * (_LEFT + _WIDTH + _GAP) + _LEFT
        _panel(sheet, found, usable, axis, up, colours, left, y)
    return sheet, width, y + _HEIGHT + _BELOW


def _headings(sheet: Sheet, found: Exploration, usable: Sequence[Row], width: float) -> float:
    room = width - 2 * _MARGIN
    title, letters = fitted(printable(subject(found)), style.TITLE, room)
    sheet.add(Words(_MARGIN, _MARGIN, title, letters, bold=True))
    front = sum(row.front for row in usable)
    text = f"{len(usable)} plans, each a dot; the {front} that none is better than are large"
    sheet.add(Words(_MARGIN, _MARGIN + 0.27, *fitted(text, style.SUBTITLE, room), style.MUTED))
    return _MARGIN + 0.5


def _colours(found: Exploration) -> dict[str, str]:
    """The colour of each machine by its name; of one machine alone, one colour."""
    names = dict.fromkeys(row.machine for row in found.rows if row.made is not None)
    return {name: style.STAGES[4] if len(names) == 1 else style.stage_colour(i) for i, name in enumerate(names)}


def _legend(sheet: Sheet, colours: dict[str, str], width: float, y: float) -> float:
    """A line a machine, in two columns, where there are several; gives where the panels begin."""
    if len(colours) == 1:
        return y + 0.1
    column = min(4.0, (width - 2 * _MARGIN) / 2)
    for i, (name, colour) in enumerate(colours.items()):
        x, top = _MARGIN + i % 2 * column, y + i // 2 * 0.22
        words, letters = fitted(printable(name), style.LABEL, column - 0.4)
        sheet.add(_dot(x + 0.1, top, _POINT, colour, ring=True), Words(x + 0.25, top, words, letters))
    return y + -(-len(colours) // 2) * 0.22 + 0.1


def _panel(
    sheet: Sheet, found: Exploration, rows: Sequence[Row], axis: Axis, up: Axis, colours: dict[str, str], left: float,
    top: float,
) -> None:  # fmt: skip
    """The rows over one axis, with its axes."""
    across = _scale([axis.value(row) for row in rows], left, _WIDTH)
    upward = _scale([up.value(row) for row in rows], top + _HEIGHT, -_HEIGHT)
    _axes(sheet, axis, up, across, upward, left, top)
    seen: set[tuple[int, int]] = set()
    for row in rows:
        x, y = across.at(axis.value(row)), upward.at(up.value(row))
        place = round(x / _GRID), round(y / _GRID)
        if place not in seen:
            seen.add(place)
            sheet.add(_dot(x, y, _DOT, colours[row.machine] if len(colours) > 1 else style.LINE, ring=False))
    for row in sorted((row for row in rows if row.front), key=axis.value):
        x, y = across.at(axis.value(row)), upward.at(up.value(row))
        sheet.add(_dot(x, y, _POINT, colours[row.machine], ring=True))


def _scale(values: Sequence[float], start: float, length: float) -> Scale:
    """A logarithmic scale with some room around `values`."""
    low, high = min(values), max(values)
    room = max(1.08, (high / low) ** 0.04)
    return Scale(low / room, high * room, start, length, logarithmic=True)


def _axes(sheet: Sheet, axis: Axis, up: Axis, across: Scale, upward: Scale, left: float, top: float) -> None:
    """Lines at round values with their words."""
    bottom, right = top + _HEIGHT, left + _WIDTH
    for value in _ticks(across, 7):
        x = across.at(value)
        sheet.add(Stroke(((x, top), (x, bottom)), style.CORE, 0.5))
        sheet.add(Words(x, bottom + 0.13, axis.told(value), style.LABEL, style.MUTED, "center"))
    for value in _ticks(upward, 10):
        y = upward.at(value)
        sheet.add(Stroke(((left, y), (right, y)), style.CORE, 0.5))
        sheet.add(Words(left - 0.08, y, up.told(value), style.LABEL, style.MUTED, "right"))
    sheet.add(Stroke(((left, top), (left, bottom), (right, bottom)), style.LINE, 0.8))
    sheet.add(Words(left + _WIDTH / 2, bottom + 0.36, axis.words, style.SUBTITLE, align="center"))
    sheet.add(Words(left - _LEFT + 0.05, top - 0.14, up.words, style.SUBTITLE))


def _ticks(scale: Scale, most: int) -> list[float]:
    """Round values, at most so many: those of a scale, or of them powers of ten; steps where it spans little."""
    found = scale.ticks()
    if len(found) > most:
        powers = [value for value in found if math.isclose(math.log10(value) % 1, 0, abs_tol=1e-9)]
        found = powers if len(powers) > 1 else found[:: -(-len(found) // most)]
    if len(found) < 3:
        found = Scale(scale.low, scale.high, scale.start, scale.length).ticks()
    return found


def _told_rate(value: float) -> str:
    return f"{value:g}" if value < 1e4 else format_count(value)


def _dot(x: float, y: float, size: float, colour: str, *, ring: bool) -> Box:
    edge = style.INK if ring else "none"
    return Box(x - size / 2, y - size / 2, size, size, colour, edge, 0.6, radius=size / 2)
