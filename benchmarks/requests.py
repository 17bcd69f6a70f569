"""Claim: every model of the library on every kind of machine is planned within 10 s under each of five requests, proved
optimal or with a gap of at most 1 %; the geometric mean of bound / objective is at least 0.995 for each request.

    python -m benchmarks.requests [--topo sg2042 ...] [--only "half memory" ...] [-o requests.json] [model ...]

The requests: the best throughput; with one replica a stage; with latency at most 1.5 and 3 times the least; with half
of the memory per NUMA node that the best throughput needs. Times are those of planning, without tracing the model:
seconds on the clock, and of processors, which count where others use the machine too.

    python -m benchmarks.requests --join a.json b.json    # one table of several outputs
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from mapper.cost.configurations import configurations
from mapper.cost.roofline import roofline
from mapper.errors import MapperError
from mapper.graph.model import Graph
from mapper.machine.files import load_machine
from mapper.machine.model import Machine
from mapper.plans.model import Plan
from mapper.plans.source import graph_of_source
from mapper.program.cards import card_names
from mapper.reports.table import table
from mapper.solver.plan import plan
from mapper.solver.problem import Limits, problem_of
from mapper.solver.search.least_period import least_latency
from mapper.solver.search.space import Space

MACHINES = ("sg2042", "sg2044", "epyc-7763", "epyc-9684x", "altra-q80-30")
REQUESTS = ("free", "one replica", "latency 1.5x", "latency 3x", "half memory")
LIMIT_S = 10.0
"""What the claim allows a plan."""


@dataclass(frozen=True)
class Row:
    """One request: what came out, or why nothing did."""

    model: str
    machine: str
    request: str
    seconds: float
    cpu_s: float
    status: str
    period_s: float = math.nan
    bound_s: float = math.nan
    gap: float = math.nan
    stages: int = 0
    workers: int = 0


def requests(graph: Graph, machine: Machine, only: Collection[str]) -> Iterator[tuple[str, Limits]]:
    """The five requests; the last needs the free plan first."""
    if "free" in only:
        yield "free", Limits()
    if "one replica" in only:
        yield "one replica", Limits(max_replicas=1)
    problem = problem_of(graph, machine, roofline(graph, machine, configurations(machine)))
    least = least_latency(Space(problem), Limits())
    for factor in (1.5, 3):
        if f"latency {factor:g}x" in only:
            yield f"latency {factor:g}x", Limits(max_latency_s=factor * least[0])
    if "half memory" in only:
        free = plan(graph, machine)
        yield "half memory", Limits(node_memory_bytes=max(free.predicted.node_memory_bytes) / 2)


def row(model: str, graph: Graph, machine: Machine, name: str, limits: Limits) -> Row:
    """One request, timed."""
    began, cpu = time.perf_counter(), time.process_time()
    made: Plan | None = None
    status = ""
    try:
        made = plan(graph, machine, limits=limits)
        status = str(made.solver.status)
    except MapperError as error:
        status = type(error).__name__
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    if made is None:
        return Row(model, machine.name, name, seconds, cpu, status)
    solver, workers = made.solver, sum(len(stage.replicas) for stage in made.stages)
    return Row(model, machine.name, name, seconds, cpu, status, solver.best_objective, solver.bound, solver.gap,
               len(made.stages), workers)  # fmt: skip


def summary(rows: list[Row]) -> list[str]:
    """A line a request: how many are optimal or within 1 %, the mean ratio, the largest gap and time."""
    lines = []
    for name in REQUESTS:
        of = [r for r in rows if r.request == name]
        made = [r for r in of if not math.isnan(r.gap)]
        if not made:
            continue
        mean = math.exp(sum(math.log(r.bound_s / r.period_s) for r in made) / len(made))
        worst, slow = max(made, key=lambda r: r.gap), max(of, key=lambda r: r.cpu_s)
        lines.append([
            name, str(len(of)), str(sum(r.status == "optimal" for r in made)), str(sum(r.gap <= 0.01 for r in made)),
            str(len(of) - len(made)), f"{mean:.5f}", f"{worst.gap:.2%} {worst.model} {worst.machine}",
            f"{slow.cpu_s:.1f} {slow.model} {slow.machine}", str(sum(r.cpu_s > LIMIT_S for r in of)),
        ])  # fmt: skip
    head = [
        "request",
        "plans",
        "optimal",
        "gap ≤ 1 %",
        "none",
        "mean bound/best",
        "largest gap",
        "slowest, CPU s",
        "> 10",
    ]
    return table(head, lines, right="123457", indent="")


def main() -> None:
    """Prints a line a plan, then the summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help="models [all cards]")
    parser.add_argument("--topo", nargs="+", default=list(MACHINES))
    parser.add_argument("--only", nargs="+", default=list(REQUESTS), choices=REQUESTS, help="requests [all]")
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--join", nargs="+", type=Path, default=[], help="outputs of earlier runs; plans nothing")
    given = parser.parse_args()
    rows = [Row(**fields) for file in given.join for fields in json.loads(file.read_text())]
    for model in () if given.join else given.models or card_names():
        graph, _ = graph_of_source(model)
        for topo in given.topo:
            machine = load_machine(topo)
            for name, limits in requests(graph, machine, given.only):
                found = row(model, graph, machine, name, limits)
                rows.append(found)
                print(f"{model:16} {topo:14} {name:14} {found.status:10} gap {found.gap:7.3%} {found.stages:3} stages "
                      f"{found.workers:4} workers {found.seconds:6.1f} s, CPU {found.cpu_s:6.1f}",
                      flush=True)  # fmt: skip
                if given.output:
                    given.output.write_text(json.dumps([asdict(r) for r in rows], indent=1))
    print()
    print("\n".join(summary(rows)))


if __name__ == "__main__":
    main()
