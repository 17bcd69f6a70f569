from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings

from mapper.errors import MissingFeature, SystemRefused, UsageError
from mapper.machine.files import load_machine
from mapper.machine.model import Machine
from mapper.reports import style
from mapper.reports.picture import MOST_CORES, draw_machine, machine_sheet
from mapper.reports.sheet import Box, Words
from tests.reports.drawn import HOSTILE, drawable, hybrid

SG2042 = load_machine("sg2042")
STAGES = {core: core // 4 for core in range(60)}
SVG = "{http://www.w3.org/2000/svg}"


def texts(path: Path) -> Counter[str]:
    return Counter(element.text for element in ElementTree.parse(path).iter(f"{SVG}text") if element.text)


def fills(path: Path) -> dict[str, str]:
    """The fill of every shape with a name."""
    found = {}
    for group in ElementTree.parse(path).iter(f"{SVG}g"):
        shape = group.find(f"{SVG}path")
        if shape is not None and (fill := re.search(r"fill: (#\w+)", shape.get("style", ""))):
            found[group.get("id", "")] = fill[1]
    return found


def boxes(machine: Machine, stages: dict[int, int] | None = None) -> dict[str, Box]:
    sheet, _, _ = machine_sheet(machine, stages)
    return {mark.name: mark for mark in sheet.marks if isinstance(mark, Box) and mark.name}


def words(machine: Machine) -> list[str]:
    sheet, _, _ = machine_sheet(machine)
    return [mark.text for mark in sheet.marks if isinstance(mark, Words)]


def test_sg2042_shows_every_core_once_with_its_controllers_nodes_and_caches(tmp_path: Path) -> None:
    draw_machine(SG2042, tmp_path / "m.svg")
    found = texts(tmp_path / "m.svg")
    expected = [*map(str, range(64)), *(f"PU {pu}" for pu in range(64)), *(f"DDR{n}" for n in range(4))]
    expected += [f"node {n} · 32 GiB" for n in range(4)] + [f"group {g} · L2 1 MiB" for g in range(16)]
    assert {text: found[text] for text in expected} == dict.fromkeys(expected, 1)
    assert "L3 64 MiB for the package, shared over the mesh" in found
    assert "SOPHON SG2042" in found


def test_the_mesh_lies_as_the_layout_says() -> None:
    found = boxes(SG2042)
    first, above, right = found["core-0"], found["core-4"], found["core-32"]  # groups 0, 1 and 8
    assert above.x == first.x and above.y < first.y
    assert right.y == first.y and right.x > first.x


def test_a_core_has_the_colour_of_its_stage_in_the_legend(tmp_path: Path) -> None:
    draw_machine(SG2042, tmp_path / "m.svg", STAGES, stage_names={3: "conv2d"})
    found = fills(tmp_path / "m.svg")
    for core in range(64):
        assert found[f"core-{core}"] == (found[f"legend-{STAGES[core]}"] if core in STAGES else style.FREE.lower())
    assert len({found[f"legend-{stage}"] for stage in range(15)}) == 15
    shown = texts(tmp_path / "m.svg")
    assert shown["stage 3: conv2d (4 cores)"] == shown["stage 14 (4 cores)"] == shown["free (4 cores)"] == 1
    assert shown["s14"] == 4  # colour does not stand alone


@pytest.mark.parametrize("ending", ["svg", "png", "SVG"])
def test_the_same_machine_gives_the_same_bytes(tmp_path: Path, ending: str) -> None:
    one, two = tmp_path / f"one.{ending}", tmp_path / f"two.{ending}"
    draw_machine(SG2042, one, STAGES, "A plan")
    draw_machine(SG2042, two, dict(reversed(STAGES.items())), "A plan")
    assert one.read_bytes() == two.read_bytes()


def test_png(tmp_path: Path) -> None:
    draw_machine(hybrid(), tmp_path / "m.png")
    data = (tmp_path / "m.png").read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    assert min(int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")) > 300


@pytest.mark.parametrize("name", ["m.pdf", "m", "svg"])
def test_another_ending_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"\.svg or \.png"):
        draw_machine(SG2042, tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_without_matplotlib_the_error_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingFeature, match=r"(?s)matplotlib.*\npython -m pip install 'matplotlib>=3\.8'") as caught:
        draw_machine(SG2042, tmp_path / "m.svg")
    assert caught.value.exit_code == 8
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_absent(tmp_path: Path) -> None:
    with pytest.raises(SystemRefused):
        draw_machine(hybrid(), tmp_path / "absent" / "m.svg")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("ending", ["svg", "png"])
def test_names_are_shown_and_never_obeyed(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"m.{ending}"
    cache = SG2042.caches[1].model_copy(update={"name": HOSTILE})
    assert SG2042.layout is not None
    controllers = tuple(c.model_copy(update={"name": HOSTILE}) for c in SG2042.layout.controllers)
    layout = SG2042.layout.model_copy(update={"controllers": controllers})
    machine = SG2042.model_copy(update={"title": HOSTILE, "caches": (cache,), "layout": layout})
    draw_machine(machine, path, STAGES, stage_names={0: HOSTILE, 1: "中文 $a_b$"})
    if ending == "svg":
        assert b"<script" not in path.read_bytes()
        found = texts(path)
        assert any(text.startswith("<script>alert(1)</script> & $x^2$ \\frac{a}{b} $ ]]>") for text in found)
        assert found["stage 1: 中文 $a_b$ (4 cores)"] == 1


def test_users_settings_of_matplotlib_change_nothing(tmp_path: Path) -> None:
    import matplotlib

    draw_machine(hybrid(), tmp_path / "one.svg")
    with matplotlib.rc_context({"svg.fonttype": "path", "font.size": 30, "lines.dashed_pattern": [9, 9]}):
        draw_machine(hybrid(), tmp_path / "two.svg")
        assert matplotlib.rcParams["font.size"] == 30
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()


def test_kinds_of_core_have_outlines_of_their_own() -> None:
    found = boxes(hybrid())
    assert found["core-0"].dash != found["core-7"].dash
    assert {"P-core", "E-core, speed 0.6", "PU 0-1", "PU 8"} <= set(words(hybrid()))


@pytest.mark.parametrize(
    ("spec", "labels"),
    [
        ("core:1", ["package 0", "0", "PU 0"]),
        ("uniform:8", ["8 equal units", "package 0", "7"]),
        ("core:8 pu:2", ["package 0", "group 0", "PU 14-15"]),
        ("numa:4(memory=64GiB) group:2(l3=32MiB) core:8 pu:2", ["package 0", "node 3 · 64 GiB", "group 7 · L3 32 MiB"]),
        ("pack:2(l3=32MiB) core:80", ["package 1 · node 1 · L3 32 MiB", "159"]),
        ("host:2 pack:2 numa:2 core:4", ["host 1", "package 3", "node 7", "31"]),
    ],
)
def test_boxes_in_boxes_name_what_they_hold(spec: str, labels: list[str]) -> None:
    shown = Counter(words(load_machine(spec)))
    assert [shown[label] for label in labels] == [1] * len(labels)


@settings(max_examples=60)
@given(drawable())
def test_every_core_is_drawn_once_on_the_sheet_and_apart_from_the_others(machine: Machine) -> None:
    sheet, width, height = machine_sheet(machine, {core.logical: core.node for core in machine.cores[::2]})
    names = [mark.name for mark in sheet.marks if isinstance(mark, Box) and mark.name.startswith("core-")]
    assert sorted(names) == sorted(f"core-{core.logical}" for core in machine.cores)
    cores = [mark for mark in sheet.marks if isinstance(mark, Box) and mark.name.startswith("core-")]
    for i, one in enumerate(cores):
        assert one.x >= 0 and one.x + one.width <= width and one.y >= 0 and one.y + one.height <= height
        for two in cores[:i]:
            assert abs(one.x - two.x) >= one.width or abs(one.y - two.y) >= one.height


def test_large_machines_lose_their_labels_not_their_cores(tmp_path: Path) -> None:
    machine = load_machine("host:2 pack:2 numa:4 group:16 core:8 pu:2")
    assert machine.counts["pus"] == 4096
    draw_machine(machine, tmp_path / "m.svg")
    assert sum(name.startswith("core-") for name in fills(tmp_path / "m.svg")) == 2048
    assert "2047" not in texts(tmp_path / "m.svg")


def test_too_many_cores_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"at most {MOST_CORES}"):
        draw_machine(load_machine(f"core:{MOST_CORES + 1}"), tmp_path / "m.svg")
