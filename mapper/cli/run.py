"""`mapper run`: execute a plan on this machine, measure it, and compare its outputs with the unsplit model."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mapper.cli.output import Backend, Json, NamedModel, PlanFile, Progress, Quiet, Trust, emit_json, emit_rich

if TYPE_CHECKING:
    from mapper.execution.run import Measurement

Seconds = Annotated[str, typer.Option(help="Longest time without a result, such as 10min; 0: no limit.")]
Tolerance = Annotated[
    float | None,
    typer.Option(help="Largest difference of outputs, relative to their largest magnitude [the back end's]."),
]


def run_command(
    plan: PlanFile,
    model: NamedModel = None,
    trust: Trust = False,
    items: Annotated[int, typer.Option(min=1, help="Items to measure.")] = 100,
    warmup: Annotated[
        int | None, typer.Option(min=0, help="Items before them [as many as are in flight, and 4].")
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
    json: Json = False,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write the measurement (JSON) here.")] = None,
    quiet: Quiet = False,
) -> None:
    """Execute a plan or a bundle on this machine; exit code 9 when outputs are not those of the unsplit model."""
    from mapper.execution.bundle import open_bundle
    from mapper.execution.run import OutputsDiffer, run
    from mapper.plans.file import load_plan
    from mapper.plans.source import trusted
    from mapper.units import parse_seconds

    limit = parse_seconds(timeout) or None
    bundle = open_bundle(plan) if plan.is_dir() else None
    loaded = bundle.plan if bundle is not None else trusted(load_plan(plan), model=model, trust=trust)
    with Progress(quiet) as line:
        line.say("Computing the reference, starting workers ...")
        try:
            measurement = run(
                loaded, bundle, items=items, warmup=warmup, seed=seed, tolerance=tolerance, remap=remap,
                oversubscribe=oversubscribe, timeout_s=limit, backend=backend, say=line.say,
                progress=lambda done, total: _show(line, done, total),
            )  # fmt: skip
        except OutputsDiffer as error:
            line.clear()
            _emit(error.measurement, json, output)
            raise
    _emit(measurement, json, output)


def _show(line: Progress, done: int, total: int) -> None:
    """Tells how far a run is, some hundreds of times at most."""
    if done == total or done % max(1, total // 200) == 0:
        line.say(f"{done} of {total} items")


def _emit(measurement: Measurement, json: bool, output: Path | None) -> None:
    from mapper import jsonio

    document = measurement.model_dump(mode="json")
    if output is not None:
        jsonio.write_text(output, jsonio.dumps(document))
    if json:
        emit_json(document)
        return
    typer.echo("\n".join(answer(measurement)))
    _table(measurement)
    if output is not None:
        typer.echo(f"Written to {output}.")


def answer(measurement: Measurement) -> list[str]:
    """What matters, in lines: rate, latency, whether the outputs are right."""
    from mapper.units import format_rate, format_seconds

    m, latency = measurement, measurement.latency_s
    if m.outputs_identical:
        verdict = f"outputs identical to those of {m.compared_with}"
    elif m.outputs_within_tolerance:
        verdict = f"outputs within tolerance {m.tolerance:g} of those of {m.compared_with}"
    else:
        gap = "not a number" if m.max_abs_difference is None else f"up to {m.max_abs_difference:.3g}"
        verdict = f"outputs differ from those of {m.compared_with} by {gap}"
    return [
        f"{format_rate(m.throughput_per_s)} items/s, {format_seconds(latency.p50)} an item, {verdict}",
        f"{m.model}: {m.items} items after {m.warmup} to warm up, {m.window} in flight, back end {m.backend}; latency "
        f"p90 {format_seconds(latency.p90)}, p99 {format_seconds(latency.p99)}",
        f"predicted: {format_rate(m.predicted_throughput_per_s)} items/s, "
        f"{format_seconds(m.predicted_latency_s)} an item",
        *(f"Note: {note}." for note in m.notes),
    ]


def _table(measurement: Measurement) -> None:
    """Load and waiting of each stage: lines and colour on a terminal, plain columns in a pipe."""
    from rich import box
    from rich.table import Table

    from mapper.machine.pus import format_pus
    from mapper.units import format_seconds

    table = Table(box=box.SIMPLE_HEAD if sys.stdout.isatty() else None, pad_edge=False)
    for title in ("stage", "copies", "PUs", "load", "predicted", "waits for items", "waits for room"):
        table.add_column(title, justify="left" if title == "PUs" else "right", no_wrap=True)
    busiest = max(measurement.stages, key=lambda stage: stage.load_s / stage.replicas)
    for stage in measurement.stages:
        pus = sorted({pu for worker in measurement.workers if worker.stage == stage.id for pu in worker.pus})
        times: list[Any] = [stage.load_s, stage.predicted_load_s, stage.wait_in_s, stage.wait_out_s]
        table.add_row(
            str(stage.id), str(stage.replicas), format_pus(pus), *map(format_seconds, times),
            style="bold" if stage is busiest and len(measurement.stages) > 1 else None,
        )  # fmt: skip
    emit_rich(table)
