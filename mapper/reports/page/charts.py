"""What pictures show, as plain data: bars, points under ceilings, a model in blocks, and tables beside them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mapper.units import format_rate

Told = Callable[[float], str]
"""How a value is written, with its unit."""


def rate_told(value: float) -> str:
    """So many a second."""
    return f"{format_rate(value)}/s"


@dataclass(frozen=True)
class Segment:
    """A part of a bar: its length, the stage whose colour it has (None: no stage's), how pale it is (0: full), and
    what it says of itself."""

    value: float
    tip: str
    stage: int | None = None
    shade: int = 0


@dataclass(frozen=True)
class Bar:
    """A bar: its name, its segments, what stands behind it, and a range with a line, such as from the least to the
    largest measured."""

    label: str
    segments: tuple[Segment, ...]
    told: str
    span: tuple[float, float] | None = None
    below: bool = False

    @property
    def value(self) -> float:
        """How long it is."""
        return sum(segment.value for segment in self.segments)


@dataclass(frozen=True)
class Mark:
    """A value that bars are compared with: a line through all of them."""

    value: float
    words: str
    dashed: bool = False


@dataclass(frozen=True)
class Bars:
    """Bars under each other along one axis. `shades` says what pale segments mean, the full ones first; `left_out` how
    many bars there is no room for."""

    axis: str
    bars: tuple[Bar, ...]
    told: Told
    marks: tuple[Mark, ...] = ()
    shades: tuple[str, ...] = ()
    left_out: int = 0

    @property
    def highest(self) -> float:
        """The largest value that is shown."""
        ends = [bar.span[1] for bar in self.bars if bar.span]
        return max([bar.value for bar in self.bars] + ends + [mark.value for mark in self.marks], default=0.0)


@dataclass(frozen=True)
class Ceiling:
    """What a core reaches at most: `flop_per_s` flat, or rising with the intensity at `bytes_per_s`."""

    name: str
    flop_per_s: float | None = None
    bytes_per_s: float | None = None

    def at(self, intensity: float) -> float:
        """FLOP/s at `intensity` FLOP a byte."""
        if self.flop_per_s is not None:
            return self.flop_per_s
        assert self.bytes_per_s is not None, "a ceiling is one or the other"
        return self.bytes_per_s * intensity


@dataclass(frozen=True)
class Dot:
    """An op or a stage: FLOP a byte, FLOP/s of a core, the stage whose colour it has, and what it says of itself."""

    intensity: float
    flop_per_s: float
    stage: int
    tip: str


@dataclass(frozen=True)
class Roof:
    """Ceilings with ops and stages under them, all of one core."""

    ceilings: tuple[Ceiling, ...]
    ops: tuple[Dot, ...]
    stages: tuple[Dot, ...]


@dataclass(frozen=True)
class Block:
    """A module with its ops folded: its name, what stands below, what it says of itself, and the share of each stage
    that computes in it."""

    name: str
    told: str
    tip: str
    shares: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Flow:
    """A folded model: blocks in an order in which they run, and which hand tensors to which, with their bytes."""

    blocks: tuple[Block, ...]
    arrows: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True)
class Table:
    """Figures in rows; `right` are the columns of numbers. A cell that begins with `stage ` and a number has the
    colour of that stage beside it."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    right: tuple[int, ...] = ()
    left_out: int = 0


@dataclass(frozen=True)
class Missing:
    """What is not shown, and why: `reason` is a sentence, `advice` what to do about it."""

    reason: str
    advice: str = ""
