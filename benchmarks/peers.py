"""Claim: no planner of others is ahead of ours on any model and machine, by the one cost model that all of them get.

    python benchmarks/peers.py [--topo sg2042 --topo epyc-9684x] [-o peers.json] [model ...]

Each row is a planner's plan on one machine: its period over that of ours, for each model; 1.00 is as good as ours, and
none can be below the bound of the search. The last column is the geometric mean. Ours is the strict optimum (no
allowance for fewer stages). `none` where the planner has no plan. The second table has the same stages of ours in other
placements: the throughput that is lost, `none` where the placement cannot hold them.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys
from pathlib import Path
from typing import Any

from mapper.cost.configurations import configurations
from mapper.cost.roofline import roofline
from mapper.errors import UsageError
from mapper.graph.model import Graph
from mapper.machine.files import load_machine
from mapper.machine.model import Machine
from mapper.plans.source import graph_of_source
from mapper.reports.table import table
from mapper.solver.peers.against import against, rivals_of
from mapper.solver.placement.strategies import STRATEGIES
from mapper.solver.plan import plan
from mapper.solver.problem import Limits

MODELS = ("bert", "gpt2", "gpt2_decode", "mobilenetv2", "resnet50", "vgg16", "vit")
MACHINES = ("sg2042", "epyc-9684x")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help=f"models [{' '.join(MODELS)}]")
    parser.add_argument("--topo", action="append", help=f"machines [{' '.join(MACHINES)}]")
    parser.add_argument("-o", "--output", type=Path)
    args = parser.parse_args()
    models, machines = args.models or MODELS, args.topo or MACHINES
    results = []
    for model in models:
        graph, _ = graph_of_source(model)
        for name in machines:
            print(f"{model} on {name} ...", file=sys.stderr)
            results.append({"model": model, "machine": name, **compared(graph, load_machine(name))})
    for name in machines:
        here = [result for result in results if result["machine"] == name]
        print("\n".join([f"{name}: period of each planner's plan over ours", *rows(here), ""]))
        print("\n".join([f"{name}: our plan, placed otherwise: throughput lost", *placed_rows(here), ""]))
    if args.output:
        args.output.write_text(json.dumps(results, indent=1) + "\n")
    beaten = [(r["model"], r["machine"]) for r in results for x in r["rivals"] if x["of_ours"] > 1 + 1e-4]
    print(f"Ahead of ours: {beaten or 'none'}")


def compared(graph: Graph, machine: Machine) -> dict[str, Any]:
    """Our plan, those of others, and ours with other placements."""
    costs = roofline(graph, machine, configurations(machine))
    ours = plan(graph, machine, costs=costs, near_optimal=0.0)
    rivals = against(ours, graph, costs, Limits(), rivals_of("all"))
    lost: dict[str, float | None] = {}
    for name in STRATEGIES:
        try:
            other = plan(graph, machine, costs=costs, near_optimal=0.0, strategy=name)
            lost[name] = 1 - other.predicted.throughput_per_s / ours.predicted.throughput_per_s
        except UsageError:
            lost[name] = None
    return {"period_s": ours.predicted.period_s, "bound_s": ours.solver.bound, "stages": len(ours.stages),
            "rivals": [dataclasses.asdict(rival) for rival in rivals], "placements": lost}  # fmt: skip


def rows(results: list[dict[str, Any]]) -> list[str]:
    """A line a planner, a column a model."""
    cells = []
    for i, rival in enumerate(results[0]["rivals"]):
        rates = [result["rivals"][i]["of_ours"] for result in results]
        known = [1 / rate for rate in rates if rate]
        mean = math.exp(sum(map(math.log, known)) / len(known)) if known else math.nan
        cells.append([rival["planner"], *(f"{1 / rate:.2f}" if rate else "none" for rate in rates), f"{mean:.2f}"])
    ours = [["ours: stages", *(str(result["stages"]) for result in results), ""]]
    return table(["planner", *(result["model"] for result in results), "mean"], ours + cells, right="123456789")


def placed_rows(results: list[dict[str, Any]]) -> list[str]:
    """A line a placement, a column a model."""
    cells = []
    for name in STRATEGIES:
        lost = [result["placements"][name] for result in results]
        cells.append([name, *("none" if x is None else f"{100 * x:.2f} %" for x in lost)])
    return table(["placement", *(result["model"] for result in results)], cells, right="123456789")


if __name__ == "__main__":
    main()
