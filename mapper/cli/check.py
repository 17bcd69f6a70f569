"""`mapper check`: every promise of a plan, derived again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mapper.cli.output import Json, emit_json


def check_command(
    plan: Annotated[Path, typer.Argument(help="A plan file, or a bundle.")],
    model: Annotated[
        str | None, typer.Option(help="The model's source, where the plan's is not to be trusted.")
    ] = None,
    trust: Annotated[bool, typer.Option("--trust", help="Run the code that the plan names as its model.")] = False,
    alone: Annotated[bool, typer.Option("--alone", help="Check what the file alone can show; trace no model.")] = False,
    json: Json = False,
) -> None:
    """Derive every promise of a plan again; exit code 9 when one does not hold."""
    from mapper.cost.roofline import roofline
    from mapper.errors import PromiseBroken
    from mapper.plans.check import check
    from mapper.plans.file import load_plan
    from mapper.plans.source import graph_of_source, trusted

    made = load_plan(plan)
    graph = table = None
    if not alone:
        made = trusted(made, model=model, trust=trust)
        graph, _ = graph_of_source(made.model.source, made.model.options)
        table = roofline(graph, made.machine) if made.request.costs.get("source") == "roofline" else None
    report = check(made, graph, table)
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
