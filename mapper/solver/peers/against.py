"""A plan beside those that others would have made for the same request: placed, evaluated and compared."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mapper.cost.table import CostTable
from mapper.errors import Infeasible, NoPlanInTime, UsageError
from mapper.graph.model import Graph
from mapper.plans.evaluate import Evaluation, evaluate
from mapper.plans.model import Plan
from mapper.solver.peers.choose import choose, flop_of
from mapper.solver.peers.register import PLANNERS, planner_called
from mapper.solver.placement.strategies import OPTIMAL, strategy_called
from mapper.solver.problem import Limits, Problem, problem_of
from mapper.solver.search.space import Progress, silent


@dataclass(frozen=True)
class Rival:
    """The plan of another planner. `of_ours`: its throughput, ours being 1. `note`: the limit that it breaks, or why
    there is no plan; then the figures are zero."""

    planner: str
    source: str
    throughput_per_s: float = 0.0
    latency_s: float = 0.0
    cores_used: int = 0
    stages: int = 0
    workers: int = 0
    of_ours: float = 0.0
    note: str = ""


def rivals_of(text: str) -> tuple[str, ...]:
    """The planners that `text` names with commas between, or `all`. Raises: UsageError for an unknown one."""
    if text == "all":
        return tuple(PLANNERS)
    return tuple(dict.fromkeys(planner_called(name.strip()).name for name in text.split(",")))


def against(
    plan: Plan, graph: Graph, table: CostTable, limits: Limits, names: Sequence[str], progress: Progress = silent
) -> tuple[Rival, ...]:
    """The plans of the planners called `names` beside `plan`, which was made with `table` under `limits`.

    Every plan is placed like `plan`. A planner that has no plan for the request is listed with the reason.
    """
    strategy = str((plan.request.model_extra or {}).get("placement", OPTIMAL))
    problem = problem_of(graph, plan.machine, table, limits)
    found = []
    for name in names:
        progress(f"Planning as {name} would ...")
        found.append(_rival(name, plan, graph, table, limits, problem, strategy))
    return tuple(found)


def _rival(
    name: str, plan: Plan, graph: Graph, table: CostTable, limits: Limits, problem: Problem, strategy: str
) -> Rival:
    source = planner_called(name).source
    try:
        stages = choose(name, problem, limits, flop_of(graph))
        placed, _ = strategy_called(strategy).place(graph, plan.machine, problem, stages)
    except (Infeasible, NoPlanInTime, UsageError) as error:
        return Rival(name, source, note=error.what)
    made = evaluate(graph, plan.machine, table, placed)
    predicted = made.predicted
    return Rival(
        name, source, predicted.throughput_per_s, predicted.latency_s, predicted.cores_used, len(made.stages),
        sum(len(stage.replicas) for stage in made.stages),
        predicted.throughput_per_s / plan.predicted.throughput_per_s, _broken(made, limits),
    )  # fmt: skip


def _broken(made: Evaluation, limits: Limits) -> str:
    """The limits on what depends on the placement that `made` breaks, as options."""
    predicted = made.predicted
    known = {
        "--max-latency": limits.max_latency_s is not None and predicted.latency_s > limits.max_latency_s * (1 + 1e-9),
        "--memory-per-node": max(predicted.node_memory_bytes, default=0.0) > (limits.node_memory_bytes or math.inf),
        "--min-throughput": predicted.period_s > limits.max_period_s * (1 + 1e-9),
    }
    return ", ".join(f"breaks {option}" for option, broken in known.items() if broken)
