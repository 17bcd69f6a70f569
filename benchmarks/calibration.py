"""Claim: a calibration that is repeated finds every figure within the spread that the first one stated.

    python benchmarks/calibration.py [--rounds 15] [--seconds 0.5] [--times 2] [-o calibration.json]

Runs `mapper calibrate --fresh` so often, one after the other, and compares the first with each other one, figure by
figure. Where `within` says no, `off` tells how far beyond the nearer end of the first spread the later value lies, as
part of the first value. A figure that one of them refused is compared with none.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

from mapper.cli.calibrate import shown
from mapper.measure.calibrate import Row
from mapper.reports.table import table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--times", type=int, default=2)
    parser.add_argument("-o", "--output", type=Path)
    args = parser.parse_args()
    runs = [calibrated(args.rounds, args.seconds, number) for number in range(args.times)]
    pairs = list(pairwise(runs))
    compared = [compare(first, second) for first, second in pairs]
    for number, ((first, second), rows) in enumerate(zip(pairs, compared, strict=True), 1):
        if number > 1:
            print()
        busy = f"others took {first['others_busy']:.1%} and {second['others_busy']:.1%} of the cores"
        print(f"Calibrations {number} and {number + 1}: {share(rows)}; {busy}")
        print("\n".join(lines(rows)))
    if args.output:
        document = [{"share": share(rows), "figures": rows} for rows in compared]
        args.output.write_text(json.dumps({"compared": document, "runs": runs}, indent=1) + "\n")


def calibrated(rounds: int, seconds: float, number: int) -> dict[str, Any]:
    """The JSON of one calibration, in a process of its own."""
    print(f"calibration {number + 1} ...", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "mapper", "calibrate", "--fresh", "--json",
               "--rounds", str(rounds), "--seconds", str(seconds)]  # fmt: skip
    out = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    return json.loads(out)  # type: ignore[no-any-return]


def compare(first: dict[str, Any], second: dict[str, Any]) -> list[dict[str, Any]]:
    """One row a figure that both may have measured."""
    later = {row["place"]: row for row in second["figures"]}
    rows = []
    for row in first["figures"]:
        other = later[row["place"]]
        if row["state"] == "not measured":
            continue
        both = row["state"] == other["state"] == "measured"
        beyond = max(0.0, row["low"] - other["value"], other["value"] - row["high"])
        rows.append({
            "place": row["place"], "first": row, "second": other, "within": beyond == 0 if both else None,
            "off": beyond / row["value"] if both else None,
        })  # fmt: skip
    return rows


def share(rows: list[dict[str, Any]]) -> str:
    """The answer in words."""
    known = [row["within"] for row in rows if row["within"] is not None]
    refused = len(rows) - len(known)
    return f"{sum(known)} of {len(known)} figures within the stated spread" + (f", {refused} refused" * bool(refused))


def lines(rows: list[dict[str, Any]]) -> list[str]:
    """The table."""
    cells = []
    for row in rows:
        first, second = (Row.model_validate(row[which]) for which in ("first", "second"))
        cells.append([
            row["place"].strip("/"), *told(first), *told(second),
            {True: "yes", False: "no", None: "refused"}[row["within"]],
            f"{row['off']:.1%}" if row["within"] is False else "",
        ])  # fmt: skip
    return table(["figure", "first", "spread", "second", "spread", "within", "off"], cells, right="13", indent="")


def told(row: Row) -> list[str]:
    """Value and spread of a figure."""
    return [shown(row, row.value), f"{shown(row, row.low)} to {shown(row, row.high)}"]


if __name__ == "__main__":
    main()
