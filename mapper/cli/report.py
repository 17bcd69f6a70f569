"""`mapper report`: a plan as one offline page, and as pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mapper.cli.costs import Costs
from mapper.cli.explain import Only, graph_of_plan, sections_named
from mapper.cli.graph import GraphFile
from mapper.cli.output import NamedModel, PlanFile, Progress, Quiet, Trust

if TYPE_CHECKING:
    from mapper.graph.model import Graph
    from mapper.plans.model import Plan
    from mapper.reports.page.charts import Missing

Measurements = Annotated[
    list[Path] | None,
    typer.Argument(
        help="Files of what was measured of the plan: of mapper run (-o, --json or --profile), mapper bench -o, "
        "mapper simulate -o."
    ),
]
Output = Annotated[Path | None, typer.Option("-o", "--output", help="Write the page (HTML) here.")]
Pictures = Annotated[
    Path | None, typer.Option(help="Write every picture into this folder: NAME.svg and NAME.png (matplotlib).")
]
WithoutModel = Annotated[
    bool, typer.Option("--without-model", help="Do not trace the model: sections that need it say so.")
]


def report_command(
    plan: PlanFile,
    measurements: Measurements = None,
    model: NamedModel = None,
    graph: GraphFile = None,
    costs: Costs = None,
    trust: Trust = False,
    without_model: WithoutModel = False,
    only: Only = None,
    pictures: Pictures = None,
    output: Output = None,
    quiet: Quiet = False,
) -> None:
    """Show a plan as one offline page: machine, model, Gantt chart, loads, roofline, memory, measurements, reasons."""
    from mapper import jsonio
    from mapper.errors import UsageError
    from mapper.plans.costs import costs_of, profile_of
    from mapper.plans.file import load_plan
    from mapper.reports.page.charts import Missing
    from mapper.reports.page.page import page
    from mapper.reports.page.report import shown, write_pictures

    if output is None and pictures is None:
        raise UsageError("name what to write: -o report.html, --pictures FOLDER, or both")
    if without_model and (model is not None or graph is not None or costs):
        raise UsageError("--without-model contradicts --model, --graph and --costs")
    wanted, made = sections_named(only), load_plan(plan)
    with Progress(quiet) as progress:
        work = _graph(made, model, graph, trust, without_model, progress)
        table = costs_of(made, work, profile_of(costs)) if costs and not isinstance(work, Missing) else None
        found = shown(made, work, measurements or [], table=table, only=wanted, progress=progress.say)
        if isinstance(work, Missing) and not without_model:
            progress.tell(f"without the model: {work.reason} {work.advice}".strip())
    if output is not None:
        jsonio.write_text(output, page(found))
        typer.echo(f"Written to {output}.")
    if pictures is not None:
        written = write_pictures(found, pictures)
        typer.echo(f"Written to {pictures}: {len(written)} files.")


def _graph(
    plan: Plan, model: str | None, graph: Path | None, trust: bool, without: bool, progress: Progress
) -> Graph | Missing:
    """The graph of `plan`, or why there is none. What the user named must be it."""
    from mapper.errors import MapperError
    from mapper.reports.page.charts import Missing
    from mapper.reports.page.report import NO_GRAPH

    if without:
        return NO_GRAPH
    try:
        return graph_of_plan(plan, model, graph, trust, progress, "report")
    except MapperError as error:
        if model is not None or graph is not None:
            raise
        what = error.what[:1].upper() + error.what[1:]
        return Missing(f"{what}.", error.advice)
