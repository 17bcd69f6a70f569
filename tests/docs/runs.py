"""Runs the code of a page as its reader would: commands by the command line or a shell, Python as a module."""

from __future__ import annotations

import ast
import asyncio
import inspect
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import CodeType
from typing import Any

import typer.main

from mapper.cli.main import app
from tests.cli.commands import Result, mapper
from tests.docs.blocks import PYTHON, ROOT, Block, arguments

WORKERS = re.compile(r"^mapper (run|host|bench|tune|profile|calibrate)\b|mapper\.(Executor|run)\(", re.MULTILINE)
"""What computes on the cores of this machine."""


def starts_workers(block: Block) -> bool:
    """Whether what is run of `block` needs cores for itself."""
    return bool(WORKERS.search("\n".join([*block.marks.before, *(block.run or [block.text])])))


def run_command(command: str) -> Result:
    """`command` in the working folder: in this process where it is one of ours alone, else by bash."""
    if re.match(r"mapper [^|&;>]*(#.*)?$", command):
        return mapper(*arguments(command)[1:])
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=environment(), check=False)
    return Result(done.returncode, done.stdout, done.stderr)


def environment() -> dict[str, str]:
    """That of a shell in which mapper is installed."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return os.environ | {"PATH": path, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", "COLUMNS": "120"}


def run_python(block: Block) -> dict[str, Any]:
    """The names after running `block`, with what is marked as before it. `await` may stand outside of functions."""
    names: dict[str, Any] = {"__name__": "page"}
    assert block.kind == PYTHON
    for text in (*block.marks.before, block.text):
        code = compile(text, block.name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        asyncio.run(_await(code, names)) if code.co_flags & inspect.CO_COROUTINE else exec(code, names)  # noqa: S102
    return names


async def _await(code: CodeType, names: dict[str, Any]) -> None:
    await eval(code, names)  # noqa: S307


@cache
def _commands() -> Any:
    return typer.main.get_command(app)


def parse(command: str) -> None:
    """Reads a `mapper` command as the command line does, without doing anything.

    Raises: click's UsageError for a command, an option or a value that there is not.
    """
    words = arguments(re.sub(r"[\[\]]", "", command))[1:]
    group = _commands()
    context = group.make_context("mapper", words)
    while hasattr(group, "resolve_command"):
        name, group, words = group.resolve_command(context, [*context._protected_args, *context.args])
        context = group.make_context(name, words, parent=context)
