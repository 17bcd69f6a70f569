"""The roofline: both axes logarithmic, ceilings with letters, ops as dots, stages as discs with their numbers."""

from __future__ import annotations

import math
import string
from collections.abc import Iterator, Sequence

from mapper.reports import style
from mapper.reports.page.charts import Ceiling, Dot, Roof
from mapper.reports.scale import Scale
from mapper.reports.sheet import Box, Sheet, Stroke, Words, fitted, text_width
from mapper.units import format_count

_DOT, _HOME, _DISC, _STEP, _LETTER = 0.06, 0.1, 0.2, 0.225, 0.16
_CEILING = 1.2
"""How thick the line of a ceiling is, in points."""
_SPAN = 1e4
"""How many times slower than the highest ceiling what is shown at its place may be; slower ones lie at the rim."""
_LEFT, _BELOW, _RIGHT = 0.78, 0.5, 0.3
Point = tuple[float, float]
Rectangle = tuple[float, float, float, float]
"""Left, top, right, bottom."""


def roof_sheet(roof: Roof, width: float) -> tuple[Sheet, float, float]:
    """The picture as marks, with its width and height in inches."""
    sheet = Sheet()
    top = _legend(sheet, roof.ceilings, width)
    height = max(2.6, min(4.6, 0.55 * width))
    across, up = _scales(roof, width, top, height)
    _grid(sheet, across, up, width)
    peak = max((c.flop_per_s for c in roof.ceilings if c.flop_per_s is not None), default=up.high)
    lines = [_line(ceiling, peak, across, up) for ceiling in roof.ceilings]
    sheet.add(*(Stroke(line, style.MUTED, _CEILING) for line in lines if line))
    taken: list[Point] = []
    for letter, line in zip(string.ascii_letters, lines, strict=False):
        if line:
            _letter(sheet, letter, line, taken)
    for dot in sorted(roof.ops, key=lambda dot: dot.flop_per_s):
        x, y = across.at(dot.intensity), up.at(dot.flop_per_s)
        sheet.add(Box(x - _DOT / 2, y - _DOT / 2, _DOT, _DOT, style.stage_colour(dot.stage), style.INK, 0.25,
                      radius=_DOT / 2, stage=dot.stage, tip=dot.tip, opacity=0.75))  # fmt: skip
    _discs(sheet, roof.stages, across, up)
    return sheet, width, top + height + _BELOW


def _legend(sheet: Sheet, ceilings: Sequence[Ceiling], width: float) -> float:
    """What the letters stand for, in rows that fit; gives where the axes begin."""
    x, y = 0.08, 0.14
    for letter, ceiling in zip(string.ascii_letters, ceilings, strict=False):
        text, letters = fitted(ceiling.name, style.LABEL + 0.5, width - 0.5)
        wide = text_width(text, letters) + 0.42
        if x > 0.08 and x + wide > width:
            x, y = 0.08, y + 0.24
        _badge(sheet, letter, x + 0.08, y)
        sheet.add(Words(x + 0.22, y, text, letters))
        x += wide
    return y + 0.26


def _scales(roof: Roof, width: float, top: float, height: float) -> tuple[Scale, Scale]:
    dots = [*roof.ops, *roof.stages]
    xs, ys = [dot.intensity for dot in dots] or [1.0], [dot.flop_per_s for dot in dots] or [1e9]
    highest = max(ys + [c.flop_per_s for c in roof.ceilings if c.flop_per_s is not None])
    lowest = max(min(ys), highest / _SPAN)
    across = Scale(*_around_all(min(xs), max(xs)), _LEFT, width - _LEFT - _RIGHT, logarithmic=True)
    return across, Scale(*_around_all(lowest, highest), top + height, -height, logarithmic=True)


def _around_all(low: float, high: float) -> tuple[float, float]:
    """A little more than from `low` to `high`, and at least a power of ten."""
    low, high = low / 1.6, high * 1.6
    middle = math.sqrt(low * high)
    return min(low, middle / math.sqrt(10)), max(high, middle * math.sqrt(10))


def _round(scale: Scale) -> list[float]:
    """Powers of ten within `scale`, and also twice and five times these where there are few."""
    first, last = math.floor(math.log10(scale.low)), math.ceil(math.log10(scale.high))
    powers = [10.0**power for power in range(first, last + 1)]
    found = [value for value in powers if scale.low <= value <= scale.high]
    if len(found) < 3:
        found = [m * value for value in powers for m in (1, 2, 5) if scale.low <= m * value <= scale.high]
    return found


