"""Runs `mapper` in the guest as a user would; standard library only."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass

from report import Failed

LIMIT_S = 36.0
"""Of the guest's time, of which one is fifty of the host's. Importing torch takes minutes where the host is busy."""


@dataclass(frozen=True)
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str


def mapper(*arguments: object, limit_s: float = LIMIT_S) -> Result:
    """`mapper ARGUMENTS`, up to its exit code."""
    command = ["mapper", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, stdin=subprocess.DEVNULL)
    return Result(done.returncode, done.stdout, done.stderr)


def succeed(*arguments: object, limit_s: float = LIMIT_S) -> Result:
    """`mapper ARGUMENTS`. Raises: Failed with what it said unless it ends with 0."""
    done = mapper(*arguments, limit_s=limit_s)
    if done.code:
        words = " ".join(map(str, arguments))
        raise Failed(f"mapper {words} ended with {done.code}: {(done.err or done.out).strip()}")
    return done
