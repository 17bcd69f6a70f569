"""Claim: optima of published partitioning problems are found and proved in seconds; where not, the gap is stated.

    python -m benchmarks.published [FOLDER | families] [-k 4 8 16] [--time-limit 10] [--workers 2] [-o F] [name ...]

Every graph file below FOLDER (default: ../shared/reference/workloads, where it is there), or the made-up graphs of
`benchmarks/families.py`, with at most k stages on k equal units. Where FOLDER has an `optima.json`, what is found is
checked against it: a load below a proved bound, or a bound above a known load, ends the run with exit code 1; so does
a partition whose load, added up here from the graph alone, is another.
Seconds are wall-clock: `search` the ideals, `proof` what cuts, linear programs and CP-SAT add.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.families import FAMILIES
from mapper.cost.imported import given_costs
from mapper.graph.importers.load import load_graph
from mapper.graph.model import Graph
from mapper.machine.files import load_machine
from mapper.reports.table import table
from mapper.solver.cpsat.prove import prove
from mapper.solver.problem import Limits, problem_of, renamed
from mapper.solver.search.least_period import throughput
from mapper.solver.search.space import Space

WORKLOADS = Path(__file__).parents[2] / "shared" / "reference" / "workloads"
BANDWIDTH_BYTES_PER_S = 16e9
ROUNDING = 1e-6
"""Relative difference at which a found load or bound contradicts what is known."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", default=str(WORKLOADS), help="graph files, or 'families' [%(default)s]")
    parser.add_argument("names", nargs="*", help="only graphs whose path has one of these in it")
    parser.add_argument("-k", type=int, nargs="+", default=[4, 8, 16], help="stages [4 8 16]")
    parser.add_argument("--time-limit", type=float, default=10.0, help="seconds for the proof [10]")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("-o", "--output", type=Path)
    args = parser.parse_args()
    known = optima(Path(args.folder))
    results = []
    for name, graph in graphs(args.folder, args.names):
        for k in args.k:
            row = proved(graph, k, args.time_limit, args.workers)
            row |= {"graph": name, "known": known.get(name, {}).get(str(k))}
            results.append(row)
            print(f"{name} k = {k}: {row['period_ms']:.6f} ms, {row['status']}", file=sys.stderr, flush=True)
    print("\n".join(rows(results)))
    if args.output:
        args.output.write_text(json.dumps(results, indent=1) + "\n")
    wrong = [text for row in results for text in contradictions(row)]
    if wrong:
        sys.exit("\n".join(wrong))


def optima(folder: Path) -> dict[str, Any]:
    """Best loads and bounds by path and k, in ms, where the folder has them."""
    path = folder / "optima.json"
    if not path.is_file():
        return {}
    return {name: entry["max_stage_load"] for name, entry in json.loads(path.read_text())["workloads"].items()}


def graphs(folder: str, names: list[str]) -> Iterator[tuple[str, Graph]]:
    """The graphs to plan, with their paths below the folder."""
    if folder == "families":
        made = ((draw.__name__, draw) for draw in FAMILIES)
        yield from ((name, draw()) for name, draw in made if not names or any(part in name for part in names))
        return
    root = Path(folder)
    if not root.is_dir():
        sys.exit(f"{folder}: no such folder; name one with graph files, or 'families'")
    for path in sorted([*root.rglob("*.json"), *root.rglob("graph.txt")]):
        name = path.relative_to(root).as_posix()
        if path.name != "optima.json" and (not names or any(part in name for part in names)):
            yield name, load_graph(path)


def proved(graph: Graph, k: int, time_limit_s: float, workers: int) -> dict[str, Any]:
    """What the search and the proof find of `graph` in at most `k` stages."""
    problem = problem_of(graph, load_machine(f"uniform:{k}"), given_costs(graph, BANDWIDTH_BYTES_PER_S))
    limits = Limits(max_replicas=1)
    began = time.monotonic()
    space = Space(problem)
    start = throughput(space, limits)
    searched = time.monotonic()
    solution, bound_s = prove(
        space.exact.problem, limits, renamed(start, space.exact.gather), start.bound_s, time_limit_s=time_limit_s,
        workers=workers,
    )  # fmt: skip
    ended = time.monotonic()
    gap = 1 - bound_s / solution.best_period_s
    stages = [[graph.ops[v].name for v in space.exact.restore(stage.ops)] for stage in solution.stages]
    return {
        "k": k, "ops": problem.ops, "reduced_ops": space.exact.problem.ops, "all_ideals": space.ideals.complete,
        "searched_ms": start.best_period_s * 1e3, "searched_bound_ms": start.bound_s * 1e3,
        "period_ms": solution.best_period_s * 1e3, "bound_ms": bound_s * 1e3, "gap": gap,
        "status": "optimal" if gap <= ROUNDING else "feasible", "stages": len(solution.stages),
        "recomputed_ms": recomputed(graph, stages) * 1e3, "partition": stages,
        "search_s": searched - began, "proof_s": ended - searched,
    }  # fmt: skip


def recomputed(graph: Graph, stages: list[list[str]]) -> float:
    """Seconds: the largest load of `stages`, by the definition, from the graph alone; infinite for no partition."""
    stage_of = {op: s for s, ops in enumerate(stages) for op in ops}
    load = [0.0] * len(stages)
    if sorted(stage_of) != sorted(op.name for op in graph.ops) or sum(map(len, stages)) != len(graph.ops):
        return math.inf
    for op in graph.ops:
        load[stage_of[op.name]] += op.proc_s or 0.0
    for tensor in graph.tensors:
        home, read = stage_of[tensor.producer], {stage_of[reader] for reader in tensor.readers}
        if min(read) < home:
            return math.inf
        price = tensor.bytes / BANDWIDTH_BYTES_PER_S if tensor.comm_s is None else tensor.comm_s
        for s in read - {home} | ({home} if read - {home} else set()):
            load[s] += price
    return max(load)


def contradictions(row: dict[str, Any]) -> list[str]:
    """What of a result cannot be, given what is known."""
    known, out = row["known"], []
    at = f"{row['graph']} k = {row['k']}"
    if not math.isclose(row["recomputed_ms"], row["period_ms"], rel_tol=1e-9):
        out.append(f"{at}: the partition's load is {row['recomputed_ms']} ms, not {row['period_ms']}")
    if known is None:
        return out
    if row["period_ms"] < known["bound"] * (1 - ROUNDING):
        out.append(f"{at}: {row['period_ms']} ms is below the proved bound {known['bound']}")
    if row["bound_ms"] > known["best"] * (1 + ROUNDING):
        out.append(f"{at}: a bound of {row['bound_ms']} ms is above the known load {known['best']}")
    return out


def rows(results: list[dict[str, Any]]) -> list[str]:
    """One line a graph and k."""
    cells = []
    for r in results:
        known = r["known"]
        past = "" if known is None else f"{known['bound']:.6f} .. {known['best']:.6f}"
        if known is not None and known["status"] == "optimal":
            past = f"{known['best']:.6f}"
        cells.append([
            r["graph"], str(r["k"]), f"{r['reduced_ops']}", f"{r['period_ms']:.6f}", f"{r['bound_ms']:.6f}",
            f"{r['gap']:.1e}", r["status"], str(r["stages"]), f"{r['search_s']:.1f}", f"{r['proof_s']:.1f}", past,
        ])  # fmt: skip
    head = ["graph", "k", "ops", "ms", "bound", "gap", "status", "stages", "search s", "proof s", "known"]
    return table(head, cells, right="1234578", indent="")


if __name__ == "__main__":
    main()
