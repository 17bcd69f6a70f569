"""The map of where splitting a model pays, as text and as a picture: a panel a machine, a table of the models below."""

from __future__ import annotations

import math
from bisect import bisect
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mapper.machine.draw import printable
from mapper.reports import style
from mapper.reports.sheet import Box, Sheet, Stroke, Words
from mapper.reports.study_figures import Drawn, write_drawn
from mapper.reports.table import table
from mapper.units import format_bytes

if TYPE_CHECKING:
    from mapper.study.where.chart import Chart, Panel, Point
    from mapper.study.where.splitting import Compared, Splitting

BANDS = (
    (0.9, "#E9925B", "below 0.9"), (0.98, "#F7D3BC", "0.9 to 0.98"), (1.02, style.PAPER, "within 2 %"),
    (1.1, "#DCEAF4", "to 1.1"), (1.25, "#B8D5E9", "to 1.25"), (1.5, "#8ABADB", "to 1.5"), (2.0, "#559CCA", "to 2"),
    (4.0, "#1F80BA", "to 4"), (math.inf, "#004E7A", "above 4"),
)  # fmt: skip
"""Up to which ratio, its colour and its words: tints of the palette's blue where splitting pays, of its vermilion where
it loses."""
NOTHING = "#E3E6E9"
"""Where one of the two has no mapping."""
PAYS, LOSES = 1.02, 0.98

_CELL, _MARGIN, _LEFT, _RIGHT, _ABOVE, _BELOW = (0.38, 0.25), 0.35, 0.62, 1.0, 0.48, 0.62
_DOT, _LEAST_WIDTH = 0.16, 9.8


Place = tuple[float, float]
"""Inches from the left and from the top."""


def where_text(chart: Chart) -> list[str]:
    """Lines for people: for each machine how often splitting pays and where most, then the models."""
    return [
        f"What splitting is worth: the rate of the best mapping with several stages over the best with one. "
        f"{len(chart.rows)} × {len(chart.shares)} models of {chart.layers} dense layers a machine; in brackets within "
        f"{chart.latency_limit:g} times native's latency.",
        "",
        *_machines(chart),
        *(["", *_models(chart)] if chart.panels[0].points else []),
    ]


def _machines(chart: Chart) -> list[str]:
    lines = []
    for panel in chart.panels:
        for name, limited in (("", False), ("within the limit", True)):
            found = [(cell, _ratio(cell.found, limited)) for cell in panel.cells]
            known = [(cell, ratio) for cell, ratio in found if ratio is not None]
            best = max(known, key=lambda both: both[1], default=None)
            pays = sum(ratio > PAYS for _, ratio in known)
            loses = sum(ratio < LOSES for _, ratio in known)
            most = "-" if best is None else (
                f"{best[1]:.2f} at {best[0].flop_per_byte:g} FLOP/B, {format_bytes(best[0].weight_bytes)} "
                f"({best[0].share:.2g} of the caches)")  # fmt: skip
            lines.append([panel.machine if not limited else "", name, *(f"{n} of {len(known)}" for n in (pays, loses)),
                          most])  # fmt: skip
    head = ["machine", "", f"above {PAYS:g}", f"below {LOSES:g}", "most"]
    return table(head, lines, right="23", indent="", fold="4", whole="14")


def _models(chart: Chart) -> list[str]:
    head = ["model", "FLOP/B", "weights", *(panel.machine for panel in chart.panels)]
    lines = [
        [point.model, f"{point.flop_per_byte:.3g}", format_bytes(point.weight_bytes),
         *(f"{_told(p.points[i].found, False)} ({_told(p.points[i].found, True)})" for p in chart.panels)]
        for i, point in enumerate(chart.panels[0].points)
    ]  # fmt: skip
    return table(head, lines, right=range(1, len(head)), indent="", fold=[2, 1])


def _told(found: Compared, limited: bool) -> str:
    ratio = _ratio(found, limited)
    return "-" if ratio is None else f"{ratio:.2f}"


