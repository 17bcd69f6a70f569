"""What `mapper plan` has to compare with others: their planners, their placements, PipeDream's objective."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mapper.cli import completion

if TYPE_CHECKING:
    from mapper.cost.table import CostTable
    from mapper.graph.model import Graph
    from mapper.machine.model import Machine
    from mapper.plans.model import ModelRef, Plan
    from mapper.solver.peers.against import Rival
    from mapper.solver.problem import Limits
    from mapper.solver.search.space import Progress
    from mapper.solver.stop import Stop

Planner = Annotated[
    str,
    typer.Option(
        help=f"Plan as others would: {', '.join(completion.PLANNERS)}.",
        autocompletion=completion.one(completion.OPTIMAL, *completion.PLANNERS),
    ),
]
Strategy = Annotated[
    str,
    typer.Option(
        "--placement",
        help=f"Which cores replicas get: {', '.join(completion.PLACEMENTS)}.",
        autocompletion=completion.one(completion.OPTIMAL, *completion.PLACEMENTS),
    ),
]
Against = Annotated[
    str | None,
    typer.Option(
        help="Show the plans of other planners beside this one: all, or names such as native,alpa.",
        autocompletion=completion.several("all", *completion.PLANNERS),
    ),
]
ObjectiveModel = Annotated[
    str | None,
    typer.Option(
        help="pipedream: its objective for training, as published, for graphs with its profiles.",
        autocompletion=completion.one("pipedream"),
    ),
]


def compared(
    plan: Plan, graph: Graph, table: CostTable | None, limits: Limits, text: str | None, progress: Progress
) -> tuple[Rival, ...]:
    """The plans of the planners that `text` names beside `plan`; none without `text`.

    `table`: the costs of a graph that brings them, None for those of the machine.
    """
    if text is None:
        return ()
    from mapper.cost.configurations import configurations
    from mapper.cost.roofline import roofline
    from mapper.solver.peers.against import against, rivals_of

    costs = table or roofline(graph, plan.machine, configurations(plan.machine))
    return against(plan, graph, costs, limits, rivals_of(text), progress)


def pipedream_instance(
    graph: Graph, machine: Machine, bandwidth: str | None, replicas: str | None, limits: Limits
) -> tuple[Graph, CostTable, Limits]:
    """What is searched under PipeDream's objective: another graph, other costs and limits than those of the request."""
    from mapper.cli.graph import BANDWIDTH, most_replicas
    from mapper.solver.peers.pipedream import searched_instance
    from mapper.units import parse_rate

    most = most_replicas(replicas or "any", True)
    return searched_instance(graph, machine, parse_rate(bandwidth or BANDWIDTH), limits, most)


def pipedream_plan(
    graph: Graph, reference: ModelRef, machine: Machine, bandwidth: str | None, replicas: str | None, limits: Limits,
    near_optimal: str | None, stop: Stop, progress: Progress,
) -> Plan:  # fmt: skip
    """The plan of `graph` under PipeDream's objective."""
    from mapper.cli.graph import BANDWIDTH, most_replicas
    from mapper.solver.peers.pipedream import plan_pipedream
    from mapper.units import parse_fraction, parse_rate

    return plan_pipedream(
        graph, machine, parse_rate(bandwidth or BANDWIDTH), limits=limits, model=reference, progress=progress,
        near_optimal=parse_fraction(near_optimal or "0"), most_replicas=most_replicas(replicas or "any", True),
        stop=stop,
    )  # fmt: skip


def rivals_document(rivals: tuple[Rival, ...]) -> dict[str, Any]:
    """What a plan's JSON has besides for `--against`; nothing without rivals."""
    return {"against": [dataclasses.asdict(rival) for rival in rivals]} if rivals else {}


def require_known(
    graph: Path | None, objective: str, objective_model: str | None, planner: str, placement: str, against: str | None
) -> None:
    """Raises UsageError for a name that does not exist, or options that exclude each other."""
    from mapper.errors import UsageError
    from mapper.solver.peers.against import rivals_of
    from mapper.solver.peers.choose import require_planner
    from mapper.solver.placement.strategies import OPTIMAL, strategy_called

    require_planner(planner)
    strategy_called(placement)
    if against is not None:
        rivals_of(against)
    if objective_model is None:
        return
    if objective_model != "pipedream":
        raise UsageError(f"there is no objective model {objective_model!r}", advice="One of pipedream.")
    if (objective, planner, placement, against) != ("throughput", OPTIMAL, OPTIMAL, None):
        raise UsageError("--objective-model pipedream takes no --objective, --planner, --placement or --against",
                         advice="What PipeDream's own program finds is shown beside its plan.")  # fmt: skip
    if graph is None:
        raise UsageError("--objective-model pipedream is for graphs with PipeDream's profiles: --graph FILE")
