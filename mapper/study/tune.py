"""`mapper tune`: plan, run, plan again with what the stages took, until the plan stops changing; the best one measured
is kept, be it planned or what people do without a planner."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mapper import jsonio
from mapper.backends.registry import EAGER, backend_called
from mapper.cache import cache_folder
from mapper.cost.configurations import configurations
from mapper.cost.profile import Profile, merged
from mapper.cost.profiled import profiled
from mapper.cost.roofline import roofline
from mapper.cost.table import CostTable
from mapper.errors import NoPlanInTime
from mapper.execution.place import Claim
from mapper.graph.model import Graph
from mapper.jsonio import Record
from mapper.machine.discover import discover
from mapper.machine.model import Machine
from mapper.measure.calibrate import refuse_emulated
from mapper.measure.journal import Journal
from mapper.measure.profile import empty_profile, pus_here
from mapper.plans.check import mapping_of, optimal_gap, violations
from mapper.plans.evaluate import evaluate
from mapper.plans.model import ModelRef, Plan
from mapper.solver.plan import plan
from mapper.sources.backend import with_backend
from mapper.sources.source import realised_source
from mapper.study.contenders import contenders
from mapper.study.sittings import KIND, Compete, Kept, Sitting
from mapper.study.statistics import median_interval
from mapper.study.trials import Named, Trial, in_sittings, ratios, trials_of

ROUNDS, SCREENING, ROUND_S = 15, 5, 1.0
"""Rounds that decide in the end, rounds in which a plan is tried first, and about how long a round takes."""
BUDGET_S = 900.0
MOST_TURNS = 8
SEATS = 3
"""Plans that are up at the same time while they are tried: the first one, to compare with, among them."""
FINALISTS = 4
NEAR = 0.9
"""A plan that reached less of the best one's rate when it was tried is not tried again."""
TIE = 0.98
"""Of plans that reach this part of the best one's rate, and are not slower beyond the noise, one with the fewest stages
is kept."""
PLAN_S = 30.0

Say = Callable[[str], None]
Planner = Callable[[CostTable], Plan]


class Ratio(Record):
    """Kept over other, round by round: median and confidence interval; above 1 the kept plan is faster."""

    median: float
    low: float
    high: float
    confidence: float


class Tried(Record):
    """A plan that was measured: in which turn, what was predicted of it then, and what it reached, the median of its
    rounds. `kept_over_this` is of the last rounds, None where it took no part in them."""

    name: str
    turn: int
    stages: int
    workers: int
    predicted_per_s: float
    measured_per_s: float
    rounds: int
    others_busy: float
    kept: bool
    kept_over_this: Ratio | None


class Tuning(Record):
    """What tuning gave beside the plan: all that was tried, why it stopped, and whether others disturbed it."""

    model: str
    backend: str
    machine: str
    kept: str
    stopped: str
    tried: tuple[Tried, ...]
    rounds: int
    others_busy: float


@dataclass(frozen=True)
class Tuned:
    """The kept plan with the costs of `profile`, which has what every stage took, and how it was found."""

    plan: Plan
    profile: Profile
    tuning: Tuning


@dataclass(frozen=True)
class Settings:
    """How plans are measured: `rounds` that decide, `screening` rounds when a plan is tried first, seconds of a round,
    and seconds in all, which end the turns but not the deciding rounds."""

    rounds: int = ROUNDS
    screening: int = SCREENING
    round_s: float = ROUND_S
    budget_s: float = BUDGET_S


