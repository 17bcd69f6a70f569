"""A timeline as a Gantt chart: a line a replica, as text or as a picture."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mapper.machine.draw import printable
from mapper.plans.timeline import WORDS, Doing, Span, Timeline
from mapper.reports import style
from mapper.reports.lines import Styled
from mapper.reports.picture import format_of, write_sheet
from mapper.reports.scale import Scale
from mapper.reports.sheet import Box, Sheet, Stroke, Words, text_width
from mapper.units import format_seconds

MOST_LINES = 32
"""Replicas that text shows; a picture shows them all."""
_LETTERS = {Doing.WAITING: ".", Doing.READING: "<", Doing.BLOCKED: ":", Doing.WRITING: ">"}
_LEFT, _WIDTH, _LINE, _MARGIN = 1.1, 10.0, 0.2, 0.35
_THINNEST = 1e-3
"""Inches below which nothing is seen of a bar."""

Part = tuple[float, float]
"""From when to when, in seconds."""
_Row = tuple[int, int, bool, list[Span]]
"""Stage, replica, whether the stage has several, and its spans."""


def steady_part(timeline: Timeline) -> Part:
    """The end of the timeline, long enough to see an item pass and a few follow it."""
    last = max((span.end_s for span in timeline.spans), default=0.0)
    shown = timeline.plan.predicted.latency_s + 4 * timeline.plan.predicted.period_s
    return max(0.0, last - shown), last


def gantt_text(timeline: Timeline, columns: int = 100, part: Part | None = None) -> list[str]:
    """A line a replica: the last digit of the item that it computes, `.` while it waits for one, `:` while it waits for
    room, `<` and `>` while it reads and writes."""
    start, end = part or steady_part(timeline)
    rows = _rows(timeline, start, end)
    names = [f"stage {stage}" + (f".{replica}" if many else "") for stage, replica, many, _ in rows]
    left = max(map(len, names), default=0) + 2
    room = max(10, columns - left)
    lines: list[str] = [
        _coloured(name.ljust(left), _line(spans, start, (end - start) / room, room, timeline), stage)
        for name, (stage, _, _, spans) in zip(names[:MOST_LINES], rows, strict=False)
    ]
    if len(rows) > MOST_LINES:
        lines.append(f"... and {len(rows) - MOST_LINES} more replicas")
    scale = f"{format_seconds(start)} to {format_seconds(end)}, {format_seconds((end - start) / room)} a letter"
    return [*lines, " " * left + f"{scale}; digits: the item (its last digit); . waits for one; : for room"]


def _coloured(name: str, letters: str, stage: int) -> str:
    """A line of the chart: where it computes in its stage's colour, else pale."""
    parts = re.findall(r"\d+|\D+", letters)
    return Styled.made((name, ""), *((part, f"stage {stage}" if part.isdigit() else "waits") for part in parts))


