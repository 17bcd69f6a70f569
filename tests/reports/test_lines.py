"""Tables and sentences in any width: nothing is lost, and what is cut says so."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapper.reports.lines import BAR, Styled, bar, fitted, indented, plain, rich_text
from mapper.reports.style import TERMINAL, stage_colour, terminal
from mapper.reports.table import SHORTEST, cut, cut_middle, table

CELL = st.text("abcdefghij_0123456789", min_size=1, max_size=30)


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[str], list[list[str]], str]:
    """Head, rows, and the columns to the right."""
    columns = draw(st.integers(2, 7))
    head = [draw(st.sampled_from(["stage", "load/copies", "waits for items", "held in", "x"])) for _ in range(columns)]
    rows = draw(st.lists(st.lists(CELL, min_size=columns, max_size=columns), min_size=1, max_size=5))
    return head, rows, "".join(str(i) for i in range(columns) if draw(st.booleans()))


def shown(lines: Sequence[str], width: int) -> list[str]:
    return plain(fitted(lines, width))


@given(tables(), st.integers(40, 160))
def test_every_cell_is_there_whole_or_with_a_sign(made: tuple[list[str], list[list[str]], str], width: int) -> None:
    head, rows, right = made
    lines = shown(table(head, rows, right=right), width)
    text = "\n".join(lines)
    for row in rows:
        for cell in row:
            parts = {cut_middle(cell, most) for most in range(min(SHORTEST, len(cell)), len(cell) + 1)}
            assert any(part in text for part in parts), cell
    assert "…" in text or all(cell in text for row in rows for cell in row)


@given(tables(), st.integers(40, 160))
def test_a_table_of_short_first_cells_keeps_to_the_width(
    made: tuple[list[str], list[list[str]], str], width: int
) -> None:
    head, rows, right = made
    rows = [[str(i), *row[1:]] for i, row in enumerate(rows)]
    lines = shown(table(["n", *head[1:]], rows, right=right, bars=[1.0] * len(rows)), width)
    assert max(map(len, lines)) <= max(width, 2 + 1 + 2 + 30)


def test_a_wide_table_folds_heads_then_cuts_texts_then_moves_columns() -> None:
    head, rows = ["stage", "ops", "load/copies"], [["0", "convolution_with_a_long_name", "1.0 s"]]
    lines = table(head, rows, right="02")
    assert lines == shown(lines, 80)
    assert shown(lines, 46) == [
        "                                        load/",
        "  stage  ops                           copies",
        "      0  convolution_with_a_long_name   1.0 s",
    ]
    assert shown(lines, 42)[2] == "      0  convolution_…_a_long_name   1.0 s"
    wide = table(["stage", "ops", "a", "b"], [["0", "n" * 20, "x" * 12, "y" * 12]], right="023", fold="2")
    assert shown(wide, 44)[1:] == [f"      0  {'n' * 20}  {'y' * 12}", "         a xxxxxxxxxxxx"]


def test_what_is_to_be_typed_is_never_cut() -> None:
    lines = table(["Or", "rate", ""], [["native, 64 threads", "4.16", "--stages 1 --replicas 1 --configurations 16x4"]],
                  right="1", indent="", fold="2", whole="02")  # fmt: skip
    assert "--stages 1 --replicas 1 --configurations 16x4" in "\n".join(shown(lines, 60))
    assert shown(lines, 60)[-1].startswith(" "), "below its row"


def test_empty_columns_are_left_out_where_room_is_short() -> None:
    lines = table(["stage", "slowed down by memory", "waits for items"], [["0", "", "1 ms"]], right="012")
    assert "slowed down" in shown(lines, 80)[0] and not any("slowed" in line for line in shown(lines, 40))


@given(st.lists(st.text("abc de-", min_size=1, max_size=30), min_size=1, max_size=12), st.integers(40, 120))
def test_sentences_wrap_between_words_and_lose_none(words: list[str], width: int) -> None:
    line = "  " + " ".join(words)
    lines = shown([line], width)
    assert " ".join(" ".join(lines).split()) == " ".join(line.split())
    assert all(len(part) <= width for part in lines)
    assert all(part.startswith("  ") for part in lines if part.strip())


def test_colours_do_not_change_the_text() -> None:
    made = Styled.made(("0", "stage 0"), (" waits", "waits"))
    lines = [made, indented(made, "  "), *table(["stage", "x"], [["0", "y"]], roles={0: "stage 0"}, bars=[0.5])]
    pieces = fitted(lines, 80)
    assert rich_text(pieces).plain.split() == "\n".join(plain(pieces)).split()
    found = {style for text in pieces for _, style in text}
    assert {"stage 0", "bar of stage 0", "label"} <= found
    assert terminal("bar of stage 1") == stage_colour(1) and terminal("stage 1").endswith(stage_colour(1))
    assert set(TERMINAL) >= found - {"", "bar of stage 0", "stage 0"}


@pytest.mark.parametrize(
    ("share", "drawn"), [(0, ""), (1, "█" * 8), (0.5, "█" * 4), (1 / 64, "▏"), (1e-9, "▏"), (2, "█" * 8)]
)
def test_bars_are_exact_to_an_eighth(share: float, drawn: str) -> None:
    assert bar(share, 8) == drawn


def test_bars_are_drawn_where_there_is_room() -> None:
    lines = table(["stage", "load"], [["0", "1.0 s"], ["1", "0.5 s"]], right="01", bars=[1.0, 0.5])
    assert "█" not in "".join(lines)
    assert [len(line.rstrip()) - len(line.rstrip("█")) for line in shown(lines, 100)] == [0, BAR, BAR // 2]


def test_cut_says_so() -> None:
    assert cut("abcdef", 4) == "abc…" and cut_middle("abcdefgh", 5) == "ab…gh" and cut_middle("ab", 5) == "ab"
    assert re.fullmatch(r"a+…a+", cut_middle("a" * 50, 14)) and len(cut_middle("a" * 50, 14)) == 14
