"""A timeline as a Gantt chart: a line a replica, as text or as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mapper.machine.draw import printable
from mapper.plans.timeline import Doing, Span, Timeline
from mapper.reports import style
from mapper.reports.picture import format_of, write_sheet
from mapper.reports.sheet import Box, Sheet, Stroke, Words, text_width
from mapper.units import format_seconds

MOST_LINES = 32
"""Replicas that text shows; a picture shows them all."""
_LETTERS = {Doing.WAITING: ".", Doing.READING: "<", Doing.BLOCKED: ":", Doing.WRITING: ">"}
_LEFT, _WIDTH, _LINE, _MARGIN = 1.1, 10.0, 0.2, 0.35

Part = tuple[float, float]
"""From when to when, in seconds."""


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
    lines = [
        name.ljust(left) + _line(spans, start, (end - start) / room, room, timeline.plan.request.micro_batches)
        for name, (_, _, _, spans) in zip(names[:MOST_LINES], rows, strict=False)
    ]
    if len(rows) > MOST_LINES:
        lines.append(f"... and {len(rows) - MOST_LINES} more replicas")
    scale = f"{format_seconds(start)} to {format_seconds(end)}, {format_seconds((end - start) / room)} a letter"
    return [*lines, " " * left + f"{scale}; digits: the item (its last digit); . waits for one; : for room"]


def _line(spans: Sequence[Span], start: float, step: float, room: int, calls: int) -> str:
    """One letter for each `step` seconds: what took most of them."""
    shares: list[dict[str, float]] = [{} for _ in range(room)]
    for span in spans:
        letter = _LETTERS.get(span.doing) or str(span.call // calls % 10)
        first = max(0, int((span.start_s - start) / step))
        for i in range(first, min(room, int((span.end_s - start) / step) + 1)):
            begun = start + i * step
            took = min(span.end_s, begun + step) - max(span.start_s, begun)
            shares[i][letter] = shares[i].get(letter, 0.0) + max(0.0, took)
    return "".join(max(found, key=lambda letter: found[letter]) if found else " " for found in shares)


def _rows(timeline: Timeline, start: float, end: float) -> list[tuple[int, int, bool, list[Span]]]:
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


def gantt_sheet(timeline: Timeline, part: Part | None = None) -> tuple[Sheet, float, float]:
    """The chart as marks, with its width and height in inches: colours are those of stages, items are numbered where
    there is room, and what is not computing is pale."""
    start, end = part or steady_part(timeline)
    rows = _rows(timeline, start, end)
    scale = _WIDTH / (end - start) if end > start else 0.0
    sheet, y = Sheet(), _MARGIN
    plan = timeline.plan
    title = f"{plan.model.title or plan.model.name} on {plan.machine.title or plan.machine.name}, {timeline.source}"
    sheet.add(Words(_MARGIN, y, printable(title), style.TITLE, bold=True))
    y += 0.35
    _axis(sheet, start, end, y, y + _LINE * 1.25 * len(rows))
    for stage, replica, many, spans in rows:
        name = f"stage {stage}" + (f", copy {replica}" if many else "")
        sheet.add(Words(_MARGIN + _LEFT - 0.1, y + _LINE / 2, name, style.LABEL, align="right"))
        for span in spans:
            _bar(
                sheet, span, max(span.start_s, start), min(span.end_s, end), start, scale, y, plan.request.micro_batches
            )
        y += _LINE * 1.25
    return sheet, _MARGIN * 2 + _LEFT + _WIDTH, y + 0.55


def _bar(
    sheet: Sheet, span: Span, begun: float, ended: float, start: float, scale: float, y: float, calls: int
) -> None:
    """One span: nothing while it waits."""
    if span.doing in (Doing.WAITING, Doing.BLOCKED):
        return
    x, width = _MARGIN + _LEFT + (begun - start) * scale, (ended - begun) * scale
    colour = style.stage_colour(span.stage) if span.doing is Doing.COMPUTING else style.CORE
    sheet.add(Box(x, y, width, _LINE, colour, style.PAPER, 0.3))
    number = str(span.call // calls)
    if span.doing is Doing.COMPUTING and text_width(number, style.SMALL) < width:
        sheet.add(Words(x + width / 2, y + _LINE / 2, number, style.SMALL, style.ink_on(colour), align="center"))


def _axis(sheet: Sheet, start: float, end: float, top: float, y: float) -> None:
    """Time below the bars and behind them, counted from where the chart begins."""
    left = _MARGIN + _LEFT
    sheet.add(Stroke(((left, y), (left + _WIDTH, y)), style.LINE, 0.8))
    for i in range(6):
        x = left + _WIDTH * i / 5
        sheet.add(Stroke(((x, top), (x, y + 0.05)), style.LINE, 0.4))
        sheet.add(Words(x, y + 0.17, format_seconds((end - start) * i / 5), style.LABEL, style.MUTED, align="center"))
