"""Claim: nothing that has a name is ahead of the planner's free choice: by the cost model never (within the gap that
is proved), in the simulator by at most 3 %.

    python -m benchmarks.strategies [--topo sg2042 ...] [--processes 2] [-o strategies.json] [model ...]

A case is a model, a machine and a strategy: the stages of the planner's choice in another placement, the plan of a
planner of others, or a mapping of the study (copies, regular pipelines, a pipeline a node). Each has the period that
the cost model says and the one that the simulator comes to (closed loop, no jitter). The planner's choice is the strict
optimum (no allowance for fewer stages), searched without a limit of time. With `-o`, pairs of model and machine that
the file has are not made again.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

from mapper.cost.configurations import configurations
from mapper.cost.roofline import roofline
from mapper.cost.table import CostTable
from mapper.graph.model import Graph
from mapper.jsonio import Record, dumps, write_text
from mapper.machine.files import load_machine
from mapper.machine.model import Machine
from mapper.plans.check import mapping_of
from mapper.plans.evaluate import Placed, evaluate
from mapper.plans.model import Plan
from mapper.plans.source import graph_of_source
from mapper.program.cards import card_names
from mapper.reports.table import table
from mapper.simulator.simulate import simulate
from mapper.solver.plan import plan
from mapper.solver.problem import problem_of
from mapper.study.processes import shared_out
from mapper.study.sg2042.mappings import COPIES, PIPELINE, mappings
from mapper.study.sg2042.rivals import peers, placements

MACHINES = ("sg2042", "sg2042-2s", "sg2044", "epyc-7763", "epyc-9684x", "altra-q80-30")
ALLOWED = 0.03
"""How far the planner's choice may be behind in the simulator without being told why."""
SLOWER = 1e-3
"""From where on it counts as slower in the simulator, whose period is of so many items."""
EQUAL = 1e-4
"""Up to where it counts as equal by the cost model: what is told as optimal."""
WIDER = 4
"""By how much more is in flight where the choice is taken apart."""
PLACED, PLANNERS, MAPPINGS = "placement", "planner", "mapping"


class Apart(Record):
    """Seconds an item of the planner's choice in the simulator with `WIDER` times the calls in flight and slots, and
    with DRAM that gives whatever is asked; and of what the planner chooses by default (fewer stages for 1 %)."""

    wide_s: float
    ample_s: float
    default_s: float
    default_simulated_s: float


class Row(Record):
    """A case: seconds an item of the planner's choice and of the strategy, by the cost model and in the simulator, and
    the least that was proved; what limits the choice, and how many stages it has. Where something is ahead of the
    choice in the simulator, what becomes of the choice there is told of all cases of the pair (`apart`)."""

    model: str
    machine: str
    kind: str
    strategy: str
    ours_s: float
    bound_s: float
    ours_simulated_s: float
    period_s: float
    simulated_s: float
    limited_by: str
    stages: int
    apart: Apart | None = None

    @property
    def behind(self) -> float:
        """The part of the strategy's throughput that the planner's choice lacks by the cost model."""
        return 1 - self.period_s / self.ours_s

    @property
    def simulated_behind(self) -> float:
        """The same in the simulator."""
        return 1 - self.simulated_s / self.ours_simulated_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=list(card_names()), help="models [all cards]")
    parser.add_argument("--topo", nargs="+", default=list(MACHINES), help=f"machines [{' '.join(MACHINES)}]")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long the search for a mapping may take [10]")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("-o", "--output", type=Path, help="the file that keeps what was made")
    parser.add_argument("--report", action="store_true", help="only tell what the file has")
    print("\n".join(report(made(parser.parse_args()))))


