"""Plain text tables: columns as wide as their widest cell, numbers to the right."""

from __future__ import annotations

from collections.abc import Sequence


def cut(text: str, most: int) -> str:
    """`text` in at most `most` letters."""
    return text if len(text) <= most else text[: most - 1] + "…"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, right: str = "", indent: str = "  ") -> list[str]:
    """Lines of a table. `right` names the columns to align to the right by their position, such as "024"."""
    everything = [list(head), *map(list, rows)]
    widths = [max(len(row[i]) for row in everything) for i in range(len(head))]

    def line(row: Sequence[str]) -> str:
        cells = [
            c.rjust(w) if str(i) in right else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))
        ]
        return (indent + "  ".join(cells)).rstrip()

    return [line(row) for row in everything]
