"""`mapper profile`: measure what a plan of a model for this machine depends on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mapper.cli import completion
from mapper.cli.limits import Configurations
from mapper.cli.machine import Cores, Groups, Reserve, machine_of
from mapper.cli.output import Backend, Json, Progress, Quiet, emit_json, emit_text
from mapper.cli.source import Batch, Length, Model, Seed, TrustFile, Weights, model_options

if TYPE_CHECKING:
    from mapper.machine.model import Machine
    from mapper.study.profile import Profiled, Settings

Output = Annotated[Path | None, typer.Option("-o", "--output", help="Write the profile here.")]
Here = Annotated[
    str,
    typer.Option(help="A description of this machine, such as a calibrated one.", autocompletion=completion.machines),
]
Budget = Annotated[str, typer.Option(help="Stop measuring after about this, such as 5min; planning is part of it.")]
Known = Annotated[
    list[Path] | None, typer.Option("--from", help="Go on from this profile of the same model. May be repeated.")
]


def profile_command(
    model: Model, batch: Batch = 1, length: Length = None, weights: Weights = None, seed: Seed = None,
    trust: TrustFile = False, backend: Backend = None, topo: Here = "host", cores: Cores = None,
    groups: Groups = None, reserve: Reserve = None, configurations: Configurations = None, budget: Budget = "5min",
    rounds: Annotated[int, typer.Option(min=1, max=1000, help="Rounds of each part.")] = 5,
    seconds: Annotated[float, typer.Option(min=0.001, max=60, help="About how long a round of one part takes.")] = 0.25,
    known: Known = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin anew, also where one could go on.")] = False,
    json: Json = False, output: Output = None, quiet: Quiet = False,
) -> None:  # fmt: skip
    """Measure a model on this machine, part by part, as far as it decides the plan; interrupted, it goes on later."""
    from mapper import jsonio
    from mapper.cost.configurations import configurations as all_of
    from mapper.cost.configurations import parse_configurations
    from mapper.cost.profile import save_profile
    from mapper.reports.profile import profile_text
    from mapper.study.profile import Settings
    from mapper.units import parse_seconds

    machine = machine_of(topo, cores, groups, reserve)
    chosen = parse_configurations(configurations, all_of(machine)) if configurations else None
    settings = Settings(parse_seconds(budget), rounds, seconds, chosen)
    options = model_options(batch, seed, weights, length)
    with Progress(quiet or json) as progress:
        made = _profiled(model, options, trust, machine, backend, settings, known, fresh, progress)
    if output is not None and (made.profile.measurements or not made.interrupted):
        save_profile(made.profile, output)
    if json:
        emit_json(jsonio.plain(made.profile))
    else:
        emit_text(profile_text(made))
    if output is not None:
        typer.echo(f"Written to {output}. Next: mapper plan --model {model} --costs {output}", err=json)
    if made.interrupted:
        raise KeyboardInterrupt


def _profiled(
    model: str, options: dict[str, object], trust: bool, machine: Machine, backend: str | None, settings: Settings,
    known: list[Path] | None, fresh: bool, progress: Progress,
) -> Profiled:  # fmt: skip
    """The profile, told about on the progress line."""
    from mapper.backends.registry import EAGER, backend_called
    from mapper.cost.profile import load_profile
    from mapper.plans.source import graph_of_source
    from mapper.study.profile import profile

    backend_called(backend or EAGER).require()
    earlier = [load_profile(path) for path in known or []]
    progress.say(f"Tracing {model} ...")
    graph, reference = graph_of_source(model, options, trust=trust)
    return profile(graph, machine, reference, backend=backend or EAGER, settings=settings, known=earlier, fresh=fresh,
                   say=progress.say, tell=progress.tell)  # fmt: skip
