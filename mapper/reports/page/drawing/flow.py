"""A folded model as blocks in rows, in the order in which they run, each with the shares of its stages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mapper.machine.draw import printable
from mapper.reports import style
from mapper.reports.page.charts import Block, Flow
from mapper.reports.sheet import Box, Sheet, Stroke, Words, text_width
from mapper.reports.table import cut

_WIDTH, _HEIGHT, _ACROSS, _DOWN, _MARGIN, _STRIP = 1.5, 0.66, 0.3, 0.42, 0.12, 0.2
_ARC, _MOST_ARCS = 0.09, 3


@dataclass(frozen=True)
class Drawn:
    """A flow as marks, and how many of its longer arrows there was no room for."""

    sheet: Sheet
    width: float
    height: float
    arrows_left_out: int


def flow_sheet(flow: Flow, width: float) -> Drawn:
    """The picture; `width` and the height are in inches."""
    columns = max(1, int((width - 2 * _MARGIN + _ACROSS) / (_WIDTH + _ACROSS)))
    columns = min(columns, len(flow.blocks))
    block = (width - 2 * _MARGIN - (columns - 1) * _ACROSS) / columns
    block = min(block, 1.6 * _WIDTH)
    corners = [
        (_MARGIN + i % columns * (block + _ACROSS), _MARGIN + 0.2 + i // columns * (_HEIGHT + _DOWN))
        for i in range(len(flow.blocks))
    ]
    sheet = Sheet()
    left_out = _arrows(sheet, flow.arrows, corners, columns, block)
    for (x, y), each in zip(corners, flow.blocks, strict=True):
        _block(sheet, each, x, y, block)
    bottom = corners[-1][1] + _HEIGHT if corners else 0.0
    return Drawn(sheet, width, bottom + _MARGIN, left_out)


def _block(sheet: Sheet, block: Block, x: float, y: float, width: float) -> None:
    sheet.add(Box(x, y, width, _HEIGHT, style.PAPER, style.LINE, 0.8, radius=0.06, tip=block.tip))
    sheet.add(Words(x + 0.08, y + 0.13, _ending(printable(block.name), width - 0.14), style.LABEL, bold=True))
    told = cut(printable(block.told), max(2, int((width - 0.14) / text_width("n", style.SMALL + 0.5))))
    sheet.add(Words(x + 0.08, y + 0.32, told, style.SMALL + 0.5, style.MUTED))
    at, room = x + 0.06, width - 0.12
    for stage, share in block.shares:
        length, colour = room * share, style.stage_colour(stage)
        tip = f"{block.name}: stage {stage}, {share:.0%}"
        sheet.add(Box(at, y + _HEIGHT - _STRIP - 0.06, length, _STRIP, colour, style.LINE, 0.5, stage=stage, tip=tip))
        number = str(stage)
        if text_width(number, style.SMALL) + 0.03 < length:
            middle = y + _HEIGHT - _STRIP / 2 - 0.06
            sheet.add(Words(at + length / 2, middle, number, style.SMALL, style.ink_on(colour), "center", bold=True))
        at += length


def _ending(path: str, room: float) -> str:
    """As much of a module's path as there is room for: its end tells most."""
    most = max(2, int(room / text_width("n", style.LABEL)))
    while len(path) > most and "." in path:
        path = path.partition(".")[2]
    return cut(path, most)


def _arrows(
    sheet: Sheet, arrows: Sequence[tuple[int, int, int]], corners: Sequence[tuple[float, float]], columns: int,
    width: float,
) -> int:  # fmt: skip
    """Draws what hands to what: to the next block directly, within a row over the blocks between; gives how many go
    further than that."""
    left_out, levels = 0, dict[int, list[tuple[int, int]]]()
    for source, target, _ in arrows:
        row, same = source // columns, source // columns == target // columns
        if target == source + 1:
            _next(sheet, corners[source], corners[target], width, same)
        elif same and target > source:
            placed = levels.setdefault(row, [])
            level = sum(a < target and source < b for a, b in placed)
            if level >= _MOST_ARCS:
                left_out += 1
                continue
            placed.append((source, target))
            _over(sheet, corners[source], corners[target], width, level)
        else:
            left_out += 1
    return left_out


def _next(sheet: Sheet, source: tuple[float, float], target: tuple[float, float], width: float, same_row: bool) -> None:
    """An arrow to the next block, or from the end of a row to the beginning of the next."""
    if same_row:
        y = source[1] + _HEIGHT / 2
        _line(sheet, [(source[0] + width, y), (target[0] - 0.02, y)])
        return
    x, below, y = source[0] + width / 2, source[1] + _HEIGHT, target[1]
    middle = below + 0.09
    _line(sheet, [(x, below), (x, middle), (target[0] + 0.2, middle), (target[0] + 0.2, y - 0.02)])


def _over(sheet: Sheet, source: tuple[float, float], target: tuple[float, float], width: float, level: int) -> None:
    top = source[1] - 0.07 - _ARC * level
    start, end = source[0] + width - 0.15, target[0] + 0.35 + 0.1 * level
    _line(sheet, [(start, source[1]), (start, top), (end, top), (end, target[1] - 0.02)])


def _line(sheet: Sheet, points: list[tuple[float, float]]) -> None:
    """A line with a head at its end."""
    sheet.add(Stroke(tuple(points), style.MUTED, 1.0))
    (x, y), (end_x, end_y) = points[-2], points[-1]
    size = 0.045
    if abs(end_x - x) > abs(end_y - y):
        back = end_x - size
        head = ((back, end_y - size), (end_x, end_y), (back, end_y + size))
    else:
        back = end_y - size
        head = ((end_x - size, back), (end_x, end_y), (end_x + size, back))
    sheet.add(Stroke(head, style.MUTED, 1.0))
