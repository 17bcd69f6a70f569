"""How a script in the guest reports its checks: a line each in /out/checks.jsonl; standard library only."""

from __future__ import annotations

import contextlib
import json
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

CHECKS = Path("/out/checks.jsonl")


class Failed(Exception):
    """What a check requires does not hold."""


class Told:
    """What a check says in one line besides whether it passed."""

    def __init__(self) -> None:
        self.detail = ""

    def require(self, condition: object, otherwise: str) -> None:
        """Raises: Failed with `otherwise` unless `condition` holds."""
        if not condition:
            raise Failed(otherwise)


@contextlib.contextmanager
def check(name: str) -> Iterator[Told]:
    """A check with the name that its part lists. It fails when the block raises; the script goes on.

    Its seconds are the guest's, whose clock is slow (`board.SLOWER`).
    """
    told, started, passed = Told(), time.monotonic(), True
    try:
        yield told
    except Exception as error:
        passed = False
        told.detail = f"{error}" if isinstance(error, Failed) else f"{type(error).__name__}: {error}"
        if not isinstance(error, Failed):
            traceback.print_exc()
    seconds = round(time.monotonic() - started, 3)
    write({"check": name, "passed": passed, "detail": told.detail, "seconds": seconds})
    print(f"{'passed' if passed else 'FAILED'}: {name}: {told.detail}", flush=True)


def write(line: dict[str, object]) -> None:
    """Keeps the line of a check, and shows it on the console, in case that the machine is stopped before it ends."""
    text = json.dumps(line)
    with CHECKS.open("a") as file:
        file.write(text + "\n")
    print(f"check {text}", flush=True)