def _line(spans: Sequence[Span], start: float, step: float, room: int, timeline: Timeline) -> str:
    """One letter for each `step` seconds: what took most of them."""
    calls = timeline.plan.request.micro_batches
    shares: list[dict[str, float]] = [{} for _ in range(room)]
    for span in spans:
        letter = _LETTERS.get(span.doing) or str(span.call // calls % 10)
        first = max(0, int((span.start_s - start) / step))
        for i in range(first, min(room, int((span.end_s - start) / step) + 1)):
            begun = start + i * step
            took = min(span.end_s, begun + step) - max(span.start_s, begun)
            shares[i][letter] = shares[i].get(letter, 0.0) + max(0.0, took)
    return "".join(max(found, key=lambda letter: found[letter]) if found else " " for found in shares)


def _rows(timeline: Timeline, start: float, end: float) -> list[_Row]:
    """For each replica: stage, replica, whether the stage has several, and its spans within the time."""
    found: dict[tuple[int, int], list[Span]] = {}
    for stage in timeline.plan.stages:
        for r in range(len(stage.replicas)):
            found[stage.id, r] = []
    for span in timeline.spans:
        if span.end_s > start and span.start_s < end:
            found[span.stage, span.replica].append(span)
    many = {stage.id: len(stage.replicas) > 1 for stage in timeline.plan.stages}
    return [(stage, replica, many[stage], spans) for (stage, replica), spans in found.items()]


def draw_gantt(timeline: Timeline, path: Path, part: Part | None = None) -> None:
    """Writes the chart to `path`, SVG or PNG by its ending; the same bytes for the same timeline.

    Raises: UsageError for another ending, MissingFeature without matplotlib, SystemRefused where it cannot be written.
    """
    write_sheet(path, format_of(path, "chart"), *gantt_sheet(timeline, part))


def gantt_sheet(
    timeline: Timeline, part: Part | None = None, *, width: float | None = None, most: int | None = None,
    heading: bool = True,
) -> tuple[Sheet, float, float]:  # fmt: skip
    """The chart as marks, with its width and height in inches: colours are those of stages, items are numbered where
    there is room, and what is not computing is pale. At most `most` replicas are shown, all where it is not given."""
    start, end = part or steady_part(timeline)
    rows = _rows(timeline, start, end)
    plan, shown = timeline.plan, _some(rows, most)
    left = _LEFT if width is None else max((text_width(_name(row), style.LABEL) for row in shown), default=0.0)
    room = _WIDTH if width is None else width - _MARGIN * 2 - left
    frame = _Frame(start, _MARGIN + left, room / (end - start) if end > start else 0.0, plan.request.micro_batches)
    sheet, y = Sheet(), _MARGIN
    if heading:
        title = f"{plan.model.title or plan.model.name} on {plan.machine.title or plan.machine.name}, {timeline.source}"
        sheet.add(Words(_MARGIN, y, printable(title), style.TITLE, bold=True))
        y += 0.35
    _axis(sheet, end - start, y, y + _LINE * 1.25 * len(shown), frame.left, room)
    for row in shown:
        sheet.add(Words(frame.left - 0.1, y + _LINE / 2, _name(row), style.LABEL, align="right"))
        for span in row[3]:
            _bar(sheet, span, max(span.start_s, start), min(span.end_s, end), frame, y, timeline.item(span.call))
        y += _LINE * 1.25
    sheet.add(Words(frame.left, y + 0.37, "time; items are numbered", style.LABEL, style.MUTED))
    if len(rows) > len(shown):
        y += 0.19
        more = f"{len(rows) - len(shown)} more copies are not shown"
        sheet.add(Words(frame.left, y + 0.37, more, style.LABEL, style.MUTED))
    return sheet, _MARGIN * 2 + left + room, y + 0.55


def _some(rows: Sequence[_Row], most: int | None) -> Sequence[_Row]:
    """At most `most` of `rows`, as many of each stage."""
    if most is None or len(rows) <= most:
        return rows
    each = max(1, most // len({row[0] for row in rows}))
    return [row for row in rows if row[1] < each][:most]


def _name(row: _Row) -> str:
    """What a line is called."""
    return f"stage {row[0]}" + (f", copy {row[1]}" if row[2] else "")


@dataclass(frozen=True)
class _Frame:
    """When the chart begins and where, inches a second, and calls an item."""

    start_s: float
    left: float
    scale: float
    calls: int


def _bar(sheet: Sheet, span: Span, begun: float, ended: float, frame: _Frame, y: float, item: str) -> None:
    """One span: nothing while it waits, nor where it is too short to see."""
    if span.doing in (Doing.WAITING, Doing.BLOCKED):
        return
    calls = frame.calls
    x, width = frame.left + (begun - frame.start_s) * frame.scale, (ended - begun) * frame.scale
    if width < _THINNEST:
        return
    colour = style.stage_colour(span.stage) if span.doing is Doing.COMPUTING else style.CORE
    took = format_seconds(span.end_s - span.start_s)
    tip = f"stage {span.stage}, copy {span.replica} {WORDS[span.doing]} {item}: {took}"
    sheet.add(Box(x, y, width, _LINE, colour, style.PAPER, 0.3, stage=span.stage, tip=tip))
    number = str(span.call // calls)
    if span.doing is Doing.COMPUTING and text_width(number, style.SMALL) < width:
        sheet.add(Words(x + width / 2, y + _LINE / 2, number, style.SMALL, style.ink_on(colour), align="center"))


def _axis(sheet: Sheet, seconds: float, top: float, y: float, left: float, room: float) -> None:
    """Time below the bars and behind them, counted from where the chart begins, at round values that keep apart."""
    sheet.add(Stroke(((left, y), (left + room, y)), style.LINE, 0.8))
    scale, last = Scale(0.0, seconds, left, room), -math.inf
    for value in scale.ticks() if seconds > 0 else [0.0]:
        x, text = scale.at(value) if seconds > 0 else left, format_seconds(value)
        sheet.add(Stroke(((x, top), (x, y + 0.05)), style.LINE, 0.4))
        half = text_width(text, style.LABEL) / 2
        if x - half > last + 0.06:
            sheet.add(Words(x, y + 0.17, text, style.LABEL, style.MUTED, align="center"))
            last = x + half
