"""`mapper explore`: strategies × stages × threads × copies × batches × machines, a row a point, and what none beats."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mapper.cli import completion
from mapper.cli.machine import SPEC, LinkOption
from mapper.cli.output import Json, Progress, Quiet, emit_json, emit_text
from mapper.cli.source import Batch, Length, Model, TrustFile, model_options

if TYPE_CHECKING:
    from mapper.graph.model import Graph
    from mapper.plans.model import ModelRef
    from mapper.study.exploration.dimensions import Dimensions
    from mapper.study.exploration.explore import Exploration, GraphOf, Settings

VARY = (
    "What to vary, by name (strategy, stages, threads, replicas, batch) or with values: stages=1,4,any, "
    "topo=sg2042,sg2044, topo.l2_bytes=1MiB,2MiB. May be repeated."
)
Vary = Annotated[list[str], typer.Option(help=VARY, autocompletion=completion.one(*completion.VARIED))]
Topology = Annotated[str | None, typer.Option("--topo", help=f"{SPEC} [host]", autocompletion=completion.machines)]
Outputs = Annotated[
    list[Path] | None,
    typer.Option(
        "-o", "--output",
        help="Write here: .csv, .parquet or .json the rows, .html a page to explore them, .png or .svg a picture. "
        "May be repeated.",
    ),
]  # fmt: skip
TimeLimit = Annotated[str | None, typer.Option(help="End each search after this, such as 10s, with its best plan.")]


def explore_command(
    model: Model, vary: Vary, topo: Topology = None, link: LinkOption = None, batch: Batch = 1, length: Length = None,
    trust: TrustFile = False,
    simulated: Annotated[bool, typer.Option("--simulate", help="Simulate every plan, too.")] = False,
    time_limit: TimeLimit = None,
    processes: Annotated[int | None, typer.Option(min=1, help="Searches at the same time [one a PU].")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin anew, also where one could go on.")] = False,
    json: Json = False, output: Outputs = None, quiet: Quiet = False,
) -> None:  # fmt: skip
    """Plan every point of a grid, and show which no other beats; interrupted, the same command goes on later."""
    from mapper.errors import Infeasible
    from mapper.reports.explore import explored_text
    from mapper.study.exploration.dimensions import dimensions
    from mapper.study.exploration.explore import Settings
    from mapper.study.exploration.tables import document
    from mapper.units import parse_seconds

    outputs = output or []
    _require(outputs)
    wanted = dimensions(vary, topo, batch, link)
    settings = Settings(
        processes=processes, time_limit_s=parse_seconds(time_limit) if time_limit else None, simulated=simulated,
        fresh=fresh, more_options=_more_options(length, trust, time_limit),
    )  # fmt: skip
    found = _explored(_graph_of(model, length, trust), wanted, settings, quiet or json)
    written = [path for path in outputs if _write(found, path)]
    if json:
        emit_json(document(found))
    else:
        emit_text(explored_text(found))
    if written:
        typer.echo(f"Written to {', '.join(map(str, written))}.", err=json)
    if found.interrupted:
        raise KeyboardInterrupt
    if all(row.made is None for row in found.rows):
        raise Infeasible("no point has a plan", ["--vary with smaller numbers of stages, threads or replicas"])


def _explored(graph_of: GraphOf, wanted: Dimensions, settings: Settings, quiet: bool) -> Exploration:
    """The rows, told about on the progress line."""
    from mapper.study.exploration.explore import explore

    with Progress(quiet) as progress:
        return explore(graph_of, wanted, settings=settings, say=progress.say, tell=progress.tell)


def _graph_of(model: str, length: int | None, trust: bool) -> GraphOf:
    """What traces the model for items of some size."""
    from mapper.plans.source import graph_of_source

    def graph_of(batch: int) -> tuple[Graph, ModelRef]:
        return graph_of_source(model, model_options(batch, None, None, length), trust=trust)

    return graph_of


def _more_options(length: int | None, trust: bool, time_limit: str | None) -> tuple[str, ...]:
    """The options that `mapper plan` needs as well."""
    found = ["--length", str(length)] if length is not None else []
    found += ["--trust"] if trust else []
    return (*found, *(["--time-limit", time_limit] if time_limit else []))


def _require(outputs: list[Path]) -> None:
    """Raises UsageError or MissingFeature where a file could not be written in the end."""
    from mapper.reports.picture import FORMATS
    from mapper.reports.sheet import require_matplotlib
    from mapper.study.exploration.tables import require_table

    for path in outputs:
        ending = path.suffix.lower()
        if ending in FORMATS:
            require_matplotlib()
        elif ending != ".html":
            require_table(path)


def _write(found: Exploration, path: Path) -> bool:
    """Writes what the ending of `path` says; pictures only where there is something to see, and nobody waits."""
    from mapper.reports.explore_html import save_page
    from mapper.reports.explore_picture import draw_explored
    from mapper.reports.picture import FORMATS
    from mapper.study.exploration.tables import save_table

    drawn = path.suffix.lower() in FORMATS
    if drawn and (found.interrupted or all(row.made is None for row in found.rows)):
        return False
    write = draw_explored if drawn else save_page if path.suffix.lower() == ".html" else save_table
    write(found, path)
    return True
