"""`mapper run`: execute a plan on this machine, measure it, and compare its outputs with the unsplit model."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mapper.cli.output import Backend, Json, NamedModel, PlanFile, Progress, Quiet, Trust, emit_json, emit_text
from mapper.cli.simulate import Trace, write_timeline
from mapper.cli.source import opened_plan
from mapper.errors import UsageError
from mapper.units import parse_seconds

if TYPE_CHECKING:
    from mapper.execution.run import Measurement
    from mapper.plans.model import Plan

Seconds = Annotated[str, typer.Option(help="Longest time without a result, such as 10min; 0: no limit.")]
Tolerance = Annotated[
    float | None,
    typer.Option(help="Largest difference of outputs, relative to their largest magnitude [the back end's]."),
]


PARTS, PART_S = 32, 0.5
"""Of how many parts of a run the rates are shown, and how long each is at least."""
Outputs = Annotated[
    list[Path] | None,
    typer.Option(
        "-o", "--output", help="FILE.npz: write the outputs there; any other: the measurement (JSON). Or both."
    ),
]


def run_command(
    plan: PlanFile,
    model: NamedModel = None,
    trust: Trust = False,
    items: Annotated[int | None, typer.Option(min=1, help="Items to measure [100; of a file: all, once].")] = None,
    warmup: Annotated[
        int | None,
        typer.Option(min=0, help="Items before them [as many as are in flight, and 4; of a file: none]."),
    ] = None,
    given: Annotated[
        Path | None, typer.Option("--input", help="An .npz file of items, with arrays called like the model's inputs.")
    ] = None,
    compare: Annotated[
        int | None,
        typer.Option(min=1, help="So many different items are compared with the unsplit model [all; of a file: 4]."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the random items.")] = 0,
    backend: Backend = None,
    tolerance: Tolerance = None,
    timeout: Seconds = "10min",
    remap: Annotated[
        bool, typer.Option("--remap", help="Place a plan for another machine where there is room.")
    ] = False,
    oversubscribe: Annotated[
        bool, typer.Option("--oversubscribe", help="Share cores where there are too few: for results, not for times.")
    ] = False,
    profile: Annotated[
        Path | None, typer.Option(help="Write the measured loads of the stages here, for mapper plan --costs.")
    ] = None,
    logs: Annotated[Path | None, typer.Option(help="A folder for what workers print.")] = None,
    trace: Trace = None,
    json: Json = False,
    output: Outputs = None,
    quiet: Quiet = False,
) -> None:
    """Execute a plan or a bundle on this machine; exit code 9 when outputs are not those of the unsplit model."""
    import numpy  # noqa: F401  (before torch, which swallows a Ctrl-C that comes while it imports numpy itself)

    from mapper.execution.run import OutputsDiffer, run

    if profile is not None and (remap or oversubscribe):
        raise UsageError("loads on other cores than the planned ones say nothing of them",
                         advice="Leave out --profile, or plan for this machine.")  # fmt: skip
    results, measured = targets(output or [])
    loaded, bundle = opened_plan(plan, model, trust)
    with Progress(quiet) as line:
        line.say("Computing the reference, starting workers ...")
        try:
            measurement = run(
                loaded, bundle, items=items, warmup=warmup, inputs=given, results=results, compare=compare, seed=seed,
                tolerance=tolerance, remap=remap, oversubscribe=oversubscribe, timeout_s=parse_seconds(timeout) or None,
                backend=backend, logs=logs, timeline=None if trace is None else partial(write_timeline, trace),
                say=line.say, progress=Rate(line.say, lambda: line.room).told,
            )  # fmt: skip
        except OutputsDiffer as error:
            line.clear()
            emit_measurement(error.measurement, json, measured, [measured])
            raise
    _record(profile, loaded, measurement)
    emit_measurement(measurement, json, measured, [results, measured, profile, trace])


def _record(profile: Path | None, plan: Plan, measurement: Measurement) -> None:
    """Adds what the stages took to the profile file, if there is to be one."""
    if profile is None:
        return
    from mapper.measure.profile import add_to, recorded

    add_to(profile, recorded(plan, measurement))


def targets(outputs: list[Path]) -> tuple[Path | None, Path | None]:
    """Where the outputs go, and where the measurement. Raises: UsageError when two files are to take the same."""
    results = [path for path in outputs if path.suffix == ".npz"]
    measured = [path for path in outputs if path.suffix != ".npz"]
    if len(results) > 1 or len(measured) > 1:
        raise UsageError("-o takes one .npz file for the outputs and one other file for the measurement")
    return next(iter(results), None), next(iter(measured), None)


class Rate:
    """Tells how far a run is, the rate of the last second or more, and as a line how it went before, as far back as
    there is `room` for in the columns of the terminal; at most ten times a second."""

    def __init__(
        self, say: Callable[[str], None], room: Callable[[], int], now: Callable[[], float] = time.monotonic
    ) -> None:
        self.say, self.room, self.now = say, room, now
        self.seen: deque[tuple[float, int]] = deque()
        self.next_s = 0.0
        self.rates: deque[float] = deque(maxlen=PARTS)
        self.part: tuple[float, int] | None = None

    def told(self, done: int, total: int) -> None:
        """`done` of `total` items are there."""
        from mapper.units import format_rate

        now = self.now()
        if now < self.next_s and done < total:
            return
        self.next_s = now + 0.1
        self.seen.append((now, done))
        while len(self.seen) > 2 and self.seen[1][0] <= now - 1:
            self.seen.popleft()
        since, before = self.seen[0]
        rate = f", {format_rate((done - before) / (now - since))} items/s" if now > since else ""
        told = f"{done} of {total} items{rate}"
        self.say(f"{told}{self._line(now, done, self.room() - len(told) - 2)}")

    def _line(self, now: float, done: int, columns: int) -> str:
        """The rates of the last parts of the run, each of half a second or more, from 0 to the highest; nothing where
        there are no two columns for it."""
        from mapper.reports.lines import sparkline

        begun, before = self.part or (now, done)
        if self.part is None or now - begun >= PART_S:
            self.rates += [(done - before) / (now - begun)] if self.part else []
            self.part = now, done
        last = list(self.rates)[-columns:] if columns > 1 else []
        return f"  {sparkline(last)}" if len(last) > 1 else ""


def emit_measurement(measurement: Measurement, json: bool, output: Path | None, written: list[Path | None]) -> None:
    """Prints what was measured, and writes it to `output`; `written` are the files to mention."""
    from mapper import jsonio

    document = measurement.model_dump(mode="json")
    if output is not None:
        jsonio.write_text(output, jsonio.dumps(document))
    if json:
        emit_json(document)
        return
    emit_text([*answer(measurement), "", *stages_text(measurement)])
    for path in filter(None, written):
        typer.echo(f"Written to {path}.")


def answer(measurement: Measurement) -> list[str]:
    """What matters, in lines: rate, latency, whether the outputs are right."""
    from mapper.reports.lines import Styled
    from mapper.units import format_rate, format_seconds

    m, latency = measurement, measurement.latency_s
    outputs = "outputs" if m.items_compared == m.items else f"{m.items_compared} of {m.items} outputs compared, these"
    if m.outputs_identical:
        verdict = f"{outputs} identical to those of {m.compared_with}"
    elif m.outputs_within_tolerance:
        verdict = f"{outputs} within tolerance {m.tolerance:g} of those of {m.compared_with}"
    else:
        gap = "not a number" if m.max_abs_difference is None else f"up to {m.max_abs_difference:.3g}"
        verdict = f"{outputs} differ from those of {m.compared_with} by {gap}"
    told = f"{format_rate(m.throughput_per_s)} items/s, {format_seconds(latency.p50)} an item, {verdict}"
    return [
        Styled.made((told, "answer")),
        f"{m.model}: {m.items} items after {m.warmup} to warm up, {m.window} in flight, back end {m.backend}; latency "
        f"p90 {format_seconds(latency.p90)}, p99 {format_seconds(latency.p99)}",
        f"predicted: {format_rate(m.predicted_throughput_per_s)} items/s, "
        f"{format_seconds(m.predicted_latency_s)} an item",
        *_accuracy(m),
        *(f"Note: {note}." for note in m.notes),
    ]


def _accuracy(m: Measurement) -> list[str]:
    """How near the outputs are to float32's, where fewer bits computed them."""
    if m.accuracy is None:
        return []
    largest, mean = m.accuracy.max_relative_difference, m.accuracy.mean_relative_difference
    top = m.accuracy.top1_agreement
    told = [
        "" if largest is None else f"largest difference {largest:.2g} of the largest magnitude",
        "" if mean is None else f"mean difference {mean:.2g} of the mean magnitude",
        f"cosine {m.accuracy.cosine_similarity:.5f}",
        "" if top is None else f"the same largest element in {top:.1%} of the rows",
    ]
    return [f"against float32, {m.accuracy.items} items: {', '.join(filter(None, told))}"]


def stages_text(measurement: Measurement) -> list[str]:
    """Load and waiting of each stage, a row each; bars are loads shared by the copies."""
    from mapper.machine.pus import format_pus
    from mapper.reports.table import table
    from mapper.units import format_seconds

    each = [stage.load_s / stage.replicas for stage in measurement.stages]
    rows = []
    for stage in measurement.stages:
        pus = sorted({pu for worker in measurement.workers if worker.stage == stage.id for pu in worker.pus})
        times: list[Any] = [stage.load_s, stage.predicted_load_s, stage.wait_in_s, stage.wait_out_s]
        rows.append([str(stage.id), str(stage.replicas), format_pus(pus), *map(format_seconds, times)])
    head = ["stage", "copies", "PUs", "load", "predicted", "waits for items", "waits for room"]
    roles = {i: f"stage {stage.id}" for i, stage in enumerate(measurement.stages)}
    return table(
        head, rows, right="013456", indent="", fold="46", roles=roles,
        bars=[seconds / max(each) if max(each) else 0.0 for seconds in each] if len(each) > 1 else [],
    )  # fmt: skip
