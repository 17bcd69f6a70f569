"""Runs a command in this process, as the console script does."""

from __future__ import annotations

import contextlib
import io
import sys
from dataclasses import dataclass
from unittest.mock import patch

from mapper.cli.main import _code

TINY = "tests.program.modules:attention"
"""A model source that takes no time."""


@dataclass(frozen=True)
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str


def mapper(*arguments: object) -> Result:
    """`mapper ARGUMENTS`, up to its exit code."""
    out, err = io.StringIO(), io.StringIO()
    with (
        patch.object(sys, "argv", ["mapper", *map(str, arguments)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        code = _code()
    return Result(code, out.getvalue(), err.getvalue())
