"""Bars under each other: beside their names where there is room, else below them."""

from __future__ import annotations

from dataclasses import dataclass

from mapper.machine.draw import printable
from mapper.reports import style
from mapper.reports.page.charts import Bar, Bars, Segment
from mapper.reports.scale import Scale
from mapper.reports.sheet import Box, Sheet, Stroke, Words, fitted, text_width
from mapper.reports.table import cut

NARROW = 5.0
"""Inches below which names stand above their bars."""
OPACITY = (1.0, 0.62, 0.4, 0.24, 0.12)
"""Of segments, by how pale they are."""
_MARGIN, _BAR, _GAP, _NAME = 0.08, 0.19, 0.09, 0.19
_LETTERS = style.LABEL + 0.5


@dataclass(frozen=True)
class _Frame:
    """Where things are: names end at `left`, bars lie along `scale`, and what stands behind them begins after it."""

    width: float
    left: float
    scale: Scale
    narrow: bool


def bars_sheet(bars: Bars, width: float) -> tuple[Sheet, float, float]:
    """The picture as marks, with its width and height in inches."""
    frame = _frame(bars, width)
    sheet = Sheet()
    y = _legend(sheet, bars, width)
    top = y
    inner = Sheet()
    for bar in bars.bars:
        y = _bar(inner, bar, frame, y)
    if bars.left_out:
        inner.add(Words(frame.left, y + 0.1, f"and {bars.left_out} more", _LETTERS, style.MUTED))
        y += 0.24
    _axis(sheet, bars, frame, top, y)
    sheet.add(*inner.marks)
    for mark in bars.marks:
        x = frame.scale.at(mark.value)
        sheet.add(Stroke(((x, top - 0.03), (x, y)), style.INK, 1.3, (4.0, 2.5) if mark.dashed else ()))
    return sheet, width, y + 0.5


def _frame(bars: Bars, width: float) -> _Frame:
    narrow = width < NARROW
    names = [text_width(printable(bar.label), _LETTERS) for bar in bars.bars]
    left = _MARGIN if narrow else min(max(names, default=0.0) + 0.12, 0.3 * width)
    told = max((text_width(bar.told, _LETTERS) for bar in bars.bars), default=0.0)
    right = min(told + 0.14, 0.45 * width)
    high = bars.highest * 1.01 or 1.0
    return _Frame(width, left, Scale(0.0, high, left, width - left - right), narrow)


def _bar(sheet: Sheet, bar: Bar, frame: _Frame, y: float) -> float:
    """One bar with its name and what stands behind it; gives where the next begins."""
    if bar.below:
        y -= _GAP * 0.65
    label, scale = printable(bar.label), frame.scale
    if frame.narrow:
        text, letters = _shrunk(label, frame.width - frame.left)
        colour = style.MUTED if bar.below else style.INK
        sheet.add(Words(frame.left + 0.05, y + _NAME / 2, text, letters, colour))
        y += _NAME
    else:
        text, letters = _shrunk(label, frame.left - 0.08)
        colour = style.MUTED if bar.below else style.INK
        sheet.add(Words(frame.left - 0.08, y + _BAR / 2, text, letters, colour, "right"))
    x = scale.start
    for segment in bar.segments:
        length = scale.at(segment.value) - scale.start
        sheet.add(_segment(segment, x, y, length))
        x += length
    if bar.span:
        low, high, middle = scale.at(bar.span[0]), scale.at(bar.span[1]), y + _BAR / 2
        sheet.add(Stroke(((low, middle), (high, middle)), style.INK, 1.1))
        sheet.add(*(Stroke(((at, middle - 0.045), (at, middle + 0.045)), style.INK, 1.1) for at in (low, high)))
    sheet.add(Words(frame.width - _MARGIN, y + _BAR / 2, bar.told, _LETTERS, style.INK, "right"))
    return y + _BAR + _GAP


def _shrunk(text: str, room: float) -> tuple[str, float]:
    """`text` with letters that are legible still, cut where that is not enough."""
    letters = max(style.SMALL, min(_LETTERS, _LETTERS * room / max(text_width(text, _LETTERS), 1e-6)))
    return cut(text, max(2, int(room / text_width("n", letters)))), letters


def _segment(segment: Segment, x: float, y: float, length: float) -> Box:
    colour = style.MUTED if segment.stage is None else style.stage_colour(segment.stage)
    opacity = OPACITY[min(segment.shade, len(OPACITY) - 1)]
    return Box(x, y, length, _BAR, colour, style.LINE, 0.5, stage=segment.stage, tip=segment.tip, opacity=opacity)


def _legend(sheet: Sheet, bars: Bars, width: float) -> float:
    """Lines and shades in words, in rows that fit; gives where the bars begin."""
    used = {segment.shade for bar in bars.bars for segment in bar.segments}
    entries: list[tuple[str, int | None, bool]] = [(mark.words, None, mark.dashed) for mark in bars.marks]
    if len(used) > 1:
        entries += [(words, shade, False) for shade, words in enumerate(bars.shades) if shade in used]
    x, y = _MARGIN, 0.14
    for text, shade, dashed in entries:
        text, letters = _shrunk(text, width - 0.4 - _MARGIN)
        wide = text_width(text, letters) + 0.5
        if x > _MARGIN and x + wide > width:
            x, y = _MARGIN, y + 0.24
        if shade is None:
            sheet.add(Stroke(((x, y), (x + 0.24, y)), style.INK, 1.3, (4.0, 2.5) if dashed else ()))
        else:
            sheet.add(Box(x, y - 0.07, 0.24, 0.14, style.MUTED, style.LINE, 0.5, opacity=OPACITY[shade]))
        sheet.add(Words(x + 0.32, y, text, letters))
        x += wide
    return y + 0.24 if entries else 0.1


def _axis(sheet: Sheet, bars: Bars, frame: _Frame, top: float, y: float) -> None:
    """Values below the bars, behind them lines, and what they are."""
    scale, last = frame.scale, -1.0
    sheet.add(Stroke(((scale.start, top - 0.03), (scale.start, y)), style.LINE, 0.8))
    for value in scale.ticks():
        x, text = scale.at(value), bars.told(value)
        half = text_width(text, style.LABEL) / 2
        if value:
            sheet.add(Stroke(((x, top - 0.03), (x, y)), style.LINE, 0.3))
        if x - half > last + 0.06 and x + half < frame.width:
            shift = max(0.0, half - x)
            sheet.add(Words(x + shift, y + 0.11, text, style.LABEL, style.MUTED, "center"))
            last = x + half + shift
    text, letters = fitted(bars.axis, style.LABEL, frame.width - 2 * _MARGIN)
    sheet.add(Words(_MARGIN if frame.narrow else scale.start, y + 0.31, text, letters, style.MUTED))
