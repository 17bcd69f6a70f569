"""`mapper plan`: graph and machine to plan."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mapper.cli.costs import Costs
from mapper.cli.front import PARETO, Precision, plan_given_front, refuse_precision
from mapper.cli.graph import Bandwidth, GraphFile, Replicas
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
    objective_of,
)
from mapper.cli.machine import Cores, Groups, Hosts, LinkOption, Reserve, Topo, machine_of
from mapper.cli.output import Backend, Json, Progress, Quiet, emit_json, emit_text, width
from mapper.cli.peers import Against, ObjectiveModel, Planner, Strategy, require_known, rivals_document
from mapper.cli.problem import ProblemFile, ProblemOut, plan_given_problem
from mapper.cli.source import MODEL, Columns, Length, Seed, TrustFile, Weights

if TYPE_CHECKING:
    from mapper.cli.planning import Made
    from mapper.plans.model import Plan

AnyModel = Annotated[str | None, MODEL]
AnyBatch = Annotated[str, typer.Option("--batch", help="Elements per item, or auto: as many as give the best rate.")]
MicroBatches = Annotated[
    str, typer.Option(help="Split an item into so many calls of the model, one behind the other; auto: what is best.")
]
Lengths = Annotated[str | None, typer.Option(help="One plan for each of these sequence lengths, such as 32,128,512.")]
Output = Annotated[Path | None, typer.Option("-o", "--output", help="Write the plan here.")]


def plan_command(
    context: typer.Context, model: AnyModel = None, graph: GraphFile = None, problem: ProblemFile = None,
    bandwidth: Bandwidth = None, topo: Topo = "host", cores: Cores = None,
    groups: Groups = None, reserve: Reserve = None, hosts: Hosts = None, link: LinkOption = None, batch: AnyBatch = "1",
    micro_batches: MicroBatches = "1", length: Length = None,
    lengths: Lengths = None, columns: Columns = None,
    weights: Weights = None, seed: Seed = None, trust: TrustFile = False,
    objective: Aim = "throughput",
    stages: Stages = None, max_stages: MaxStages = None, replicas: Replicas = None, max_cores: MaxCores = None,
    max_latency: MaxLatency = None, min_throughput: MinThroughput = None, memory_per_node: NodeMemory = None,
    together: Together = None, apart: Apart = None, configurations: Configurations = None,
    near_optimal: NearOptimal = None, precision: Precision = None, time_limit: TimeLimit = None,
    planner: Planner = "optimal", placement: Strategy = "optimal", against: Against = None,
    objective_model: ObjectiveModel = None, backend: Backend = None, costs: Costs = None,
    json: Json = False, output: Output = None, problem_out: ProblemOut = None,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """Find the best mapping of a model (or a graph file) onto a machine, and say how good it is proved to be."""
    from mapper.cli.planning import Asked, planned
    from mapper.errors import UsageError
    from mapper.solver.stop import Stop
    from mapper.units import parse_seconds

    if objective == PARETO:
        plan_given_front(context)
        return
    refuse_precision(precision)
    if problem is not None:
        plan_given_problem(problem, context)
        return
    if (model is None) == (graph is None):
        raise UsageError("name a model, a graph or a problem file: --model NAME or --graph FILE, or --problem FILE")
    _require_known(backend, graph)
    objective_of(objective)
    asked, machine = Asked.of(context.params), machine_of(topo, cores, groups, reserve, hosts, link)
    require_known(graph, objective, objective_model, planner, placement, against)
    stop = Stop(parse_seconds(time_limit) if time_limit else None)
    with Progress(quiet or json) as progress:
        made = [_for(backend, planned(asked, machine, size, stop, progress)) for size in asked.sizes()]
    _emit(made, [n for n in asked.sizes() if lengths is not None and n is not None], graph, output, json)
    if stop.interrupted:
        raise KeyboardInterrupt


def _require_known(backend: str | None, graph: Path | None) -> None:
    """Raises UsageError for a back end that is not there, or where nothing can be computed."""
    from mapper.backends.registry import backend_called
    from mapper.errors import UsageError

    if backend is not None:
        backend_called(backend)
        if graph is not None:
            raise UsageError("--backend says what computes a model; a graph file has nothing that could be computed")


def _for(backend: str | None, made: Made) -> Made:
    """The same plan, to be computed by `backend`, else by the one that its costs are of."""
    name = backend or made.plan.request.costs.get("backend")  # a profile is of one back end
    if name is None:
        return made
    import dataclasses

    from mapper.sources.backend import with_backend

    return dataclasses.replace(made, plan=with_backend(made.plan, name))


def _emit(made: list[Made], lengths: list[int], graph: Path | None, output: Path | None, json: bool) -> None:
    """The plan, or one for each of `lengths`: `plan.json` then becomes `plan.128.json` and so on. With its rivals."""
    from mapper.jsonio import plain
    from mapper.plans.file import save_plan
    from mapper.reports.peers import report_text

    files = [output]
    if lengths:
        files = [output and output.parent / f"{output.stem}.{n}{output.suffix}" for n in lengths]
    for one, file in zip(made, files, strict=True):
        if file is not None:
            save_plan(one.plan, file)
    if json:
        documents = [plain(one.plan) | rivals_document(one.rivals) for one in made]
        emit_json({"lengths": dict(zip(map(str, lengths), documents, strict=True))} if lengths else documents[0])
        return
    for i, (one, file) in enumerate(zip(made, files, strict=True)):
        emit_text([*([""] if i else []), *report_text(one.plan, one.rivals, width())])
        if file is not None:
            typer.echo(f"Written to {file}. Next: mapper check {file}{_after(one.plan, file, graph)}")


def _after(plan: Plan, file: Path, graph: Path | None) -> str:
    """What is done next with a plan, after checking it with its graph: a plan over several hosts runs from a bundle."""
    if graph is not None:
        return f" --graph {graph}"
    if plan.machine.counts["hosts"] > 1:
        return f" · mapper bundle {file} -o {file.with_suffix('.bundle')}"
    return f" · mapper run {file}"
