"""`mapper check`: every promise of a plan, derived again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mapper.cli.costs import Costs
from mapper.cli.graph import GraphFile, graph_of_file
from mapper.cli.output import Json, NamedModel, PlanFile, Trust, emit_json, emit_text
from mapper.cli.problem import ProblemFile, checked_problem_plan

if TYPE_CHECKING:
    from mapper.plans.check import Report


def check_command(
    plan: PlanFile,
    model: NamedModel = None,
    graph: GraphFile = None,
    problem: ProblemFile = None,
    costs: Costs = None,
    trust: Trust = False,
    alone: Annotated[bool, typer.Option("--alone", help="Check what the file alone can show; trace no model.")] = False,
    json: Json = False,
) -> None:
    """Derive every promise of a plan again; exit code 9 when one does not hold."""
    from mapper.errors import PromiseBroken, UsageError
    from mapper.plans.problem_plan import is_problem_plan
    from mapper.reports.check import check_text

    if problem is not None or is_problem_plan(plan):
        if model is not None or graph is not None:
            raise UsageError("a plan of a problem file has no model and no graph; what it was made for is --problem F")
        report = checked_problem_plan(plan, None if alone else problem)
    else:
        report = _checked(plan, model, graph, costs, trust, alone)
    if json:
        emit_json({"violations": report.violations, "verified": report.verified, "not_verified": report.not_verified})
    else:
        emit_text(check_text(report))
    if report.violations:
        raise PromiseBroken(f"{plan} breaks {len(report.violations)} promise{'s' * (len(report.violations) > 1)}:\n  "
                            + "\n  ".join(report.violations[:20]))  # fmt: skip


def _checked(
    path: Path, model: str | None, graph: Path | None, costs: list[Path] | None, trust: bool, alone: bool
) -> Report:
    """What can be derived again of a plan of a model or a graph."""
    from mapper.graph.measure import graph_of
    from mapper.plans.check import check
    from mapper.plans.costs import costs_of, is_of_file, planned_graph, profile_of
    from mapper.plans.file import load_plan
    from mapper.plans.source import graph_of_source, trusted
    from mapper.sources.bundle import open_bundle

    made = load_plan(path)
    work = table = None
    if graph is not None:
        work = planned_graph(made, graph_of_file(graph)[0])
    elif not alone and model is None and path.is_dir() and not (program := open_bundle(path).program).is_onnx:
        work = graph_of(program)  # which a bundle has with it: no model has to be there
    elif not alone and not is_of_file(made):
        made = trusted(made, model=model, trust=trust)
        work, _ = graph_of_source(made.model.source, made.model.options)
    if work is not None and work.sha256 == made.model.graph_sha256:
        table = costs_of(made, work, profile_of(costs) if costs else None)
    return check(made, work, table)