def _ratio(found: Compared, limited: bool) -> float | None:
    splitting: Splitting = found.limited if limited else found.free
    return splitting.ratio


def write_where(chart: Chart, folder: Path, kind: str = "svg") -> list[Path]:
    """Writes the map into `folder` as `where`, and with the limit on latency as `where_limited`, as `kind` svg or png;
    the same bytes for the same map.

    Raises: UsageError for another kind, MissingFeature without matplotlib, SystemRefused where they cannot be written.
    """
    drawn = {"where": where_sheet(chart), "where_limited": where_sheet(chart, limited=True)}
    return write_drawn(drawn, folder, kind)


def where_sheet(chart: Chart, *, limited: bool = False) -> Drawn:
    """The map as marks, with its width and height in inches: two panels a row, colours and numbers are ratios, numbered
    squares the models."""
    wide = _LEFT + _CELL[0] * len(chart.rows) + _RIGHT
    high = _ABOVE + _CELL[1] * len(chart.shares) + _BELOW
    columns = min(2, len(chart.panels))
    width = max(2 * _MARGIN + columns * wide, _LEAST_WIDTH)
    sheet, y = Sheet(), _MARGIN
    y = _headings(sheet, chart, limited, y)
    y = _legend(sheet, y)
    for p, panel in enumerate(chart.panels):
        left, top = _MARGIN + p % columns * wide + _LEFT, y + p // columns * high + _ABOVE
        _Panel(sheet, chart, panel, limited, left, top).draw()
    y += -(-len(chart.panels) // columns) * high
    y = _table(sheet, chart, limited, y, width)
    return sheet, width, y + _MARGIN


def _headings(sheet: Sheet, chart: Chart, limited: bool, y: float) -> float:
    limit = f", within {chart.latency_limit:g} times native's latency" if limited else ""
    sheet.add(Words(_MARGIN, y, f"Where splitting a model pays{limit}", style.TITLE, bold=True))
    lines = (
        "Rate of the best mapping with several stages over the best with one (native or copies), by the planner's cost "
        "model.",
        f"Cells: {chart.layers} equal dense layers. Squares: models, items of one, in the colour of their own ratio.",
    )
    for line in lines:
        y += 0.24
        sheet.add(Words(_MARGIN, y, line, style.SUBTITLE, style.MUTED))
    return y + 0.26


def _legend(sheet: Sheet, y: float) -> float:
    x = _MARGIN
    for _, colour, words in BANDS:
        sheet.add(Box(x, y - 0.08, 0.22, 0.16, colour, style.LINE, 0.5), Words(x + 0.28, y, words, style.LABEL))
        x += 0.42 + 0.064 * len(words) + 0.12
    return y + 0.2


def colour_of(ratio: float | None) -> str:
    """The colour of a ratio, grey for none."""
    return NOTHING if ratio is None else BANDS[bisect([band[0] for band in BANDS], ratio)][1]


class _Panel:
    """One machine's grid with its upper left corner at `left`, `top`."""

    def __init__(self, sheet: Sheet, chart: Chart, panel: Panel, limited: bool, left: float, top: float) -> None:
        from mapper.study.where.chart import edges
        from mapper.study.where.dense import flop_per_byte

        self.sheet, self.chart, self.panel, self.limited = sheet, chart, panel, limited
        self.left, self.top = left, top
        self.columns, self.lines = edges([flop_per_byte(rows) for rows in chart.rows]), edges(chart.shares)
        self.width, self.height = _CELL[0] * len(chart.rows), _CELL[1] * len(chart.shares)

    def draw(self) -> None:
        """The cells, what the caches hold, axes, and the models over them."""
        self.sheet.add(Words(self.left, self.top - 0.34, printable(self.panel.title), style.LABEL + 1.5, bold=True))
        for i, cell in enumerate(self.panel.cells):
            if (colour := colour_of(_ratio(cell.found, self.limited))) != style.PAPER:
                self.sheet.add(Box(*self._corner(i), *_CELL, colour))
        self.sheet.add(Box(self.left, self.top, self.width, self.height, "none", style.LINE, 0.8))
        places = self._places()
        told = self._numbers(places)
        self._caches(told)
        self._axes()
        for number, (point, there, place) in enumerate(zip(self.panel.points, self._theres(), places, strict=True), 1):
            self._point(number, point, there, place)

    def _corner(self, i: int) -> Place:
        """The upper left corner of a cell."""
        line, column = divmod(i, len(self.chart.rows))
        return self.left + column * _CELL[0], self.top + self.height - (line + 1) * _CELL[1]

    def _numbers(self, squares: Sequence[Place]) -> list[Place]:
        """Writes the ratios that are not about 1, but under squares; gives where they are."""
        told = []
        for i, cell in enumerate(self.panel.cells):
            ratio, (x, y) = _ratio(cell.found, self.limited), self._corner(i)
            middle = x + _CELL[0] / 2, y + _CELL[1] / 2
            if ratio is None or LOSES <= ratio <= PAYS or any(_near(middle, other) for other in squares):
                continue
            text = f"{ratio:.2f}" if ratio < 10 else f"{ratio:.0f}"
            self.sheet.add(Words(*middle, text, style.SMALL, style.ink_on(colour_of(ratio)), "center"))
            told.append(middle)
        return told

    def _across(self, value: float) -> float:
        return self.left + _CELL[0] * _position(value, self.columns)

    def _down(self, value: float) -> float:
        return self.top + self.height - _CELL[1] * _position(value, self.lines)

    def _caches(self, told: Sequence[Place]) -> None:
        """Lines where weights fit one group's cache, all of them, the package's; broken where numbers are `told`."""
        held, last = self.panel.held, math.inf
        several = f"{held.groups} × {held.group_name}: "
        marks = [(held.group_bytes, f"one {held.group_name}: "), (held.groups_bytes, several),
                 (held.package_bytes, f"{held.package_name}: ")]  # fmt: skip
        for size, name in sorted((m for m in marks if m[0]), key=lambda mark: mark[0]):
            y = self._down(size / held.bytes)
            words = min(y, last - 0.13)
            last = words
            breaks = sorted(x for x, middle in told if abs(middle - y) < 0.07)
            starts = [self.left, *(x + 0.16 for x in breaks)]
            ends = [*(x - 0.16 for x in breaks), self.left + self.width + 0.03]
            for start, end in zip(starts, ends, strict=True):
                self.sheet.add(Stroke(((start, y), (end, y)), style.INK, 0.9))
            text = f"{name}{format_bytes(size)}"
            self.sheet.add(Words(self.left + self.width + 0.06, words, text, style.SMALL, style.INK))

    def _axes(self) -> None:
        from mapper.study.where.dense import flop_per_byte

        below = self.top + self.height
        for i, rows in enumerate(self.chart.rows):
            x = self.left + (i + 0.5) * _CELL[0]
            self.sheet.add(Words(x, below + 0.1, f"{flop_per_byte(rows):g}", style.SMALL, style.MUTED, "center"))
        middle = self.left + self.width / 2
        words = "work per weight byte, FLOP/B"
        self.sheet.add(Words(middle, below + 0.28, words, style.LABEL, style.INK, "center"))
        for i, value in enumerate(self.lines):
            y = below - i * _CELL[1]
            self.sheet.add(Words(self.left - 0.06, y, _share(value), style.SMALL, style.MUTED, "right"))
        words = f"weights / {format_bytes(self.panel.held.bytes)}, the most that caches hold"
        self.sheet.add(Words(self.left - 0.3, self.top - 0.14, words, style.LABEL, style.INK))

    def _theres(self) -> list[Place]:
        """Where the models belong."""
        return [(self._across(point.flop_per_byte), self._down(point.share)) for point in self.panel.points]

    def _places(self) -> list[Place]:
        """Where the squares are: at their place or the nearest free one within the panel."""
        taken: list[Place] = []
        right, below = self.left + self.width - _DOT / 2, self.top + self.height - _DOT / 2
        for there in self._theres():
            taken.append(next(
                (x, y) for x, y in _around(there, _DOT / 2)
                if all(math.dist((x, y), other) >= _DOT * 1.25 for other in taken)
                and self.left + _DOT / 2 <= x <= right and self.top + _DOT / 2 <= y <= below
            ))  # fmt: skip
        return taken

    def _point(self, number: int, point: Point, there: Place, place: Place) -> None:
        """A model's square, with a line to where it belongs."""
        x, y = place
        if place != there:
            dot = Box(there[0] - 0.02, there[1] - 0.02, 0.04, 0.04, style.INK)
            self.sheet.add(Stroke((there, place), style.INK, 0.6), dot)
        colour = colour_of(_ratio(point.found, self.limited))
        self.sheet.add(
            Box(x - _DOT / 2, y - _DOT / 2, _DOT, _DOT, colour, style.INK, 0.9,
                name=f"{self.panel.machine}-{point.model}"),
            Words(x, y, str(number), style.SMALL - 0.5, style.ink_on(colour), "center", bold=True),
        )  # fmt: skip


def _near(number: Place, square: Place) -> bool:
    """Whether a square would cover a cell's number."""
    return abs(number[0] - square[0]) < _DOT / 2 + 0.12 and abs(number[1] - square[1]) < _DOT / 2 + 0.05


def _position(value: float, edges: Sequence[float]) -> float:
    """Where `value` lies between `edges`, in cells, on a logarithmic scale; at the rim where it lies outside."""
    value = min(max(value, edges[0]), edges[-1])
    cell = min(bisect(edges, value), len(edges) - 1) - 1
    return cell + math.log(value / edges[cell]) / math.log(edges[cell + 1] / edges[cell])


def _around(place: Place, step: float) -> Iterator[Place]:
    """`place` and then places around it, the nearest first."""
    yield place
    for ring in range(1, 40):
        for turn in range(6 * ring):
            angle = 2 * math.pi * turn / (6 * ring)
            yield place[0] + step * ring * math.cos(angle), place[1] + step * ring * math.sin(angle)


def _share(value: float) -> str:
    """`1/32`, `4`: powers of two as people write them."""
    return f"{value:.3g}" if value >= 1 else f"1/{1 / value:.3g}"


def _table(sheet: Sheet, chart: Chart, limited: bool, y: float, width: float) -> float:
    """The models by number with their own ratios, in two blocks where they are many."""
    points = chart.panels[0].points
    if not points:
        return y
    ends = [0.22, 1.3, 1.85, 2.5, *(3.1 + 0.62 * p for p in range(len(chart.panels)))]
    blocks = 2 if len(points) > 8 and 2 * (ends[-1] + 0.4) <= width else 1
    each = -(-len(points) // blocks)
    for block in range(blocks):
        x, top = _MARGIN + block * (width - _MARGIN) / 2, y
        head = ["", "model", "FLOP/B", "weights", *(panel.machine.split("-")[0] for panel in chart.panels)]
        _line(sheet, x, top, ends, head, bold=True)
        for i in range(block * each, min(len(points), (block + 1) * each)):
            top += 0.17
            point = points[i]
            told = [_told(panel.points[i].found, limited) for panel in chart.panels]
            cells = [str(i + 1), point.model, f"{point.flop_per_byte:.3g}", format_bytes(point.weight_bytes), *told]
            _line(sheet, x, top, ends, cells)
    return y + 0.17 * each


def _line(sheet: Sheet, x: float, y: float, ends: Sequence[float], cells: Sequence[str], bold: bool = False) -> None:
    for i, (end, text) in enumerate(zip(ends, cells, strict=True)):
        if i == 1:
            sheet.add(Words(x + ends[0] + 0.08, y, text, style.SMALL + 0.5, bold=bold))
        else:
            sheet.add(Words(x + end, y, text, style.SMALL + 0.5, align="right", bold=bold))
