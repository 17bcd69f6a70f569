"""Lines of a report, which know what they consist of: they are ordinary text, and can be laid out for a width and shown
in colour. A report is a list of lines; who prints it calls `fitted` for the columns that there are."""

from __future__ import annotations

import itertools
import math
import re
import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Protocol, Self

from mapper.reports import style

if TYPE_CHECKING:
    from rich.text import Text

Pieces = list[tuple[str, str]]
"""A line in pieces, each with its role (`style.TERMINAL`, or `stage 3` for that stage's colour)."""
_HANG, _LEAST_ROOM = 2, 20
_TIED = "\N{NO-BREAK SPACE}"
NARROWEST = 40
"""Columns below which nothing is laid out any narrower."""
BAR = 24
"""Columns of the longest bar."""
_OBEYED = {code: " " for code in (*range(0x20), *range(0x7F, 0xA0)) if code != ord("\n")}
"""Characters that a terminal obeys, from names that strangers gave."""
_BLOCKS = " ▁▂▃▄▅▆▇█"
_EIGHTHS = " ▏▎▍▌▋▊▉█"


_AMOUNT = re.compile(r"(\d|≤|≥) (?=\d|%|(?:[munµ]?s|[kMGT]?B|ops?|items?|stages?|cores?)\b)")
"""Between a number and what it is of, which stay in one line."""


class Layout(Protocol):
    """Several lines that belong together."""

    def laid_out(self, rows: Sequence[int], width: int) -> list[Pieces]:
        """Those of `rows`, in at most `width` columns where that is possible."""


class Part(str):
    """A line of something that is laid out as a whole, such as a row of a table."""

    __slots__ = ("of", "row")
    of: Layout
    row: int

    @classmethod
    def made(cls, text: str, of: Layout, row: int) -> Self:
        """The line `text`, which is `row` of `of`."""
        line = cls(text)
        line.of, line.row = of, row
        return line


class Styled(str):
    """A line in pieces with roles. Where it is too long it goes on below, `hang` columns to the right."""

    __slots__ = ("hang", "pieces")
    pieces: Pieces
    hang: int

    @classmethod
    def made(cls, *pieces: tuple[str, str], hang: int | None = None) -> Self:
        """The line that `pieces` make together; without `hang` it goes on a little to the right of where it begins."""
        line = cls("".join(text for text, _ in pieces))
        line.pieces = list(pieces)
        line.hang = len(line) - len(line.lstrip()) + _HANG if hang is None else hang
        return line


def indented(line: str, indent: str) -> str:
    """`line` further to the right, with its colours."""
    return Styled.made((indent, ""), *line.pieces) if isinstance(line, Styled) else indent + line


def fitted(lines: Sequence[str], width: int) -> list[Pieces]:
    """`lines` for a terminal of `width` columns: tables laid out anew, sentences wrapped; drawings are made for a
    width already."""
    width = max(width, NARROWEST)
    out: list[Pieces] = []
    i = 0
    while i < len(lines):
        line = lines[i]
        if isinstance(line, Part):
            rows = [line.row]
            while i + 1 < len(lines) and getattr(lines[i + 1], "of", None) is line.of:
                i += 1
                rows.append(lines[i].row)  # type: ignore[attr-defined]
            out += line.of.laid_out(rows, width)
        elif isinstance(line, Styled):
            out += _wrapped(line, width)
        else:
            out += [part for given in line.split("\n") for part in _wrapped(given, width)]
        i += 1
    return out


def _wrapped(line: str, width: int) -> list[Pieces]:
    """A sentence over as many lines as it takes, later ones a little to the right; words are never broken."""
    given = line if isinstance(line, Styled) else Styled.made((line, ""))
    if len(line) <= width:
        return [given.pieces]
    margin = " " * min(given.hang, width - _LEAST_ROOM)
    parts = wrapped(line, width, later=margin)
    first, role = given.pieces[0]
    if len(given.pieces) == 1:
        return [[(part, role)] for part in parts]
    return [[(parts[0][: len(first)], role), (parts[0][len(first) :], "")], *([(part, "")] for part in parts[1:])]


def wrapped(text: str, width: int, first: str = "", later: str = "") -> list[str]:
    """`text` in lines of at most `width`, with `first` before the first and `later` before the others. Words are never
    broken, nor are numbers from their units."""
    lines = textwrap.wrap(_AMOUNT.sub(rf"\1{_TIED}", text), width, initial_indent=first, subsequent_indent=later,
                          break_long_words=False, break_on_hyphens=False)  # fmt: skip
    return [line.replace(_TIED, " ") for line in lines]


def one_line(text: str, columns: int) -> str:
    """As much of `text` as a terminal shows in so many columns, without what it would obey; some letters take two."""
    text = "".join(letter if letter.isprintable() else " " for letter in text)
    if text.isascii() and len(text) <= columns:
        return text
    from rich.cells import cell_len, set_cell_size

    return text if cell_len(text) <= columns else f"{set_cell_size(text, max(columns - 1, 0)).rstrip()}…"


def harmless(text: str) -> str:
    """`text` without what a terminal would obey, as long as before; its lines stay."""
    return text.translate(_OBEYED)


def plain(lines: Iterable[Pieces]) -> list[str]:
    """The lines as text."""
    return [harmless("".join(text for text, _ in line)).rstrip() for line in lines]


def rich_text(lines: Sequence[Pieces]) -> Text:
    """The lines in colour."""
    from rich.text import Text

    text = Text()
    for i, line in enumerate(lines):
        for piece, role in line:
            text.append(harmless(piece), style.terminal(role))
        if i + 1 < len(lines):
            text.append("\n")
    return text


def bar(share: float, columns: int) -> str:
    """A bar of `share` of `columns`, to an eighth of a column; the least that is not nothing shows."""
    eighths = round(min(max(share, 0.0), 1.0) * columns * 8)
    eighths = max(eighths, 1) if share > 0 else 0
    return "█" * (eighths // 8) + (_EIGHTHS[eighths % 8] if eighths % 8 else "")


def sparkline(values: Sequence[float], columns: int = 60) -> str:
    """`values` as a line of at most `columns` blocks, from 0 to the largest; a column shows the largest of its own."""
    width = min(columns, len(values))
    edges = [i * len(values) // width for i in range(width + 1)]
    tops = [max(values[a:b]) for a, b in itertools.pairwise(edges)]
    most = max(tops)
    return "".join(_BLOCKS[math.ceil(top / most * 8) if most else 0] for top in tops)
