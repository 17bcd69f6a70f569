"""Claim: on this machine, simulated periods of native, streams and forced pipelines come within 15 % (median) of those
that are measured.

    mapper calibrate -o host.json
    python -m benchmarks.simulated --topo host.json [--profile] [--backend eager ...] [-o simulated.json] [model ...]

Each model's plans are what people do without a planner (`mapper bench`), and what the planner chooses. Costs are those
of the calibrated description; with `--profile` the model is profiled first (`mapper profile`) and costs follow from
that. Each plan is simulated, then measured, a few at a time, in interleaved rounds.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.grid import machine_of, measured, parser_of, trials_in_turn
from mapper.backends.registry import EAGER
from mapper.cost.configurations import configurations
from mapper.cost.roofline import roofline
from mapper.measure.spread import middle_half
from mapper.plans.check import mapping_of
from mapper.plans.costs import profile_costs
from mapper.plans.evaluate import evaluate
from mapper.plans.model import Plan
from mapper.plans.source import graph_of_source
from mapper.program.cards import card_names
from mapper.reports.table import table
from mapper.simulator.simulate import simulate
from mapper.sources.source import realised_source
from mapper.study.contenders import contenders
from mapper.study.profile import Say, Settings, profile

TARGET = 0.15


@dataclass
class Row:
    """A plan, simulated and measured: seconds an item."""

    model: str
    backend: str
    plan: str
    kind: str
    simulated_s: float
    predicted_s: float
    measured_s: float
    noise: float
    others_busy: float


def main() -> None:
    parser = parser_of(__doc__, card_names(), [EAGER])
    parser.add_argument("--profile", action="store_true", help="profile each model first")
    parser.add_argument("--budget", type=float, default=300, help="seconds of one profile")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0, help="how long a round of one plan takes")
    args = parser.parse_args()
    print("\n".join(report([Row(**row) for row in measured(args, compared)])))


def compared(name: str, backend: str, args: argparse.Namespace, say: Say) -> list[Row]:
    """The plans of one model with one back end."""
    machine = machine_of(args)
    graph, reference = graph_of_source(name)
    plans = contenders(graph, machine, reference, 1, backend, say=say).named
    if args.profile:
        made = profile(graph, machine, reference, backend=backend, settings=Settings(args.budget), say=say)
        costs = profile_costs(made.profile, graph, machine)
    else:
        costs = roofline(graph, machine, configurations(machine))
    source = realised_source(plans[0][1])
    rows = []
    for trial in trials_in_turn(plans, graph, machine, source, args, say):
        costed = evaluate(graph, machine, costs, mapping_of(trial.plan)).in_plan(trial.plan)
        rows.append(Row(
            name, backend, trial.name, kind_of(trial.plan), simulate(costed).period_s, costed.predicted.period_s,
            1 / trial.rate_per_s, middle_half(trial.rates), trial.others_busy,
        ))  # fmt: skip
    return rows


def kind_of(plan: Plan) -> str:
    """What people call such a plan."""
    if len(plan.stages) > 1:
        return "pipeline"
    return "streams" if len(plan.stages[0].replicas) > 1 else "native"


def report(rows: Sequence[Row]) -> list[str]:
    """A line a plan, then errors by kind and over all."""
    if not rows:
        return ["nothing was measured"]
    lines = [
        [r.model, r.backend, r.plan, f"{r.simulated_s * 1e3:.3g}", f"{r.measured_s * 1e3:.3g}",
         f"{r.simulated_s / r.measured_s - 1:+.1%}", f"{r.noise:.1%}", f"{r.others_busy:.0%}"]
        for r in rows
    ]  # fmt: skip
    head = ["model", "back end", "plan", "simulated, ms", "measured, ms", "error", "noise", "others"]
    kinds = [f"{kind} {told([r for r in rows if r.kind == kind])}" for kind in dict.fromkeys(r.kind for r in rows)]
    error = statistics.median(abs(r.simulated_s / r.measured_s - 1) for r in rows)
    verdict = "met" if error <= TARGET else "missed"
    return [*table(head, lines, right="34567", indent=""), "; ".join(kinds),
            f"median error over {len(rows)} plans {told(rows)}: at most {TARGET:.0%} {verdict}"]  # fmt: skip


def told(rows: Sequence[Row]) -> str:
    """Median error and bias."""
    errors = [r.simulated_s / r.measured_s - 1 for r in rows]
    return f"{statistics.median(map(abs, errors)):.1%} (bias {statistics.median(errors):+.1%})"


if __name__ == "__main__":
    main()
