"""The parts that run on the emulated boards fit together, and the command line names them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.emulation.board import board_called
from tests.emulation.parts import EVERY, GUEST, Part, selected
from tests.emulation.registry import PARTS


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_a_part_has_a_script_that_names_its_checks(part: Part) -> None:
    script = (GUEST / part.script).read_text()
    assert part.checks
    assert "with check(" in script
    assert part.limit_s > 0
    assert all(board_called(board).name == board for board in part.boards)


def test_names_are_unique_and_parts_come_after_those_that_they_need() -> None:
    names = [part.name for part in PARTS]
    checks = [check for part in PARTS for check in part.checks]
    assert len(set(names)) == len(names)
    assert len(set(checks)) == len(checks)
    for number, part in enumerate(PARTS):
        assert set(part.needs) <= set(names[:number]), part.name


def test_every_part_runs_on_two_boot_harts_or_says_on_which() -> None:
    for board in EVERY:
        assert {part.name for part in selected(PARTS, [], board)} >= {"install", "topology", "doctor"}
    for part in PARTS:
        for board in part.boards:
            assert part in selected(PARTS, [part.name], board)


def test_the_command_lists_boards_parts_and_checks() -> None:
    command = [sys.executable, "-m", "tests.emulation", "check", "--list"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert {line.partition(":")[0] for line in done.stdout.splitlines()} == {board for p in PARTS for board in p.boards}
    assert all(check in done.stdout for part in PARTS for check in part.checks)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("check", "--list", "--part", "nothing"), "nothing\nParts: install, "),
        (("check", "--list", "--board", "boot64"), "one of 0 to 63, not 64"),
        (("boot", "--boot-hart", "64", "."), "one of 0 to 63, not 64"),
    ],
)
def test_what_is_not_there_is_refused(arguments: tuple[str, ...], told: str) -> None:
    command = [sys.executable, "-m", "tests.emulation", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr
