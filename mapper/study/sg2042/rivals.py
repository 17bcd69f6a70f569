"""What else has a name beside the planner's choice: the same stages in other placements, and the plans of others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from mapper.errors import Infeasible, NoPlanInTime, UsageError
from mapper.graph.model import Graph
from mapper.machine.model import Machine
from mapper.plans.evaluate import Placed
from mapper.solver.peers.choose import choose, flop_of
from mapper.solver.peers.register import PLANNERS
from mapper.solver.placement.strategies import OPTIMAL, STRATEGIES
from mapper.solver.problem import Limits, Problem, StageChoice
from mapper.solver.stage import stage_choice


def placements(
    graph: Graph, machine: Machine, problem: Problem, placed: Sequence[Placed]
) -> Iterator[tuple[str, tuple[Placed, ...]]]:
    """The stages of a mapping where each named placement but ours puts them, by its name; those that cannot hold them
    are left out. Weights lie on all nodes where they do in `placed`."""
    stages = _choices(graph, machine, problem, placed)
    for name, strategy in STRATEGIES.items():
        if name == OPTIMAL:
            continue
        try:
            found, _ = strategy.place(graph, machine, problem, stages)
        except UsageError:
            continue
        yield name, tuple(replace(stage, spread=own.spread) for stage, own in zip(found, placed, strict=True))


def _choices(graph: Graph, machine: Machine, problem: Problem, placed: Sequence[Placed]) -> tuple[StageChoice, ...]:
    """The stages of `placed` as the search has them, with groups to themselves where they have them there and need
    them."""
    homes = [{machine.cores[core].group for cores in stage.replicas for core in cores} for stage in placed]
    choices = []
    for s, stage in enumerate(placed):
        ops, config = [graph.position[name] for name in stage.ops], problem.configs.index(stage.config)
        alone = all(homes[s].isdisjoint(other) for t, other in enumerate(homes) if t != s)
        choices.append(stage_choice(problem, ops, config, len(stage.replicas), alone=alone))
    return tuple(choices)


def peers(graph: Graph, machine: Machine, problem: Problem) -> Iterator[tuple[str, tuple[Placed, ...]]]:
    """The plans of all planners of others by name, placed like ours; those that have none for the graph are left
    out."""
    for name in PLANNERS:
        try:
            stages = choose(name, problem, Limits(), flop_of(graph))
            yield name, STRATEGIES[OPTIMAL].place(graph, machine, problem, stages)[0]
        except (Infeasible, NoPlanInTime, UsageError):
            continue
