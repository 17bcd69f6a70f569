"""`mapper bundle`: a plan with its program, weights and a sample, for another machine to run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mapper.cli.output import NamedModel, Trust


def bundle_command(
    plan: Annotated[Path, typer.Argument(help="A plan file.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The bundle to write, such as vit.bundle.")],
    model: NamedModel = None,
    trust: Trust = False,
    seed: Annotated[int, typer.Option(help="Of the random sample item.")] = 0,
) -> None:
    """Write a plan with all that another machine needs to run it. The model is built again from the plan."""
    from mapper.execution.run import sampled
    from mapper.plans.file import load_plan
    from mapper.plans.source import trusted
    from mapper.sources.bundle import write_bundle
    from mapper.sources.source import realised_source
    from mapper.units import format_bytes

    loaded = trusted(load_plan(plan), model=model, trust=trust)
    source = realised_source(loaded)
    write_bundle(output, source.program, source.weights, loaded, sampled(loaded, source, seed))
    size = sum(file.stat().st_size for file in output.iterdir())
    typer.echo(f"{output}: {loaded.model.name}, {len(loaded.stages)} stage(s), {format_bytes(size)}")
    there = "mapper host NUMBER" if loaded.machine.counts["hosts"] > 1 else "mapper run"
    typer.echo(f"Next: copy it, and there: {there} {output.name}", err=True)
