"""`mapper explain`: why a plan is as it is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mapper.cli import completion
from mapper.cli.costs import Costs
from mapper.cli.graph import GraphFile, graph_of_file
from mapper.cli.output import Json, NamedModel, PlanFile, Progress, Quiet, Trust, emit_json, emit_text

if TYPE_CHECKING:
    from mapper.graph.model import Graph
    from mapper.plans.model import Plan
    from mapper.solver.explanation.explain import Section

Only = Annotated[
    str | None,
    typer.Option(
        help="Some of binding, limits, marginal, alternatives, such as limits,marginal; binding is quick.",
        autocompletion=completion.several(*completion.SECTIONS),
    ),
]


def explain_command(
    plan: PlanFile,
    model: NamedModel = None,
    graph: GraphFile = None,
    costs: Costs = None,
    trust: Trust = False,
    only: Only = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Say what binds in a plan, which limits cost something, what a little more of the machine would bring, and why
    native threads or copies are not better."""
    from mapper.plans.costs import costs_of, profile_of
    from mapper.plans.file import load_plan
    from mapper.reports.explain import explanation_json, explanation_text
    from mapper.solver.explanation.explain import explain

    wanted = sections_named(only)
    made = load_plan(plan)
    with Progress(quiet or json) as progress:
        work = graph_of_plan(made, model, graph, trust, progress)
        table = costs_of(made, work, profile_of(costs)) if costs else None
        found = explain(made, work, table, only=wanted, progress=progress.say)
    if json:
        emit_json(explanation_json(found))
    else:
        emit_text(explanation_text(found))
    if not found.complete:
        raise KeyboardInterrupt


def sections_named(text: str | None) -> tuple[Section, ...]:
    """The sections that `text` names, all of them where it is None. Raises: UsageError for another one."""
    from mapper.errors import UsageError, one_of
    from mapper.solver.explanation.explain import SECTIONS

    if text is None:
        return SECTIONS
    names = [part.strip() for part in text.split(",")]
    found = tuple(section for section in SECTIONS if section in names)
    if unknown := [name for name in names if name not in SECTIONS]:
        raise UsageError(f"--only {text}: there is no {unknown[0]!r}", advice=one_of(unknown[0], SECTIONS))
    return found


def graph_of_plan(
    plan: Plan, model: str | None, graph: Path | None, trust: bool, progress: Progress, command: str = "explain"
) -> Graph:
    """The graph that `plan` is of. Raises: UsageError where it is to be named; BadInput where it is another one."""
    from mapper.errors import UsageError
    from mapper.plans.costs import is_of_file, planned_graph, require_graph
    from mapper.plans.source import graph_of_source, trusted

    if graph is not None:
        work = planned_graph(plan, graph_of_file(graph)[0])
        source = str(graph)
    elif is_of_file(plan):
        raise UsageError(
            f"the plan is of a graph file ({plan.model.source}), and says no more of it",
            advice=f"Name the file: mapper {command} PLAN --graph FILE.",
        )
    else:
        named = trusted(plan, model=model, trust=trust)
        progress.say(f"Tracing {named.model.source} ...")
        work, _ = graph_of_source(named.model.source, named.model.options)
        source = named.model.source
    require_graph(plan, work, source)
    return work
