"""`mapper bench`: the plan against native, streams, pipelines and libraries' own ways, on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mapper.cli.machine import Cores, Groups, Reserve, machine_of
from mapper.cli.output import Backend, Json, Progress, Quiet, emit_json, emit_text
from mapper.cli.profile import Here
from mapper.cli.source import MODEL, Batch, Length, Seed, TrustFile, Weights, model_options

if TYPE_CHECKING:
    from mapper.plans.model import Plan

Plans = Annotated[
    list[Path] | None,
    typer.Option("--plan", help="A plan file to measure in place of the best plan (may be repeated; the first leads)."),
]
OpenLoad = Annotated[
    str | None,
    typer.Option("--arrivals", help="Poisson arrivals besides: items a second, such as 20 or 10,20,40, or auto: "
                 "50, 70 and 90 % of what the chosen plan manages."),
]  # fmt: skip


def bench_command(
    model: Annotated[str | None, MODEL] = None, plan: Plans = None, batch: Batch = 1, length: Length = None,
    weights: Weights = None, seed: Seed = None, trust: TrustFile = False,
    topo: Here = "host",
    cores: Cores = None, groups: Groups = None, reserve: Reserve = None,
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved rounds.")] = 15,
    seconds: Annotated[float, typer.Option(min=0.05, help="About how long a round of one alternative takes.")] = 1.5,
    backend: Backend = None,
    vendors: Annotated[
        bool, typer.Option("--vendors", help="Measure OpenVINO's and ONNX Runtime's own ways besides, where installed.")
    ] = False,
    arrivals: OpenLoad = None, json: Json = False,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write the comparison (JSON) here.")] = None,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """Measure the best plan for this machine against native, streams, pipelines and the library's own way, interleaved.

    All compute with the same back end; differences inside the noise are called that."""
    from mapper import jsonio
    from mapper.backends.registry import EAGER, backend_called
    from mapper.errors import UsageError
    from mapper.plans.source import graph_of_source
    from mapper.program.realise import TrustedSource
    from mapper.reports.bench import bench_text
    from mapper.study.arrivals import arrivals_of
    from mapper.study.bench import bench

    load = arrivals_of(arrivals, seed or 0) if arrivals is not None else None
    given = _given(plan or [], model, trust)
    options = model_options(batch, seed, weights, length)
    if given and options:
        raise UsageError(
            f"a plan says which {' and '.join(options)} it is for: leave the option{'s' * (len(options) > 1)} away"
        )
    if model is None and not given:
        raise UsageError("name a model or a plan: --model NAME or --plan FILE")
    wanted = backend or (given[0][1].request.backend if given else EAGER)
    backend_called(wanted).require(compiling=False)
    with Progress(quiet or json) as progress:
        asked = given[0][1].model if given else None
        source, options = (asked.source, dict(asked.options)) if asked is not None else (str(model), options)
        progress.say(f"Tracing {source} ...")
        graph, reference = graph_of_source(source, options, trust=trust)
        if trust:
            reference = reference.model_copy(update={"source": TrustedSource(reference.source)})
        machine = machine_of(topo, cores, groups, reserve)
        if given:
            batch = given[0][1].request.batch // given[0][1].request.micro_batches
        result = bench(graph, machine, reference, batch=batch, rounds=rounds,
                       seconds=seconds, backend=wanted, plans=given, vendors=vendors, arrivals=load,
                       progress=progress.say)  # fmt: skip
    if output is not None:
        jsonio.write_text(output, jsonio.dumps(jsonio.plain(result)))
    if json:
        emit_json(jsonio.plain(result))
    else:
        emit_text(bench_text(result))


def _given(files: list[Path], model: str | None, trust: bool) -> list[tuple[str, Plan]]:
    """The plans of `files`, each by its file's name. Raises: UsageError for those that cannot be compared."""
    from mapper.errors import UsageError
    from mapper.plans.file import load_plan
    from mapper.plans.source import trusted

    found: list[tuple[str, Plan]] = []
    for file in files:
        plan = trusted(load_plan(file), model=model, trust=trust)
        if found and plan.model.graph_sha256 != found[0][1].model.graph_sha256:
            raise UsageError(f"{file} is a plan of another model than {files[0]}, or of another batch or length")
        found.append((file.stem, plan))
    return found
