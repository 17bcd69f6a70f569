"""Claim: with a profile, stage loads and periods of random and chosen plans come out with a median error of at most
10 %, and the rank correlation over pairs that differ by more than twice the noise is at least 0.9, with periods that
span a factor of 2 in each set.

    python -m benchmarks.profiled [--backend eager ...] [--plans 8] [--budget 300] [-o profiled.json] [model ...]

Each model is profiled on this machine (`mapper profile`). Plans are the best one, what people do without a planner, and
random ones: the ops in their order, cut at random, each piece on a random configuration of cores that are left. They
are predicted with the profile alone, then run, a few at a time, in interleaved rounds. Loads are what `mapper run`
reports: computing and copying. The noise of a plan is the middle half of its rounds over their median; the rank
correlation of pairs is Goodman and Kruskal's gamma (1954): pairs in the right order less those in the wrong one, over
both.
"""

from __future__ import annotations

import argparse
import itertools
import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.grid import machine_of, measured, parser_of, trials_in_turn
from mapper.backends.registry import EAGER
from mapper.cost.configurations import Config, configurations
from mapper.cost.table import CostTable
from mapper.graph.model import Graph
from mapper.machine.model import Machine
from mapper.measure.spread import middle_half
from mapper.plans.check import mapping_of
from mapper.plans.costs import profile_costs
from mapper.plans.evaluate import Placed, evaluate
from mapper.plans.source import graph_of_source
from mapper.reports.table import table
from mapper.sources.backend import with_backend
from mapper.sources.source import realised_source
from mapper.study.contenders import contenders
from mapper.study.profile import Say, Settings, profile
from mapper.study.trials import Named, Trial

TARGET_ERROR, TARGET_RANK, TARGET_SPAN = 0.1, 0.9, 2.0
MODELS = ("mobilenetv2", "resnet18", "vit", "bert")


@dataclass
class Sample:
    """A plan, predicted and run: its period and the loads of its stages."""

    model: str
    backend: str
    plan: str
    stages: int
    predicted_s: float
    measured_s: float
    noise: float
    others_busy: float
    predicted_loads_s: list[float]
    measured_loads_s: list[float]


def main() -> None:
    parser = parser_of(__doc__, MODELS, [EAGER])
    parser.add_argument("--plans", type=int, default=8, help="random plans of each model and back end")
    parser.add_argument("--budget", type=float, default=300, help="seconds of one profile")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0, help="how long a round of one plan takes")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print("\n".join(report([Sample(**row) for row in measured(args, sampled)])))


def sampled(name: str, backend: str, args: argparse.Namespace, say: Say) -> list[Sample]:
    """The plans of one model with one back end."""
    machine = machine_of(args)
    graph, reference = graph_of_source(name)
    made = profile(graph, machine, reference, backend=backend, settings=Settings(args.budget), say=say)
    costs = profile_costs(made.profile, graph, machine)
    plans: list[Named] = contenders(graph, machine, reference, 1, backend, say=say).named
    chosen = plans[0][1]
    rng = random.Random(f"{args.seed} {name}")
    for i in range(args.plans):
        found = evaluate(graph, machine, costs, drawn(graph, machine, rng))
        plans.append(((f"random {i}",), with_backend(found.in_plan(chosen), backend)))
    trials = trials_in_turn(plans, graph, machine, realised_source(chosen), args, say)
    return [sample_of(name, backend, trial, graph, machine, costs) for trial in trials]


def sample_of(name: str, backend: str, trial: Trial, graph: Graph, machine: Machine, costs: CostTable) -> Sample:
    """What was predicted of a plan with `costs`, and what it took."""
    foreseen = evaluate(graph, machine, costs, mapping_of(trial.plan))
    return Sample(
        name, backend, trial.name, len(foreseen.stages), foreseen.predicted.period_s, 1 / trial.rate_per_s,
        middle_half(trial.rates), trial.others_busy, [stage.load.total_s for stage in foreseen.stages],
        list(trial.loads_s),
    )  # fmt: skip


