"""docs/errors.md has an example of each exit code, with the message that it really gives."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mapper.errors import MapperError
from tests.docs.blocks import ROOT, SHELL, Block, blocks
from tests.docs.runs import run_command
from tests.docs.test_first_steps import save_model

PAGE = ROOT / "docs/errors.md"
LINES = PAGE.read_text().splitlines()
EXAMPLES = [block for block in blocks(PAGE) if block.kind == SHELL]
SECTIONS = {code: line for line, text in enumerate(LINES, 1) if (code := re.match(r"## (\d+)(?: and (\d+))?: ", text))}
NO_EXAMPLE = {1}
"""A bug in mapper: what is known is repaired."""


def codes_of(block: Block) -> tuple[int, ...]:
    """The exit codes that the heading above `block` names; 0 above the first."""
    above = [heading for heading, line in SECTIONS.items() if line < block.line]
    return tuple(int(code) for code in above[-1].groups() if code) if above else (0,)


def expected(block: Block) -> str:
    """What the page says that the command of `block` tells."""
    return block.text.partition("\n")[2].strip()


def agrees(told: str, shown: str) -> bool:
    """Whether `told` is what is `shown`, where `...` stands for anything."""
    pattern = ".*".join(re.escape(part) for part in shown.split("..."))
    return re.fullmatch(pattern, told.strip(), re.DOTALL) is not None


def told(block: Block) -> tuple[int, str]:
    """Exit code of the command of `block`, what it says on stdout and then on stderr."""
    (command,) = block.commands
    for before in block.marks.before:
        assert run_command(before).code == 0, before
    result = run_command(command)
    return result.code, "\n".join(filter(None, (result.out.strip(), result.err.strip())))


def slow(block: Block) -> bool:
    return "mapper run" in block.text or "sg2042*2" in block.text


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    save_model(tmp_path)
    return tmp_path


def test_messages_are_those_of_the_page(folder: Path) -> None:
    for block in EXAMPLES:
        if slow(block):
            continue
        code, text = told(block)
        assert code in codes_of(block), f"{block.name}: ended with {code}\n{text}"
        assert agrees(text, expected(block)), f"{block.name}:\n{text}"


@pytest.mark.soak
@pytest.mark.machine
def test_messages_of_workers_and_hosts_are_those_of_the_page(folder: Path) -> None:
    for block in filter(slow, EXAMPLES):
        code, text = told(block)
        assert code in codes_of(block), f"{block.name}: ended with {code}\n{text}"
        assert agrees(text, expected(block)), f"{block.name}:\n{text}"


def test_every_exit_code_has_an_example() -> None:
    known = {0, 1, 130, 143} | {kind.exit_code for kind in MapperError.__subclasses__()}
    headed = {int(code) for heading in SECTIONS for code in heading.groups() if code}
    shown = {code for block in EXAMPLES for code in codes_of(block)}
    assert headed == known
    assert shown == known - NO_EXAMPLE
    assert {example.commands[0] for example in EXAMPLES if 130 in codes_of(example)} != set()


def test_a_message_that_is_another_one_is_found() -> None:
    assert agrees("mapper: a 3 b\nmore", "mapper: a ... b\n...")
    assert not agrees("mapper: a 3 c", "mapper: a ... b")
