from __future__ import annotations

import io
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text

from mapper.machine import draw
from mapper.machine.figures import Figure
from mapper.machine.files import load_machine
from mapper.machine.model import Machine, figures
from mapper.reports import style
from mapper.reports.machine import blocks_rich, count_line, drawing_rich, legend, machine_rich, machine_text
from tests.reports.drawn import drawable, hybrid

SG2042 = load_machine("sg2042")
STAGES = {core: core // 4 for core in range(60)}


def row(machine: Machine, name: str, width: int = 100) -> str:
    found = [line for line in machine_text(machine, width=width) if line.startswith(name)]
    assert len(found) == 1, found
    return found[0]


def test_figures_come_with_range_kind_and_source() -> None:
    lines = machine_text(SG2042)
    assert lines[2] == count_line(SG2042)
    assert [line for line in lines if line.startswith("memory,")] == [
        "memory, package        38.9 GB/s     34.0–45.0  measured   [STREAM] STREAM triad, 64 threads, one s…",
        "memory, node           10.7 GB/s     7.80–15.6  assumed    one DDR4-3200 controller of four: 1.1 (0…",
        "memory, group          not limited",
        "memory, core           4.80 GB/s     3.60–5.20  measured   [sbc-bench] tinymembench, one core, mems…",
    ]
    assert row(SG2042, "L2 of each group").split() == ["L2", "of", "each", "group", "1", "MiB", "specified",
                                                       "[device", "tree]"]  # fmt: skip
    assert "  jitter, 64 threads   5.00 µs       0–40.0     assumed    the slowest of 64 members" in lines
    assert lines[-1] == f"fingerprint {SG2042.fingerprint}"


def test_the_count_line_counts_every_figure() -> None:
    numbers = [int(word) for word in count_line(SG2042).replace(",", "").split() if word.isdigit()]
    assert numbers[0] == sum(numbers[1:]) == sum(1 for _ in figures(SG2042))
    assert count_line(load_machine("uniform:8")).endswith(" figures: 1 specified, 21 assumed")


def test_what_has_no_limit_says_so() -> None:
    lines = machine_text(load_machine("uniform:8"))
    assert "memory, package       not limited" in lines
    assert "  data                not limited" in lines
    assert "hand-off of a tensor  0 s                  assumed  by definition" in lines
    assert not any("None" in line or "inf" in line.split() for line in lines)


def test_a_measured_table_of_fork_and_join_takes_the_place_of_the_formula() -> None:
    table = {2: Figure(value=3e-6, kind="measured", source="here"), 16: Figure(value=9e-6, kind="measured")}
    overheads = SG2042.overheads.model_copy(update={"fork_join_s": table})
    lines = machine_text(SG2042.model_copy(update={"overheads": overheads}))
    found = [line.split()[:5] for line in lines if line.startswith("fork-join")]
    assert found == [["fork-join,", "2", "threads", "3.00", "µs"], ["fork-join,", "16", "threads", "9.00", "µs"]]
    assert not any("jitter" in line for line in lines)


def test_a_range_keeps_units_that_differ() -> None:
    wide = Figure(value=5e-4, low=2e-5, high=3e-3, kind="assumed")
    overheads = SG2042.overheads.model_copy(update={"dispatch_s": wide})
    assert "20.0 µs – 3.00 ms" in row(SG2042.model_copy(update={"overheads": overheads}), "dispatch of an op")


@pytest.mark.parametrize(("words", "present"), [("a group", True), ("a node", True), ("a package", True),
                                                ("a host", False)])  # fmt: skip
def test_only_distances_that_there_are(words: str, present: bool) -> None:
    assert any(line.startswith(f"line within {words}") for line in machine_text(SG2042)) is present


def test_sources_are_cut_to_the_width() -> None:
    for width in (80, 100, 120):
        table = [line for line in machine_text(SG2042, width=width) if not line.startswith("[")]
        assert all(len(line) <= width + 1 for line in table), max(table, key=len)
    assert row(SG2042, "L1d of each core", 80).endswith("[device tree]")
    assert row(SG2042, "clock", 80).endswith(" [TRM abstract]")


def test_quota_part_and_kinds_are_told() -> None:
    part = {"fingerprint": "f" * 16, "cores": "3-10"}
    document = {**hybrid().model_dump(by_alias=True), "cpu_quota": 2.5, "part_of": part}
    lines = machine_text(Machine.model_validate(document))
    assert lines[1] == "▇ P-core: 4 cores (0-3) · ▅ E-core: 4 cores (4-7), speed 0.6"
    assert any(line.split()[:4] == ["CPU", "quota", "2.5", "PUs"] for line in lines)
    assert f"part of a machine with fingerprint {'f' * 16}: cores 3-10" in lines
    assert "node 0: PUs 0-11" in lines


def test_the_legend_explains_letters() -> None:
    assert legend(SG2042, dict.fromkeys(range(64), 0)) == "each character is a core and shows its stage"
    assert legend(SG2042, {0: 70}).endswith("a to z are 10 to 35, A to Z are 36 to 61, + is one above, · is free")


@given(drawable(), st.integers(20, 150), st.booleans())
def test_colour_changes_no_character(machine: Machine, width: int, staged: bool) -> None:
    stages = {core.logical: core.group for core in machine.cores[1:]} if staged else None
    assert lines_of(machine_rich(machine, stages, width)) == machine_text(machine, stages, width)
    assert lines_of(drawing_rich(machine, stages, width)) == draw.drawing(machine, stages, width)
    assert lines_of(blocks_rich(machine, stages, width)) == draw.blocks(machine, stages, width)


def lines_of(text: Text) -> list[str]:
    return [line.rstrip() for line in text.plain.split("\n")]


def test_a_core_has_the_colour_of_its_stage_and_keeps_its_character() -> None:
    text = drawing_rich(SG2042, STAGES)
    styles = {text.plain[span.start : span.end]: str(span.style) for span in text.spans}
    for stage in range(15):
        assert styles[draw.character(stage)].endswith(f"on {style.stage_colour(stage)}")
    assert styles["·"] == style.TERMINAL["free"]


def test_colours_reach_terminals_only() -> None:
    for terminal in (True, False):
        out = io.StringIO()
        Console(file=out, force_terminal=terminal, color_system="truecolor" if terminal else None, width=100).print(
            drawing_rich(SG2042, STAGES)
        )
        assert ("\x1b[" in out.getvalue()) is terminal


def test_text_on_every_colour_of_a_stage_is_legible() -> None:
    for stage in range(24):
        ground = style.stage_colour(stage)
        one, two = sorted((style._luminance(ground), style._luminance(style.ink_on(ground))))
        assert (two + 0.05) / (one + 0.05) > 3.9
    assert len({style.stage_colour(stage) for stage in range(24)}) == 24


def test_drawing_loads_neither_matplotlib_nor_numpy_nor_torch() -> None:
    code = (
        "import sys, mapper.machine.draw, mapper.cli.topo, mapper.reports.machine, mapper.reports.picture; "
        "from mapper.machine.files import load_machine; mapper.reports.machine.machine_text(load_machine('sg2042')); "
        "print([name for name in ('matplotlib', 'numpy', 'torch', 'rich.text') if name in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() in ("[]", "['rich.text']")
