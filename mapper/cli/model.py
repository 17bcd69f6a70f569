"""`mapper model`: the models at hand, and their graphs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mapper.cli import completion
from mapper.cli.cost import cost_command
from mapper.cli.graph import BANDWIDTH, Bandwidth, graph_of_file, refuse_model_options
from mapper.cli.help import Group
from mapper.cli.machine import machine_of
from mapper.cli.output import Json, Progress, emit_json, emit_text
from mapper.cli.source import Batch, GraphSource, Length, Seed, TrustFile, Weights, model_options

if TYPE_CHECKING:
    from mapper.graph.model import Graph
    from mapper.plans.model import ModelRef
    from mapper.program.catalogue import Row

app = typer.Typer(
    cls=Group, help="Models: list them, look into their graphs.", no_args_is_help=True, rich_markup_mode=None
)
app.command("cost")(cost_command)


@app.command("list")
def list_command(json: Json = False) -> None:
    """List the models of ./models and the bundled ones, with their sizes. What was traced once is remembered."""
    from mapper.cache import cache_folder
    from mapper.program.cards import card_names
    from mapper.program.catalogue import Catalogue
    from mapper.reports.graph import models_text

    catalogue, rows, names = Catalogue(cache_folder()), [], card_names()
    with Progress(quiet=json) as progress:
        try:
            for i, name in enumerate(names):
                progress.say(f"Tracing {name}, {i + 1} of {len(names)} ...")
                rows.append(catalogue.row(name, _row).model_dump(mode="json"))
        finally:
            catalogue.save()
    if json:
        emit_json(rows)
    else:
        emit_text(models_text(rows))


@app.command("show")
def show_command(
    model: GraphSource,
    batch: Batch = 1,
    length: Length = None,
    weights: Weights = None,
    seed: Seed = None,
    trust: TrustFile = False,
    json: Json = False,
) -> None:
    """Show where the arithmetic, the weights and the bytes of a model are."""
    from mapper.jsonio import plain
    from mapper.reports.graph import graph_text, totals

    graph, reference = _graph(model, model_options(batch, seed, weights, length), trust)
    if json:
        emit_json({"model": plain(reference), **totals(graph), "ops": [plain(op) for op in graph.ops]})
    else:
        emit_text(graph_text(graph, reference))


@app.command("trace")
def trace_command(
    model: GraphSource,
    output: Annotated[
        Path,
        typer.Option("-o", "--output", help="Write the graph here: .json (ours), .txt (PipeDream), .dot, .graphml."),
    ],
    kind: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="mapper, dnn-partitioning, pipedream, dot or graphml [by the file's name].",
            autocompletion=completion.one("mapper", "dnn-partitioning", "pipedream", "dot", "graphml"),
        ),
    ] = None,
    topo: Annotated[
        str | None,
        typer.Option(
            help="Times are those of one core of this machine; for other planners [host].",
            autocompletion=completion.machines,
        ),
    ] = None,
    bandwidth: Bandwidth = None,
    batch: Batch = 1,
    length: Length = None,
    weights: Weights = None,
    seed: Seed = None,
    trust: TrustFile = False,
) -> None:
    """Write the graph of a model, or a graph file, in a format of ours or of another planner or tool."""
    from mapper.graph.exporters import FOREIGN, export_text, format_of
    from mapper.jsonio import write_text

    chosen = format_of(output.suffix, kind)
    graph, _ = _graph(model, model_options(batch, seed, weights, length), trust)
    if topo is not None or (chosen in FOREIGN and not graph.costed):
        graph = _timed(graph, topo or "host")
    if bandwidth is not None or (chosen == "dnn-partitioning" and any(t.comm_s is None for t in graph.tensors)):
        graph = _priced(graph, bandwidth)
    write_text(output, export_text(graph, chosen))
    typer.echo(f"{graph.name}: {len(graph.ops)} ops, {len(graph.tensors)} tensors written to {output} ({chosen})")


def _graph(source: str, options: dict[str, Any], trust: bool) -> tuple[Graph, ModelRef]:
    """The graph of a model, or the one in a graph file."""
    from mapper.graph.importers.load import is_graph_file
    from mapper.plans.source import graph_of_source

    if not is_graph_file(source):
        return graph_of_source(source, options, trust=trust)
    refuse_model_options(options)
    return graph_of_file(Path(source))


def _timed(graph: Graph, topo: str) -> Graph:
    """`graph` with the times of one core of the machine `topo`."""
    from mapper.cost.imported import UNIT, costed
    from mapper.cost.roofline import roofline
    from mapper.errors import UsageError

    if graph.costed:
        raise UsageError(f"{graph.name} brings times of its own: --topo has none to add")
    machine = machine_of(topo)
    return costed(graph, machine, roofline(graph, machine, (UNIT,)))


def _priced(graph: Graph, bandwidth: str | None) -> Graph:
    """`graph` with times for the tensors that have bytes only."""
    from mapper.cost.imported import priced
    from mapper.errors import UsageError
    from mapper.units import parse_rate

    if not graph.costed:
        raise UsageError(f"--bandwidth is for graphs with times; {graph.name} has none")
    return priced(graph, parse_rate(bandwidth or BANDWIDTH))


def _row(name: str) -> Row:
    """Name, source, parameters, ops and item of one card. A card whose library is absent says so."""
    from mapper.errors import MissingFeature
    from mapper.graph.trace import trace
    from mapper.program.cards import load_card
    from mapper.program.catalogue import Row
    from mapper.program.realise import realise

    card = load_card(name)
    title, item = (card.worded(text, card.length) for text in (card.title, card.item))
    row = Row(name=name, title=title, source=card.class_, item=item)
    try:
        realised = realise(name, fake=True)
    except MissingFeature as error:
        return row.model_copy(update={"missing": str(error)})
    graph = trace(realised.module, realised.kwargs, name=name)
    parameters = sum(parameter.numel() for parameter in realised.module.parameters())
    return row.model_copy(update={"parameters": parameters, "ops": len(graph.ops), "flop": graph.flop})
