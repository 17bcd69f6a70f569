"""Claim: on this machine, the plan that mapper chooses is at least 0.97 times as fast as the best alternative with the
same back end: native with 1 to all threads, streams, pipelines, what torch's launcher sets up, the library's own way.

    python benchmarks/host_plans.py [--backend eager] [--rounds 15] [--seconds 1.5] [-o host_plans.json] [model ...]

Each block is one `mapper bench`: interleaved rounds, the ratio of chosen to rival taken round by round, its median with
a 95 % interval from order statistics. `to best` is against the alternative that was fastest in the warm-up, 1 where
that is the chosen plan itself; `at least` holds against whichever is the best.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from mapper.reports.table import table

TARGET = 0.97
CONFIDENCE = 0.95
MODELS = ("bert", "gpt2", "mobilenetv2", "resnet50", "vgg16", "vit")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help="models [six]")
    parser.add_argument("--backend", default="eager")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("-o", "--output", type=Path)
    args = parser.parse_args()
    results = [measured(model, args.backend, args.rounds, args.seconds) for model in args.models or MODELS]
    print("\n".join(rows(results)))
    missed = [r["model"] for r in results if r["to_best"] is None or r["to_best"]["low"] < TARGET]
    print(f"\nLower end at least {TARGET} for {len(results) - len(missed)} of {len(results)} models"
          + (f"; missed for {', '.join(missed)}" if missed else ""))  # fmt: skip
    if args.output:
        args.output.write_text(json.dumps(results, indent=1) + "\n")


def measured(model: str, backend: str, rounds: int, seconds: float) -> dict[str, Any]:
    """The JSON of one `mapper bench`, in a process of its own."""
    options = {"model": model, "backend": backend, "rounds": rounds, "seconds": seconds}
    command = [sys.executable, "-m", "mapper", "bench", "--json"]
    command += [word for name, value in options.items() for word in (f"--{name}", str(value))]
    print(f"{model} ...", file=sys.stderr, flush=True)
    out = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    return json.loads(out)  # type: ignore[no-any-return]


def rows(results: list[dict[str, Any]]) -> list[str]:
    """One line an alternative, the chosen plan of each model first."""
    cells = []
    for result in results:
        for i, row in enumerate(result["alternatives"]):
            rate, predicted, least = row["throughput_per_s"], row["predicted_throughput_per_s"], result["at_least"]
            cells.append([
                result["model"] if i == 0 else "", row["name"], f"{rate['median']:.3g}",
                f"{rate['low']:.3g} to {rate['high']:.3g}", f"{predicted:.3g}" if predicted else "",
                shown(row["chosen_over_this"]), shown(result["to_best"]) if i == 0 else "",
                f"{least:.3f}" if i == 0 and least else "", str(row["disturbed_rounds"] or ""),
            ])  # fmt: skip
    head = ["model", "plan", "items/s", "range", "predicted", "chosen / this", "to best", "at least", "disturbed"]
    return table(head, cells, right="2478", indent="")


def shown(ratio: dict[str, Any] | None) -> str:
    if not ratio:
        return ""
    few = " few rounds" if ratio["confidence"] < CONFIDENCE else ""
    return f"{ratio['median']:.3f} ({ratio['low']:.3f} to {ratio['high']:.3f}){few}"


if __name__ == "__main__":
    main()
