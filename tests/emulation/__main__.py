"""`python -m tests.emulation`: builds the emulated machine, boots it with a payload, or runs all checks in it."""

from __future__ import annotations

import argparse
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.emulation.board import Board, board_called
from tests.emulation.boot import boot
from tests.emulation.build import Cache, build, built
from tests.emulation.outcome import CHECKS, Booted, judge, kept, read, table, write
from tests.emulation.parts import Part, make_payload, selected
from tests.emulation.prerequisites import Unprepared, cache_folder

OUT = Path("build/emulated-sg2042")
START_S = 300
"""Wall seconds that a boot may take besides its parts."""

_PROGRESS = re.compile(r"guest: |runner: |[\w-]+\| (passed|FAILED): ")


def main() -> int:
    """The command line; 0 when all went well, 1 when a check failed, 2 for wrong use or what is missing."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    given = _parser().parse_args()
    try:
        return int(given.command(given))
    except Unprepared as error:
        print(f"emulated-sg2042: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.emulation", description=__doc__)
    commands = parser.add_subparsers(required=True)
    made = commands.add_parser("build", help="download and make what is missing (about 0.4 GB, once)")
    made.set_defaults(command=_build)
    booted = commands.add_parser("boot", help="boot with a payload; exits as its run.sh does, 125 without a result")
    booted.add_argument("payload", type=Path, help="a folder with run.sh, which becomes /payload")
    booted.add_argument("--boot-hart", type=int, default=0, metavar="N", help="hart that boots and is CPU 0 [0]")
    booted.add_argument("--no-cache", action="store_true", help="show no caches, as some kernels do")
    booted.add_argument("--no-numa", action="store_true", help="show one node, as with Linux' own device tree")
    booted.add_argument("--out", type=Path, default=OUT / "boot", help="where /out goes [%(default)s]")
    booted.add_argument("--limit", type=float, default=1800, metavar="S", help="wall seconds at most [1800]")
    booted.set_defaults(command=_boot)
    checked = commands.add_parser("check", help="run the checks and print the table")
    checked.add_argument("--part", action="append", default=[], help="only this part; may be repeated [all]")
    checked.add_argument("--board", action="append", default=[], help="such as boot8-nocache; may be repeated [all]")
    checked.add_argument("--out", type=Path, default=OUT, help="where table, JSON and what came back go [%(default)s]")
    checked.add_argument("--keep", action="store_true", help="keep in the table what an earlier run left in --out")
    checked.add_argument("--list", action="store_true", help="only name parts, boards and checks")
    checked.add_argument("--verbose", action="store_true", help="show the whole console")
    checked.set_defaults(command=_check)
    return parser


def _tell(line: str) -> None:
    print(line, flush=True)


def _cache(tell: Callable[[str], None] = _tell) -> Cache:
    """The cache with everything in it."""
    cache = Cache(cache_folder())
    build(cache, lambda line: tell(f"build: {line}"))
    return built(cache)


def _build(given: argparse.Namespace) -> int:
    _tell(f"ready: {_cache().folder}")
    return 0


def _boot(given: argparse.Namespace) -> int:
    try:
        board = Board(given.boot_hart, caches=not given.no_cache, numa=not given.no_numa)
    except ValueError as error:
        raise Unprepared(str(error)) from error
    ended = boot(board, given.payload, given.out, _cache(), given.limit, _tell)
    print(f"{ended.reason}, {ended.seconds:.0f} s; /out is in {given.out}", file=sys.stderr)
    return 125 if ended.status is None else ended.status


def _check(given: argparse.Namespace) -> int:
    from tests.emulation.registry import PARTS  # makes plans: not for building and booting alone

    boards = given.board or list(dict.fromkeys(board for part in PARTS for board in part.boards))
    try:
        chosen = {board: (board_called(board), selected(PARTS, given.part, board)) for board in boards}
    except (KeyError, ValueError) as error:
        raise Unprepared(f"{error.args[0]}\nParts: {', '.join(part.name for part in PARTS)}") from error
    if given.list:
        for board, (_, parts) in chosen.items():
            _tell(f"{board}: " + "; ".join(f"{part.name} ({', '.join(part.checks)})" for part in parts))
        return 0
    cache = _cache()
    given.out.mkdir(parents=True, exist_ok=True)
    show = _tell if given.verbose else _progress
    boots = _kept(given, {board.name: parts for board, parts in chosen.values()})
    with tempfile.TemporaryDirectory(prefix="mapper-payload.") as work:
        for board, parts in chosen.values():
            if parts:
                if not given.keep:
                    shutil.rmtree(given.out / board.name, ignore_errors=True)
                boots.append(_checked(board, parts, given.out / board.name, cache, Path(work), show))
                write(boots, given.out)
    _tell("\n" + table(boots) + f"\n\nTable, JSON and what came back are in {given.out}.")
    return 0 if boots and all(booted.passed for booted in boots) else 1


def _kept(given: argparse.Namespace, again: Mapping[str, Sequence[Part]]) -> list[Booted]:
    """What stays in the table of an earlier run when these parts run again, if that was asked for."""
    try:
        return kept(read(given.out), again) if given.keep else []
    except ValueError as error:
        raise Unprepared(str(error)) from error


def _checked(
    board: Board, parts: Sequence[Part], out: Path, cache: Cache, work: Path, show: Callable[[str], None]
) -> Booted:
    """Boots one board with the parts and judges what they report."""
    _tell(f"{board.name}: {', '.join(part.name for part in parts)}")
    payload = work / board.name
    make_payload(payload, parts, board.name, work / "prepared")
    (out / CHECKS).unlink(missing_ok=True)  # of an earlier run
    limit = START_S + sum(part.limit_s for part in parts)
    return judge(board.name, parts, out, boot(board, payload, out, cache, limit, show))


def _progress(line: str) -> None:
    if _PROGRESS.match(line):
        _tell(line)


if __name__ == "__main__":
    sys.exit(main())
