"""A sheet as SVG, without any package: for pages, where colours follow the theme, and for files of their own.

All texts are escaped here; what comes out can be put into a page as it is.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from mapper.machine.draw import printable
from mapper.reports import style
from mapper.reports.sheet import Box, Sheet, Stroke, Words

POINTS = 72
"""Units an inch."""
THEMED = {
    style.PAPER: "paper", style.INK: "ink", style.MUTED: "muted", style.LINE: "line", style.CORE: "core",
    style.PACKAGE: "package", **{tint: f"node{n}" for n, tint in enumerate(style.NODES)},
}  # fmt: skip
"""Colours that a page has its own for, light and dark, by the class that stands for them."""
_REM = 7.4
"""Heights of the page's letters that an inch of a picture becomes."""
_BEHIND = 8
"""How many boxes back the ground of a text is looked for."""
_ANCHORS = {"left": "start", "center": "middle", "right": "end"}


def page_svg(sheet: Sheet, width: float, height: float, name: str, title: str, about: str) -> str:
    """The picture for a page: `name` is that of its ids, `title` and `about` what screen readers say. Colours of the
    theme are classes; marks with a tip can be pointed at. `width` is that of pictures with a size of their own."""
    head = (
        f'<svg role="img" aria-labelledby="{_e(name)}-t {_e(name)}-d" viewBox="0 0 {_n(width)} {_n(height)}" '
        f'width="{width * _REM:.4g}rem">'
        f'<title id="{_e(name)}-t">{_e(title)}</title><desc id="{_e(name)}-d">{_e(about)}</desc>'
    )
    return f"{head}{''.join(_marks(sheet, themed=True))}</svg>"


def svg_file(sheet: Sheet, width: float, height: float, title: str, about: str) -> str:
    """The picture as a file: on paper of its own, the same bytes for the same marks."""
    fonts = ", ".join(f"'{font}'" for font in style.FONTS)
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<svg xmlns="http://www.w3.org/2000/svg" role="img" '
        f'viewBox="0 0 {_n(width)} {_n(height)}" width="{width:.4g}in" height="{height:.4g}in" '
        f'font-family="{fonts}, sans-serif"><title>{_e(title)}</title><desc>{_e(about)}</desc>'
        f'<rect width="100%" height="100%" fill="{style.PAPER}"/>{"".join(_marks(sheet, themed=False))}</svg>\n'
    )


def swatch(stage: int) -> str:
    """A small square in the colour of `stage`, with its number: how text names a stage."""
    colour = style.stage_colour(stage)
    ink = "dark" if style.ink_on(colour) == style.INK else "light"
    return (
        f'<svg class="swatch" viewBox="0 0 22 16" width="1.375em" height="1em" aria-hidden="true">'
        f'<rect class="edge" width="21" height="15" x=".5" y=".5" rx="3" fill="{colour}"/>'
        f'<text class="on-{ink}" x="11" y="12" font-size="10" text-anchor="middle">{stage}</text></svg>'
    )


def strip(shares: Sequence[tuple[int, float]]) -> str:
    """A narrow bar with the shares of stages, largest where they are most: for rows of text."""
    out, x = [], 0.0
    for stage, share in shares:
        out.append(f'<rect data-s="{stage}" x="{x:.2f}" width="{share * 60:.2f}" height="10" '
                   f'fill="{style.stage_colour(stage)}"/>')  # fmt: skip
        x += share * 60
    return (
        f'<svg class="strip" viewBox="0 0 60 10" width="3.75em" height=".625em" aria-hidden="true">{"".join(out)}</svg>'
    )


def _marks(sheet: Sheet, *, themed: bool) -> Iterable[str]:
    boxes: list[Box] = []
    for mark in sheet.marks:
        if isinstance(mark, Box):
            boxes.append(mark)
            yield _box(mark, themed)
        elif isinstance(mark, Stroke):
            yield _stroke(mark, themed)
        else:
            yield _words(mark, boxes[-_BEHIND:], themed)


def _box(box: Box, themed: bool) -> str:
    attributes = [f'x="{_n(box.x)}" y="{_n(box.y)}" width="{_n(box.width)}" height="{_n(box.height)}"']
    if box.radius:
        attributes.append(f'rx="{_n(min(box.radius, box.width / 2, box.height / 2))}"')
    classes = _paint(attributes, "fill", box.fill, themed) + (
        _paint(attributes, "stroke", box.edge, themed) if box.edge != "none" else [])  # fmt: skip
    if box.edge != "none":
        attributes.append(f'stroke-width="{box.line:g}"')
        if box.dash:
            attributes.append(f'stroke-dasharray="{" ".join(f"{d:g}" for d in box.dash)}"')
    if box.opacity < 1:
        attributes.append(f'fill-opacity="{box.opacity:g}"')
    if box.stage is not None:
        attributes.append(f'data-s="{box.stage}"')
    if classes:
        attributes.append(f'class="{" ".join(classes)}"')
    if box.name and not themed:
        attributes.append(f'id="{_e(box.name)}"')
    if not box.tip:
        return f"<rect {' '.join(attributes)}/>"
    return f"<rect {' '.join(attributes)}><title>{_e(box.tip)}</title></rect>"


def _stroke(stroke: Stroke, themed: bool) -> str:
    points = " ".join(f"{_n(x)},{_n(y)}" for x, y in stroke.points)
    attributes = [f'points="{points}" fill="none" stroke-width="{stroke.line:g}" stroke-linecap="round"']
    classes = _paint(attributes, "stroke", stroke.colour, themed)
    if stroke.dash:
        attributes.append(f'stroke-dasharray="{" ".join(f"{d:g}" for d in stroke.dash)}"')
    if classes:
        attributes.append(f'class="{" ".join(classes)}"')
    return f"<polyline {' '.join(attributes)}/>"


def _words(words: Words, behind: Sequence[Box], themed: bool) -> str:
    attributes = [f'x="{_n(words.x)}" y="{_n(words.y + 0.36 * words.size / POINTS)}" font-size="{words.size:g}"']
    if words.align != "left":
        attributes.append(f'text-anchor="{_ANCHORS[words.align]}"')
    if words.bold:
        attributes.append('font-weight="600"')
    ground = next((box.fill for box in reversed(behind) if _inside(words, box)), style.PAPER)
    on_paper = themed and ground in THEMED
    attributes += [f'class="{name}"' for name in _paint(attributes, "fill", words.colour, on_paper)]
    return f"<text {' '.join(attributes)}>{_e(words.text)}</text>"


def _paint(attributes: list[str], what: str, colour: str, themed: bool) -> list[str]:
    """Adds the colour to `attributes`, or gives its class where the theme has one."""
    if themed and colour in THEMED:
        return [f"{what[0]}-{THEMED[colour]}"]
    attributes.append(f'{what}="{_e(colour)}"')
    return []


def _inside(words: Words, box: Box) -> bool:
    return box.x <= words.x <= box.x + box.width and box.y <= words.y <= box.y + box.height


def _n(inches: float) -> str:
    """In units, as short as can be seen."""
    return f"{inches * POINTS:.1f}".removesuffix(".0")


def _e(text: str) -> str:
    """Escaped for XML, and without what it refuses."""
    return html.escape(printable(text), quote=True)
