"""Claim: planning any bundled model for the SG2042 takes under 10 s as a whole process, and is proved optimal.

    python benchmarks/planning.py [--topo sg2042] [-o planning.json] [model ...]

Three requests a model: free, latency at most three times the least, and the paper's pipeline (16 stages, one group
each). The first command of each model includes importing torch and tracing; times are wall-clock of whole processes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from mapper.machine.files import load_machine
from mapper.reports.table import table

MODELS = ("bert", "gpt2", "mobilenetv2", "resnet50", "vgg16", "vit")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help="models [six]")
    parser.add_argument("--topo", default="sg2042")
    parser.add_argument("-o", "--output", type=Path)
    args = parser.parse_args()
    machine = load_machine(args.topo)
    groups, size = len(machine.groups), machine.cores_per_group
    pipeline = ["--stages", str(groups), "--replicas", "1", "--configurations", f"1x{size}"]
    results = []
    for model in args.models or MODELS:
        free = planned(model, args.topo, [])
        native = next(a for a in free["plan"]["alternatives"] if a["name"].startswith("native"))
        limit = f"{native['latency_s'] * 3 * 1e3:.6g}ms"
        results += [free, planned(model, args.topo, ["--max-latency", limit]), planned(model, args.topo, pipeline)]
    print("\n".join(rows(results)))
    if args.output:
        kept = [{**{k: r[k] for k in ("model", "options", "seconds")}, "solver": r["plan"]["solver"],
                 "predicted": r["plan"]["predicted"]} for r in results]  # fmt: skip
        args.output.write_text(json.dumps(kept, indent=1) + "\n")


def planned(model: str, topo: str, options: list[str]) -> dict[str, Any]:
    """One `mapper plan` as a whole process."""
    command = [sys.executable, "-m", "mapper", "plan", "--model", model, "--topo", topo, "--json", *options]
    began = time.monotonic()
    out = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    return {"model": model, "options": options, "seconds": time.monotonic() - began, "plan": json.loads(out)}


def rows(results: list[dict[str, Any]]) -> list[str]:
    """One line a request."""
    cells = []
    for r in results:
        plan, solver = r["plan"], r["plan"]["solver"]
        workers = sum(len(stage["replicas"]) for stage in plan["stages"])
        cells.append([
            r["model"], " ".join(r["options"]) or "free", f"{r['seconds']:.1f}", solver["status"],
            f"{solver['gap']:.1e}",
            f"{plan['predicted']['throughput_per_s']:.3g}", f"{plan['predicted']['latency_s']:.3g}",
            str(len(plan["stages"])), str(workers),
        ])  # fmt: skip
    head = ["model", "request", "s", "status", "gap", "items/s", "latency s", "stages", "workers"]
    return table(head, cells, right="245678", indent="")


if __name__ == "__main__":
    main()