def tune(
    graph: Graph, machine: Machine, model: ModelRef, *, backend: str = EAGER, batch: int = 1,
    settings: Settings | None = None, known: Sequence[Profile] = (), fresh: bool = False,
    say: Say = lambda message: None, tell: Say = lambda message: None,
) -> Tuned:  # fmt: skip
    """The plan for `graph` on `machine`, this machine, that is measured to be the best with `backend`.

    `known` are profiles of the same, from which the first plan is made. Interrupted, the same call goes on from there
    (not with `fresh`), with what is left of the time. `say` is told where it stands, `tell` what the user should know.

    Raises: PromiseBroken when a plan's outputs are not the model's; what `plan` and `Executor` raise; SystemRefused on
    an emulated machine.
    """
    refuse_emulated()
    settings = settings or Settings()
    backend_called(backend).require(compiling=False)
    begun = time.monotonic()
    start = merged([empty_profile(graph, machine, backend), *known])
    with Claim(pus_here(machine, discover())), journal_for(start, batch, settings, tell) as journal:
        if fresh:
            journal.discard()
        if kept := len(journal.read().entries):
            tell(f"going on after {kept} sitting{'s' * (kept > 1)}")
        rivals = contenders(graph, machine, model, batch, backend, say=say).named
        say("Building the model ...")
        source = realised_source(rivals[0][1])

        compete = Kept(
            lambda plans, rounds: trials_of(plans, graph, machine, source, rounds, settings.round_s, say), journal
        )

        def planner(table: CostTable) -> Plan:
            made = plan(graph, machine, costs=table, model=model, batch=batch, time_limit_s=PLAN_S)
            return with_backend(made, backend)

        search = Search(
            graph, machine, start, compete, planner, settings,
            over=lambda: time.monotonic() - begun + compete.replayed_s > settings.budget_s, say=say,
        )  # fmt: skip
        try:
            made = search.tuned(rivals)
        except (KeyboardInterrupt, SystemExit):
            if (kept := len(journal.entries)) and journal.kept:
                tell(f"{kept} sitting{'s are' if kept > 1 else ' is'} kept: the same command goes on from there")
            raise
        journal.discard()
        return made


def journal_for(start: Profile, batch: int, settings: Settings, tell: Say) -> Journal[Sitting]:
    """The journal of exactly this: graph, back end, machine, what was known, and how plans are measured."""
    key = jsonio.sha256([jsonio.plain(start), batch, settings.rounds, settings.screening, settings.round_s])
    return Journal(cache_folder(), key, time.time(), tell, KIND)


