"""Claim: on several hosts the planner is never behind all on one host, a copy of everything on each, or equal parts one
behind the other, whatever the network: neither by the cost model nor in the simulator.

    python -m benchmarks.clusters [--topo sg2042*2 ...] [--link 1Gbit,20us ...] [-o clusters.json] [model ...]
    python -m benchmarks.clusters -o clusters.json --report

A case is a model, hosts and a network. `all on one` is the planner's plan for the first host alone; `on each` the same
plan on every host, item n at host n mod hosts; `equal parts` cuts the model where the work so far is nearest to equal
parts, each planned on a host of its own. Every plan has the rate of the cost model and the one that the simulator comes
to (closed loop, no jitter). The planner's is the strict optimum (no allowance for fewer stages). With `-o`, cases that
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
from mapper.machine.hosts import cores_of, feeder_host, host_numbers, on_host
from mapper.machine.model import Machine
from mapper.plans.check import mapping_of
from mapper.plans.evaluate import Placed, evaluate
from mapper.plans.source import graph_of_source
from mapper.reports.table import table
from mapper.simulator.simulate import simulate
from mapper.solver.placement.candidates import Case, Wanted
from mapper.solver.placement.over_hosts import even_split
from mapper.solver.placement.place import place
from mapper.solver.plan import plan
from mapper.solver.problem import Limits, problem_of
from mapper.solver.search.least_period import PRECISION
from mapper.solver.search.space import Space
from mapper.study.processes import shared_out
from mapper.units import format_rate

MODELS = ("vit", "vgg16", "gpt2_decode", "mobilenetv2", "bert_large")
TOPOS = ("sg2042*2", "sg2042*4", "epyc-7763*2")
LINKS = ("1Gbit,20us", "10Gbit,20us", "100Gbit,5us")
ONE, EACH, EQUAL = "all on one", "on each", "equal parts"
SLOWER = 1e-3
"""From where on the planner counts as behind."""

Task = tuple[str, str, str]
"""Model, hosts, network."""


class Rival(Record):
    """Seconds an item of a plan, by the cost model and in the simulator."""

    name: str
    period_s: float
    simulated_s: float


class Row(Record):
    """A case: seconds an item of the planner's plan, the least that was proved, what limits it, and the rivals."""

    model: str
    topo: str
    link: str
    ours_s: float
    bound_s: float
    simulated_s: float
    limited_by: str
    stages: int
    hosts: int
    rivals: tuple[Rival, ...]

    @property
    def behind(self) -> float:
        """The part of the best rival's rate that the planner lacks by the cost model."""
        return max(1 - rival.period_s / self.ours_s for rival in self.rivals)

    @property
    def simulated_behind(self) -> float:
        """The same in the simulator."""
        return max(1 - rival.simulated_s / self.simulated_s for rival in self.rivals)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=list(MODELS), help=f"models [{' '.join(MODELS)}]")
    parser.add_argument("--topo", nargs="+", default=list(TOPOS), help=f"hosts [{' '.join(TOPOS)}]")
    parser.add_argument("--link", nargs="+", default=list(LINKS), help=f"networks [{' '.join(LINKS)}]")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("-o", "--output", type=Path, help="the file that keeps what was made")
    parser.add_argument("--report", action="store_true", help="only tell what the file has")
    print("\n".join(report(made(parser.parse_args()))))


def made(args: argparse.Namespace) -> list[Row]:
    """The rows of all cases, those of the file first."""
    kept = json.loads(args.output.read_text()) if args.output and args.output.exists() else []
    rows = [Row.model_validate(row) for row in kept]
    known = {(row.model, row.topo, row.link) for row in rows}
    wanted = list(itertools.product(args.models, args.topo, args.link))
    tasks = [task for task in wanted if task not in known and not args.report]
    with contextlib.closing(shared_out(one_by_one, None, tasks, args.processes)) as results:
        for task, row in results:
            rows.append(row)
            print(f"{len(rows)} cases, {' on '.join(task)}", file=sys.stderr, flush=True)
            if args.output:
                write_text(args.output, dumps([row.model_dump() for row in rows]))
    order = {task: i for i, task in enumerate(wanted)}
    mine = [row for row in rows if (row.model, row.topo, row.link) in order]
    return sorted(mine, key=lambda row: order[row.model, row.topo, row.link])