def _grid(sheet: Sheet, across: Scale, up: Scale, width: float) -> None:
    left, right, bottom, top = across.start, across.start + across.length, up.start, up.start + up.length
    for value in _round(across):
        x = across.at(value)
        sheet.add(Stroke(((x, top), (x, bottom)), style.LINE, 0.3))
        sheet.add(Words(x, bottom + 0.13, f"{value:g}", style.LABEL, style.MUTED, "center"))
    for value in _round(up):
        y = up.at(value)
        sheet.add(Stroke(((left, y), (right, y)), style.LINE, 0.3))
        sheet.add(Words(left - 0.07, y, f"{format_count(value)}FLOP/s", style.SMALL, style.MUTED, "right"))
    text, letters = fitted("FLOP a byte that an op reads or writes; upwards FLOP/s of one core", style.LABEL,
                           width - 0.2)  # fmt: skip
    sheet.add(Words(width / 2, bottom + 0.35, text, letters, style.MUTED, "center"))


def _line(ceiling: Ceiling, peak: float, across: Scale, up: Scale) -> tuple[Point, Point] | None:
    """From where to where the line of a ceiling goes: a rising one to where it meets the highest flat one. None where
    that is outside."""
    low, high = across.low, across.high
    if ceiling.bytes_per_s is not None:
        low = max(low, up.low / ceiling.bytes_per_s)
        high = min(high, peak / ceiling.bytes_per_s)
        if low >= high:
            return None
    return (across.at(low), up.at(ceiling.at(low))), (across.at(high), up.at(ceiling.at(high)))


def _letter(sheet: Sheet, letter: str, line: tuple[Point, Point], taken: list[Point]) -> None:
    """The letter of a ceiling on its line, where it is free of the others: near the right end of a flat one, the left
    of a rising one."""
    (x, y), (end, rise) = line
    flat = abs(rise - y) < 1e-9
    shares = [i / 40 for i in range(1, 40)]
    places = [(x + (end - x) * share, y + (rise - y) * share) for share in (reversed(shares) if flat else shares)]
    free = (place for place in places if all(math.dist(place, other) > 1.5 * _LETTER for other in taken))
    place = next(free, places[0])
    taken.append(place)
    _badge(sheet, letter, *place)


def _badge(sheet: Sheet, letter: str, x: float, y: float) -> None:
    sheet.add(Box(x - _LETTER / 2, y - _LETTER / 2, _LETTER, _LETTER, style.PAPER, style.MUTED, 0.7, radius=0.03))
    sheet.add(Words(x, y, letter, style.LABEL, style.INK, "center", bold=True))


