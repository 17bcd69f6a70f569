"""What runs in the guest: parts of a payload, each one script that reports some checks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.emulation.board import SLOWER

GUEST = Path(__file__).parent / "guest"
EVERY = ("boot0", "boot8")
"""The boards that a part runs on unless it says otherwise."""


@dataclass(frozen=True)
class Part:
    """A script of `guest/` with what it needs and which checks it reports.

    It runs as `python3 /payload/guest/SCRIPT` in the folder /payload/NAME, which `prepare` filled on the host, for at
    most `limit_s` of the host's seconds, after the parts that it `needs`. What it writes below MAPPER_OUT (/out/NAME)
    comes back.
    """

    name: str
    script: str
    checks: tuple[str, ...]
    prepare: Callable[[Path], None]
    limit_s: int = 1800
    needs: tuple[str, ...] = ()
    boards: tuple[str, ...] = EVERY


def selected(parts: Sequence[Part], names: Iterable[str], board: str) -> list[Part]:
    """The parts called `names` (all if there are none) that run on `board`, with those that they need, in order.

    Raises: KeyError for a name that no part has.
    """
    known = {part.name: part for part in parts}
    wanted: set[str] = set()

    def add(name: str) -> None:
        if name not in wanted:
            wanted.add(name)
            for needed in known[name].needs:
                add(needed)

    asked = list(names) or list(known)
    for name in asked:
        if board in known[name].boards:
            add(name)
    return [part for part in parts if part.name in wanted]


def make_payload(folder: Path, parts: Sequence[Part], board: str, prepared: Path) -> None:
    """Writes the payload with `parts` into `folder`: `run.sh`, the scripts, and what each part prepared. The scripts
    find the name of the `board` in MAPPER_BOARD.

    What a part prepares is kept in `prepared` while the boards of one run are tried, so it is made once.
    """
    folder.mkdir(parents=True)
    shutil.copytree(GUEST, folder / "guest", ignore=shutil.ignore_patterns("__pycache__", "init"))
    (folder / "run.sh").write_text(f"MAPPER_BOARD={board} exec python3 /payload/guest/runner.py\n", encoding="utf-8")
    listed = [{"name": part.name, "script": part.script, "limit_s": part.limit_s / SLOWER} for part in parts]
    (folder / "parts.json").write_text(json.dumps(listed, indent=1) + "\n", encoding="utf-8")
    for part in parts:
        kept = prepared / part.name
        if not kept.exists():
            unfinished = prepared / f"{part.name}.unfinished"
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir(parents=True)
            part.prepare(unfinished)
            unfinished.rename(kept)
        shutil.copytree(kept, folder / part.name, symlinks=True)
