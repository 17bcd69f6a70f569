"""Plain text tables: columns as wide as their widest cell, numbers to the right; narrower where there is less room.

Where a table is too wide, first heads go over two lines, then texts lose their middle, then columns move into lines of
their own below each row: nothing is left out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from mapper.reports.lines import BAR, Part, Pieces, bar, wrapped

SHORTEST = 14
"""Letters that a text keeps before its column moves below the row."""
_DEEPEST = 8
"""Columns that lines below a row are to the right, at most."""
_LEAST_BAR = 6
_LEAST_PART = 4
"""Letters of a head that stand in a line by themselves."""
_GAP = "  "
Columns = str | Iterable[int]
"""Columns by their positions: in a text of digits, or as numbers."""


def cut(text: str, most: int) -> str:
    """`text` in at most `most` letters."""
    return text if len(text) <= most else text[: most - 1] + "…"


def cut_middle(text: str, most: int) -> str:
    """`text` in at most `most` letters, its beginning and its end kept."""
    if len(text) <= most:
        return text
    end = (most - 1) // 2
    return text[: most - 1 - end] + "…" + text[len(text) - end :]


@dataclass(frozen=True)
class Table:
    """Cells with their heads. `right`: columns that are aligned to the right. `fold`: which columns move below their
    rows first; `whole`: which are never shortened, such as what is to be typed. `roles`: that of a row's first cell and
    of its bar. `bars`: for each row a share of the longest bar; they are drawn where there is room, for the same is
    there in numbers."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    right: frozenset[int] = frozenset()
    indent: str = _GAP
    fold: tuple[int, ...] = ()
    whole: frozenset[int] = frozenset()
    roles: Mapping[int, str] = field(default_factory=dict)
    bars: tuple[float, ...] = ()

    def lines(self) -> list[str]:
        """As wide as it is, without bars: head and rows."""
        widths = self._widths(self.head, range(len(self.head)))
        texts = [self._row(row, widths, range(len(self.head))) for row in (self.head, *self.rows)]
        return [Part.made((self.indent + text).rstrip(), self, i) for i, text in enumerate(texts)]

    def laid_out(self, rows: Sequence[int], width: int) -> list[Pieces]:
        """Head (row 0) and rows in at most `width` columns."""
        columns = list(range(len(self.head)))
        heads = self.head
        if self._needed(self._widths(heads, columns)) > width:
            columns = [c for c in columns if c == 0 or any(row[c] for row in self.rows)]
        if self._needed(self._widths(heads, columns)) > width:
            widest = self._widths(("",) * len(heads), columns)
            heads = tuple(_folded(head, widest.get(c, 0)) for c, head in enumerate(heads))
        below: list[int] = []
        for column in [*self.fold, *reversed(range(1, len(self.head)))]:
            if self._needed(self._narrowed(self._widths(heads, columns), columns, width)) <= width:
                break
            if column in columns and len(columns) > 2:
                columns.remove(column)
                below.append(column)
        widths = self._narrowed(self._widths(heads, columns), columns, width)
        return self._printed(rows, heads, widths, columns, sorted(below), width)

    def _printed(
        self, rows: Sequence[int], heads: Sequence[str], widths: Mapping[int, int], columns: Sequence[int],
        below: Sequence[int], width: int,
    ) -> list[Pieces]:  # fmt: skip
        out: list[Pieces] = []
        room = min(BAR, width - self._needed(widths) - len(_GAP))
        shown = [head if c in columns else "" for c, head in enumerate(heads)]
        for row in rows:
            if row == 0:
                out += [[(self.indent + self._row(line, widths, columns), "label")] for line in _head_lines(shown)]
                continue
            cells = self.rows[row - 1]
            text, role = self._row(cells, widths, columns), self.roles.get(row - 1, "")
            first = widths[columns[0]]
            start = first - len(cells[0]) if 0 in self.right else 0
            end = start + len(cells[0].rstrip()) if role else start
            pieces = [(self.indent + text[:start], ""), (text[start:end], role), (text[end:], "")]
            if self.bars and room >= _LEAST_BAR:
                drawn = bar(self.bars[row - 1], room)
                pieces += [(_GAP, ""), (drawn, f"bar of {role}" if role else "bar")]
            out += [[piece for piece in pieces if piece[0]], *self._below(cells, below, first, width)]
        return out

    def _below(self, cells: Sequence[str], below: Sequence[int], first: int, width: int) -> list[Pieces]:
        """The lines under a row with what has no room in it."""
        told = " · ".join(f"{self.head[c]} {cells[c]}".strip() for c in below if cells[c])
        margin = self.indent + " " * min(first + len(_GAP), _DEEPEST)
        return [[(line, "label")] for line in wrapped(told, width, margin, margin)]

    def _row(self, cells: Sequence[str], widths: Mapping[int, int], columns: Sequence[int]) -> str:
        shown = []
        for c in columns:
            cell = cut_middle(cells[c], widths[c])
            shown.append(cell.rjust(widths[c]) if c in self.right else cell.ljust(widths[c]))
        return _GAP.join(shown)

    def _widths(self, heads: Sequence[str], columns: Sequence[int]) -> dict[int, int]:
        return {
            c: max(*(len(part) for part in heads[c].split("\n")), 0, *(len(row[c]) for row in self.rows))
            for c in columns
        }  # fmt: skip

    def _needed(self, widths: Mapping[int, int]) -> int:
        return len(self.indent) + sum(widths.values()) + len(_GAP) * (len(widths) - 1)

    def _narrowed(self, widths: dict[int, int], columns: Sequence[int], width: int) -> dict[int, int]:
        """The widths with the widest texts made narrower, as far as needed and possible."""
        found = dict(widths)
        texts = [c for c in columns if c not in self.right | self.whole]
        while texts and self._needed(found) > width:
            widest = max(texts, key=lambda c: found[c])
            if found[widest] <= SHORTEST:
                break
            found[widest] -= 1
        return found


def table(
    head: Sequence[str], rows: Sequence[Sequence[str]], *, right: Columns = "", indent: str = "  ", fold: Columns = "",
    whole: Columns = "", roles: Mapping[int, str] | None = None, bars: Sequence[float] = (),
) -> list[str]:  # fmt: skip
    """Lines of a table, which can be laid out for another width (`mapper.reports.lines.fitted`).

    `right` names the columns to align to the right by their position, such as "024" or [2, 12]; `fold` those that go
    first where there is no room, `whole` those that are never shortened. `roles` and `bars`: as those of `Table`.
    """
    made = Table(
        tuple(head), tuple(map(tuple, rows)), frozenset(map(int, right)), indent, tuple(map(int, fold)),
        frozenset(map(int, whole)), dict(roles or {}), tuple(bars),
    )  # fmt: skip
    return made.lines()


def _folded(head: str, widest: int) -> str:
    """`head` over two lines, where it is wider than the `widest` cell and has a place to break."""
    places = [i + 1 for i, c in enumerate(head) if c in " /" and min(i, len(head) - i - 1) >= _LEAST_PART]
    if len(head) <= widest or not places:
        return head
    best = min(places, key=lambda i: max(i, len(head) - i))
    return f"{head[:best].rstrip()}\n{head[best:]}"


def _head_lines(heads: Sequence[str]) -> list[list[str]]:
    """The heads in lines, the last line of each next to its cells."""
    parts = [head.split("\n") for head in heads]
    most = max(map(len, parts))
    return [[([""] * (most - len(part)) + part)[i] for part in parts] for i in range(most)]