def made(args: argparse.Namespace) -> list[Row]:
    """The rows of all pairs, those of the file first."""
    kept = json.loads(args.output.read_text()) if args.output and args.output.exists() else []
    rows = [Row.model_validate(row) for row in kept]
    known = {(row.model, row.machine) for row in rows}
    pairs = [pair for pair in itertools.product(args.models, args.topo) if pair not in known and not args.report]
    with contextlib.closing(shared_out(pair_by_pair, args.seconds, pairs, args.processes)) as results:
        for pair, found in results:
            rows += found
            print(f"{len(rows)} cases, {' on '.join(pair)}", file=sys.stderr, flush=True)
            if args.output:
                write_text(args.output, dumps([row.model_dump() for row in rows]))
    return [row for row in rows if row.model in args.models and row.machine in args.topo]


def pair_by_pair(seconds: float) -> Callable[[tuple[str, str]], list[Row]]:
    """What compares all strategies for one model on one machine after another."""
    return lambda pair: compared(*pair, seconds)


def compared(model: str, topo: str, seconds: float) -> list[Row]:
    """All strategies for one model on one machine."""
    graph, machine = _graph(model), load_machine(topo)
    costs = roofline(graph, machine, configurations(machine))
    ours = plan(graph, machine, costs=costs, near_optimal=0.0)
    simulated_s = simulate(ours).period_s
    known: dict[tuple[Placed, ...], tuple[float, float]] = {}
    rows = []
    for kind, name, placed in _named(graph, machine, costs, ours, seconds):
        if placed not in known:
            found = evaluate(graph, machine, costs, placed).in_plan(ours)
            known[placed] = found.predicted.period_s, simulate(found).period_s
        rows.append(Row(
            model=model, machine=topo, kind=kind, strategy=name, ours_s=ours.predicted.period_s,
            bound_s=ours.solver.bound, ours_simulated_s=simulated_s, period_s=known[placed][0],
            simulated_s=known[placed][1], limited_by=ours.predicted.limited_by, stages=len(ours.stages),
        ))  # fmt: skip
    if all(row.simulated_behind <= SLOWER for row in rows):
        return rows
    apart = taken_apart(ours, plan(graph, machine, costs=costs))
    return [row.model_copy(update={"apart": apart}) for row in rows]


def taken_apart(ours: Plan, default: Plan) -> Apart:
    """What holds `ours` up in the simulator, and how `default` fares there."""
    more = ours.predicted.model_copy(update={"window": WIDER * ours.predicted.window})
    edges = tuple(edge.model_copy(update={"slots": WIDER * edge.slots}) for edge in ours.edges)
    free = {"package_bandwidth_bytes_per_s": None, "node_bandwidth_bytes_per_s": None}
    machine = ours.machine.model_copy(update={"memory": ours.machine.memory.model_copy(update=free)})
    return Apart(
        wide_s=simulate(ours.model_copy(update={"predicted": more, "edges": edges})).period_s,
        ample_s=simulate(ours.model_copy(update={"machine": machine})).period_s,
        default_s=default.predicted.period_s, default_simulated_s=simulate(default).period_s,
    )  # fmt: skip


@cache
def _graph(model: str) -> Graph:
    return graph_of_source(model)[0]


def _named(
    graph: Graph, machine: Machine, costs: CostTable, ours: Plan, seconds: float
) -> Iterator[tuple[str, str, tuple[Placed, ...]]]:
    """Kind, name and stages of everything that `ours` is compared with."""
    problem = problem_of(graph, machine, costs)
    for name, placed in placements(graph, machine, problem, mapping_of(ours)):
        yield PLACED, name, placed
    for name, placed in peers(graph, machine, problem):
        yield PLANNERS, name, placed
    for mapping in mappings(graph, machine, costs, 1, kinds=(PIPELINE, COPIES), plan_s=seconds):
        yield MAPPINGS, mapping.name.partition(":")[0], mapping.placed


def report(rows: Sequence[Row]) -> list[str]:
    """By kind of strategy and machine, then the pairs where something is ahead, taken apart, then the verdict."""
    if not rows:
        return ["nothing was compared"]
    machines = list(dict.fromkeys(row.machine for row in rows))
    lines = []
    for name, mine in _groups(rows).items():
        lines.append([name, *(_told([row for row in mine if row.machine == m]) for m in machines), _told(mine)])
    head = ["ahead in the simulator, most", *machines, "all"]
    return [*table(head, lines, right="123456789", indent=""), "", *_pairs(rows), "", *_verdict(rows)]


