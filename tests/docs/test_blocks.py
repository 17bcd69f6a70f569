"""What README and docs tell people to type works, and what is not tried here says so in the page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.blocks import PAGES, PYTHON, ROOT, SHELL, Block, blocks
from tests.docs.runs import parse, run_command, run_python, starts_workers

CODE = [block for page in PAGES if page.is_file() for block in blocks(page) if block.kind in (SHELL, PYTHON)]
OWN_TESTS = {"docs/first_steps.md", "docs/errors.md", "CONTRIBUTING.md"}
"""Pages that are run as a whole by a test of their own."""
NOT_RUN_AT_MOST = 84
"""Commands of all pages that no test runs, each with its reason before it. It may fall; who raises it looks at why."""


def chains() -> Iterator[list[Block]]:
    """The blocks that are run, each with the ones that it continues."""
    chain: list[Block] = []
    for block in CODE:
        if str(block.page.relative_to(ROOT)) in OWN_TESTS:
            continue
        if chain and block.marks.continues and block.page == chain[-1].page:
            chain.append(block)
            continue
        if chain:
            yield chain
        chain = [block]
    yield chain


def cases() -> Iterator[object]:
    for chain in chains():
        if not any(block.run if block.kind == SHELL else not block.marks.skipped for block in chain):
            continue
        marks = [pytest.mark.soak] if any(block.marks.soak for block in chain) else []
        marks += [pytest.mark.machine] if any(map(starts_workers, chain)) else []
        yield pytest.param(chain, id=chain[0].name.rpartition(":")[0] + f":{chain[0].text.splitlines()[0][:40]}",
                           marks=marks)  # fmt: skip


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("chain", list(cases()))
def test_code_runs(chain: list[Block], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for block in chain:
        if block.kind == PYTHON:
            run_python(block)
            continue
        for command in (*block.marks.before, *block.run):
            result = run_command(command)
            assert result.code == 0, f"{block.name}: {command}\n{result.err}"


@pytest.mark.parametrize("block", [block for block in CODE if block.kind == SHELL], ids=lambda block: block.name)
def test_commands_and_options_are_there(block: Block) -> None:
    for command in (*block.marks.before, *block.commands):
        if command.startswith("mapper "):
            parse(command) if not block.marks.fails else None


def test_python_that_is_not_run_is_python() -> None:
    for block in CODE:
        if block.kind == PYTHON:
            compile(block.text, block.name, "exec", flags=0x2000)


def test_what_is_not_run_is_counted_and_says_why() -> None:
    own = [block for block in CODE if str(block.page.relative_to(ROOT)) not in OWN_TESTS]
    untried = [(block.name, command) for block in own if block.kind == SHELL for command in block.not_run]
    untried += [(block.name, block.text) for block in own if block.kind == PYTHON and block.marks.skipped]
    tried = [command for block in own if block.kind == SHELL for command in block.run]
    assert len(untried) <= NOT_RUN_AT_MOST, "\n".join(map(str, untried))
    assert len(tried) > len(untried)
    for block in own:
        for text, reason in block.marks.lines_skipped:
            assert any(text in command for command in block.commands), f"{block.name}: no line has {text!r}"
            assert len(reason) > 10, f"{block.name}: {reason!r} is no reason"


def test_a_comment_that_is_unknown_is_told(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- code: slowly -->\n\n    mapper doctor\n")
    with pytest.raises(AssertionError, match="not known"):
        blocks(page)


def test_an_option_that_is_not_there_is_found() -> None:
    with pytest.raises(Exception, match="No such option"):
        parse("mapper plan --model vit --tpoo host")
    with pytest.raises(Exception, match="No such command"):
        parse("mapper topo shwo host")
    with pytest.raises(Exception, match="integer"):
        parse("mapper run plan.json --items many")
