"""`mapper bench`: the plan against native, streams and a pipeline, on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mapper.cli.machine import Cores, Groups, Reserve, machine_of
from mapper.cli.output import Backend, Json, Progress, Quiet, emit_json
from mapper.cli.source import Batch, Model, Seed, Weights, model_options


def bench_command(
    model: Model,
    batch: Batch = 1,
    weights: Weights = None,
    seed: Seed = None,
    topo: Annotated[str, typer.Option(help="A description of this machine, such as a calibrated one.")] = "host",
    cores: Cores = None,
    groups: Groups = None,
    reserve: Reserve = None,
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved rounds.")] = 15,
    seconds: Annotated[float, typer.Option(min=0.05, help="About how long a round of one alternative takes.")] = 1.5,
    backend: Backend = None,
    json: Json = False,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write the comparison (JSON) here.")] = None,
    quiet: Quiet = False,
) -> None:
    """Measure the best plan for this machine against native, streams and a forced 2-stage pipeline, interleaved."""
    from mapper import jsonio
    from mapper.backends.registry import EAGER, backend_called
    from mapper.plans.source import graph_of_source
    from mapper.reports.bench import bench_text
    from mapper.study.bench import bench

    backend_called(backend or EAGER).require(compiling=False)
    with Progress(quiet or json) as progress:
        progress.say(f"Tracing {model} ...")
        graph, reference = graph_of_source(model, model_options(batch, seed, weights))
        machine = machine_of(topo, cores, groups, reserve)
        result = bench(graph, machine, reference, batch=batch, rounds=rounds, seconds=seconds,
                       backend=backend or EAGER, progress=progress.say)  # fmt: skip
    if output is not None:
        jsonio.write_text(output, jsonio.dumps(jsonio.plain(result)))
    if json:
        emit_json(jsonio.plain(result))
    else:
        typer.echo("\n".join(bench_text(result)))
