"""Claim: on this machine, the plan that mapper chooses is at least 0.95 times as fast as the best of native, streams
and a forced 2-stage pipeline, with the same back end, for six models.

    python benchmarks/host_plans.py [--rounds 15] [--seconds 1.5] [-o host_plans.json] [model ...]

Each row is one `mapper bench`: interleaved rounds, the ratio of chosen to rival taken round by round, its median with a
95 % interval from order statistics. `to best` is against the alternative nearest to the chosen plan, or ahead of it;
1 where the chosen plan is itself that alternative.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from mapper.reports.table import table

TARGET = 0.95
MODELS = ("bert", "gpt2", "mobilenetv2", "resnet50", "vgg16", "vit")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help="models [six]")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("-o", "--output", type=Path)
    args = parser.parse_args()
    results = [measured(model, args.rounds, args.seconds) for model in args.models or MODELS]
    print("\n".join(rows(results)))
    missed = [r["model"] for r in results if r["to_best"]["low"] < TARGET]
    print(f"\nLower end at least {TARGET} for {len(results) - len(missed)} of {len(results)} models"
          + (f"; missed for {', '.join(missed)}" if missed else ""))  # fmt: skip
    if args.output:
        args.output.write_text(json.dumps(results, indent=1) + "\n")


def measured(model: str, rounds: int, seconds: float) -> dict[str, Any]:
    """The JSON of one `mapper bench`, in a process of its own."""
    command = [
        sys.executable,
        "-m",
        "mapper",
        "bench",
        "--model",
        model,
        "--rounds",
        str(rounds),
        "--seconds",
        str(seconds),
        "--json",
    ]
    print(f"{model} ...", file=sys.stderr, flush=True)
    out = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    return json.loads(out)  # type: ignore[no-any-return]


def rows(results: list[dict[str, Any]]) -> list[str]:
    """One line an alternative, the chosen plan of each model first."""
    cells = []
    for result in results:
        for i, row in enumerate(result["alternatives"]):
            ratio, rate = row.get("chosen_over_this"), row["throughput_per_s"]
            best = result["to_best"]
            cells.append([
                result["model"] if i == 0 else "", row["name"], f"{rate['median']:.3g}",
                f"{rate['low']:.3g} to {rate['high']:.3g}", f"{row['predicted_throughput_per_s']:.3g}",
                f"{ratio['median']:.3f} ({ratio['low']:.3f} to {ratio['high']:.3f})" if ratio else "",
                f"{best['median']:.3f} ({best['low']:.3f} to {best['high']:.3f})" if i == 0 else "",
                f"{result['others_busy']:.1%}" if i == 0 else "",
            ])  # fmt: skip
    head = ["model", "plan", "items/s", "range", "predicted", "chosen / this", "to best", "others busy"]
    return table(head, cells, right="247", indent="")


if __name__ == "__main__":
    main()
