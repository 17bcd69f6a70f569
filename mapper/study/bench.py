"""`mapper bench`: the planned mapping against what people do without a planner, on this machine, same back end.

Who takes part is in `contenders`, how they are measured in `rounds`, what may be said of it in `verdict`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Literal

import torch

from mapper.backends.registry import EAGER, backend_called
from mapper.backends.threads import torch_threads
from mapper.errors import UsageError
from mapper.execution.place import Claim
from mapper.execution.reference import Reference
from mapper.graph.model import Graph
from mapper.jsonio import Record
from mapper.machine.model import Machine
from mapper.plans.latency import Latency, percentiles
from mapper.plans.model import ModelRef, Plan
from mapper.sources.source import Source, realised_source
from mapper.study.arrivals import Arrivals
from mapper.study.contenders import Field, contenders
from mapper.study.executed import ExecutedPlan, Items, references_of, started
from mapper.study.rounds import MOST_WARM, Round, Timed, fair, paired, watched
from mapper.study.seating import Course, Seat, Starter, measured, need_bytes
from mapper.study.statistics import Interval, median, median_interval
from mapper.study.vendors import Outside, SetUp, launched
from mapper.study.verdict import CONFIDENCE, Rival, Verdict, verdict

Progress = Callable[[str], None]


class Spread(Record):
    """Of the rounds that others did not disturb (of all where there are none): the median, the least, the largest."""

    median: float
    low: float
    high: float


class Ratio(Record):
    """Chosen over other, round by round: median and confidence interval; above 1 the chosen plan is faster."""

    median: float
    low: float
    high: float
    confidence: float


class OpenLoop(Record):
    """Under Poisson arrivals of `rate_per_s`: `completed_per_s`, the median of the rounds, and latencies of all `items`
    of the rounds that others did not disturb, in seconds from when an item was due. `overloaded`: items came faster
    than they were done, so that latencies grow for as long as one measures."""

    rate_per_s: float
    completed_per_s: float
    overloaded: bool
    items: int
    rounds: int
    disturbed_rounds: int
    latency_s: Latency


class BenchRow(Record):
    """One alternative. Rates are items a second; latency is in seconds from putting an item in to its output, with as
    many in flight as give this rate. `rates_per_s` and `others_busy` are by round; `disturbed_rounds` of them count in
    nothing else, but where fewer than six are left: the ratio is then that of all, and `ratio_disturbed` says so.
    `steady`: its rates had become so when the rounds began."""

    name: str
    names: tuple[str, ...]
    backend: str
    runs_in: str
    stages: int
    workers: int
    throughput_per_s: Spread
    predicted_throughput_per_s: float | None = None
    latency_s: Latency
    chosen_over_this: Ratio | None = None
    outputs_identical: bool
    steady: bool
    disturbed_rounds: int
    repeated_rounds: int
    ratio_disturbed: bool
    rates_per_s: tuple[float, ...]
    others_busy: tuple[float, ...]
    open_loop: tuple[OpenLoop, ...] = ()


class Bench(Record):
    """What a comparison gave. `counts` says of what rates are: items, or elements where a plan has items in
    micro-batches. `to_best` is the chosen plan against the best of the others with the same back end, 1 if
    they are one plan; `best_other` is picked in the warm-up. `at_least` is what the ratio to the best of them,
    whichever it is, is not below (95 %). Both are null where other programs left too few rounds alone. `others_busy` is
    the share of the cores that those took in the worst of the rounds that count."""

    model: str
    batch: int
    counts: Literal["items", "elements"] = "items"
    machine: str
    backend: str
    chosen: str
    rounds: int
    seconds: float
    items_per_round: dict[str, int]
    alternatives: tuple[BenchRow, ...]
    to_best: Ratio | None = None
    best_other: str
    at_least: float | None = None
    others_busy: float
    torch: str
    notes: tuple[str, ...]
    verdict: str


def bench(
    graph: Graph, machine: Machine, model: ModelRef, *, batch: int = 1, rounds: int = 15, seconds: float = 1.5,
    backend: str = EAGER, plans: Sequence[tuple[str, Plan]] = (), vendors: bool = False,
    arrivals: Arrivals | None = None, progress: Progress = lambda message: None,
) -> Bench:  # fmt: skip
    """Measures the best plan for `graph` on `machine`, this machine, against native, streams, pipelines, what torch's
    launcher sets up and the own ways of the library behind `backend`: `rounds` interleaved rounds of about `seconds`
    each, all with the same `backend`.

    `plans`, each with a name, take the place of the best plan; the first is what the others are compared with. `graph`
    is of one call, of `batch` elements. Where items of a plan are several calls, all rates are elements a second. With
    `vendors`, other libraries' own ways are measured, too. `arrivals` adds open-loop rounds.
    Raises: UsageError for arrivals of items of different sizes; PromiseBroken when an alternative's outputs are not the
    model's; what `plan` and `Executor` raise.
    """
    if rounds < 1:
        raise UsageError("a comparison needs at least one round")
    split = any(plan.request.micro_batches > 1 for _, plan in plans)
    if split and arrivals is not None:
        raise UsageError(
            "--arrivals compares items of one size, and a plan has items in micro-batches",
            advice="Leave it away, or give plans whose items are single calls.",
        )
    backend_called(backend).require(compiling=False)
    found = contenders(graph, machine, model, batch, backend, given=plans, vendors=vendors, say=progress)
    source = realised_source(found.plans[0][1])
    pus = [pu for core in machine.cores for pu in core.pus]
    starters = starters_of(found, machine, source, progress, elements=split)
    course = Course(rounds, seconds, arrivals)
    with torch_threads(1), Claim(pus):  # feeding must not start threads on the workers' cores
        seats, notes = measured(starters, course, watched(pus), progress)
    if split:
        found.notes.insert(0, f"rates are elements a second, since items differ in size: those of the alternatives are "
                              f"single calls of {batch}; latencies are of whole items")  # fmt: skip
    return _result(seats, machine, course, batch, [*found.notes, *notes])


def starters_of(
    found: Field, machine: Machine, source: Source, say: Progress, *, elements: bool = False
) -> list[Starter]:
    """All contenders, with what each needs to be started and checked. With `elements`, rates count these."""
    weights = sum(tensor.numel() * tensor.element_size() for tensor in source.weights.values())
    plans = [plan for _, plan in found.plans] + [plan for _, plan in found.outside]
    given = references_of(plans, source)
    starters = []
    for (names, plan), (items, outputs) in zip(found.plans, given, strict=False):
        unit = plan.request.batch if elements else 1
        start = partial(_start_plan, names, plan, source, machine, items, outputs, unit, say)
        workers = sum(len(stage.replicas) for stage in plan.stages)
        starters.append(Starter(" = ".join(names), need_bytes(plan, workers, weights, forked=True), start))
    for (set_up, plan), (items, outputs) in zip(found.outside, given[len(found.plans) :], strict=True):
        unit = plan.request.batch if elements else 1
        begin = partial(_start_outside, set_up, plan, source, items, outputs, unit, say)
        need = need_bytes(plan, set_up.instances, weights, forked=False)
        starters.append(Starter(set_up.name, need, begin, optional=True))
    return starters


def _start_plan(
    names: Sequence[str], plan: Plan, source: Source, machine: Machine, items: Items, outputs: Reference, unit: int,
    say: Progress, stack: ExitStack,
) -> ExecutedPlan:  # fmt: skip
    up = started(stack, names, plan, source, machine, items, say)
    up.unit = unit
    up.check(outputs)
    return up


def _start_outside(
    set_up: SetUp, plan: Plan, source: Source, items: Items, outputs: Reference, unit: int, say: Progress,
    stack: ExitStack,
) -> Outside:  # fmt: skip
    up = launched(stack, set_up, plan, source, items, say)
    up.unit = unit
    up.check(outputs)
    return up


def _result(seats: Sequence[Seat], machine: Machine, course: Course, batch: int, notes: list[str]) -> Bench:
    chosen = seats[0].contender
    assert isinstance(chosen, ExecutedPlan), "the first of the field is a plan"
    backend = chosen.plan.request.backend
    alike = [seat for seat in seats[1:] if seat.contender.plan.request.backend == backend]
    said = verdict([_rival(seat) for seat in alike], chosen.names[1:])
    words = said.words
    if others := [seat for seat in seats[1:] if seat not in alike]:
        beside = verdict([_rival(seat) for seat in others])
        words += f". Against other libraries' own ways: {beside.words}"
    unsteady = [seat.series.name for seat in seats if not seat.series.steady]
    if unsteady:
        notes.append(f"after {MOST_WARM} rounds of warm-up the rates of {', '.join(unsteady)} had not become steady")
    every = [r for seat in seats for r in seat.series.rounds]
    if disturbed := sum(r.disturbed for r in every):
        notes.append(f"other programs computed during {disturbed} of {len(every)} rounds: no verdict counts them")
    return Bench(
        model=chosen.plan.model.name, batch=batch, counts="items" if chosen.unit == 1 else "elements",
        machine=machine.title or machine.name, backend=backend, chosen=chosen.name, rounds=course.rounds,
        seconds=course.seconds, items_per_round={seat.series.name: seat.series.items for seat in seats},
        alternatives=tuple(_row(seat, said, seat is seats[0]) for seat in seats), to_best=_ratio(said.best),
        best_other=said.best_name, at_least=said.at_least, torch=torch.__version__, notes=tuple(notes), verdict=words,
        others_busy=max((r.others_busy for seat in seats for r in seat.series.clean), default=0.0),
    )  # fmt: skip


def _rival(seat: Seat) -> Rival:
    warm = median(seat.chosen.warm[-3:]) / median(seat.series.warm[-3:])
    return Rival(seat.series.name, tuple(paired(seat.chosen, seat.series)), warm)


def _row(seat: Seat, said: Verdict, is_chosen: bool) -> BenchRow:
    contender, series = seat.contender, seat.series
    plan, inside = contender.plan, isinstance(contender, ExecutedPlan)
    ratios, marked = ([], False) if is_chosen else fair(seat.chosen, series)
    latencies = series.latencies_s
    return BenchRow(
        name=series.name, names=tuple(contender.names) if isinstance(contender, ExecutedPlan) else (series.name,),
        backend=plan.request.backend, runs_in="mapper's workers" if inside else _runs_in(contender),
        stages=len(plan.stages), workers=sum(len(stage.replicas) for stage in plan.stages),
        throughput_per_s=Spread(median=median(series.rates), low=min(series.rates), high=max(series.rates)),
        predicted_throughput_per_s=contender.unit * plan.predicted.throughput_per_s if inside else None,
        latency_s=percentiles(latencies),
        chosen_over_this=_ratio(median_interval(ratios, CONFIDENCE)) if ratios else None,
        outputs_identical=contender.identical, steady=series.steady,
        disturbed_rounds=sum(r.disturbed for r in series.rounds),
        repeated_rounds=sum(r.repeats > 0 for r in series.rounds),
        ratio_disturbed=marked, rates_per_s=tuple(r.timed.rate_per_s for r in series.rounds),
        others_busy=tuple(r.others_busy for r in series.rounds),
        open_loop=tuple(_open_loop(rate, rounds) for rate, rounds in seat.open.items()),
    )  # fmt: skip


def _runs_in(contender: ExecutedPlan | Outside) -> str:
    assert isinstance(contender, Outside), "plans run in workers"
    return "torch's launcher" if contender.set_up.launcher else "a process of its own"


def _open_loop(rate: float, rounds: Sequence[Round]) -> OpenLoop:
    clean = [r for r in rounds if not r.disturbed] or list(rounds)
    completed = median([r.timed.rate_per_s for r in clean])
    latencies = [latency for r in clean for latency in r.timed.latencies_s]
    too_much = sum(overloaded(r.timed) for r in clean) > len(clean) / 2
    return OpenLoop(
        rate_per_s=rate, completed_per_s=completed, overloaded=too_much, items=len(latencies),
        rounds=len(rounds), disturbed_rounds=sum(r.disturbed for r in rounds), latency_s=percentiles(latencies),
    )  # fmt: skip


def overloaded(timed: Timed) -> bool:
    """Whether an open-loop round looks like a queue that only grows: items wait longer from third to third, and in the
    end half as long again as at first; or most of them waited for more than half of the round."""
    latencies = timed.latencies_s
    third = max(1, len(latencies) // 3)
    parts = latencies[:third], latencies[third:-third] or latencies, latencies[-third:]
    first, middle, last = map(median, parts)
    grows = first < middle < last and last > 1.5 * first
    return grows or median(latencies) > 0.5 * len(latencies) / timed.rate_per_s


def _ratio(interval: Interval | None) -> Ratio | None:
    if interval is None:
        return None
    return Ratio(median=interval.median, low=interval.low, high=interval.high, confidence=interval.level)
