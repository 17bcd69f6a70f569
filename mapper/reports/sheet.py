"""A sheet with boxes, lines and words, and how it becomes SVG or PNG, for which matplotlib is needed (optional)."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from mapper.errors import MissingFeature
from mapper.reports import style
from mapper.reports.table import cut

if TYPE_CHECKING:
    from matplotlib.artist import Artist

PAD = 0.08
"""Inches between a box and what is in it."""
_MOST_DOTS = 10_000


@dataclass(frozen=True)
class Box:
    """A rectangle; `name` becomes its id in SVG. `stage` is what it stands for where it does, `tip` what it says of
    itself on a page."""

    x: float
    y: float
    width: float
    height: float
    fill: str
    edge: str = "none"
    line: float = 0.7
    dash: tuple[float, ...] = ()
    radius: float = 0.0
    name: str = ""
    stage: int | None = None
    tip: str = ""
    opacity: float = 1.0


@dataclass(frozen=True)
class Stroke:
    """A line from point to point."""

    points: tuple[tuple[float, float], ...]
    colour: str = style.MESH
    line: float = 1.2
    dash: tuple[float, ...] = ()


@dataclass(frozen=True)
class Words:
    """A text at a point: centred in height, and in width as `align` says."""

    x: float
    y: float
    text: str
    size: float
    colour: str = style.INK
    align: str = "left"
    bold: bool = False


@dataclass
class Sheet:
    """Marks in the order of drawing, in inches from the upper left corner."""

    marks: list[Box | Stroke | Words] = field(default_factory=list)

    def add(self, *marks: Box | Stroke | Words) -> None:
        """Draws `marks` over what is there."""
        self.marks += marks

    def moved(self, x: float, y: float) -> list[Box | Stroke | Words]:
        """The marks, `x` to the right and `y` down."""
        return [_moved(mark, x, y) for mark in self.marks]

    def written(self, width: float, height: float, kind: str) -> bytes:
        """The sheet, `width` × `height` inches, as a file of `kind` svg or png: the same bytes for the same marks.

        Raises: MissingFeature where matplotlib is not installed.
        """
        matplotlib = require_matplotlib()
        out = io.BytesIO()
        with matplotlib.rc_context(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a letter that the font lacks is a box in PNG and itself in SVG
            matplotlib.rcdefaults()
            matplotlib.rcParams.update(
                {"svg.hashsalt": "mapper", "svg.fonttype": "none", "font.sans-serif": style.FONTS}
            )
            figure = matplotlib.figure.Figure(figsize=(width, height), facecolor=style.PAPER)
            for depth, mark in enumerate(self.marks):
                artist = _artist(mark, height, figure.dpi_scale_trans)
                artist.set_zorder(depth)
                figure.add_artist(artist)
            metadata = {"Date": None, "Creator": "mapper"} if kind == "svg" else {"Software": None}
            dots = min(style.DOTS_PER_INCH, _MOST_DOTS / max(width, height))
            figure.savefig(out, format=kind, dpi=dots, metadata=metadata)
        return out.getvalue()


def require_matplotlib() -> Any:
    """The package. Raises: MissingFeature where it is not installed."""
    try:
        import matplotlib.figure
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] != "matplotlib":
            raise
        raise MissingFeature(
            "pictures need the package matplotlib, which is not installed",
            advice="python -m pip install 'matplotlib>=3.8'",
        ) from None
    return matplotlib


def text_width(text: str, letters: float) -> float:
    """About how wide `text` in `letters` points is, in inches, rather too much than too little."""
    return len(text) * letters * 0.62 / 72


@dataclass(frozen=True)
class Part:
    """Something that knows its size and how to draw itself with its upper left corner at a point."""

    width: float
    height: float
    draw: Callable[[Sheet, float, float], None]


def rows_of(parts: Sequence[Part], gap: float, aspect: float = 1.6, room: float | None = None) -> Part:
    """`parts` in rows of equally many, so that the whole is about `aspect` times as wide as high, and no wider than
    `room` where one part a row is not."""
    most = next((c for c in range(min(len(parts), 128), 1, -1) if room is None or _wide(parts, c, gap) <= room), 1)
    columns = min(range(1, most + 1), key=lambda c: _awkwardness(parts, c, gap, aspect))
    rows = [parts[i : i + columns] for i in range(0, len(parts), columns)]

    def draw(sheet: Sheet, x: float, y: float) -> None:
        for row in rows:
            left = x
            for part in row:
                part.draw(sheet, left, y)
                left += part.width + gap
            y += max(part.height for part in row) + gap

    return Part(*_extent(rows, gap), draw)


def _wide(parts: Sequence[Part], columns: int, gap: float) -> float:
    return _extent([parts[i : i + columns] for i in range(0, len(parts), columns)], gap)[0]


def _extent(rows: Sequence[Sequence[Part]], gap: float) -> tuple[float, float]:
    width = max(sum(part.width for part in row) + gap * (len(row) - 1) for row in rows)
    return width, sum(max(part.height for part in row) for row in rows) + gap * (len(rows) - 1)


def _awkwardness(parts: Sequence[Part], columns: int, gap: float, aspect: float) -> float:
    rows = [parts[i : i + columns] for i in range(0, len(parts), columns)]
    width, height = _extent(rows, gap)
    return abs(math.log(width / height / aspect)) + 2 * (columns - len(rows[-1])) / columns


def boxed(inner: Part, label: str, fill: str, *, pad: float = PAD, longest: str = "") -> Part:
    """`inner` in a box under `label`, which shrinks and then goes where the box is too narrow for `longest`, the label
    that needs most room of those that are to look alike."""
    width = inner.width + 2 * pad
    letters = min(style.LABEL, style.LABEL * inner.width / text_width(longest or label, style.LABEL))
    return _box(inner, label, fill, width, pad, letters, bold=False)


def titled(inner: Part, label: str, fill: str, *, pad: float = PAD, room: float | None = None) -> Part:
    """`inner` in a box that is wide enough for `label`, which is cut where that would be wider than `room`."""
    if room is not None:
        label = cut(label, max(1, int((max(inner.width, room - 2 * pad)) / text_width("n", style.LABEL))))
    width = max(inner.width, text_width(label, style.LABEL)) + 2 * pad
    return _box(inner, label, fill, width, pad, style.LABEL, bold=True)


def _box(inner: Part, label: str, fill: str, width: float, pad: float, letters: float, *, bold: bool) -> Part:
    head = letters / 72 * 1.5 if letters >= style.SMALLEST else 0.0

    def draw(sheet: Sheet, x: float, y: float) -> None:
        sheet.add(Box(x, y, width, height, fill, style.LINE, radius=0.06))
        if head:
            sheet.add(Words(x + pad, y + pad * 0.75 + head / 2, label, letters, style.INK if bold else style.MUTED,
                            bold=bold))  # fmt: skip
        inner.draw(sheet, x + (width - inner.width) / 2, y + pad + head)

    height = inner.height + 2 * pad + head
    return Part(width, height, draw)


def fitted(text: str, letters: float, room: float) -> tuple[str, float]:
    """`text` and the size of its letters, at most `letters`, with which it keeps to `room`; cut where they would be too
    small to read."""
    letters = max(style.SMALLEST, min(letters, letters * room / max(text_width(text, letters), 1e-6)))
    most = max(1, int(room / text_width("n", letters) + 1e-6))
    return cut(text, most), letters


def _moved(mark: Box | Stroke | Words, x: float, y: float) -> Box | Stroke | Words:
    if isinstance(mark, Stroke):
        return replace(mark, points=tuple((across + x, down + y) for across, down in mark.points))
    return replace(mark, x=mark.x + x, y=mark.y + y)


def _artist(mark: Box | Stroke | Words, height: float, inches: Any) -> Artist:
    """`mark` for matplotlib, which measures from the lower left corner."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import FancyBboxPatch, Rectangle
    from matplotlib.text import Text

    if isinstance(mark, Stroke):
        xs, ys = [x for x, _ in mark.points], [height - y for _, y in mark.points]
        return Line2D(xs, ys, color=mark.colour, linewidth=mark.line, solid_capstyle="round", transform=inches,
                      linestyle=(0, mark.dash) if mark.dash else "-")  # fmt: skip
    if isinstance(mark, Words):
        return Text(mark.x, height - mark.y, mark.text, fontsize=mark.size, color=mark.colour, ha=mark.align,
                    va="center_baseline", weight="bold" if mark.bold else "normal", parse_math=False,
                    transform=inches)  # fmt: skip
    look = {"facecolor": mark.fill, "edgecolor": mark.edge, "linewidth": mark.line, "transform": inches,
            "linestyle": (0, mark.dash) if mark.dash else "-", "gid": mark.name or None}  # fmt: skip
    if mark.opacity < 1:
        look["alpha"] = mark.opacity
    corner = mark.x, height - mark.y - mark.height
    if not mark.radius:
        return Rectangle(corner, mark.width, mark.height, **look)
    return FancyBboxPatch(corner, mark.width, mark.height, f"round,pad=0,rounding_size={mark.radius:g}", **look)
