"""Small files of the kernel: a text or a number in each; one that is missing or unreadable is None."""

from __future__ import annotations

import re
from pathlib import Path


def text(path: Path) -> str | None:
    """The text of a small kernel file without white space and zero bytes at its ends; None where it can't be read."""
    try:
        return path.read_text(errors="replace").strip("\0 \t\r\n")
    except OSError:
        return None


def number(path: Path) -> int | None:
    """The integer in `path`, None where there is none."""
    found = re.fullmatch(r"-?\d+", text(path) or "")
    return int(found[0]) if found else None
