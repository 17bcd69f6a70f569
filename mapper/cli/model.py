"""`mapper model`: the models at hand, and their graphs."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from mapper.cli.output import Json, Progress, emit_json
from mapper.cli.plan import Batch, Seed, Weights, model_options

app = typer.Typer(help="Models: list them, look into their graphs.", no_args_is_help=True, rich_markup_mode=None)


@app.command("list")
def list_command(json: Json = False) -> None:
    """List the models of ./models and the bundled ones, with their sizes."""
    from mapper.program.cards import card_names
    from mapper.reports.graph import models_text

    rows = []
    with Progress(quiet=json) as progress:
        for name in card_names():
            progress.say(f"Tracing {name} ...")
            rows.append(_row(name))
    if json:
        emit_json(rows)
    else:
        typer.echo("\n".join(models_text(rows)))


@app.command("show")
def show_command(
    model: Annotated[str, typer.Argument(help="A model's name, a card file, or package.module:callable.")],
    batch: Batch = 1,
    weights: Weights = None,
    seed: Seed = None,
    json: Json = False,
) -> None:
    """Show where the arithmetic, the weights and the bytes of a model are."""
    from mapper.jsonio import plain
    from mapper.plans.source import graph_of_source
    from mapper.reports.graph import graph_text, totals

    graph, reference = graph_of_source(model, model_options(batch, seed, weights))
    if json:
        emit_json({"model": plain(reference), **totals(graph), "ops": [plain(op) for op in graph.ops]})
    else:
        typer.echo("\n".join(graph_text(graph, reference)))


def _row(name: str) -> dict[str, Any]:
    """Name, source, parameters, ops and item of one card. A card whose library is absent says so."""
    from mapper.errors import MissingFeature
    from mapper.graph.trace import trace
    from mapper.program.cards import load_card, realise

    card = load_card(name)
    row: dict[str, Any] = {"name": name, "title": card.title, "source": card.class_, "item": card.item}
    try:
        realised = realise(name, fake=True)
    except MissingFeature as error:
        return row | {"parameters": None, "ops": None, "missing": str(error)}
    graph = trace(realised.module, realised.kwargs, name=name)
    parameters = sum(parameter.numel() for parameter in realised.module.parameters())
    return row | {"parameters": parameters, "ops": len(graph.ops), "flop": graph.flop}
