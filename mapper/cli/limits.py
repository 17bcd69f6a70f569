"""What a plan must keep and what it is to be best at: the options of `mapper plan` about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mapper.cli import completion

if TYPE_CHECKING:
    from mapper.cost.configurations import Config
    from mapper.solver.problem import Limits, Objective

Aim = Annotated[
    str,
    typer.Option(
        "--objective",
        help="throughput, latency, cores (fewest that keep the limits), or pareto: the trades of all three.",
        autocompletion=completion.one(*completion.OBJECTIVES),
    ),
]
Stages = Annotated[int | None, typer.Option(min=1, help="Exactly so many stages.")]
MaxStages = Annotated[int | None, typer.Option(min=1, help="At most so many stages.")]
MaxCores = Annotated[int | None, typer.Option(min=1, help="Use at most so many cores.")]
MaxLatency = Annotated[str | None, typer.Option(help="Sum of the stage loads at most this, such as 50ms.")]
MinThroughput = Annotated[str | None, typer.Option(help="At least so many items a second, such as 20 or 20/s.")]
NodeMemory = Annotated[
    str | None,
    typer.Option(
        "--memory-per-node", help="Use at most this of each NUMA node's memory (of each unit's), such as 4GiB."
    ),
]
Together = Annotated[
    list[str] | None, typer.Option(help="Ops that must share a stage, such as conv1,relu. May be repeated.")
]
Apart = Annotated[
    list[str] | None, typer.Option(help="Ops of which no two may share a stage, such as a,b. May be repeated.")
]
Configurations = Annotated[
    str | None, typer.Option(help="Configurations to choose from (groups x cores of each), such as 1x4,2x4 [all].")
]
NearOptimal = Annotated[
    str | None,
    typer.Option(help="Of plans so near the best period take the one with fewest stages [1%; 0 for graphs with times]"),
]
TimeLimit = Annotated[
    str | None, typer.Option(help="Stop searching after this, such as 20s, with the best plan so far.")
]


def limits_of(
    *, stages: int | None, max_stages: int | None, replicas: int | None, max_cores: int | None,
    max_latency: str | None, min_throughput: str | None, memory: str | None, together: list[str] | None,
    apart: list[str] | None, configurations: tuple[Config, ...] | None = None,
) -> Limits:  # fmt: skip
    """The limits that the options state. Raises: UsageError for what cannot be read."""
    from mapper.solver.problem import Limits
    from mapper.units import parse_bytes, parse_per_second, parse_seconds

    return Limits(
        stages=stages, max_stages=max_stages, max_replicas=replicas, max_cores=max_cores,
        max_latency_s=parse_seconds(max_latency) if max_latency else None,
        min_throughput_per_s=parse_per_second(min_throughput) if min_throughput else None,
        node_memory_bytes=parse_bytes(memory) if memory else None,
        together=_ops(together, "--together"), apart=_ops(apart, "--apart"),
        configurations=configurations,
    )  # fmt: skip


def objective_of(text: str) -> Objective:
    """The objective that `text` names. Raises: UsageError naming them."""
    from mapper.errors import UsageError, one_of
    from mapper.solver.problem import OBJECTIVES

    found = next((objective for objective in OBJECTIVES if objective == text), None)
    if found is None:
        raise UsageError(f"there is no objective {text!r}", advice=one_of(text, [*OBJECTIVES, "pareto"]))
    return found


def _ops(given: list[str] | None, option: str) -> tuple[tuple[str, ...], ...]:
    """Sets of ops, each of two at least."""
    from mapper.errors import UsageError

    sets = [tuple(dict.fromkeys(name.strip() for name in text.split(","))) for text in given or []]
    if any(len(ops) < 2 or not all(ops) for ops in sets):
        raise UsageError(f"{option}: names of at least two ops with commas between were expected, such as a,b")
    return tuple(sets)
