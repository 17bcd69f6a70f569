"""Claim: a machine of 4,096 PUs loads in under a second, from whatever describes it.

    python benchmarks/machines.py [-o machines.json]

Each way is timed several times in one process, after one time that is not counted: a file with every core, the short
form of the same, its shape in one line, the files that Linux would show of it, and the SG2042's file for comparison.
Everything a plan asks of a machine (cores, groups, counts, fingerprint) is included.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from mapper.jsonio import dumps, plain
from mapper.machine.discover import discover
from mapper.machine.files import load_machine, save_machine
from mapper.machine.model import Machine
from mapper.reports.table import table
from mapper.units import format_seconds
from tests.machines.trees import write_tree

SHAPE = "pack:2 numa:8 group:16 core:8 pu:2"
LIMIT_S = 1.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--times", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = {name: timed(load, args.times) for name, load in ways(Path(folder)).items()}
    rows = [[name, format_seconds(median), format_seconds(worst)] for name, (median, worst) in results.items()]
    print("\n".join(table(["4,096 PUs from", "median", "longest"], rows, right="12")))
    held = all(worst < LIMIT_S for _, worst in results.values())
    print(f"Under {LIMIT_S:g} s: {'holds' if held else 'does not hold'}.")
    if args.output:
        args.output.write_text(json.dumps({"seconds": results, "holds": held}, indent=1) + "\n")


def ways(folder: Path) -> dict[str, Callable[[], Machine]]:
    """The ways to get the machine, by name."""
    machine = load_machine(SHAPE)
    (folder / "full.json").write_text(dumps(plain(machine)))
    save_machine(machine, folder / "short.json")
    tree = write_tree(folder / "tree", machine)
    return {
        "a file with every core": lambda: load_machine(folder / "full.json"),
        "a file with the shape": lambda: load_machine(folder / "short.json"),
        "the shape in one line": lambda: load_machine(SHAPE),
        "the kernel's files": lambda: discover(tree),
        "(64 PUs) sg2042.json": lambda: load_machine("sg2042"),
    }


def timed(load: Callable[[], Machine], times: int) -> tuple[float, float]:
    """Median and longest seconds of `times` loads."""
    seconds = []
    for _ in range(times + 1):
        began = time.perf_counter()
        machine = load()
        assert len(machine.cores) == machine.counts["cores"] and machine.fingerprint and machine.groups
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[1:]), max(seconds[1:])


if __name__ == "__main__":
    main()
