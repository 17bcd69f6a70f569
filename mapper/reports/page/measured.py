"""Files of what was measured of a plan, or simulated, read and set beside what the plan predicts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mapper.cost.profile import MeasuredOps, Profile
from mapper.errors import BadInput
from mapper.execution.measurement import Measurement
from mapper.plans.model import Plan, Stage
from mapper.reports.page.charts import Bar, Bars, Segment, Table, rate_told
from mapper.simulator.result import Simulated
from mapper.study.bench import Bench, BenchRow
from mapper.study.results import load_measured
from mapper.units import format_rate, format_seconds

Found = Measurement | Bench | Simulated | Profile


@dataclass(frozen=True)
class Given:
    """A file of measurements: what it is called, and what is in it."""

    name: str
    found: Found


def read(paths: Sequence[str | Path], plan: Plan) -> tuple[Given, ...]:
    """The measurements of `plan` in `paths`. Raises: BadInput for other files, and for those of other plans."""
    out = []
    for path in map(Path, paths):
        given = Given(path.name, load_measured(path))
        if wrong := _foreign(given.found, plan):
            raise BadInput(str(path), wrong, advice="A report shows one plan with what was measured of it.")
        out.append(given)
    return tuple(out)


def _foreign(found: Found, plan: Plan) -> str:
    """Why `found` is not of `plan`; empty where it is."""
    if isinstance(found, Profile):
        return "" if found.graph_sha256 == plan.model.graph_sha256 else "it is a profile of another model"
    if isinstance(found, Bench):
        return "" if found.model == plan.model.name else f"it is of {found.model}, the plan is of {plan.model.name}"
    loads = [stage.load.total_s for stage in plan.stages]
    given = [stage.predicted_load_s for stage in found.stages]
    same = len(loads) == len(given) and all(math.isclose(a, b) for a, b in zip(loads, given, strict=True))
    return "" if same else "it is of another plan: its stages or their predicted loads are others"


def beside_prediction(plan: Plan, given: Sequence[Given]) -> Bars | None:
    """Two bars or more a stage: its load as predicted, and as each file has it. None where no file tells of stages."""
    rows: list[Bar] = []
    for stage in plan.stages:
        seen = list(_seen(plan, stage, given))
        if not seen:
            continue
        value = stage.load.total_s
        tip = f"stage {stage.id}, predicted: {format_seconds(value)}"
        rows.append(Bar(f"stage {stage.id}, predicted", (Segment(value, tip, stage.id),), format_seconds(value)))
        rows += seen
    return Bars("seconds of an item in a stage", tuple(rows), format_seconds) if rows else None


def _seen(plan: Plan, stage: Stage, given: Sequence[Given]) -> Iterator[Bar]:
    """The load of `stage` in each of the files that have it."""
    several = len([one for one in given if not isinstance(one.found, Bench)]) > 1
    for one in given:
        loads: list[tuple[str, float, tuple[float, float] | None]] = []
        if isinstance(one.found, Measurement | Simulated):
            seconds = next(row.load_s for row in one.found.stages if row.id == stage.id)
            loads = [("simulated" if isinstance(one.found, Simulated) else "measured", seconds, None)]
        elif isinstance(one.found, Profile):
            loads = [("profiled", row.median_s, (row.low_s, row.high_s)) for row in _of_stage(one.found, stage)]
        for word, seconds, span in loads:
            over = seconds / stage.load.total_s if stage.load.total_s else math.inf
            told = f"{format_seconds(seconds)}, × {over:.2f}"
            tip = f"stage {stage.id}, {word} ({one.name}): {told} of what is predicted"
            name = f"{word} ({one.name})" if several else word
            yield Bar(name, (Segment(seconds, tip, stage.id, 2),), told, span, below=True)


def _of_stage(profile: Profile, stage: Stage) -> Iterator[MeasuredOps]:
    """What a profile has of the ops of `stage` as they ran in it."""
    config = stage.replicas[0].configuration.name
    ops = set(stage.ops)
    for row in profile.measurements:
        if row.source == "stage" and row.configuration == config and set(profile.names(row)) == ops:
            yield row


def figures(plan: Plan, given: Sequence[Given]) -> Table:
    """Rate and latency: predicted, simulated, measured."""
    its = plan.predicted
    rows = [("the plan", "predicted", format_rate(its.throughput_per_s), "1", format_seconds(its.latency_s), "", "")]
    for one in given:
        if isinstance(one.found, Measurement | Simulated):
            word = "simulated" if isinstance(one.found, Simulated) else "measured"
            over = one.found.throughput_per_s / its.throughput_per_s
            latency = one.found.latency_s
            rows.append(
                (
                    one.name,
                    word,
                    format_rate(one.found.throughput_per_s),
                    f"{over:.3f}",
                    format_seconds(latency.p50),
                    format_seconds(latency.p90),
                    format_seconds(latency.p99),
                )
            )
    heads = ("", "", "items a second", "over predicted", "latency (median)", "90 %", "99 %")
    return Table(heads, tuple(rows), (2, 3, 4, 5, 6))


def notes(given: Sequence[Given]) -> tuple[str, ...]:
    """What should be known of the files: who was beside, whether outputs were right, what they note themselves."""
    return tuple(f"{one.name}: {line}" for one in given for line in _notes(one.found))


def _notes(found: Found) -> Iterator[str]:
    if isinstance(found, Measurement):
        right = "different from"
        if found.outputs_within_tolerance:
            right = "identical to" if found.outputs_identical else "within tolerance of"
        yield (f"{found.items} items with {found.backend}, {found.items_compared} of the outputs compared, {right} "
               f"those of {found.compared_with}.")  # fmt: skip
        if not any("other processes" in note for note in found.notes):
            yield f"Other processes took {found.others_busy:.0%} of the plan's PUs."
    elif isinstance(found, Bench):
        yield (f"{found.rounds} interleaved rounds with {found.backend}: {found.verdict}; other processes took up to "
               f"{found.others_busy:.0%} of the cores.")  # fmt: skip
    elif isinstance(found, Profile):
        yield f"{len(found.measurements)} measurements with {found.backend} on {found.machine.name}."
    else:
        yield f"{found.items} items simulated, {found.arrivals}, jitter {found.spread:.0%}."
    if not isinstance(found, Simulated):
        yield from (f"{note}." for note in found.notes)


def compared(given: Sequence[Given]) -> tuple[tuple[str, Bars], ...]:
    """For each comparison of `mapper bench` its name and a bar an alternative, with the range of its rounds."""
    return tuple((one.name, _bench(one.found)) for one in given if isinstance(one.found, Bench))


def _bench(found: Bench) -> Bars:
    rows = []
    for row in found.alternatives:
        rows += list(_alternative(row, found.counts, row.name == found.chosen))
    return Bars(f"{found.counts} a second: the median of the rounds, and their range", tuple(rows), rate_told)


def _alternative(row: BenchRow, counts: str, chosen: bool) -> Iterator[Bar]:
    rate = row.throughput_per_s
    told = f"{format_rate(rate.median)}/s"
    tip = f"{row.name}, measured: {told} ({format_rate(rate.low)} to {format_rate(rate.high)}) {counts}"
    yield Bar(row.name, (Segment(rate.median, tip, None, 0 if chosen else 2),), told, (rate.low, rate.high))
    if row.predicted_throughput_per_s is not None:
        told = f"{format_rate(row.predicted_throughput_per_s)}/s"
        tip = f"{row.name}, predicted: {told}"
        yield Bar("predicted", (Segment(row.predicted_throughput_per_s, tip, None, 3),), told, below=True)
