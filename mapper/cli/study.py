"""`mapper study`: what pipelines, copies and the planner gain over native PyTorch on the SG2042, by a model of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mapper.cli.output import Json, Progress, Quiet, emit_json


def study_command(
    topo: Annotated[str, typer.Option(help="The machine: a name of the library or a file.")] = "sg2042",
    model: Annotated[
        list[str] | None, typer.Option(help="A model; several times for several [the study's seven].")
    ] = None,
    items: Annotated[str | None, typer.Option(help="Elements of native items, such as 1,8,64 [ten sizes].")] = None,
    calls: Annotated[str | None, typer.Option(help="Elements of the calls of mappings, such as 1,4 [1,4,16].")] = None,
    samples: Annotated[int | None, typer.Option(min=0, help="Samples of the uncertain figures [200].")] = None,
    seed: Annotated[int, typer.Option(help="Of the samples.")] = 0,
    processes: Annotated[int, typer.Option(min=1, help="Models that are studied at the same time.")] = 2,
    json: Json = False,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write everything here (JSON).")] = None,
    quiet: Quiet = False,
) -> None:
    """Compare native PyTorch, copies, pipelines and the planner's choice on a machine that is not at hand."""
    from mapper import jsonio
    from mapper.machine.files import load_machine
    from mapper.reports.study import study_text
    from mapper.study.sg2042.bands import bands
    from mapper.study.sg2042.study import SAMPLES, Settings, study

    usual = Settings()
    settings = Settings(
        models=tuple(model or usual.models), items=_numbers(items, usual.items), calls=_numbers(calls, usual.calls),
        samples=SAMPLES if samples is None else samples, seed=seed, processes=processes,
    )  # fmt: skip
    with Progress(quiet) as line:
        found = study(load_machine(topo), settings, line.say)
    expected = bands(found.rows, found.knockouts)
    document = found.model_dump(mode="json") | {"bands": [band.model_dump(mode="json") for band in expected]}
    if output is not None:
        jsonio.write_text(output, jsonio.dumps(document))
    if json:
        emit_json(document)
        return
    typer.echo("\n".join(study_text(found, expected)))
    if output is not None:
        typer.echo(f"Written to {output}.")


def _numbers(text: str | None, usual: tuple[int, ...]) -> tuple[int, ...]:
    """The positive whole numbers in `text`, ascending. Raises: UsageError."""
    from mapper.errors import UsageError

    if text is None:
        return usual
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() and int(part) > 0 for part in parts):
        raise UsageError(f"{text!r}: positive whole numbers with commas between them were expected, such as 1,8,64")
    return tuple(sorted({int(part) for part in parts}))
