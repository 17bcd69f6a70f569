"""Models × back ends, measured one after another, each in a process of its own. With `-o` what was measured is kept in
a file and not measured again, so that a benchmark can be run in parts."""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mapper.errors import BadInput, MapperError, MissingFeature
from mapper.execution.place import Claim
from mapper.graph.model import Graph
from mapper.machine.discover import discover
from mapper.machine.files import load_machine
from mapper.machine.model import Machine
from mapper.measure.profile import pus_here
from mapper.sources.source import Source
from mapper.study.rounds import Say
from mapper.study.trials import Named, Trial, trials_of

Work = Callable[[str, str, argparse.Namespace, Say], Sequence[Any]]
"""Measures a model with a back end: dataclasses that name both as `model` and `backend`."""

LEFT_OUT = 75
SEATS = 3
"""Plans that are up at the same time."""


def parser_of(text: str | None, models: Sequence[str], backends: Sequence[str]) -> argparse.ArgumentParser:
    """The options that all have in common."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=list(models), help=f"models [{' '.join(models)}]")
    parser.add_argument("--backend", nargs="+", default=list(backends))
    parser.add_argument("--topo", help="a calibrated description of this machine [as discovered]")
    parser.add_argument("-o", "--output", type=Path, help="the file that keeps what was measured")
    parser.add_argument("--report", action="store_true", help="only tell what the file has")
    parser.add_argument("--one", nargs=2, metavar=("MODEL", "BACKEND"), help=argparse.SUPPRESS)
    return parser


def machine_of(args: argparse.Namespace) -> Machine:
    """This machine, as `--topo` describes it."""
    return load_machine(args.topo) if args.topo else discover()


def trials_in_turn(
    plans: Sequence[Named], graph: Graph, machine: Machine, source: Source, args: argparse.Namespace, say: Say
) -> Iterator[Trial]:
    """Measures `plans`, a few at a time, each few in `--rounds` interleaved rounds of `--seconds`."""
    with Claim(pus_here(machine, discover())):
        for start in range(0, len(plans), SEATS):
            now = plans[start : start + SEATS]
            yield from trials_of(now, graph, machine, source, args.rounds, args.seconds, say)


def measured(args: argparse.Namespace, work: Work) -> list[dict[str, Any]]:
    """The rows of all pairs, those of the file first."""
    if args.one:
        sys.exit(_one(args, work))
    rows: list[dict[str, Any]] = json.loads(args.output.read_text()) if args.output and args.output.exists() else []
    known = {(row["model"], row["backend"]) for row in rows}
    for pair in itertools.product(args.models, args.backend):
        if pair in known or args.report:
            continue
        spec = sys.modules["__main__"].__spec__
        assert spec is not None, "run as python -m benchmarks.NAME"
        command = [sys.executable, "-m", spec.name, *sys.argv[1:], "--one", *pair]
        ended = subprocess.run(command, stdout=subprocess.PIPE)
        if ended.returncode == 0:
            rows += json.loads(ended.stdout)
        elif ended.returncode != LEFT_OUT:
            print(f"{pair[0]}, {pair[1]}: FAILED, exit code {ended.returncode}", file=sys.stderr)
        if args.output:
            args.output.write_text(json.dumps(rows, indent=1) + "\n")
    return rows


def _one(args: argparse.Namespace, work: Work) -> int:
    """Measures one pair and prints its rows as JSON; the exit code."""
    model, backend = args.one

    def say(message: str) -> None:
        print(f"\r\x1b[K{model}, {backend}: {message}"[:118], end="", file=sys.stderr, flush=True)

    try:
        rows = [asdict(row) for row in work(model, backend, args, say)]
    except (MissingFeature, BadInput) as error:
        say(f"left out, {error}\n")
        return LEFT_OUT
    except MapperError as error:
        say(f"{error}\n")
        return error.exit_code
    print(json.dumps(rows))
    return 0