def _pairs(rows: Sequence[Row]) -> list[str]:
    """For each pair in which something is ahead, what is farthest, and what the choice is held up by."""
    worst: dict[tuple[str, str], Row] = {}
    for row in sorted(rows, key=lambda row: -row.simulated_behind):
        if row.simulated_behind > SLOWER:
            worst.setdefault((row.model, row.machine), row)
    lines = []
    for (model, machine), row in worst.items():
        apart = row.apart
        parts = ["-"] * 4 if apart is None else [
            f"{apart.wide_s / row.ours_s:.3f}", f"{apart.ample_s / row.ours_s:.3f}",
            f"{1 - row.simulated_s / apart.default_simulated_s:.1%}", f"{apart.default_s / row.ours_s - 1:.2%}",
        ]  # fmt: skip
        lines.append([
            f"{model}, {machine}", row.strategy, f"{row.simulated_behind:.1%}", f"{row.behind:.1%}",
            f"{row.simulated_s / row.period_s:.3f}", f"{row.ours_simulated_s / row.ours_s:.3f}", *parts, row.limited_by,
        ])  # fmt: skip
    head = ["pair", "strategy", "simulated", "by the model", "simulated / model", "the choice", f"{WIDER} × in flight",
            "ample DRAM", "the default", "its period", "the choice is limited by"]  # fmt: skip
    return ["Ahead of the choice by:", *table(head, lines, right="23456789", indent="")] if lines else []


def _groups(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The cases by kind and name; those of regular shapes, whose names are the machine's, together."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        name = row.strategy
        if row.kind == MAPPINGS and "×" in name:
            name = "copies of regular teams" if "copies" in name else "regular pipelines"
        found.setdefault(f"{row.kind}: {name}", []).append(row)
    return found


def _told(rows: Sequence[Row]) -> str:
    """How many are slower of how many, and by how much at most."""
    if not rows:
        return "-"
    slower = [row.simulated_behind for row in rows if row.simulated_behind > SLOWER]
    return f"{len(slower)}/{len(rows)}" + (f", {max(slower):.1%}" if slower else "")


def _verdict(rows: Sequence[Row]) -> list[str]:
    pairs = {(row.model, row.machine) for row in rows}
    beaten = [row for row in rows if row.behind > EQUAL]
    wrong = [row for row in rows if row.period_s < row.bound_s * (1 - EQUAL)]
    slower = [row for row in rows if row.simulated_behind > SLOWER]
    far = [row for row in slower if row.simulated_behind > ALLOWED]
    worst = max(rows, key=lambda row: row.simulated_behind)
    most = max((row.behind for row in beaten), default=0.0)
    gaps = (
        f" (by at most {most:.2%}, of gaps up to {max(1 - r.bound_s / r.ours_s for r in beaten):.2%})" if beaten else ""
    )
    default = [row for row in rows if row.apart and 1 - row.simulated_s / row.apart.default_simulated_s > ALLOWED]
    return [
        f"{len(rows)} cases of {len(pairs)} pairs of model and machine.",
        f"By the cost model: ahead of the planner's choice {len(beaten)}{gaps}, below the proved bound {len(wrong)}.",
        f"In the simulator: ahead by more than {SLOWER:.1%} in {len(slower)} ({len(slower) / len(rows):.1%}), by more "
        f"than {ALLOWED:.0%} in {len(far)} ({len(far) / len(rows):.1%}) of "
        f"{len({(row.model, row.machine) for row in far})} pairs.",
        f"Ahead as far of the default choice, in pairs where anything is ahead: {len(default)} cases.",
        f"Largest: {worst.strategy}, {worst.model} on {worst.machine}: {worst.simulated_behind:.1%}.",
    ]  # fmt: skip


if __name__ == "__main__":
    main()
