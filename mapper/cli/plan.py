"""`mapper plan`: graph and machine to plan."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mapper.cli.graph import (
    Bandwidth,
    GraphFile,
    Replicas,
    given_table,
    graph_of_file,
    most_replicas,
    refuse_model_options,
)
from mapper.cli.machine import SPEC, Cores, Groups, Reserve, machine_of
from mapper.cli.output import Json, Progress, emit_json, width

if TYPE_CHECKING:
    from mapper.cost.table import CostTable
    from mapper.graph.model import Graph
    from mapper.machine.model import Machine
    from mapper.plans.model import ModelRef, Plan
    from mapper.solver.problem import Limits

_MODEL = typer.Option(
    help="A model's name (mapper model list), a card file, package.module:callable, a .pt2 or .onnx file."
)
Model = Annotated[str, _MODEL]
Batch = Annotated[int, typer.Option(min=1, help="Elements per item: how many one call of the model takes.")]
Length = Annotated[int | None, typer.Option(min=1, help="Tokens per sequence, for text models [the card's].")]
TrustFile = Annotated[bool, typer.Option("--trust", help="Open a .pt2 file, which can run code of its maker.")]
Seed = Annotated[int | None, typer.Option(help="Of random weights [the card's].")]
Weights = Annotated[Path | None, typer.Option(help="A safetensors file with the model's weights.")]
Output = Annotated[Path | None, typer.Option("-o", "--output", help="Write the plan here.")]


def plan_command(
    model: Annotated[str | None, _MODEL] = None,
    graph: GraphFile = None,
    bandwidth: Bandwidth = None,
    topo: Annotated[str, typer.Option(help=SPEC)] = "host",
    cores: Cores = None,
    groups: Groups = None,
    reserve: Reserve = None,
    batch: Batch = 1,
    length: Length = None,
    lengths: Annotated[
        str | None, typer.Option(help="One plan for each of these sequence lengths, such as 32,128,512.")
    ] = None,
    weights: Weights = None,
    seed: Seed = None,
    trust: TrustFile = False,
    stages: Annotated[int | None, typer.Option(min=1, help="Exactly so many stages.")] = None,
    max_stages: Annotated[int | None, typer.Option(min=1, help="At most so many stages.")] = None,
    replicas: Replicas = None,
    max_cores: Annotated[int | None, typer.Option(min=1, help="Use at most so many cores.")] = None,
    max_latency: Annotated[str | None, typer.Option(help="Sum of the stage loads at most this, such as 50ms.")] = None,
    configurations: Annotated[
        str | None, typer.Option(help="Configurations to choose from (groups x cores of each), such as 1x4,2x4 [all].")
    ] = None,
    near_optimal: Annotated[
        str | None,
        typer.Option(help="Of plans so near the best period take the one with fewest stages [1%; 0 for such graphs]."),
    ] = None,
    json: Json = False,
    output: Output = None,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="No progress.")] = False,
) -> None:
    """Find the best mapping of a model (or a graph file) onto a machine, and say how good it is proved to be."""
    from mapper.errors import UsageError

    if (model is None) == (graph is None):
        raise UsageError("name either a model or a graph file: --model NAME or --graph FILE")
    machine = machine_of(topo, cores, groups, reserve)
    chosen = _lengths(lengths, length)
    made = []
    with Progress(quiet or json) as progress:
        for number in chosen:
            work, reference, table = _work(
                model, graph, bandwidth, machine, model_options(batch, seed, weights, number), trust, progress
            )
            copies = most_replicas(replicas, work.costed)
            limits = _limits(machine, stages, max_stages, copies, max_cores, max_latency, configurations)
            made.append(_plan(work, machine, table, reference, limits, batch, near_optimal, progress))
    _emit(made, [n for n in chosen if lengths is not None and n is not None], graph, output, json)


def _lengths(lengths: str | None, length: int | None) -> Sequence[int | None]:
    """The sequence lengths to plan for: those of `--lengths`, else the one of `--length` (None: the card's)."""
    from mapper.errors import UsageError

    if lengths is None:
        return [length]
    parts = [part.strip() for part in lengths.split(",")]
    if length is not None or not all(part.isdigit() and int(part) > 0 for part in parts):
        raise UsageError(f"--lengths {lengths}: numbers such as 32,128,512 were expected, and no --length beside them")
    return sorted({int(part) for part in parts})


def _work(
    model: str | None, graph: Path | None, bandwidth: str | None, machine: Machine, options: dict[str, Any],
    trust: bool, progress: Progress,
) -> tuple[Graph, ModelRef, CostTable | None]:  # fmt: skip
    """What is to be planned: the graph of a model or of a file, with the costs that a file brings."""
    from mapper.plans.source import graph_of_source

    if graph is not None:
        refuse_model_options(options)
        progress.say(f"Reading {graph} ...")
        work, reference = graph_of_file(graph)
        return work, reference, given_table(work, machine, bandwidth)
    progress.say(f"Tracing {model} ...")
    work, reference = graph_of_source(str(model), options, trust=trust)
    return work, reference, None


def _plan(
    work: Graph, machine: Machine, table: CostTable | None, reference: ModelRef, limits: Limits, batch: int,
    near_optimal: str | None, progress: Progress,
) -> Plan:  # fmt: skip
    from mapper.solver.plan import plan as make
    from mapper.units import parse_fraction

    return make(
        work, machine, costs=table, model=reference, batch=batch, progress=progress.say, limits=limits,
        near_optimal=parse_fraction(near_optimal or ("0" if work.costed else "1%")),
    )  # fmt: skip


def _emit(made: list[Plan], lengths: list[int], graph: Path | None, output: Path | None, json: bool) -> None:
    """The plan, or one for each of `lengths`: `plan.json` then becomes `plan.128.json` and so on."""
    from mapper.jsonio import plain
    from mapper.plans.file import save_plan
    from mapper.reports.plan import plan_text

    files = [output]
    if lengths:
        files = [output and output.parent / f"{output.stem}.{n}{output.suffix}" for n in lengths]
    for plan, file in zip(made, files, strict=True):
        if file is not None:
            save_plan(plan, file)
    if json:
        emit_json(
            {"lengths": dict(zip(map(str, lengths), map(plain, made), strict=True))} if lengths else plain(made[0])
        )
        return
    for i, (plan, file) in enumerate(zip(made, files, strict=True)):
        typer.echo("\n".join([*([""] if i else []), *plan_text(plan, width())]))
        if file is not None:
            after = f" --graph {graph}" if graph is not None else f" · mapper run {file}"
            typer.echo(f"Written to {file}. Next: mapper check {file}{after}")


def model_options(batch: int, seed: int | None, weights: Path | None, length: int | None = None) -> dict[str, Any]:
    """The options of a model that were given, as plans keep them."""
    given = {
        "batch": batch if batch != 1 else None, "length": length, "seed": seed,
        "weights": str(weights) if weights else None,
    }  # fmt: skip
    return {name: value for name, value in given.items() if value is not None}


def _limits(
    machine: Machine,
    stages: int | None,
    max_stages: int | None,
    replicas: int | None,
    max_cores: int | None,
    max_latency: str | None,
    configurations: str | None,
) -> Limits:
    from mapper.cost.configurations import configurations as known
    from mapper.cost.configurations import parse_configurations
    from mapper.solver.problem import Limits
    from mapper.units import parse_seconds

    return Limits(
        stages=stages, max_stages=max_stages, max_replicas=replicas, max_cores=max_cores,
        max_latency_s=parse_seconds(max_latency) if max_latency else None,
        configurations=parse_configurations(configurations, known(machine)) if configurations else None,
    )  # fmt: skip
