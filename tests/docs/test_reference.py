"""The reference has every public name, every command with all its options, every field of every file."""

from __future__ import annotations

import importlib
import importlib.util
import re
import subprocess
import sys
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import pytest
import typer

import mapper
from docs.generate import api, cli, files
from mapper.cli.commands import Command, commands
from mapper.cli.main import app
from mapper.cli.schema import Kind, schema_of
from tests.cli.commands import mapper as run
from tests.docs.blocks import ROOT

EVERY = commands(typer.main.get_command(app))
COMMANDS = [command for command in EVERY if command.path]


@cache
def api_page() -> str:
    return api.page()


def test_every_public_name_is_in_the_api_reference() -> None:
    for name in set(mapper.__all__) - {"__version__"}:
        assert re.search(rf"^\.\. auto(function|class):: mapper\.{name}$", api_page(), re.MULTILINE), name


def test_names_of_the_api_reference_are_there() -> None:
    names = [name for section in api.SECTIONS.values() for name in section]
    assert len(names) == len(set(names)) and set(names) <= set(mapper.__all__)
    for module, types in api.TYPES.items():
        for name in types:
            found = getattr(importlib.import_module(module), name)
            assert found.__doc__, f"{module}.{name} has no docstring"


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_option_that_help_knows_is_in_the_reference(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    section = cli.page([command])
    result = run(*command.path, "--help")
    assert result.code == 0
    options = set(re.findall(r"^ +(?:-\w, )?(--[a-z][\w-]*)", result.out, re.MULTILINE)) - {"--help"}
    assert command.commands or options or command.arguments
    for option in options:
        assert re.search(rf"\| `[^`]*{option}\b", section), option


def test_every_command_has_a_section() -> None:
    page = cli.page()
    for command in EVERY:
        assert f"\n## `{command.name}`\n" in page


@pytest.mark.parametrize("kind", Kind)
def test_every_field_of_a_file_is_in_its_reference(kind: Kind) -> None:
    schema, page = schema_of(kind), files.page(kind)
    for record in (schema, *schema.get("$defs", {}).values()):
        for name in record.get("properties", {}):
            assert f"| `{name}` |" in page, name
    assert kind.value in files.PAGES, "a new file: give it a title in docs/generate/files.py"


def test_every_page_is_in_the_table_of_contents() -> None:
    index = (ROOT / "docs/index.md").read_text()
    fences = re.findall(r"```\{toctree\}\n(.*?)```", index, re.DOTALL)
    listed = {re.sub(r".*<(.*)>", r"\1", line) for fence in fences for line in fence.splitlines()}
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")} - {"index"}
    generated = {"reference/cli", "reference/api"} | {f"reference/file-{kind.value}" for kind in Kind}
    missing = {page for page in pages | generated if not any(fnmatch(page, pattern) for pattern in listed)}
    assert not missing


@pytest.mark.soak
def test_the_documentation_builds_without_a_warning(tmp_path: Path) -> None:
    for package in ("sphinx", "myst_parser", "furo"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed: python -m pip install '.[docs]'")
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "-d", tmp_path / "doctrees",
         ROOT / "docs", tmp_path / "html"], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "mapper.plan" in (tmp_path / "html/reference/api.html").read_text()
