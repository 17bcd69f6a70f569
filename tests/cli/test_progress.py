"""Progress on narrow terminals: one line that is written over, and nothing left of it in the end."""

from __future__ import annotations

import itertools
import re
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from mapper.cli.run import Rate
from mapper.reports.lines import one_line
from tests.cli.commands import TINY, mapper
from tests.cli.screen import Screen, on_screen

PROBLEM = Path(__file__).parents[1] / "golden" / "problem_small.json"
ROOT = Path(__file__).parents[2]


@given(st.text(), st.integers(2, 60))
def test_a_line_fits_and_nothing_in_it_is_obeyed(text: str, columns: int) -> None:
    line = one_line(text, columns)
    assert cell_len(line) <= columns and line.isprintable()
    if cell_len(text) <= columns and text.isprintable():
        assert line == text


@pytest.mark.parametrize("columns", [40, 48, 60])
def test_a_long_message_neither_wraps_nor_stays(columns: int, tmp_path: Path) -> None:
    name = f"{'a_problem_with_a_name_that_is_long_' * 3}.json"
    shutil.copy(PROBLEM, tmp_path / name)
    for more in ({}, {"COLUMNS": "200"}):
        screen = on_screen("plan", "--problem", name, folder=tmp_path, columns=columns, **more)
        assert (screen.code, screen.wrapped, screen.lines) == (0, [], [""])
        assert any(line.startswith("Reading a_problem") and line.endswith("…") for line in screen.shown)


def test_a_file_that_cannot_be_read_is_told_on_a_line_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("{}")
    screen = on_screen("plan", "--problem", "bad.json", folder=tmp_path, columns=60)
    assert screen.code == 3 and screen.lines[0].startswith("mapper: bad.json"), screen.lines


@pytest.mark.parametrize("columns", [24, 40, 50, 60, 120])
def test_the_newest_rates_are_shown_as_far_back_as_there_is_room(columns: int) -> None:
    said: list[str] = []
    clock = itertools.count()
    rate = Rate(said.append, lambda: columns - 1, now=lambda: next(clock) * 0.6)
    done = itertools.accumulate(range(60))
    for items in done:
        rate.told(items, 2000)
    screen = Screen(columns)
    for line in said:
        assert len(line) < columns or "  " not in line
        screen.write(f"\r\x1b[K{line[: columns - 1]}")
    assert not screen.wrapped
    head, _, drawn = said[-1].partition("  ")
    assert "1770 of 2000 items, " in head
    assert len(drawn) == (min(32, columns - 1 - len(head) - 2) if columns - 1 - len(head) - 2 > 1 else 0)
    assert not drawn or drawn[-1] == "█", "it became ever faster, and the last is the fastest"


@pytest.mark.machine
@pytest.mark.parametrize("columns", [pytest.param(40, marks=pytest.mark.soak), 60])
def test_a_run_shows_its_rate_in_one_line(columns: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert mapper("plan", "--model", TINY, "--topo", "host", "-o", "plan.json").code == 0
    words = ("run", "plan.json", "--trust", "--items", "30000", "--compare", "1")
    screen = on_screen(*words, folder=tmp_path, columns=columns, PYTHONPATH=str(ROOT))
    assert (screen.code, screen.wrapped, screen.lines[-1]) == (0, [], ""), screen.lines
    told = [line for line in screen.shown if re.match(r"\d+ of 300\d\d items, .* items/s", line)]
    assert told and not [line for line in screen.lines if " items" in line]
    if columns == 60:
        assert any(line[-1] in "▁▂▃▄▅▆▇█" for line in told), told
