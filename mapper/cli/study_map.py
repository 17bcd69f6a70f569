"""`mapper study --map`: where splitting a model pays, on several machines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import typer

from mapper.cli.output import Progress, emit_json


def study_map(
    topo: str | None, model: Sequence[str] | None, processes: int, figures: Path | None, figure_format: str, json: bool,
    output: Path | None, quiet: bool,
) -> None:  # fmt: skip
    """Prints the map, or its document, writes that to `output` and its pictures into `figures`. `topo` are machines
    with commas between them; where None, the four of the study.

    Raises: as `load_machine`, `chart` and `write_where`.
    """
    from mapper import jsonio
    from mapper.machine.files import load_machine
    from mapper.reports.picture import format_of
    from mapper.reports.sheet import require_matplotlib
    from mapper.reports.where import where_text, write_where
    from mapper.study.where.chart import MACHINES, Settings, chart

    format_of(Path(f"figure.{figure_format}"), "figure")
    if figures is not None:
        require_matplotlib()
    machines = [load_machine(name.strip()) for name in (topo.split(",") if topo else MACHINES)]
    settings = Settings(models=tuple(model or Settings().models), processes=processes)
    with Progress(quiet) as line:
        found = chart(machines, settings, line.say)
    document = found.model_dump(mode="json")
    written = [] if figures is None else write_where(found, figures, figure_format)
    if output is not None:
        jsonio.write_text(output, jsonio.dumps(document))
        written.append(output)
    if json:
        emit_json(document)
        return
    typer.echo("\n".join(where_text(found)))
    for path in written:
        typer.echo(f"Written to {path}.")
