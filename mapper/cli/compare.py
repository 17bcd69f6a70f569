"""`mapper compare`: two plans or measurements side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mapper.cli.output import Json, emit_json, emit_text

Compared = Annotated[
    Path,
    typer.Argument(help="A plan file or a bundle, or what mapper run, mapper bench or mapper simulate wrote (JSON)."),
]


def compare_command(a: Compared, b: Compared, json: Json = False) -> None:
    """Show two plans or measurements side by side, stage by stage: which is faster, and what differs."""
    from mapper.reports.compare import compared_text
    from mapper.study.compare import compare

    found = compare(a, b)
    if json:
        emit_json(found.model_dump(mode="json"))
    else:
        emit_text(compared_text(found))
