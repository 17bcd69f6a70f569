"""Some plans at work at the same time, measured against each other: rates by round, and what each stage computed."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from mapper.backends.threads import torch_threads
from mapper.cost.profile import MeasuredOps, ranges
from mapper.graph.model import Graph
from mapper.machine.discover import discover
from mapper.machine.model import Machine
from mapper.measure.profile import LOUD, pus_here
from mapper.plans.model import Plan
from mapper.sources.source import Source
from mapper.study.executed import ExecutedPlan, references_of, started
from mapper.study.rounds import Say, Series, Timed, interleaved, watched

Named = tuple[tuple[str, ...], Plan]
"""A plan with its names."""
SITTINGS = 3
"""How often plans are started anew to be told apart."""


@dataclass
class Observed(ExecutedPlan):
    """A plan at work that also notes, after every round, the seconds that each stage computed for an item, and those
    with copying (its load)."""

    computed: list[tuple[float, ...]] = field(default_factory=list)
    loads: list[tuple[float, ...]] = field(default_factory=list)

    def closed(self, count: int) -> Timed:
        """As of an executed plan."""
        timed = super().closed(count)
        stages = self.executor.statistics().stages
        self.computed.append(tuple(stage.compute_s for stage in stages))
        self.loads.append(tuple(stage.load_s for stage in stages))
        return timed


@dataclass(frozen=True)
class Trial:
    """What interleaved rounds gave for a plan: items a second of each, and over the first plan's (`over_first`), which
    rounds others disturbed, what its stages took, their loads (medians, copying included), and the part of the cores
    that others had."""

    names: tuple[str, ...]
    plan: Plan
    rates: tuple[float, ...]
    disturbed: tuple[bool, ...]
    over_first: tuple[float, ...]
    stages: tuple[MeasuredOps, ...]
    others_busy: float
    loads_s: tuple[float, ...] = ()

    @property
    def name(self) -> str:
        """Its names: mappings that are one plan are tried once."""
        return " = ".join(self.names)

    @property
    def rate_per_s(self) -> float:
        """The median of the rounds that others did not disturb; of all, where there are none."""
        return statistics.median(_kept(self.rates, self.disturbed))


def ratios(a: Trial, b: Trial) -> list[float]:
    """The rates of `a` over those of `b`, measured together, round by round, of the rounds in which others disturbed
    neither; of all, where there are none."""
    return _ratios(a.rates, a.disturbed, b.rates, b.disturbed)


def _ratios(a: Sequence[float], loud_a: Sequence[bool], b: Sequence[float], loud_b: Sequence[bool]) -> list[float]:
    loud = [x or y for x, y in zip(loud_a, loud_b, strict=True)]
    return _kept([x / y for x, y in zip(a, b, strict=True)], loud)


def _kept(values: Sequence[float], loud: Sequence[bool]) -> list[float]:
    """Those of `values` that are not `loud`; all, where there are none."""
    return [value for value, one in zip(values, loud, strict=True) if not one] or list(values)


def trials_of(
    plans: Sequence[Named], graph: Graph, machine: Machine, source: Source, rounds: int, seconds: float, say: Say
) -> list[Trial]:
    """Measures `plans` of one model on `machine`, this machine, whose PUs the caller holds.

    Raises: PromiseBroken when a plan's outputs are not the model's; what `Executor` raises.
    """
    pus = pus_here(machine, discover())
    references = references_of([plan for _, plan in plans], source)
    with torch_threads(1), ExitStack() as stack:  # feeding must not start threads on the workers' cores
        contenders = []
        for (names, plan), (items, outputs) in zip(plans, references, strict=True):
            up = started(stack, names, plan, source, machine, items, say)
            up.check(outputs)
            contenders.append(Observed(up.names, up.plan, up.executor, up.items))
        series = interleaved(contenders, rounds, seconds, watched(pus), say)
    return [_trial(names, one, of, series[0], graph) for (names, _), one, of in
            zip(plans, contenders, series, strict=True)]  # fmt: skip


def in_sittings(measure: Callable[[int], Sequence[Trial]], rounds: int) -> list[Trial]:
    """What `measure`, which starts some plans and lets them compete in so many rounds, gives in `rounds` rounds, shared
    out to several starts: two plans may differ by more from start to start than from round to round."""
    count = min(SITTINGS, rounds)
    sittings = [measure(rounds // count + (i < rounds % count)) for i in range(count)]
    return [_joined(trials) for trials in zip(*sittings, strict=True)]


def _joined(trials: Sequence[Trial]) -> Trial:
    """The trials of one plan as one."""
    rows: dict[object, list[MeasuredOps]] = {}
    for trial in trials:
        for row in trial.stages:
            rows.setdefault(row.what, []).append(row)
    return Trial(
        trials[0].names, trials[0].plan, tuple(rate for trial in trials for rate in trial.rates),
        tuple(loud for trial in trials for loud in trial.disturbed),
        tuple(over for trial in trials for over in trial.over_first), tuple(map(_joined_rows, rows.values())),
        statistics.median(trial.others_busy for trial in trials),
        tuple(map(statistics.median, zip(*(trial.loads_s for trial in trials), strict=True))),
    )  # fmt: skip


def _joined_rows(rows: Sequence[MeasuredOps]) -> MeasuredOps:
    """The measurements of one stage as one."""
    return rows[0].model_copy(update={
        **{name: statistics.median(getattr(row, name) for row in rows) for name in ("median_s", "low_s", "high_s")},
        "rounds": sum(row.rounds for row in rows), "others_busy": max(row.others_busy for row in rows),
        "noisy": any(row.noisy for row in rows),
    })  # fmt: skip


def _trial(names: tuple[str, ...], up: Observed, series: Series, first: Series, graph: Graph) -> Trial:
    rates, loud = _rounds(series)
    busy = statistics.median(r.others_busy for r in series.rounds)
    stages = stage_rows(up.plan, graph, up.computed[-len(rates) :], busy, noisy=sum(loud) > len(loud) / 2)
    loads = tuple(map(statistics.median, zip(*up.loads[-len(rates) :], strict=True)))
    over = tuple(_ratios(rates, loud, *_rounds(first)))
    return Trial(names, up.plan, rates, loud, over, stages, busy, loads)


def _rounds(series: Series) -> tuple[tuple[float, ...], tuple[bool, ...]]:
    """The rates of all rounds, and whether others disturbed them."""
    return tuple(r.timed.rate_per_s for r in series.rounds), tuple(r.disturbed for r in series.rounds)


def stage_rows(
    plan: Plan, graph: Graph, computed: Sequence[Sequence[float]], busy: float, *, noisy: bool = False
) -> tuple[MeasuredOps, ...]:
    """Measurements of the stages of `plan`, whose items took `computed` seconds by round and stage."""
    rows = []
    for stage, seconds in zip(plan.stages, zip(*computed, strict=True), strict=True):
        several = len(seconds) > 1
        low, median, high = statistics.quantiles(seconds, n=4, method="inclusive") if several else [seconds[0]] * 3
        if low <= 0:
            continue
        rows.append(MeasuredOps(
            ops=ranges([graph.position[name] for name in stage.ops]), residency="stream", source="stage",
            configuration=stage.replicas[0].configuration.name, median_s=median, low_s=low, high_s=high,
            rounds=len(seconds), others_busy=min(1.0, max(0.0, busy)), noisy=noisy or busy > LOUD,
        ))  # fmt: skip
    return tuple(rows)
