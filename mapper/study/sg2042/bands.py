"""What an earlier estimate expects, so that the study can be wrong: bands for ratios, each met or not.

The estimate was made by hand before this program, with an analytical model of its own, from the same published figures.
Its bands are about the best single pipeline (no copies) over native with all threads and default pages.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from mapper.jsonio import Record
from mapper.study.sg2042.cases import CONVOLUTIONS
from mapper.study.sg2042.study import Knockout, Row, Study

MACHINE = "sg2042"
"""The machine that the estimate is of: nothing is expected of others."""
PUBLISHED = 8.4
"""The largest gain that the paper reports; for which model and item size is not known here."""
PRODUCTS = ("vgg16", "resnet50", "vit", "bert")
"""Models whose work is products and plain convolutions."""
ONEDNN = "group loops and batch split (as oneDNN)"


class Band(Record):
    """An expectation: its range, what was found, where, and whether that lies within."""

    name: str
    low: float
    high: float
    found: float | None
    where: str
    met: bool | None


def bands_of(found: Study) -> tuple[Band, ...]:
    """All bands on a study of the SG2042, none on one of another machine."""
    return bands(found.rows, found.knockouts) if found.machine == MACHINE else ()


def bands(rows: Sequence[Row], knockouts: Sequence[Knockout]) -> tuple[Band, ...]:
    """All bands, those without data as None."""
    found = [*_headline(rows, knockouts), *_small_items(rows), *_copies(rows), *_batch_split(rows)]
    return tuple(found)


def _ratio(row: Row) -> float:
    return row.best_pipeline.ratio if row.best_pipeline is not None else 0.0


def _largest(rows: Iterable[Row]) -> tuple[float | None, str]:
    """The largest gain of a pipeline, and where it is."""
    best = max(rows, key=_ratio, default=None)
    return (None, "") if best is None else (_ratio(best), _place(best))


def _place(row: Row) -> str:
    name = row.best_pipeline.name if row.best_pipeline is not None else ""
    return f"{row.model}, items of {row.item}, {name}"


def _band(name: str, low: float, high: float, found: float | None, where: str) -> Band:
    met = None if found is None else low <= found <= high
    return Band(name=name, low=low, high=high, found=found, where=where, met=met)


def _headline(rows: Sequence[Row], knockouts: Sequence[Knockout]) -> Iterator[Band]:
    """A: convolutions on the path without oneDNN, items of 1 to 16; items of 64; and as with oneDNN."""
    mine = [row for row in rows if row.model in CONVOLUTIONS]
    small = [row for row in mine if row.item <= 16]
    yield _band("A: convolutions, items of 1 to 16, largest gain", 5, 30, *_largest(small))
    around = [
        row for row in small if row.best_pipeline and row.best_pipeline.low <= PUBLISHED <= row.best_pipeline.high
    ]
    near = min(small, key=lambda row: abs(_ratio(row) - PUBLISHED), default=None)
    if near is not None:
        where = "; ".join(_place(row) for row in around) or f"nearest: {_place(near)}"
        yield Band(name=f"A: {PUBLISHED} within the range of some item size", low=PUBLISHED, high=PUBLISHED,
                   found=_ratio(near), where=where, met=bool(around))  # fmt: skip
    yield _band("A: convolutions, items of 64, largest gain", 2, 4.5, *_largest(r for r in mine if r.item == 64))
    paths = [k for k in knockouts if k.mechanism == ONEDNN and k.item == 1 and k.model in CONVOLUTIONS]
    best = max(paths, key=lambda k: k.without, default=None)
    found, where = (None, "") if best is None else (best.without, best.model)
    yield _band("A: as with oneDNN, items of 1, largest gain", 2.5, 6.5, found, where)


def _small_items(rows: Sequence[Row]) -> Iterator[Band]:
    """B: where work is products, a pipeline gains little."""
    for row in rows:
        if row.model in PRODUCTS and row.item == 1:
            yield _band(f"B: {row.model}, items of 1", 1.1, 2.0, _ratio(row), _place(row))


def _copies(rows: Sequence[Row]) -> Iterator[Band]:
    """C: one-thread copies, or a pipeline a group, against the best single pipeline."""
    for row in rows:
        if row.model in (*PRODUCTS, "gpt2") and row.item == 1:
            others = [g for g in row.gains if g.name.startswith(("64 copies", "a pipeline a group"))]
            best = max(others, key=lambda g: g.ratio, default=None)
            found = best.ratio / _ratio(row) if best is not None and _ratio(row) else None
            yield _band(
                f"C: {row.model}, items of 1, copies over a pipeline", 1.05, 1.35, found, best.name if best else ""
            )


def _batch_split(rows: Sequence[Row]) -> Iterator[Band]:
    """D: convolutions run on as many threads as an item has images, so a pipeline gains about 64 / images."""
    for row in rows:
        if row.model in ("vgg16", "resnet50") and 4 <= row.item <= 32:
            name = f"D: {row.model}, items of {row.item}, gain over 64 / {row.item}"
            yield _band(name, 0.65, 1.0, _ratio(row) * row.item / 64, _place(row))
