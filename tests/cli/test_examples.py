"""Every example of `--help`, run as it stands; and that help, manual page and data say the same."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from mapper.cli.commands import PROGRAM, Command, commands
from mapper.cli.examples import EXAMPLES, Example
from mapper.cli.help import broken, example_lines
from mapper.cli.main import app
from mapper.cli.manual import manual_page
from tests.cli.commands import Result, mapper

COMMANDS = commands(typer.main.get_command(app))
ALL = [example for examples in EXAMPLES.values() for example in examples]
MAKERS = {file: example for example in ALL for file in example.files}


def needed(example: Example) -> list[Example]:
    """The examples that write what this one reads."""
    return [MAKERS[word] for word in example.words if word in MAKERS and word not in example.files]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("examples")


def run(example: Example) -> None:
    """Runs it in the working folder, after those whose files it reads."""
    for maker in needed(example):
        if not all(Path(file).exists() for file in maker.files):
            run(maker)
    for file in example.files:
        shutil.rmtree(file) if Path(file).is_dir() else Path(file).unlink(missing_ok=True)
    if example.long:  # a process of its own, as some of them start others and take signals
        ended = subprocess.run([sys.executable, "-m", "mapper", *example.words], capture_output=True, text=True)
        done = Result(ended.returncode, ended.stdout, ended.stderr)
    else:
        done = mapper(*example.words)
    assert done.code == 0, f"{example.line}\n{done.err}"
    assert done.out or done.err
    assert all(Path(file).exists() for file in example.files), example.line


@pytest.mark.parametrize("example", [e for e in ALL if not e.long], ids=lambda e: e.line)
def test_a_quick_example_works(example: Example, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    assert not any(maker.long for maker in needed(example)), "it would wait for a long one"
    run(example)


@pytest.mark.soak
@pytest.mark.machine
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("example", [e for e in ALL if e.long], ids=lambda e: e.line)
def test_a_long_example_works(example: Example, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    run(example)


def leaves() -> list[Command]:
    return [command for command in COMMANDS if not command.commands]


def test_every_command_has_examples_of_its_own() -> None:
    assert {" ".join(command.path) for command in leaves()} == set(EXAMPLES)
    for command in leaves():
        assert command.examples and all(f"{e.line} ".startswith(f"{command.name} ") for e in command.examples)
    assert len(ALL) == len({example.line for example in ALL})


@pytest.mark.parametrize("columns", [60, 80])
def test_help_says_all_of_it_and_keeps_to_the_width(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    for command in COMMANDS:
        told = mapper(*command.path, "--help").out
        words = set(told.split())
        assert max(map(len, told.splitlines())) <= columns, command.name
        for option in command.options:
            assert any(flag.rstrip(",") in {word.rstrip(",") for word in words} for flag in option.flags), option
        for example in command.examples:
            assert example.what.split()[0] in told
            assert "".join(example.line.split()) in "".join(told.replace("\\\n", "").split())
        assert set(command.commands) <= words


def test_a_broken_line_is_the_same_command() -> None:
    for example in ALL:
        for width in (40, 60, 200):
            lines = broken(example.line, width, "")
            assert " ".join(line.removesuffix("\\").strip() for line in lines) == example.line
            assert all(line.endswith("\\") for line in lines[:-1])
    assert example_lines((), 80) == []


def test_the_data_are_those_of_the_parser() -> None:
    found = {command.name: command for command in COMMANDS}
    assert next(iter(found)) == PROGRAM and found["mapper topo"].commands[:2] == ("show", "discover")
    plan, run_, schema = (found[f"mapper {name}"] for name in ("plan", "run", "schema"))
    options = {option.name: option for option in plan.options}
    assert (options["topo"].default, options["stages"].value, options["together"].repeated) == ("host", "int", True)
    assert options["output"].flags == ("-o", "--output") and options["output"].value == "path"
    assert (options["json_"] if "json_" in options else options["json"]).value == ""
    assert {option.name: option.default for option in run_.options}["seed"] == "0"
    assert run_.usage == "mapper run PLAN [OPTIONS]" and run_.arguments[0].required
    assert schema.usage == "mapper schema KIND"
    assert found["mapper export"].usage == "mapper export PLAN --to STR --output PATH [OPTIONS]"


def test_the_manual_page_has_every_command_option_and_example() -> None:
    page = manual_page(COMMANDS, "1.2")
    plain = page.replace("\\-", "-").replace("\\&", "").replace("\\e", "\\")
    assert page == manual_page(COMMANDS, "1.2") and page.isascii() and "1.2" in page.splitlines()[0]
    for command in COMMANDS:
        assert command.name in plain
        for option in command.options:
            assert f"\\fB{', '.join(option.flags)}\\fR" in plain
        for example in command.examples:
            assert "".join(example.line.split()) in "".join(plain.replace("\\\n", "").split())
    assert ".B 10\nthe system refused" in plain


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed: the page is untested here")
def test_the_manual_page_is_right_for_groff_and_keeps_to_80_columns(tmp_path: Path) -> None:
    written = tmp_path / "mapper.1"
    assert mapper("man", "-o", written).out == f"Written to {written}.\n"
    done = subprocess.run(["groff", "-man", "-ww", "-Tutf8", "-P-c", "-P-b", "-P-u", written], capture_output=True,
                          text=True, check=True)  # fmt: skip
    assert done.stderr == ""
    assert "mapper plan --model vit --topo sg2042 -o vit.json" in done.stdout.replace("‐", "-")
    assert max(len(line) for line in done.stdout.splitlines()) <= 80


def test_in_a_pipe_the_manual_page_is_roff() -> None:
    assert mapper("man").out.startswith(".TH MAPPER 1 ")


def test_data_go_into_json() -> None:
    """The documentation is made from them by another program."""
    import dataclasses

    assert io.StringIO(json.dumps([dataclasses.asdict(command) for command in COMMANDS])).read(1) == "["
