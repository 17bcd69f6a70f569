"""`mapper model cost`: what the ops of a model cost on a machine, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mapper.cli import completion
from mapper.cli.machine import Cores, Groups, Topo, machine_of
from mapper.cli.output import Json, emit_json, emit_text
from mapper.cli.source import Batch, Length, NamedSource, Seed, TrustFile, Weights, model_options

if TYPE_CHECKING:
    from mapper.cost.configurations import Config
    from mapper.machine.model import Machine
    from mapper.machine.parts import Path


def cost_command(
    model: NamedSource,
    op: Annotated[str | None, typer.Option(help="Explain the number of this op.")] = None,
    topo: Topo = "host",
    configuration: Annotated[
        str | None, typer.Option(help="Groups x cores of each, such as 1x4 [a whole group].")
    ] = None,
    path: Annotated[
        str | None,
        typer.Option(
            help="How PyTorch executes ops: onednn or native-aten [the machine's].",
            autocompletion=completion.one("onednn", "native-aten"),
        ),
    ] = None,
    cores: Cores = None,
    groups: Groups = None,
    batch: Batch = 1,
    length: Length = None,
    weights: Weights = None,
    seed: Seed = None,
    trust: TrustFile = False,
    json: Json = False,
) -> None:
    """Show what a model's ops cost on a machine, on one core and on a group; with --op, where a number comes from."""
    from mapper.cost.explain import explain
    from mapper.cost.paths import path_of
    from mapper.cost.roofline import roofline
    from mapper.plans.source import graph_of_source
    from mapper.reports.cost import Costs, cost_json, cost_text, explanation_text

    machine = machine_of(topo, cores, groups)
    wide, taken = _configuration(machine, configuration), _path(path) or path_of(machine)
    graph, _ = graph_of_source(model, model_options(batch, seed, weights, length), trust=trust)
    if op is not None:
        found = explain(graph, machine, op, wide, taken)
        if json:
            emit_json(found.as_json())
        else:
            emit_text(explanation_text(found, machine))
        return
    costs = Costs(graph, machine, roofline(graph, machine, _columns(machine, wide), path=taken), taken)
    if json:
        emit_json(cost_json(costs))
    else:
        emit_text(cost_text(costs))


def _configuration(machine: Machine, text: str | None) -> Config:
    """The configuration that `text` names, a whole group where nothing is said. Raises: UsageError naming them."""
    from mapper.cost.configurations import configurations, parse_configurations

    known = configurations(machine)
    if text is None:
        return next(c for c in known if c.cores == machine.cores_per_group)
    return parse_configurations(text, known)[0]


def _columns(machine: Machine, wide: Config) -> tuple[Config, ...]:
    """One core, and `wide` where that is more; two groups where a group is a core."""
    from mapper.cost.configurations import Config, configurations

    one = Config(1, 1)
    if wide != one:
        return one, wide
    return configurations(machine)[:2]


def _path(text: str | None) -> Path | None:
    """The path that `text` names. Raises: UsageError naming them."""
    from mapper.cost.paths import PATHS
    from mapper.errors import UsageError, one_of

    found = next((path for path in PATHS if path == text), None)
    if text is not None and found is None:
        raise UsageError(f"there is no path {text!r}", advice=one_of(text, PATHS))
    return found
