"""`mapper export`: a plan for another runtime."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mapper.cli import completion
from mapper.cli.output import Backend, NamedModel, PlanFile, Progress, Quiet, Trust
from mapper.cli.source import opened_plan
from mapper.exporters.registry import TARGETS, target_called

if TYPE_CHECKING:
    from mapper.exporters.registry import Target


def export_command(
    plan: PlanFile,
    to: Annotated[str, typer.Option(help=f"The runtime: {', '.join(TARGETS)}.", autocompletion=completion.targets)],
    output: Annotated[Path, typer.Option("-o", "--output", help="The folder or file to write.")],
    backend: Backend = None,
    model: NamedModel = None,
    trust: Trust = False,
    seed: Annotated[int, typer.Option(help="Of the random sample item that comes along.")] = 0,
    quiet: Quiet = False,
) -> None:
    """Write a plan for another runtime: a project that computes, or the pinning alone."""
    from mapper.exporters.export import export
    from mapper.plans.file import load_plan

    target = target_called(to)
    if target.computes:
        _export_computing(plan, target, output, backend, model, trust, seed, quiet)
    else:
        _refuse_for_pinning(target, backend, model)
        export(load_plan(plan), to, output)
    typer.echo(f"{output}: {target.title}")
    if target.suffix == "":
        typer.echo(f"Next: {output / 'README.md'}", err=True)


def _export_computing(
    plan: Path, target: Target, output: Path, backend: str | None, model: str | None, trust: bool, seed: int,
    quiet: bool,
) -> None:  # fmt: skip
    """Exports `plan` with its model and a sample item."""
    from mapper.execution.run import sampled
    from mapper.exporters.export import export, require_exportable
    from mapper.sources.backend import with_backend
    from mapper.sources.source import realised_source, source_of

    if backend is not None:
        target.backend_for(backend, backend)  # refused before anything is opened
    loaded, bundle = opened_plan(plan, model, trust)
    require_exportable(loaded, target)
    loaded = with_backend(loaded, target.backend_for(backend, loaded.request.backend))
    with Progress(quiet) as line:
        line.say("Building the model and its sample ...")
        source = realised_source(loaded) if bundle is None else source_of(loaded, bundle)
        export(loaded, target.name, output, source, sampled(loaded, source, seed), line.say)


def _refuse_for_pinning(target: Target, backend: str | None, model: str | None) -> None:
    """Raises UsageError for options that make no difference where nothing is computed."""
    from mapper.errors import UsageError

    given = [f"--{name}" for name, value in (("backend", backend), ("model", model)) if value is not None]
    if given:
        raise UsageError(f"{target.name} takes no {' or '.join(given)}: the model does not go along, only its mapping")