def one_by_one(subject: None) -> Callable[[Task], Row]:
    """What makes one case after another."""
    return lambda task: compared(*task)


def compared(model: str, topo: str, link: str) -> Row:
    """The planner against the rivals in one case."""
    graph, machine = _graph(model), load_machine(topo, link)
    costs = roofline(graph, machine, configurations(machine))
    ours = plan(graph, machine, costs=costs, near_optimal=0.0)
    rivals = []
    for name, placed in _rivals(graph, machine, costs, _on_first(model, topo)):
        found = evaluate(graph, machine, costs, placed).in_plan(ours)
        rivals.append(Rival(name=name, period_s=found.predicted.period_s, simulated_s=simulate(found).period_s))
    return Row(
        model=model, topo=topo, link=link, ours_s=ours.predicted.period_s, bound_s=ours.solver.bound,
        simulated_s=simulate(ours).period_s, limited_by=ours.predicted.limited_by, stages=len(ours.stages),
        hosts=len({replica.host for stage in ours.stages for replica in stage.replicas}), rivals=tuple(rivals),
    )  # fmt: skip


@cache
def _graph(model: str) -> Graph:
    return graph_of_source(model)[0]


@cache
def _on_first(model: str, topo: str) -> list[Placed]:
    """The planner's mapping for the first host alone, to which the network makes no difference."""
    machine = load_machine(topo, LINKS[0])
    return mapping_of(plan(_graph(model), on_host(machine, feeder_host(machine)), near_optimal=0.0))


def _rivals(
    graph: Graph, machine: Machine, costs: CostTable, single: Sequence[Placed]
) -> Iterator[tuple[str, tuple[Placed, ...]]]:
    """Names and mappings of what the planner is compared with; `single` is one for the first host."""
    hosts = [cores_of(machine, number) for number in host_numbers(machine)]

    def copied(over: Sequence[tuple[int, ...]]) -> tuple[Placed, ...]:
        return tuple(
            Placed(
                stage.ops, stage.config,
                tuple(tuple(cores[c] for c in replica) for replica in stage.replicas for cores in over), stage.spread,
            )
            for stage in single
        )  # fmt: skip

    yield ONE, copied(hosts[:1])
    yield EACH, copied(hosts)
    problem = problem_of(graph, machine, costs)
    case = Case(graph, machine, costs, Space(problem))
    candidate = next(even_split(case, Wanted(Limits(), 0.0, PRECISION)), None)
    if candidate is not None:
        yield EQUAL, place(graph, machine, problem, candidate.solution.stages, homes=candidate.homes)[0]


def report(rows: Sequence[Row]) -> list[str]:
    """The rates in the simulator, a line a case, and the verdict."""
    if not rows:
        return ["nothing was compared"]
    lines = []
    for row in rows:
        rates = {rival.name: 1 / rival.simulated_s for rival in row.rivals}
        lines.append([
            row.model, row.topo, row.link.partition(",")[0], format_rate(1 / row.simulated_s),
            *(format_rate(rates[name]) if name in rates else "-" for name in (ONE, EACH, EQUAL)),
            f"{row.hosts}", f"{row.stages}", row.limited_by, f"{1 - row.bound_s / row.ours_s:.1%}",
        ])  # fmt: skip
    head = ["model", "hosts", "network", "planned/s", ONE, EACH, EQUAL, "hosts used", "stages", "limited by", "gap"]
    return [*table(head, lines, right="3456789", indent=""), "", *_verdict(rows)]


def _verdict(rows: Sequence[Row]) -> list[str]:
    """How far the planner is behind the best rival, at most."""
    out = []
    values = {
        "By the cost model": [row.behind for row in rows],
        "In the simulator": [row.simulated_behind for row in rows],
    }
    for words, behind in values.items():
        most = max(behind)
        late = sum(value > SLOWER for value in behind)
        worst = rows[behind.index(most)]
        case = f"{worst.model} on {worst.topo}, {worst.link}"
        told = f"{late} of {len(rows)} cases, at most by" if late else f"none of {len(rows)} cases by more than 0.1 %:"
        out.append(f"{words} the planner is behind in {told} {most:.2%} ({case}).")
    return out


if __name__ == "__main__":
    main()