def _discs(sheet: Sheet, dots: Sequence[Dot], across: Scale, up: Scale) -> None:
    """Stages where they are; those that would cover each other stand in rows beside, with a line to where they are."""
    taken = [_rectangle(m) for m in sheet.marks if isinstance(m, Box) and m.width == _LETTER]
    ceilings = [m.points for m in sheet.marks if isinstance(m, Stroke) and m.line == _CEILING]
    ops = [_rectangle(m) for m in sheet.marks if isinstance(m, Box) and m.width == _DOT]
    for near in _clusters(dots, across, up):
        homes = [(across.at(dot.intensity), up.at(dot.flop_per_s)) for dot in near]
        middle = sum(x for x, _ in homes) / len(near), sum(y for _, y in homes) / len(near)
        columns = math.ceil(math.sqrt(len(near) * 1.6))
        size = min(columns, len(near)) * _STEP, math.ceil(len(near) / columns) * _STEP
        left, top = (
            _free(middle, size, taken, ceilings, ops, across, up) if len(near) > 1
            else _beside(middle, size, taken, across, up)
        )  # fmt: skip
        taken.append((left, top, left + size[0], top + size[1]))
        if not left - 0.02 <= middle[0] <= left + size[0] + 0.02 or not top <= middle[1] <= top + size[1]:
            edge = min(max(middle[0], left), left + size[0]), min(max(middle[1], top), top + size[1])
            sheet.add(Stroke((middle, edge), style.INK, 0.7))
        for (x, y), dot in zip(homes, near, strict=True):
            if len(near) > 1:
                sheet.add(Box(x - _HOME / 2, y - _HOME / 2, _HOME, _HOME, style.stage_colour(dot.stage), style.INK, 0.5,
                              radius=_HOME / 2, stage=dot.stage, tip=dot.tip))  # fmt: skip
        for i, dot in enumerate(near):
            _disc(sheet, dot, left + (i % columns + 0.5) * _STEP, top + (i // columns + 0.5) * _STEP)


def _disc(sheet: Sheet, dot: Dot, x: float, y: float) -> None:
    colour = style.stage_colour(dot.stage)
    sheet.add(Box(x - _DISC / 2, y - _DISC / 2, _DISC, _DISC, colour, style.INK, 0.8, radius=_DISC / 2,
                  stage=dot.stage, tip=dot.tip))  # fmt: skip
    sheet.add(Words(x, y, str(dot.stage), style.SMALL, style.ink_on(colour), "center", bold=True))


def _clusters(dots: Sequence[Dot], across: Scale, up: Scale) -> list[list[Dot]]:
    """Dots whose discs would cover each other, together."""
    found: list[list[Dot]] = []
    for dot in dots:
        place = across.at(dot.intensity), up.at(dot.flop_per_s)
        near = [
            group for group in found
            if any(math.dist(place, (across.at(d.intensity), up.at(d.flop_per_s))) < _STEP for d in group)
        ]  # fmt: skip
        merged = [d for group in near for d in group] + [dot]
        found = [group for group in found if group not in near] + [merged]
    return [sorted(group, key=lambda dot: dot.stage) for group in found]


def _beside(middle: Point, size: Point, taken: Sequence[Rectangle], across: Scale, up: Scale) -> Point:
    """The upper left corner of a place for `size` on `middle`, or the nearest beside it, where nothing else is."""
    on = middle[0] - size[0] / 2, middle[1] - size[1] / 2
    inside = [place for place in (on, *_around(middle, size, 0.0)) if _inside(place, size, across, up)]
    free = (place for place in inside if not _hits(place, size, taken))
    return next(free, _kept(middle, size, across, up))


def _free(
    middle: Point, size: Point, taken: Sequence[Rectangle], ceilings: Sequence[Sequence[Point]],
    ops: Sequence[Rectangle], across: Scale, up: Scale,
) -> Point:  # fmt: skip
    """The same beside `middle`; a place that leaves ceilings and ops to be seen is preferred."""
    half = size[0] / 2, size[1] / 2
    inside = [
        _kept((x + half[0], y + half[1]), size, across, up) for x, y in _around(middle, size, 0.22)
    ]  # fmt: skip
    own = middle[0] - _HOME, middle[1] - _HOME, middle[0] + _HOME, middle[1] + _HOME
    free = [place for place in inside if not _hits(place, size, [*taken, own])]
    clear = (
        place for place in free
        if not _hits(place, size, ops) and not any(_crosses(line, place, size) for line in ceilings)
    )  # fmt: skip
    return next(clear, next(iter(free or inside), _kept(middle, size, across, up)))


def _around(middle: Point, size: Point, away: float) -> Iterator[Point]:
    """Upper left corners of places for `size` beside `middle`, nearest first."""
    (x, y), (width, height) = middle, size
    for far in (away + 0.12 * step for step in range(40)):
        yield from (
            (x - width / 2, y + far), (x - width - far, y - height / 2), (x + far, y - height / 2),
            (x - width / 2, y - height - far), (x - width - far, y + far), (x + far, y + far),
            (x - width - far, y - height - far), (x + far, y - height - far),
        )  # fmt: skip


def _inside(place: Point, size: Point, across: Scale, up: Scale) -> bool:
    return (across.start <= place[0] <= across.start + across.length - size[0]
            and up.start + up.length <= place[1] <= up.start - size[1])  # fmt: skip


def _kept(middle: Point, size: Point, across: Scale, up: Scale) -> Point:
    """The upper left corner of `size` around `middle`, moved into the picture."""
    x = min(max(middle[0] - size[0] / 2, across.start), across.start + across.length - size[0])
    return x, min(max(middle[1] - size[1] / 2, up.start + up.length), up.start - size[1])


def _hits(place: Point, size: Point, others: Sequence[Rectangle]) -> bool:
    x, y = place
    return any(x < r and a < x + size[0] and y < b and t < y + size[1] for a, t, r, b in others)


def _crosses(line: Sequence[Point], place: Point, size: Point) -> bool:
    """Whether a straight line passes through a rectangle: the part of it within has some length."""
    (x, y), (end_x, end_y) = line[0], line[-1]
    low, high = 0.0, 1.0
    for start, step, least, most in (
        (x, end_x - x, place[0], place[0] + size[0]), (y, end_y - y, place[1], place[1] + size[1]),
    ):  # fmt: skip
        if abs(step) < 1e-12:
            if not least < start < most:
                return False
            continue
        one, other = (least - start) / step, (most - start) / step
        low, high = max(low, min(one, other)), min(high, max(one, other))
    return low < high


def _rectangle(box: Box) -> Rectangle:
    return box.x, box.y, box.x + box.width, box.y + box.height
