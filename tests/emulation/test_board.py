"""The device tree that a board boots with: its clusters, nodes, caches and memory are those of the SG2042."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapper.machine.files import load_machine
from tests.emulation import fdt
from tests.emulation.board import CORES, DISTANCES, HARTS, TIMEBASE_HZ, Board, board_called, describe, node_of
from tests.emulation.fdt import DeviceTree, Node
from tests.emulation.virt import BASE, MEMORY_BYTES, virt_tree

SG2042 = load_machine("sg2042")
BOARDS = st.builds(Board, st.integers(0, HARTS - 1), st.booleans(), st.booleans())


def described(board: Board) -> DeviceTree:
    tree = virt_tree()
    describe(tree, board)
    return fdt.read(fdt.write(tree))


def harts(tree: DeviceTree) -> dict[int, Node]:
    """The node of each hart, by its phandle."""
    return {cpu.cells("phandle")[0]: cpu for cpu in tree.root.child("cpus").starting("cpu")}


@given(BOARDS)
def test_clusters_are_the_groups_of_the_bundled_machine(board: Board) -> None:
    tree = described(board)
    hart = {phandle: cpu.cells("reg")[0] for phandle, cpu in harts(tree).items()}
    socket = tree.root.child("cpus").child("cpu-map").child("socket0")
    found = [tuple(hart[core.cells("cpu")[0]] for core in cluster.children) for cluster in socket.children]
    expected = {tuple(pu for core in group for pu in core) for node in SG2042.nodes for group in node.groups}
    assert len(found) == len(set(found)) == HARTS // CORES
    assert set(found) == expected


@given(BOARDS)
def test_the_boot_hart_is_named_to_the_firmware(board: Board) -> None:
    tree = described(board)
    named = tree.root.child("chosen").child("opensbi-config").cells("cold-boot-harts")
    assert [harts(tree)[phandle].cells("reg")[0] for phandle in named] == [board.boot_hart]
    assert tree.boot_cpu == board.boot_hart
    assert "stdout-path" in tree.root.child("chosen").properties


@given(BOARDS)
def test_caches_are_shared_by_clusters_or_not_there(board: Board) -> None:
    tree = described(board)
    caches = {node.cells("phandle")[0]: node for node in tree.root.child("cpus").children if "l2" in node.name}
    shared: dict[int, set[int]] = {}
    for cpu in harts(tree).values():
        if board.caches:
            shared.setdefault(cpu.cells("next-level-cache")[0], set()).add(cpu.cells("reg")[0] // CORES)
        assert ("d-cache-size" in cpu.properties) is board.caches
    assert shared.keys() == caches.keys()
    assert all(len(clusters) == 1 for clusters in shared.values())
    sizes = {cache.bytes.value for cache in SG2042.caches if cache.shared_by == "group"} if board.caches else set()
    assert {node.cells("cache-size")[0] for node in caches.values()} == sizes


def test_the_clock_counts_as_on_the_chip_and_so_runs_slow() -> None:
    assert described(Board()).root.child("cpus").cells("timebase-frequency") == (TIMEBASE_HZ,)
    tree = virt_tree()
    tree.root.child("cpus").properties["timebase-frequency"] = fdt.cells(1_000_000)
    with pytest.raises(ValueError, match="a clock of 10000000 Hz was expected"):
        describe(tree, Board())


@given(BOARDS)
def test_phandles_are_unique(board: Board) -> None:
    found = [node.cells("phandle")[0] for node in described(board).root.walk() if "phandle" in node.properties]
    assert len(found) == len(set(found))


@pytest.mark.parametrize("numa", [True, False])
def test_nodes_are_those_of_the_bundled_machine_or_not_told(numa: bool) -> None:
    tree = described(Board(numa=numa))
    memories = tree.root.starting("memory")
    assert all(("numa-node-id" in node.properties) is numa for node in [*memories, *harts(tree).values()])
    if not numa:
        assert len(memories) == 1
        return
    expected = {pu: n for n, node in enumerate(SG2042.nodes) for group in node.groups for core in group for pu in core}
    assert {cpu.cells("reg")[0]: cpu.cells("numa-node-id")[0] for cpu in harts(tree).values()} == expected
    assert {hart: node_of(hart) for hart in range(HARTS)} == expected
    starts = [memory.cells("reg")[0] << 32 | memory.cells("reg")[1] for memory in memories]
    assert starts == [BASE + n * MEMORY_BYTES // 4 for n in range(4)]
    table = tree.root.child("distance-map").cells("distance-matrix")
    assert [table[i : i + 3] for i in (0, 3, 6, 9)] == [(0, 0, 10), (0, 1, 15), (0, 2, 25), (0, 3, 30)]
    assert SG2042.distances == DISTANCES


def test_another_machine_is_refused() -> None:
    with pytest.raises(ValueError, match="64 harts were expected, not 8"):
        describe(virt_tree(harts=8), Board())
    with pytest.raises(ValueError, match="four equal parts"):
        describe(virt_tree(memory_bytes=(8 << 30) + 4096), Board())


@given(BOARDS)
def test_a_board_has_its_name(board: Board) -> None:
    assert board_called(board.name) == board


@pytest.mark.parametrize("name", ["boot", "boot8-nothing", "8", "boot64", "boot-1"])
def test_a_name_of_no_board_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="boot"):
        board_called(name)