def drawn(graph: Graph, machine: Machine, rng: random.Random) -> list[Placed]:
    """A random mapping: 1 to 4 pieces of the ops in their order, each with a configuration that fits what is left, and
    one to all replicas that fit."""
    free = [list(group) for group in machine.groups]
    configs = configurations(machine)
    wanted = rng.randint(1, min(4, len(machine.cores), len(graph.ops)))
    shapes: list[tuple[Config, list[tuple[int, ...]]]] = []
    for left in range(wanted, 0, -1):
        fitting = [config for config in configs if rest(free, config) >= left - 1]
        if not fitting:
            break
        config = rng.choice(fitting)
        taken = [take(free, config)]
        while room(free, config) and rest(free, config) >= left - 1 and rng.random() < 0.5:
            taken.append(take(free, config))
        shapes.append((config, taken))
    cuts = [0, *sorted(rng.sample(range(1, len(graph.ops)), len(shapes) - 1)), len(graph.ops)]
    names = [op.name for op in graph.ops]
    return [Placed(tuple(names[a:b]), config, tuple(cores))
            for (a, b), (config, cores) in zip(itertools.pairwise(cuts), shapes, strict=True)]  # fmt: skip


def room(free: Sequence[Sequence[int]], config: Config) -> bool:
    """Whether another replica of `config` finds cores."""
    return sum(len(group) >= config.cores_per_group for group in free) >= config.groups


def rest(free: Sequence[Sequence[int]], config: Config) -> int:
    """Cores that are left when a replica of `config` has its own; -1 where it finds none."""
    return sum(map(len, free)) - config.cores if room(free, config) else -1


def take(free: list[list[int]], config: Config) -> tuple[int, ...]:
    """The cores of a replica of `config`, taken from `free`."""
    groups = [group for group in free if len(group) >= config.cores_per_group][: config.groups]
    return tuple(group.pop(0) for group in groups for _ in range(config.cores_per_group))


def gamma(samples: Sequence[Sample]) -> tuple[float, int]:
    """The rank correlation of periods over pairs that differ by more than twice the noise, and how many there are."""
    right = wrong = 0
    for a, b in itertools.combinations(samples, 2):
        measured, predicted = math.log(a.measured_s / b.measured_s), math.log(a.predicted_s / b.predicted_s)
        if abs(measured) > 2 * math.hypot(a.noise, b.noise):
            right, wrong = right + (measured * predicted > 0), wrong + (measured * predicted <= 0)
    return ((right - wrong) / (right + wrong) if right + wrong else 1.0), right + wrong


def errors(samples: Sequence[Sample]) -> tuple[list[float], list[float]]:
    """Relative errors of all stage loads, and of all periods."""
    loads = [p / m - 1 for s in samples for p, m in zip(s.predicted_loads_s, s.measured_loads_s, strict=True) if m > 0]
    return loads, [s.predicted_s / s.measured_s - 1 for s in samples]


def report(samples: Sequence[Sample]) -> list[str]:
    """A line a model and back end, then the verdict over all."""
    rows, right, pairs, spans = [], 0.0, 0, []
    for key in dict.fromkeys((s.model, s.backend) for s in samples):
        mine = [s for s in samples if (s.model, s.backend) == key]
        loads, periods = errors(mine)
        rank, count = gamma(mine)
        right, pairs = right + rank * count, pairs + count
        spans.append(max(s.measured_s for s in mine) / min(s.measured_s for s in mine))
        rows.append([
            *key, str(len(mine)), median(loads), f"{statistics.median(loads):+.1%}", median(periods),
            f"{statistics.median(periods):+.1%}", f"{rank:.3f}", str(count), f"{spans[-1]:.2f}",
            f"{statistics.median(s.noise for s in mine):.1%}", f"{max(s.others_busy for s in mine):.0%}",
        ])  # fmt: skip
    if not rows:
        return ["nothing was measured"]
    head = ["model", "back end", "plans", "|load error|", "bias", "|period error|", "bias", "rank", "pairs", "span",
            "noise", "others"]  # fmt: skip
    loads, periods = errors(samples)
    rank = right / pairs if pairs else 1.0
    held = max(statistics.median(map(abs, loads)), statistics.median(map(abs, periods))) <= TARGET_ERROR
    held = held and rank >= TARGET_RANK and min(spans) >= TARGET_SPAN
    return [
        *table(head, rows, right="23456789", indent=""),
        f"median error of {len(loads)} loads {median(loads)}, of {len(periods)} periods {median(periods)}; rank "
        f"correlation {rank:.3f} over {pairs} pairs; least span {min(spans):.2f}: target {'met' if held else 'missed'}",
    ]


def median(values: Sequence[float]) -> str:
    """The median of the absolute values."""
    return f"{statistics.median(map(abs, values)):.1%}"


if __name__ == "__main__":
    main()
