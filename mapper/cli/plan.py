"""`mapper plan`: graph and machine to plan."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mapper.cli.machine import SPEC, Cores, Groups, Reserve, machine_of
from mapper.cli.output import Json, Progress, emit_json, width

if TYPE_CHECKING:
    from mapper.machine.model import Machine
    from mapper.solver.problem import Limits

Model = Annotated[
    str, typer.Option(help="A model's name (mapper model list), a card file, or package.module:callable.")
]
Batch = Annotated[int, typer.Option(min=1, help="Elements per item: how many one call of the model takes.")]
Seed = Annotated[int | None, typer.Option(help="Of random weights [the card's].")]
Weights = Annotated[Path | None, typer.Option(help="A safetensors file with the model's weights.")]
Output = Annotated[Path | None, typer.Option("-o", "--output", help="Write the plan here.")]


def plan_command(
    model: Model,
    topo: Annotated[str, typer.Option(help=SPEC)] = "host",
    cores: Cores = None,
    groups: Groups = None,
    reserve: Reserve = None,
    batch: Batch = 1,
    weights: Weights = None,
    seed: Seed = None,
    stages: Annotated[int | None, typer.Option(min=1, help="Exactly so many stages.")] = None,
    max_stages: Annotated[int | None, typer.Option(min=1, help="At most so many stages.")] = None,
    replicas: Annotated[int | None, typer.Option(min=1, help="At most so many replicas of a stage [any].")] = None,
    max_cores: Annotated[int | None, typer.Option(min=1, help="Use at most so many cores.")] = None,
    max_latency: Annotated[str | None, typer.Option(help="Sum of the stage loads at most this, such as 50ms.")] = None,
    configurations: Annotated[
        str | None, typer.Option(help="Configurations to choose from (groups x cores of each), such as 1x4,2x4 [all].")
    ] = None,
    near_optimal: Annotated[
        str, typer.Option(help="Of plans so near the best period take the one with fewest stages.")
    ] = "1%",
    json: Json = False,
    output: Output = None,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="No progress.")] = False,
) -> None:
    """Find the best mapping of a model onto a machine, and say how good it is proved to be."""
    from mapper.jsonio import plain
    from mapper.plans.file import save_plan
    from mapper.plans.source import graph_of_source
    from mapper.reports.plan import plan_text
    from mapper.solver.plan import plan as make
    from mapper.units import parse_fraction

    machine = machine_of(topo, cores, groups, reserve)
    limits = _limits(machine, stages, max_stages, replicas, max_cores, max_latency, configurations)
    with Progress(quiet or json) as progress:
        progress.say(f"Tracing {model} ...")
        graph, reference = graph_of_source(model, model_options(batch, seed, weights))
        made = make(
            graph, machine, limits=limits, near_optimal=parse_fraction(near_optimal), model=reference, batch=batch,
            progress=progress.say,
        )  # fmt: skip
    if output is not None:
        save_plan(made, output)
    if json:
        emit_json(plain(made))
        return
    typer.echo("\n".join(plan_text(made, width())))
    if output is not None:
        typer.echo(f"Written to {output}. Next: mapper check {output} · mapper run {output}")


def model_options(batch: int, seed: int | None, weights: Path | None) -> dict[str, Any]:
    """The options of a model that were given, as plans keep them."""
    given = {"batch": batch if batch != 1 else None, "seed": seed, "weights": str(weights) if weights else None}
    return {name: value for name, value in given.items() if value is not None}


def _limits(
    machine: Machine,
    stages: int | None,
    max_stages: int | None,
    replicas: int | None,
    max_cores: int | None,
    max_latency: str | None,
    configurations: str | None,
) -> Limits:
    from mapper.cost.configurations import configurations as known
    from mapper.cost.configurations import parse_configurations
    from mapper.solver.problem import Limits
    from mapper.units import parse_seconds

    return Limits(
        stages=stages, max_stages=max_stages, max_replicas=replicas, max_cores=max_cores,
        max_latency_s=parse_seconds(max_latency) if max_latency else None,
        configurations=parse_configurations(configurations, known(machine)) if configurations else None,
    )  # fmt: skip
