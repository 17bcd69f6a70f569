"""How reports look: one palette for stages on paper and in terminals, and the colours and sizes of what pictures show.

Stages take the colours of Okabe and Ito (2008), which people tell apart however they see colour; black, which is
text here, is grey instead. Beyond eight stages the same hues come back lighter, then darker, and so on. Colour never
stands alone: a stage's number is written where its colour is.
"""

from __future__ import annotations

STAGES = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#999999")
SHADES = (
    (0.0, "#FFFFFF"), (0.5, "#FFFFFF"), (0.4, "#000000"), (0.72, "#FFFFFF"), (0.6, "#000000"), (0.27, "#FFFFFF"),
    (0.2, "#000000"), (0.5, "#4A4A7A"),
)  # fmt: skip
"""For each turn through `STAGES`: how much of which colour is mixed in."""

PAPER = "#FFFFFF"
INK = "#1B1F24"
MUTED = "#5B6570"
LINE = "#8A94A0"
CORE = "#D5DEE8"
"""A core where no stages are shown."""
FREE = "#FFFFFF"
BOX = "#FFFFFF"
PACKAGE = "#F4F5F7"
MESH = "#5B6570"
NODES = ("#E4EEF8", "#FBEFDD", "#E5F3EA", "#F6E7EF", "#EDEBF7", "#EEF2DC")
"""Tints of neighbouring NUMA nodes, pale enough for every colour of a stage on them."""
DASHES = ((), (3.0, 1.6), (1.0, 1.4))
"""Outlines of the first, second and third kind of core."""

FONTS = ("DejaVu Sans", "Verdana", "Arial")
"""The first comes with matplotlib; SVG files leave the choice to who shows them."""
TITLE = 14.0
SUBTITLE = 9.0
LABEL = 8.0
SMALL = 6.5
SMALLEST = 4.0
DOTS_PER_INCH = 150

TERMINAL = {
    "heading": "bold",
    "label": "dim",
    "specified": "green",
    "measured": "cyan",
    "inferred": "yellow",
    "assumed": "magenta",
    "kind 0": "",
    "kind 1": "cyan",
    "kind 2": "magenta",
    "free": "dim",
    "answer": "bold",
    "ok": "green",
    "warning": "yellow",
    "error": "red",
    "waits": "dim",
}
"""Styles of roles in terminals; those of the terminal's own colours, which fit its background."""


def stage_colour(stage: int) -> str:
    """The fill of `stage`, such as `#E69F00`; 64 stages differ, then the colours come round again."""
    turn, hue = divmod(stage, len(STAGES))
    share, other = SHADES[turn % len(SHADES)]
    return _mixed(STAGES[hue], other, share)


def ink_on(colour: str) -> str:
    """The colour of text on `colour`: dark or light, whichever contrasts more (WCAG 2 relative luminance)."""
    light, dark = _luminance(PAPER), _luminance(INK)
    ground = _luminance(colour)
    return PAPER if (light + 0.05) / (ground + 0.05) > (ground + 0.05) / (dark + 0.05) else INK


def terminal_stage(stage: int) -> str:
    """The terminal style of a core of `stage`: its character on its colour, legible on any background."""
    colour = stage_colour(stage)
    return f"bold {ink_on(colour)} on {colour}"


def terminal(role: str) -> str:
    """The terminal style of a piece of text: `stage 3` is that stage's ground, `bar of stage 3` its colour, others are
    in `TERMINAL`."""
    kind, is_stage, number = role.partition("stage ")
    if not is_stage:
        return TERMINAL.get(role, "")
    return stage_colour(int(number)) if kind else terminal_stage(int(number))


def node_tint(node: int) -> str:
    """The ground of a NUMA node."""
    return NODES[node % len(NODES)]


def _channels(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def _mixed(colour: str, other: str, share: float) -> str:
    pairs = zip(_channels(colour), _channels(other), strict=True)
    return "#" + "".join(f"{round(a + (b - a) * share):02X}" for a, b in pairs)


def _luminance(colour: str) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (x / 255 for x in _channels(colour))]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
