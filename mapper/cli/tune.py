"""`mapper tune`: plan, measure, plan again, and keep the best measured plan."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mapper.cli.costs import Costs, profile_given
from mapper.cli.machine import Cores, Groups, Reserve, machine_of
from mapper.cli.output import Backend, Json, Progress, Quiet, emit_json, emit_text
from mapper.cli.profile import Here
from mapper.cli.source import Batch, Length, Model, Seed, TrustFile, Weights, model_options

ProfileOut = Annotated[Path | None, typer.Option(help="Write what the stages took here; plan and check read it.")]


def tune_command(
    model: Model, batch: Batch = 1, length: Length = None, weights: Weights = None, seed: Seed = None,
    trust: TrustFile = False, backend: Backend = None, topo: Here = "host", cores: Cores = None,
    groups: Groups = None, reserve: Reserve = None, costs: Costs = None,
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved rounds that decide in the end.")] = 15,
    screening: Annotated[int, typer.Option(min=1, help="Rounds in which a plan is tried first.")] = 5,
    seconds: Annotated[float, typer.Option(min=0.01, help="About how long a round of one plan takes.")] = 1.0,
    budget: Annotated[str, typer.Option(help="Plan no further after this; what decides comes on top.")] = "15min",
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin anew, also where one could go on.")] = False,
    json: Json = False,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write the kept plan here.")] = None,
    profile_out: ProfileOut = None, quiet: Quiet = False,
) -> None:  # fmt: skip
    """Plan, run, plan again with what the stages took, until the plan stays; keep the best plan that was measured.

    Interrupted, the same command goes on from there within a day."""
    from mapper import jsonio
    from mapper.backends.registry import EAGER, backend_called
    from mapper.cost.profile import save_profile
    from mapper.plans.file import save_plan
    from mapper.plans.source import graph_of_source
    from mapper.reports.tune import tuning_text
    from mapper.study.tune import Settings, tune
    from mapper.units import parse_seconds

    machine = machine_of(topo, cores, groups, reserve)
    settings = Settings(rounds, min(rounds, screening), seconds, parse_seconds(budget))
    profile = profile_given(costs, machine, backend)
    name = backend or (profile.backend if profile else EAGER)
    backend_called(name).require(compiling=False)
    with Progress(quiet or json) as progress:
        progress.say(f"Tracing {model} ...")
        graph, reference = graph_of_source(model, model_options(batch, seed, weights, length), trust=trust)
        made = tune(graph, machine, reference, backend=name, batch=batch, settings=settings,
                    known=[profile] if profile else [], fresh=fresh, say=progress.say, tell=progress.tell)  # fmt: skip
    if profile_out is not None:
        save_profile(made.profile, profile_out)
    if output is not None:
        save_plan(made.plan, output)
    if json:
        emit_json(jsonio.plain(made.tuning) | {"plan": jsonio.plain(made.plan)})
    else:
        emit_text(tuning_text(made.tuning))
    if output is not None:
        check = f" · mapper check {output} --costs {profile_out}" if profile_out else ""
        typer.echo(f"Written to {output}. Next: mapper run {output}{check}", err=json)
