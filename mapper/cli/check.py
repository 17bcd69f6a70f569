"""`mapper check`: every promise of a plan, derived again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mapper.cli.graph import GraphFile, graph_of_file
from mapper.cli.output import Json, emit_json
from mapper.cli.problem import ProblemFile, checked_problem_plan

if TYPE_CHECKING:
    from mapper.cost.table import CostTable
    from mapper.graph.model import Graph
    from mapper.plans.check import Report
    from mapper.plans.model import Plan


def check_command(
    plan: Annotated[Path, typer.Argument(help="A plan file, or a bundle.")],
    model: Annotated[
        str | None, typer.Option(help="The model's source, where the plan's is not to be trusted.")
    ] = None,
    graph: GraphFile = None,
    problem: ProblemFile = None,
    trust: Annotated[bool, typer.Option("--trust", help="Run the code that the plan names as its model.")] = False,
    alone: Annotated[bool, typer.Option("--alone", help="Check what the file alone can show; trace no model.")] = False,
    json: Json = False,
) -> None:
    """Derive every promise of a plan again; exit code 9 when one does not hold."""
    from mapper.errors import PromiseBroken, UsageError
    from mapper.plans.problem_plan import is_problem_plan

    if problem is not None or is_problem_plan(plan):
        if model is not None or graph is not None:
            raise UsageError("a plan of a problem file has no model and no graph; what it was made for is --problem F")
        report = checked_problem_plan(plan, None if alone else problem)
    else:
        report = _checked(plan, model, graph, trust, alone)
    if json:
        emit_json({"violations": report.violations, "verified": report.verified, "not_verified": report.not_verified})
    else:
        typer.echo(
            "\n".join(
                [*(f"holds: {x}" for x in report.verified), *(f"not derived again: {x}" for x in report.not_verified)]
            )
        )
    if report.violations:
        raise PromiseBroken(f"{plan} breaks {len(report.violations)} promise{'s' * (len(report.violations) > 1)}:\n  "
                            + "\n  ".join(report.violations[:20]))  # fmt: skip


def _checked(path: Path, model: str | None, graph: Path | None, trust: bool, alone: bool) -> Report:
    """What can be derived again of a plan of a model or a graph."""
    from mapper.cost.roofline import roofline
    from mapper.plans.check import check
    from mapper.plans.file import load_plan
    from mapper.plans.source import graph_of_source, trusted

    made = load_plan(path)
    work = table = None
    if graph is not None:
        work, table = _given(graph, made)
    elif not alone and not is_graph(made):
        made = trusted(made, model=model, trust=trust)
        work, _ = graph_of_source(made.model.source, made.model.options)
        table = roofline(work, made.machine) if made.request.costs.get("source") == "roofline" else None
    return check(made, work, table)


def is_graph(plan: Plan) -> bool:
    """Whether the plan was made for a graph file, of which it knows the name only."""
    return plan.request.costs.get("source") == "given" or plan.model.source.endswith((".json", ".txt"))


def _given(path: Path, plan: Plan) -> tuple[Graph, CostTable | None]:
    """The graph in `path`, with its own times or, where it has none, those of the plan's machine."""
    from mapper.cost.imported import given_costs
    from mapper.cost.pipedream import OBJECTIVE, planned_costs
    from mapper.cost.roofline import roofline

    graph, _ = graph_of_file(path)
    if plan.request.costs.get("objective_model") == OBJECTIVE:
        return planned_costs(graph, len(plan.machine.groups), plan.request.costs)
    if plan.request.costs.get("source") == "roofline":
        return graph, roofline(graph, plan.machine)
    bandwidth = plan.request.costs.get("bandwidth_bytes_per_s")
    return graph, given_costs(graph, float(bandwidth) if bandwidth else None) if graph.costed else None
