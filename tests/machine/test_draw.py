from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from mapper.machine.draw import CORE, blocks, drawing, heading, mesh, node_lines, outline, used_characters
from mapper.machine.figures import Figure
from mapper.machine.files import load_machine
from mapper.machine.model import Machine
from mapper.machine.parts import Controller, CoreKind, Layout, Node
from tests.reports.drawn import drawable, hybrid

SG2042 = load_machine("sg2042")


def made_of(*nodes: Node) -> Machine:
    links = dict.fromkeys(("group", "node", "package", "host"), SG2042.links["package"])
    return SG2042.model_copy(update={"nodes": nodes, "distances": None, "links": links, "caches": (), "layout": None})


def test_a_machine_with_a_layout_is_drawn_as_its_mesh() -> None:
    assert drawing(SG2042, width=80) == [
        "SOPHON SG2042 (64 cores: 4 NUMA nodes × 4 groups × 4 cores)",
        "L1d 64 KiB a core · L2 1 MiB a group · L3 64 MiB a package",
        "memory 32 GiB a node",
        "",
        "      ┌ node 1 ───┬ node 3 ───┐",
        "      │ ▇▇▇▇ ▇▇▇▇ │ ▇▇▇▇ ▇▇▇▇ │",
        " DDR1 │ ▇▇▇▇ ▇▇▇▇ │ ▇▇▇▇ ▇▇▇▇ │ DDR3",
        "      ├ node 0 ───┼ node 2 ───┤",
        " DDR0 │ ▇▇▇▇ ▇▇▇▇ │ ▇▇▇▇ ▇▇▇▇ │ DDR2",
        "      │ ▇▇▇▇ ▇▇▇▇ │ ▇▇▇▇ ▇▇▇▇ │",
        "      └───────────┴───────────┘",
        "",
        "node 0: PUs 0-7,16-23 · 32 GiB at DDR0",
        "node 1: PUs 8-15,24-31 · 32 GiB at DDR1",
        "node 2: PUs 32-39,48-55 · 32 GiB at DDR2",
        "node 3: PUs 40-47,56-63 · 32 GiB at DDR3",
    ]


def test_a_mesh_that_is_too_wide_gives_way_to_the_nodes() -> None:
    assert mesh(SG2042, 36) is not None
    assert mesh(SG2042, 35) is None
    drawn = drawing(SG2042, width=35)
    assert drawn[drawn.index("") + 1 :] == blocks(SG2042, width=35) and max(map(len, drawn)) <= 35


def test_cores_in_the_mesh_show_their_stage() -> None:
    lines = drawing(SG2042, {core: core // 4 for core in range(60)})
    assert lines[4:9] == [
        "      │ 5555 7777 │ dddd ···· │",
        " DDR1 │ 4444 6666 │ cccc eeee │ DDR3",
        "      ├ node 0 ───┼ node 2 ───┤",
        " DDR0 │ 1111 3333 │ 9999 bbbb │ DDR2",
        "      │ 0000 2222 │ 8888 aaaa │",
    ]


def test_walls_follow_nodes_of_any_form() -> None:
    places = ((0, 0), (1, 0), (0, 1), (1, 1), (2, 0), (2, 1), (2, 2), (2, 3), (0, 2), (1, 2), (0, 3), (0, 5))
    layout = Layout(groups=places, controllers=(Controller(name="south", node=0, at=(0, -1)),))
    machine = load_machine("numa:3 group:4 core:1").model_copy(update={"layout": layout})
    found = mesh(machine)
    assert found is not None
    assert found.filled([CORE] * 12) == [
        "┌ node 2 ┐",
        "│ ▇      │",
        "│        │   ┌ node 1 ┐",
        "│ ▇      │   │ ▇      │",
        "│        └───┤        │",
        "│ ▇        ▇ │ ▇      │",
        "├ node 0 ────┤        │",
        "│ ▇        ▇ │ ▇      │",
        "│ ▇        ▇ │ ▇      │",
        "└────────────┴────────┘",
        "  south",
    ]
    assert node_lines(machine)[:2] == ["node 0: PUs 0-3 · memory at south", "node 1: PUs 4-7"]


def test_lines_of_nodes_are_wrapped_between_pus() -> None:
    pus = tuple(((pu,),) for pu in range(0, 60, 2))
    lines = node_lines(made_of(Node(groups=pus), Node(groups=(), os_index=5)), width=40)
    assert lines[0].startswith("node 0: PUs 0,2,4,")
    assert lines[1].startswith("        ")
    assert all(len(line) <= 40 for line in lines)
    assert lines[-1] == "node 1: no PU · node 5 of the OS"


def test_kinds_of_core_are_told_apart() -> None:
    assert drawing(hybrid(), width=80) == [
        "Hybrid (8 cores: 6 groups × about 1.33 cores, 12 PUs)",
        "▇ P-core: 4 cores (0-3) · ▅ E-core: 4 cores (4-7), speed 0.6",
        "",
        "node 0 ▇ ▇ ▇ ▇ ▅▅ ▅▅",
    ]
    assert blocks(hybrid(), {0: 0, 7: 1}) == ["node 0 0 · · · ·· ·1"]


def test_names_cannot_command_the_terminal() -> None:
    kinds = (CoreKind(name="\x1b[2J", cores=tuple(range(64)), speed=Figure(value=1)),)
    layout = SG2042.layout
    assert layout is not None
    controllers = (Controller(name="\x1b]0;x\x07\ue000▇", node=0, at=(0, 2)),)
    machine = SG2042.model_copy(
        update={
            "title": "a\x1b[31m\nb\u202e", "core_kinds": kinds,
            "layout": layout.model_copy(update={"controllers": controllers}),
        }
    )  # fmt: skip
    assert heading(machine)[0].startswith("a [31m b  (64 cores")
    assert all(line.isprintable() for line in drawing(machine))


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
def test_blocks_keep_to_the_width(width: int) -> None:
    assert "".join(blocks(SG2042, width=width)).count("▇") == 64
    assert all(len(line) <= max(width, len("node 0 ▇▇▇▇")) for line in blocks(SG2042, width=width))


@given(drawable(), st.integers(1, 150))
def test_every_core_is_drawn_once_whatever_the_machine_and_the_width(machine: Machine, width: int) -> None:
    found = outline(machine, width)
    assert sorted(found.cores) == list(range(len(machine.cores)))
    drawn = [piece for line in found.pieces() for piece in line if isinstance(piece, int)]
    assert drawn == list(found.cores)
    assert "".join(found.filled(["\0"] * len(machine.cores))).count("\0") == len(machine.cores)


@given(drawable(), st.integers(1, 150))
def test_groups_stay_together_and_lines_fit(machine: Machine, width: int) -> None:
    lines = outline(machine, width).filled([chr(0x4E00 + core.group) for core in machine.cores])
    for number, group in enumerate(machine.groups):
        assert sum(line.count(chr(0x4E00 + number) * len(group)) for line in lines) == 1
    widest = max(map(len, machine.groups)) + len("  node 0 ") + 2
    assert all(len(line) <= max(width, widest) or line.startswith("host ") for line in lines if line)


def test_the_drawing_of_a_saved_machine_is_the_same(tmp_path: Path) -> None:
    from mapper.machine.files import save_machine

    save_machine(SG2042, tmp_path / "m.json")
    assert drawing(load_machine(tmp_path / "m.json")) == drawing(SG2042)
