"""What the checks of a run came to: lines, a table and a JSON file."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mapper.reports.table import Table
from tests.emulation.board import SLOWER
from tests.emulation.boot import CONSOLE, Ended
from tests.emulation.parts import Part

NOTICE = "Wall times of an emulated machine on this host: they say how long a check takes, nothing about performance."
SCHEMA = "mapper-emulated-checks/1"
CHECKS = "checks.jsonl"
"""The file in `/out` that scripts report in."""


@dataclass(frozen=True)
class Line:
    """One check on one board, with the seconds that it took there."""

    board: str
    part: str
    check: str
    passed: bool
    seconds: float | None = None
    detail: str = ""


@dataclass(frozen=True)
class Booted:
    """How one board ended, and its checks."""

    board: str
    ended: Ended
    lines: tuple[Line, ...]

    @property
    def passed(self) -> bool:
        """Whether the machine ended by itself and every check passed."""
        return self.ended.status is not None and all(line.passed for line in self.lines)


def judge(board: str, parts: Iterable[Part], out: Path, ended: Ended) -> Booted:
    """The checks that `parts` had to report in `out`, with the host's seconds. One that was not reported has failed."""
    told = _told(out)
    lines: list[Line] = []
    for part in parts:
        own = [line for line in told if line["check"] in part.checks or line["check"].startswith(f"{part.name}: ")]
        lines += [Line(board, part.name, **{**line, "seconds": round(line["seconds"] * SLOWER, 1)}) for line in own]
        reported = {line["check"] for line in own}
        lacking = [name for name in part.checks if name not in reported]
        lines += [Line(board, part.name, name, False, None, f"not reported: {ended.reason}") for name in lacking]
    return Booted(board, ended, tuple(lines))


def _told(out: Path) -> list[dict[str, Any]]:
    """The lines that scripts reported: those that came back, else those on the console of a machine that was stopped.

    One that is not whole is left out.
    """
    path, pattern = out / CHECKS, r"(\{.*\})"
    if not path.is_file():
        path, pattern = out / CONSOLE, r"[\w-]+\| check (\{.*\})"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    found = []
    for match in filter(None, (re.fullmatch(pattern, line) for line in lines)):
        with contextlib.suppress(ValueError):
            found.append(json.loads(match[1]))
    return found


def table(boots: Sequence[Booted]) -> str:
    """A row a check and a column a board: whether it passed, and its wall time. Details of failures follow."""
    boards = sorted({booted.board for booted in boots})
    lines = [line for booted in boots for line in booted.lines]
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for line in lines:
        rows.setdefault((line.part, line.check), {})[line.board] = _cell(line)
    cells = [
        (check if check.startswith(f"{part}: ") else f"{part}: {check}", *(row.get(board, "-") for board in boards))
        for (part, check), row in rows.items()
    ]
    cells.append(("boot to power-off", *(_ended(boots, board) for board in boards)))
    text = Table(("check", *boards), tuple(cells), indent="").lines()
    failed = [line for line in lines if not line.passed]
    head = f"{len(lines) - len(failed)} of {len(lines)} checks passed on {len(boards)} boards. {NOTICE}"
    return "\n".join([head, "", *text, *(f"FAILED on {f.board}: {f.check}: {f.detail}" for f in failed)])


def _cell(line: Line) -> str:
    """Whether a check passed, and the seconds it took."""
    return ("passed" if line.passed else "FAILED") + ("" if line.seconds is None else f", {line.seconds:.0f} s")


def _ended(boots: Iterable[Booted], board: str) -> str:
    """The seconds of all boots of `board`, and whether one had to be stopped."""
    own = [booted.ended for booted in boots if booted.board == board]
    stopped = any(ended.status is None for ended in own)
    return f"{'STOPPED' if stopped else 'ended'}, {sum(ended.seconds for ended in own):.0f} s"


def document(boots: Sequence[Booted]) -> dict[str, object]:
    """The same as JSON: boots and checks, with details."""
    return {
        "schema": SCHEMA,
        "notice": NOTICE,
        "passed": all(booted.passed for booted in boots),
        "boots": [
            {"board": booted.board, "parts": sorted({line.part for line in booted.lines}), **asdict(booted.ended)}
            for booted in boots
        ],
        "checks": [asdict(line) for booted in boots for line in booted.lines],
    }


def read(folder: Path) -> list[Booted]:
    """What an earlier run wrote into `folder`; empty where there was none. Raises: ValueError for another file."""
    path = folder / "checks.json"
    if not path.is_file():
        return []
    found = json.loads(path.read_text(encoding="utf-8"))
    if found.get("schema") != SCHEMA:
        raise ValueError(f"{path} is not of {SCHEMA}")
    checks = [Line(**line) for line in found["checks"]]
    return [
        Booted(boot["board"], Ended(boot["status"], boot["reason"], boot["seconds"]),
               tuple(line for line in checks if line.board == boot["board"] and line.part in boot["parts"]))
        for boot in found["boots"]
    ]  # fmt: skip


def kept(earlier: Iterable[Booted], boards: Mapping[str, Sequence[Part]]) -> list[Booted]:
    """What of `earlier` stays when these parts run again on these boards."""
    again = {(board, part.name) for board, parts in boards.items() for part in parts}
    found = []
    for booted in earlier:
        lines = tuple(line for line in booted.lines if (line.board, line.part) not in again)
        found += [Booted(booted.board, booted.ended, lines)] if lines else []
    return found


def write(boots: Sequence[Booted], folder: Path) -> None:
    """Writes `checks.txt` and `checks.json` into `folder`."""
    (folder / "checks.txt").write_text(table(boots) + "\n", encoding="utf-8")
    text = json.dumps(document(boots), indent=1, ensure_ascii=False)
    (folder / "checks.json").write_text(text + "\n", encoding="utf-8")