class Search:
    """The turns of planning and measuring. `compete` measures, `planner` plans with costs, `over` says that the time
    is."""

    def __init__(
        self, graph: Graph, machine: Machine, profile: Profile, compete: Compete, planner: Planner, settings: Settings,
        *, over: Callable[[], bool] = lambda: False, say: Say = lambda message: None,
    ) -> None:  # fmt: skip
        self.graph, self.machine, self.profile, self.settings = graph, machine, profile, settings
        self.compete, self.planner, self.over, self.say = compete, planner, over, say
        self.base = roofline(graph, machine, configurations(machine))
        self.tried: list[tuple[int, Trial]] = []

    def tuned(self, rivals: Sequence[Named]) -> Tuned:
        """The best of `rivals` and of what planning finds besides, measured."""
        first = [*rivals]
        if self.profile.measurements:
            first = _joined((("planned with the profile",), self.planner(self.costs())), first)
        self.try_out(0, first)
        stopped = self.turns()
        decided = self.decided()
        kept = best_of(decided)
        made = self.restated(kept.plan)
        tuning = self.account(kept, decided, stopped)
        measured = [jsonio.plain(row) for row in tuning.tried]
        provenance = made.provenance | {"tuned": {"rounds": tuning.rounds, "stopped": stopped, "tried": measured}}
        return Tuned(made.model_copy(update={"provenance": provenance}), self.profile, tuning)

    def turns(self) -> str:
        """Plans again until there is nothing new; why it stopped."""
        for turn in range(1, MOST_TURNS + 1):
            if self.over():
                return "the time was over"
            self.say(f"Planning again, turn {turn} ...")
            try:
                made = self.planner(self.costs())
            except NoPlanInTime:
                return "no plan was found in time"
            same = next((t for _, t in self.tried if alike(t.plan, made)), None)
            if same is not None:
                return f"planning again gives a plan that was measured: {same.name}"
            self.try_out(turn, [((f"plan {turn + 1}",), made)])
        return f"{MOST_TURNS} more plans were measured"

    def costs(self) -> CostTable:
        """What follows from all that was measured."""
        return profiled(self.profile, self.graph, self.machine, self.base).table

    def try_out(self, turn: int, plans: Sequence[Named]) -> None:
        """Measures `plans`, a few at a time beside the first one that was tried, and learns what their stages take."""
        waiting = list(plans)
        while waiting:
            seats = SEATS - bool(self.tried)
            now, waiting = waiting[:seats], waiting[seats:]
            reference = [(t.names, t.plan) for _, t in self.tried[:1]]
            trials = list(self.compete([*reference, *now], self.settings.screening))
            self.tried += [(turn, trial) for trial in trials[len(reference) :]]
            self.learn(trials)

    def learn(self, trials: Sequence[Trial]) -> None:
        """Adds what the stages of `trials` took to the profile."""
        rows = tuple(row for trial in trials for row in trial.stages)
        self.profile = merged([self.profile, self.profile.model_copy(update={"measurements": rows})])

    def decided(self) -> list[Trial]:
        """The best few, measured again in more rounds against the best of them, over several sittings."""
        ranked = sorted((t for _, t in self.tried), key=_over, reverse=True)
        best = _over(ranked[0])
        finalists = [t for t in ranked if _over(t) >= NEAR * best][:FINALISTS]
        if len(finalists) == 1 or self.settings.rounds <= self.settings.screening:
            return finalists
        self.say("Deciding ...")
        plans = [(t.names, t.plan) for t in finalists]
        trials = in_sittings(lambda rounds: self.compete(plans, rounds), self.settings.rounds)
        self.learn(trials)
        return trials

    def restated(self, kept: Plan) -> Plan:
        """`kept` with what all measurements predict of it, and what is proved with these costs of the best plan."""
        table = self.costs()
        best = self.planner(table)
        if alike(best, kept):
            return best
        found = evaluate(self.graph, self.machine, table, mapping_of(kept))
        period, solver = found.predicted.period_s, best.solver
        least = min(solver.best_objective, period)
        bound = min(solver.bound, least)
        gap = max(0.0, (least - bound) / least)
        proved = gap <= optimal_gap(table.source)
        new = solver.model_copy(update={
            "objective": period, "best_objective": least, "bound": bound, "gap": gap,
            "status": "optimal" if proved else "feasible",
            "near_optimal": max(solver.near_optimal, math.ceil((period / least - 1) * 1e6) / 1e6),
        })  # fmt: skip
        made = found.in_plan(best, solver=new)
        wrong = violations(made, self.graph, table)
        if wrong:  # no assert statement: this must be looked at under python -O too
            raise AssertionError(f"tuning made a plan that its own check refuses: {wrong}")
        return made

    def account(self, kept: Trial, decided: Sequence[Trial], stopped: str) -> Tuning:
        """All that was tried, with what was measured of it last."""
        last = {id(t.plan): t for t in decided}
        rows = []
        for turn, trial in self.tried:
            shown = last.get(id(trial.plan), trial)
            rows.append(Tried(
                name=trial.name, turn=turn, stages=len(trial.plan.stages),
                workers=sum(len(s.replicas) for s in trial.plan.stages),
                predicted_per_s=trial.plan.predicted.throughput_per_s, measured_per_s=shown.rate_per_s,
                rounds=len(shown.rates), others_busy=max(0.0, shown.others_busy), kept=trial.plan is kept.plan,
                kept_over_this=_ratio(kept, shown) if shown is not kept and id(trial.plan) in last else None,
            ))  # fmt: skip
        return Tuning(
            model=self.profile.model, backend=self.profile.backend, machine=self.profile.machine.name, kept=kept.name,
            stopped=stopped, tried=tuple(rows), rounds=len(kept.rates),
            others_busy=max(t.others_busy for t in decided),
        )  # fmt: skip


def best_of(trials: Sequence[Trial]) -> Trial:
    """Of those that nothing tells from the fastest, the one with the fewest stages: what wins by the noise of one
    sitting loses in the next one as often."""
    fastest = max(trials, key=_over)
    level = [t for t in trials if _over(t) >= TIE * _over(fastest) and median_interval(ratios(fastest, t)).low <= 1]
    return min([fastest, *level], key=lambda t: (len(t.plan.stages), -_over(t)))


def _joined(new: Named, plans: Sequence[Named]) -> list[Named]:
    """`plans` with `new` before them, under all its names where it is one of them."""
    same = next((names for names, other in plans if alike(other, new[1])), None)
    if same is None:
        return [new, *plans]
    return [((*new[0], *names) if names is same else names, other) for names, other in plans]


def alike(a: Plan, b: Plan) -> bool:
    """Whether two plans run alike: the same ops on the same cores, in the same number of replicas."""
    return [(s.ops, [r.cores for r in s.replicas]) for s in a.stages] == [
        (s.ops, [r.cores for r in s.replicas]) for s in b.stages
    ]


def _over(trial: Trial) -> float:
    """How fast a plan was against the first of those measured with it."""
    return statistics.median(trial.over_first)


def _ratio(kept: Trial, other: Trial) -> Ratio:
    """The kept plan's rate over another's, measured together."""
    found = median_interval(ratios(kept, other))
    return Ratio(median=found.median, low=found.low, high=found.high, confidence=found.level)
