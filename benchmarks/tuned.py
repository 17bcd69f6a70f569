"""Claim: the plan that `mapper tune` keeps is never worse beyond the noise than the best alternative with the same back
end: the lower 95 % bound of the paired ratio is at least 0.97 for each model card and back end (identical plans count
as 1).

    python -m benchmarks.tuned [--backend eager ...] [--rounds 15] [--meeting 41] [-o tuned.json] [model ...]

Alternatives are what people do without a planner: native with 1, 2, 4 … and all threads, streams, forced pipelines, and
the set-ups of torch's launcher. After tuning, the best of them (as tuning has measured them) meets the kept plan again
in `--meeting` interleaved rounds that tuning has not seen, more than it has itself (15 tell no 3 % apart on two cores),
over three starts of both.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.grid import machine_of, measured, parser_of
from mapper.backends.registry import BACKENDS
from mapper.execution.place import Claim
from mapper.machine.discover import discover
from mapper.measure.profile import pus_here
from mapper.plans.model import Plan
from mapper.plans.source import graph_of_source
from mapper.program.cards import card_names
from mapper.reports.table import table
from mapper.sources.source import realised_source
from mapper.study.contenders import contenders
from mapper.study.statistics import median_interval
from mapper.study.trials import Trial, in_sittings, ratios, trials_of
from mapper.study.tune import Say, Settings, Tuning, alike, tune

TARGET = 0.97


@dataclass
class Row:
    """A model with a back end: the kept plan against the best alternative."""

    model: str
    backend: str
    kept: str
    stages: int
    per_s: float
    alternative: str
    ratio: float
    low: float
    high: float
    rounds: int
    identical: bool
    turns: int
    others_busy: float
    stopped: str


def main() -> None:
    parser = parser_of(__doc__, card_names(), list(BACKENDS))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--meeting", type=int, default=41, help="rounds of the kept plan and the best alternative [41]")
    parser.add_argument("--seconds", type=float, default=1.0, help="how long a round of one plan takes")
    parser.add_argument("--budget", type=float, default=600, help="seconds of planning and measuring, of each")
    args = parser.parse_args()
    print("\n".join(report([Row(**row) for row in measured(args, tuned)])))


def tuned(name: str, backend: str, args: argparse.Namespace, say: Say) -> list[Row]:
    """One model with one back end."""
    machine = machine_of(args)
    graph, reference = graph_of_source(name)
    settings = Settings(args.rounds, round_s=args.seconds, budget_s=args.budget)
    made = tune(graph, machine, reference, backend=backend, settings=settings, say=say)
    others = contenders(graph, machine, reference, 1, backend, say=say).named
    rivals = [other for other in others if not alike(other[1], made.plan)]
    reached = {tried.name: tried.measured_per_s for tried in made.tuning.tried}
    best = max(rivals, key=lambda rival: reached[" = ".join(rival[0])], default=None)
    last: Sequence[Trial] = ()
    if best is not None:
        source = realised_source(made.plan)
        with Claim(pus_here(machine, discover())):
            pair = [(("kept",), made.plan), best]
            last = in_sittings(lambda n: trials_of(pair, graph, machine, source, n, args.seconds, say), args.meeting)
    same = len(rivals) < len(others)
    return [row_of(name, backend, made.plan, made.tuning, last, same)]


def row_of(name: str, backend: str, plan: Plan, tuning: Tuning, last: Sequence[Trial], same: bool) -> Row:
    """The account of one model. Where the kept plan is one of the alternatives and the best of them, the ratio is 1."""
    found = median_interval(ratios(*last)) if last else None
    identical = found is None or (same and found.median >= 1)
    return Row(
        name, backend, tuning.kept, len(plan.stages), last[0].rate_per_s if last else 0.0,
        "the same" if identical else last[1].name, 1.0 if identical or found is None else found.median,
        1.0 if identical or found is None else found.low, 1.0 if identical or found is None else found.high,
        len(last[0].rates) if last else 0, identical, max(row.turn for row in tuning.tried),
        max((trial.others_busy for trial in last), default=0.0), tuning.stopped,
    )  # fmt: skip


def report(rows: Sequence[Row]) -> list[str]:
    """A line a model and back end, then the verdict."""
    lines = [
        [row.model, row.backend, row.kept, str(row.stages), f"{row.per_s:.3g}", row.alternative, f"{row.ratio:.3f}",
         f"{row.low:.3f}", f"{row.high:.3f}", str(row.turns), f"{row.others_busy:.0%}"]
        for row in rows
    ]  # fmt: skip
    if not rows:
        return ["nothing was measured"]
    head = ["model", "back end", "kept", "stages", "items/s", "best alternative", "ratio", "low", "high", "turns",
            "others"]  # fmt: skip
    missed = [f"{row.model}, {row.backend}" for row in rows if row.low < TARGET]
    verdict = f"missed: {'; '.join(missed)}" if missed else "met"
    held = f"lower 95 % bound of the ratio at least {TARGET} in {len(rows) - len(missed)} of {len(rows)}: {verdict}"
    return [*table(head, lines, right="346789", indent=""), held]


if __name__ == "__main__":
    main()
