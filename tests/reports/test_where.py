from __future__ import annotations

import math
import random
from pathlib import Path

import pytest

from mapper.reports import style
from mapper.reports.sheet import Box, Words
from mapper.reports.where import BANDS, NOTHING, colour_of, where_sheet, where_text, write_where
from mapper.study.where.chart import Cell, Chart, Panel, Point
from mapper.study.where.splitting import Best, Compared, Held, Splitting
from tests.reports.overlaps import outside, overlapping

ROWS, SHARES = tuple(2**k for k in range(10)), tuple(2 ** (k - 0.5) for k in range(-7, 6))


def splitting(ratio: float | None) -> Splitting:
    best = Best(per_s=1, latency_s=1, stages=1, replicas=1, bound_per_s=1)
    return Splitting(whole=best, split=best if ratio else None, ratio=ratio, most=ratio)


def found(free: float | None, limited: float | None = None) -> Compared:
    return Compared(native_s=1, free=splitting(free), limited=splitting(limited), exact=True)


def panel(name: str, seed: int, models: int) -> Panel:
    """Ratios of all sizes, and models close together, some off the grid."""
    rng = random.Random(seed)
    cells = tuple(
        Cell(rows=rows, width=1, flop_per_byte=rows / 2, weight_bytes=share * 64e6, share=share,
             found=found(math.exp(rng.uniform(-1, 3)), None if rng.random() < 0.3 else rng.uniform(0.5, 2)))
        for share in SHARES for rows in ROWS
    )  # fmt: skip
    points = tuple(
        Point(model=f"model_{m}", ops=9, flop_per_byte=math.exp(rng.gauss(4, 1.5)), weight_bytes=5e7,
              share=math.exp(rng.gauss(1.5, 1.5)), found=found(rng.uniform(0.7, 9), 1.0))
        for m in range(models)
    )  # fmt: skip
    caches = Held(group_name="L2", groups=16, package_name="L3", group_bytes=8e5, groups_bytes=63e6, package_bytes=64e6)
    return Panel(machine=name, title=f"Machine {name}", held=caches, cells=cells, points=points)


def map_of(machines: int, models: int, seed: int = 0) -> Chart:
    panels = tuple(panel(f"m{i}-{i}", seed + i, models) for i in range(machines))
    return Chart(layers=96, rows=ROWS, shares=SHARES, latency_limit=2, panels=panels)


@pytest.mark.parametrize("limited", [False, True])
@pytest.mark.parametrize(("machines", "models"), [(1, 0), (1, 7), (4, 7), (4, 24), (3, 24)])
def test_no_text_covers_another_or_leaves_the_paper(machines: int, models: int, limited: bool) -> None:
    for seed in range(3):
        sheet, width, height = where_sheet(map_of(machines, models, seed), limited=limited)
        assert list(overlapping(sheet)) == [] and outside(sheet, width, height) == []


@pytest.mark.parametrize("limited", [False, True])
def test_cells_and_squares_have_the_colours_of_their_ratios(limited: bool) -> None:
    chart = map_of(1, 7)
    sheet, _, _ = where_sheet(chart, limited=limited)
    ratios = [(cell.found.limited if limited else cell.found.free).ratio for cell in chart.panels[0].cells]
    fills = [mark.fill for mark in sheet.marks if isinstance(mark, Box) and (mark.width, mark.height) == (0.38, 0.25)]
    coloured = [colour for ratio in ratios if (colour := colour_of(ratio)) != style.PAPER]
    assert fills == coloured and (NOTHING in fills) == limited
    squares = {mark.name: mark for mark in sheet.marks if isinstance(mark, Box) and mark.name}
    assert {name: box.fill for name, box in squares.items()} == {
        f"m0-0-{p.model}": colour_of((p.found.limited if limited else p.found.free).ratio)
        for p in chart.panels[0].points
    }
    middles = [(box.x, box.y) for box in squares.values()]
    assert all(math.dist(a, b) >= 0.16 for i, a in enumerate(middles) for b in middles[i + 1 :])


def test_numbers_are_written_where_splitting_changes_something() -> None:
    chart = map_of(1, 0)
    sheet, _, _ = where_sheet(chart)
    written = [mark.text for mark in sheet.marks if isinstance(mark, Words)]
    for cell in chart.panels[0].cells:
        ratio = cell.found.free.ratio or 0.0
        told = f"{ratio:.2f}" if ratio < 10 else f"{ratio:.0f}"
        assert told in written or 0.98 <= ratio <= 1.02


def test_bands_are_ascending_and_take_every_ratio() -> None:
    limits = [limit for limit, _, _ in BANDS]
    assert limits == sorted(limits) and math.isinf(limits[-1])
    assert colour_of(1.0) == "#FFFFFF" and colour_of(0.5) == BANDS[0][1] and colour_of(50.0) == BANDS[-1][1]


def test_the_text_counts_what_pays_and_names_the_most() -> None:
    chart = map_of(2, 3)
    text = "\n".join(where_text(chart))
    best = max(chart.panels[0].cells, key=lambda cell: cell.found.free.ratio or 0.0)
    pays = sum((cell.found.free.ratio or 0.0) > 1.02 for cell in chart.panels[0].cells)
    assert f"{pays} of 130" in text and f"{best.found.free.ratio:.2f} at {best.flop_per_byte:g} FLOP/B" in text
    assert all(point.model in text for point in chart.panels[0].points)


def test_the_same_map_gives_the_same_bytes(tmp_path: Path) -> None:
    one, two = (write_where(map_of(4, 7), tmp_path / name) for name in "ab")
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]
    assert all(path.stat().st_size < 300_000 for path in one)
