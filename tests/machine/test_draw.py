from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from mapper.machine.draw import blocks, drawing, used_characters
from mapper.machine.files import load_machine
from mapper.machine.model import Machine
from mapper.machine.parts import Node

SG2042 = load_machine("sg2042")


def made_of(*nodes: Node) -> Machine:
    links = dict.fromkeys(("group", "node", "package", "host"), SG2042.links["package"])
    return SG2042.model_copy(update={"nodes": nodes, "distances": None, "links": links, "caches": ()})


def test_sg2042() -> None:
    assert drawing(SG2042, width=64) == [
        "SOPHON SG2042 (64 cores: 4 NUMA nodes × 4 groups × 4 cores)",
        "L1d 64 KiB a core · L2 1 MiB a group · L3 64 MiB a package · memory 32 GiB a node",
        "",
        "node 0 ▇▇▇▇ ▇▇▇▇ ▇▇▇▇ ▇▇▇▇   node 1 ▇▇▇▇ ▇▇▇▇ ▇▇▇▇ ▇▇▇▇",
        "node 2 ▇▇▇▇ ▇▇▇▇ ▇▇▇▇ ▇▇▇▇   node 3 ▇▇▇▇ ▇▇▇▇ ▇▇▇▇ ▇▇▇▇",
    ]


def test_cores_show_their_stage() -> None:
    colour_of = {core: core // 4 for core in range(48)} | {48: 16, 49: 35, 50: 36, 51: 62}
    assert blocks(SG2042, colour_of, width=200) == [
        "node 0 0000 1111 2222 3333   node 1 4444 5555 6666 7777   "
        "node 2 8888 9999 aaaa bbbb   node 3 gzA+ ···· ···· ····"
    ]
    assert used_characters([62, 0, 63, 10, 0]) == {"0": [0], "a": [10], "+": [62, 63]}


def test_a_node_that_is_too_wide_is_wrapped_between_groups() -> None:
    assert blocks(SG2042, width=17)[:4] == [
        "node 0 ▇▇▇▇ ▇▇▇▇",
        "       ▇▇▇▇ ▇▇▇▇",
        "node 1 ▇▇▇▇ ▇▇▇▇",
        "       ▇▇▇▇ ▇▇▇▇",
    ]
    assert blocks(SG2042, width=1)[:2] == ["node 0 ▇▇▇▇", "       ▇▇▇▇"]


def test_packages_smt_and_uneven_groups() -> None:
    machine = made_of(
        Node(package=0, groups=(((0, 8),), ((1, 9), (2, 10)))),
        Node(package=1, groups=(((3, 11),), ((4, 12), (5, 13)))),
    )
    assert drawing(machine.model_copy(update={"title": "Two"})) == [
        "Two (6 cores: 2 packages × 2 groups × about 1.5 cores, 12 PUs)",
        "",
        "package 0",
        "  node 0 ▇ ▇▇",
        "package 1",
        "  node 1 ▇ ▇▇",
    ]


def test_one_core() -> None:
    assert drawing(made_of(Node(groups=(((7,),),))).model_copy(update={"title": ""})) == [
        "sg2042 (1 core)",
        "",
        "node 0 ▇",
    ]


@given(st.integers(1, 200))
def test_every_core_is_drawn_once_whatever_the_width(width: int) -> None:
    assert "".join(blocks(SG2042, width=width)).count("▇") == 64
    assert all(len(line) <= max(width, len("node 0 ▇▇▇▇")) for line in blocks(SG2042, width=width))


def test_the_drawing_of_a_saved_machine_is_the_same(tmp_path: Path) -> None:
    from mapper.machine.files import save_machine

    save_machine(SG2042, tmp_path / "m.json")
    assert drawing(load_machine(tmp_path / "m.json")) == drawing(SG2042)
