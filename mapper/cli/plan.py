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
from mapper.cli.limits import (
    Aim,
    Apart,
    Configurations,
    MaxCores,
    MaxLatency,
    MaxStages,
    MinThroughput,
    NearOptimal,
    NodeMemory,
    Stages,
    TimeLimit,
    Together,
    limits_of,
    objective_of,
)
from mapper.cli.machine import SPEC, Cores, Groups, Reserve, machine_of
from mapper.cli.output import Json, Progress, emit_json, width
from mapper.cli.source import MODEL, Batch, Length, Seed, TrustFile, Weights, model_options

if TYPE_CHECKING:
    from mapper.cost.table import CostTable
    from mapper.graph.model import Graph
    from mapper.machine.model import Machine
    from mapper.plans.model import ModelRef, Plan
    from mapper.solver.problem import Limits, Objective

AnyModel = Annotated[str | None, MODEL]
Lengths = Annotated[str | None, typer.Option(help="One plan for each of these sequence lengths, such as 32,128,512.")]
Output = Annotated[Path | None, typer.Option("-o", "--output", help="Write the plan here.")]


def plan_command(
    model: AnyModel = None,
    graph: GraphFile = None,
    bandwidth: Bandwidth = None,
    topo: Annotated[str, typer.Option(help=SPEC)] = "host",
    cores: Cores = None,
    groups: Groups = None,
    reserve: Reserve = None,
    batch: Batch = 1,
    length: Length = None,
    lengths: Lengths = None,
    weights: Weights = None,
    seed: Seed = None,
    trust: TrustFile = False,
    objective: Aim = "throughput",
    stages: Stages = None,
    max_stages: MaxStages = None,
    replicas: Replicas = None,
    max_cores: MaxCores = None,
    max_latency: MaxLatency = None,
    min_throughput: MinThroughput = None,
    memory_per_node: NodeMemory = None,
    together: Together = None,
    apart: Apart = None,
    configurations: Configurations = None,
    near_optimal: NearOptimal = None,
    time_limit: TimeLimit = None,
    json: Json = False,
    output: Output = None,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="No progress.")] = False,
) -> None:
    """Find the best mapping of a model (or a graph file) onto a machine, and say how good it is proved to be."""
    from mapper.errors import UsageError

    if (model is None) == (graph is None):
        raise UsageError("name either a model or a graph file: --model NAME or --graph FILE")
    machine, aim = machine_of(topo, cores, groups, reserve), objective_of(objective)
    chosen = _lengths(lengths, length)
    made = []
    with Progress(quiet or json) as progress:
        for number in chosen:
            work, reference, table = _work(
                model, graph, bandwidth, machine, model_options(batch, seed, weights, number), trust, progress
            )
            limits = limits_of(
                machine, stages=stages, max_stages=max_stages, replicas=most_replicas(replicas, work.costed),
                max_cores=max_cores, max_latency=max_latency, min_throughput=min_throughput, memory=memory_per_node,
                together=together, apart=apart, configurations=configurations,
            )  # fmt: skip
            made.append(_plan(work, machine, table, reference, aim, limits, batch, near_optimal, time_limit, progress))
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
    work: Graph, machine: Machine, table: CostTable | None, reference: ModelRef, objective: Objective, limits: Limits,
    batch: int, near_optimal: str | None, time_limit: str | None, progress: Progress,
) -> Plan:  # fmt: skip
    from mapper.solver.plan import plan as make
    from mapper.units import parse_fraction, parse_seconds

    return make(
        work, machine, costs=table, model=reference, batch=batch, progress=progress.say, objective=objective,
        limits=limits, near_optimal=parse_fraction(near_optimal or ("0" if work.costed else "1%")),
        time_limit_s=parse_seconds(time_limit) if time_limit else None,
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
