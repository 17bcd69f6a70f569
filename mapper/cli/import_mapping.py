"""`mapper import`: a mapping that somebody else made, as a plan."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mapper.cli import completion
from mapper.cli.costs import Costs
from mapper.cli.graph import Bandwidth, GraphFile
from mapper.cli.machine import SPEC, Cores, Groups, Hosts, LinkOption, Reserve, machine_of
from mapper.cli.output import Backend, Json, Progress, Quiet, emit_json, emit_text, width
from mapper.cli.source import MODEL, Batch, Columns, Length, Seed, TrustFile, Weights, columns_of, model_options

if TYPE_CHECKING:
    from mapper.cost.table import CostTable
    from mapper.exporters.mappings.mapping import Work
    from mapper.graph.model import Graph
    from mapper.machine.model import Machine
    from mapper.plans.model import ModelRef, Plan, Request

AnyModel = Annotated[str | None, MODEL]
Of = Annotated[
    Path | None,
    typer.Option(help="A plan: what is mapped is its model, and the ranks of a rankfile are its workers in order."),
]
AnyTopo = Annotated[
    str | None,
    typer.Option("--topo", help=f"{SPEC} [host, or the machine of --of].", autocompletion=completion.machines),
]
Format = Annotated[
    str | None,
    typer.Option(
        "--from",
        help="What FILE is: csv or rankfile [by what is in it].",
        autocompletion=completion.one("csv", "rankfile"),
    ),
]


def import_command(
    file: Annotated[Path, typer.Argument(help="A table as export --to csv writes it, or a rankfile of Open MPI.")],
    model: AnyModel = None, graph: GraphFile = None, bandwidth: Bandwidth = None, of: Of = None,
    topo: AnyTopo = None, cores: Cores = None, groups: Groups = None, reserve: Reserve = None, hosts: Hosts = None,
    link: LinkOption = None, batch: Batch = 1, length: Length = None, columns: Columns = None, weights: Weights = None,
    seed: Seed = None, trust: TrustFile = False, backend: Backend = None, costs: Costs = None, kind: Format = None,
    json: Json = False,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write the plan here.")] = None,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """Make a plan of a mapping that another tool or a person made, to check, simulate, explain and run it."""
    from mapper.exporters.mappings.read import import_mapping
    from mapper.jsonio import plain
    from mapper.plans.file import load_plan, save_plan
    from mapper.reports.plan import plan_text

    options = model_options(batch, seed, weights, length)
    planned = None if of is None else load_plan(of)
    machine = _machine(planned, topo, (cores, groups, reserve, hosts, link))
    with Progress(quiet or json) as progress:
        if planned is None:
            work = _work(machine, model, graph, bandwidth, columns, options, trust, costs, backend, progress)
        else:
            _refuse_said(options, columns, bandwidth)
            work = _work_of(planned, machine, model, graph, trust, costs, backend, progress)
        made = import_mapping(
            file, work.graph, work.machine, work.model, costs=work.table, request=work.request, kind=kind, of=planned
        )
    if output is not None:
        save_plan(made, output)
    if json:
        emit_json(plain(made))
        return
    emit_text(plan_text(made, width()))
    if output is not None:
        typer.echo(f"Written to {output}. Next: mapper check {output} · mapper simulate {output}")


def _machine(planned: Plan | None, topo: str | None, part: tuple[str | None, ...]) -> Machine:
    """The machine of the mapping: the one of --topo, else the plan's. Raises: UsageError for a part of the plan's."""
    from mapper.errors import UsageError

    if planned is None or topo is not None:
        return machine_of(topo or "host", *part)
    if any(option is not None for option in part):
        raise UsageError("the machine of --of is taken as it is; a part of another one takes --topo")
    return planned.machine


def _refuse_said(options: dict[str, Any], columns: list[str] | None, bandwidth: str | None) -> None:
    """What the plan of --of says of its model is not said again. Raises: UsageError."""
    from mapper.errors import UsageError

    given = [f"--{name}" for name in options] + ["--columns"] * bool(columns) + ["--bandwidth"] * bool(bandwidth)
    if given:
        raise UsageError(f"the plan of --of says that already: {', '.join(given)}")


def _work(
    machine: Machine, model: str | None, graph: Path | None, bandwidth: str | None, columns: list[str] | None,
    options: dict[str, Any], trust: bool, costs: list[Path] | None, backend: str | None, progress: Progress,
) -> Work:  # fmt: skip
    """What is mapped, as `mapper plan` would take it."""
    from mapper.cli.graph import given_table, graph_of_file, refuse_model_options
    from mapper.errors import UsageError
    from mapper.plans.model import Request
    from mapper.plans.source import graph_of_source, in_columns

    if (model is None) == (graph is None):
        raise UsageError("name what is mapped: --model NAME, --graph FILE, or --of PLAN")
    table = None
    if graph is not None:
        refuse_model_options(options)
        work, reference = graph_of_file(graph)
        table = given_table(work, machine, bandwidth)
    else:
        progress.say(f"Tracing {model} ...")
        work, reference = graph_of_source(str(model), options, trust=trust)
        work, reference = in_columns(work, reference, columns_of(columns))
    table = _measured(costs, work, machine, backend) or table
    return _whole(work, machine, table, reference, Request(batch=options.get("batch", 1)), backend)


def _work_of(
    plan: Plan, machine: Machine, model: str | None, graph: Path | None, trust: bool, costs: list[Path] | None,
    backend: str | None, progress: Progress,
) -> Work:  # fmt: skip
    """What `plan` maps, on `machine`, with its costs. Raises: UsageError where its graph or profile is to be named."""
    from mapper.cli.graph import graph_of_file
    from mapper.errors import UsageError
    from mapper.plans.costs import costs_of, is_of_file, planned_graph, profile_of, require_graph
    from mapper.plans.model import Request
    from mapper.plans.source import graph_of_source, trusted

    if graph is not None:
        work = planned_graph(plan, graph_of_file(graph)[0])
    elif is_of_file(plan):
        raise UsageError(f"the plan is of a graph file ({plan.model.source})", advice="Name the file: --graph FILE.")
    else:
        named = trusted(plan, model=model, trust=trust)
        progress.say(f"Tracing {named.model.source} ...")
        work, _ = graph_of_source(named.model.source, named.model.options)
    require_graph(plan, work, str(graph or plan.model.source))
    table = costs_of(plan.model_copy(update={"machine": machine}), work, profile_of(costs) if costs else None)
    if table is None:
        raise UsageError(f"the plan's costs are from {plan.request.costs.get('source')!r}, which is not at hand",
                         advice="Give the profile that it was made with: --costs F.")  # fmt: skip
    kept = {name: getattr(plan.request, name) for name in ("objective", "batch", "micro_batches")}
    return _whole(work, machine, table, plan.model, Request(**kept), backend or plan.request.backend)


def _measured(costs: list[Path] | None, work: Graph, machine: Machine, backend: str | None) -> CostTable | None:
    """The costs of the profile that was given, None if none was."""
    from mapper.cli.costs import profile_given
    from mapper.plans.costs import profile_costs

    profile = profile_given(costs, machine, backend)
    return None if profile is None else profile_costs(profile, work, machine, ", ".join(map(str, costs or ())))


def _whole(
    work: Graph, machine: Machine, table: CostTable | None, reference: ModelRef, request: Request, backend: str | None
) -> Work:
    """All of it, with the costs of the machine where there are no others, and the back end that computes it."""
    from mapper.backends.registry import EAGER, backend_called
    from mapper.cost.roofline import roofline
    from mapper.exporters.mappings.mapping import Work

    table = table or roofline(work, machine)
    default = "onnxruntime" if reference.source.endswith(".onnx") else EAGER
    name = backend_called(backend or table.options.get("backend") or default).name
    return Work(work, machine, table, reference, request.model_copy(update={"backend": name}))
