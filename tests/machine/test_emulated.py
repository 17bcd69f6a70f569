"""Discovery of emulated boards with the SG2042's topology, from what their kernel showed (`tests/emulation`)."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from mapper.machine.complete import like
from mapper.machine.discover import NO_CACHES, discover
from mapper.machine.files import load_machine, similar
from tests.cli.commands import mapper
from tests.emulation.board import HARTS, Board, board_called, node_of
from tests.emulation.corpus import CORPUS

BOARDS = sorted(path.name.removeprefix("emulated-sg2042-").partition(".")[0] for path in CORPUS.glob("*.tar.xz"))
SG2042 = load_machine("sg2042")

Unpack = Callable[[str], Path]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Unpack:
    """Unpacks the files of a board, once, and gives the folder that holds its `sys` and `proc`."""
    folders: dict[str, Path] = {}

    def unpack(board: str) -> Path:
        if board not in folders:
            folders[board] = tmp_path_factory.mktemp(board)
            with tarfile.open(CORPUS / f"emulated-sg2042-{board}.tar.xz") as tar:
                for entry in tar:
                    content = tar.extractfile(entry)
                    assert content is not None, "files only"
                    path = folders[board] / entry.name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(content.read())
        return folders[board]

    return unpack


def harts(root: Path) -> dict[int, int]:
    """The hart of each PU, read plainly."""
    found = re.findall(r"^processor\s*: (\d+)\nhart\s*: (\d+)$", (root / "proc/cpuinfo").read_text(), re.MULTILINE)
    return {int(pu): int(hart) for pu, hart in found}


def test_the_boards_that_matter_are_there() -> None:
    assert {"boot0", "boot8", "boot8-nocache", "boot0-nonuma"} <= set(BOARDS)


@pytest.mark.parametrize("name", BOARDS)
def test_every_board_has_the_shape_of_the_bundled_machine(name: str, unpacked: Unpack) -> None:
    board, found = board_called(name), discover(unpacked(name))
    assert found.fingerprint == SG2042.fingerprint
    assert found.counts == {**SG2042.counts, "nodes": 4 if board.numa else 1}
    assert found.distances == (SG2042.distances if board.numa else ((10,),))
    shown = [(cache.level, cache.shared_by, cache.bytes.value) for cache in found.caches]
    expected = [(cache.level, cache.shared_by, cache.bytes.value) for cache in SG2042.caches if cache.level < 3]
    assert shown == (expected if board.caches else [])


@pytest.mark.parametrize("name", BOARDS)
def test_groups_and_nodes_hold_the_harts_that_they_have_on_the_chip(name: str, unpacked: Unpack) -> None:
    board, found, hart = board_called(name), discover(unpacked(name)), harts(unpacked(name))
    assert sorted(hart.values()) == list(range(HARTS))
    assert hart[0] == board.boot_hart
    for group in found.groups:
        own = [hart[found.cores[core].pus[0]] for core in group]
        assert own == list(range(own[0], own[0] + 4)), "in the order of their harts"
        assert own[0] % 4 == 0
    nodes = [node_of(hart[core.pus[0]]) if board.numa else 0 for core in found.cores]
    assert [core.node for core in found.cores] == nodes


@pytest.mark.parametrize("name", BOARDS)
def test_what_is_not_shown_is_told_and_comes_from_the_bundled_machine(name: str, unpacked: Unpack) -> None:
    board, found = board_called(name), discover(unpacked(name))
    assert (NO_CACHES in found.notes) is not board.caches
    assert "sg2042" in similar(found)
    whole = like(found, SG2042)
    assert [cache.level for cache in whole.caches] == [1, 2, 3]
    assert NO_CACHES not in whole.notes
    assert any("shows 1 NUMA node, sg2042 has 4" in note for note in whole.notes) is not board.numa
    assert [core.pus for core in whole.cores] == [core.pus for core in found.cores]


@pytest.mark.parametrize("name", BOARDS)
def test_the_command_says_what_the_system_does_not_show(name: str, unpacked: Unpack) -> None:
    board, done = board_called(name), mapper("topo", "discover", "--root", unpacked(name))
    assert done.code == 0
    assert "--like sg2042" in done.err
    assert ("The system shows 1 NUMA node, sg2042 has 4" in done.err) is not board.numa
    assert ("The system shows no caches" in done.out) is not board.caches


def test_the_numbers_of_the_boot_hart_shift_the_others(unpacked: Unpack) -> None:
    first, eighth = discover(unpacked("boot0")), discover(unpacked("boot8"))
    assert [core.pus[0] for core in first.cores[:4]] == [0, 1, 2, 3]
    assert [core.pus[0] for core in eighth.cores[:4]] == [1, 2, 3, 4]
    assert (0,) in [core.pus for core in eighth.cores if core.node == 1]
    assert Board(8).name == "boot8"


def test_the_archives_hold_only_what_discovery_reads(unpacked: Unpack) -> None:
    for name in BOARDS:
        root = unpacked(name)
        kept = {path.relative_to(root).parts[0] for path in root.rglob("*") if path.is_file()}
        assert kept == {"sys", "proc"}
        assert {path.name for path in (root / "proc").rglob("*") if path.is_file()} == {"cpuinfo", "meminfo", "status"}
        files = {path: path.stat().st_size for path in root.rglob("*") if path.is_file()}
        assert max(files.values()) < 2**16, "nothing large"
