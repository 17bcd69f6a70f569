"""What all processes that mapper starts have in common."""

from __future__ import annotations

import os
import signal
from pathlib import Path


def search_path() -> str:
    """The PYTHONPATH of a child: the user's, and last, for a mapper that is not installed, where this one is."""
    home = str(Path(__file__).resolve().parents[1])
    return os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), home]))


def how_ended(code: int) -> str:
    """In words, the end of a process with this exit code, negative for a signal."""
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
