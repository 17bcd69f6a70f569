"""From stages to cores: a placed plan that keeps the limits, distances and the sizes of nodes included.

The search takes distances at their least and the cores and memory of all nodes as one. Where a placed plan is beyond a
limit, that limit is drawn tighter by as much and the search asked again; its first bound holds for all plans anyway.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from mapper.cost.table import CostTable
from mapper.errors import Infeasible, NoPlanInTime
from mapper.graph.model import Graph
from mapper.machine.model import Machine
from mapper.plans.evaluate import Evaluation, evaluate
from mapper.plans.model import Predicted
from mapper.solver.place import Held, Unplaceable, place
from mapper.solver.problem import Limits, Solution, StageChoice
from mapper.solver.search import Search

TRIES = 12
"""How often limits are tightened."""
KEPT = 1 + 1e-7
"""A limit counts as kept up to this factor: less than what `plans.check` allows."""


@dataclass(frozen=True)
class Case:
    """What is planned: the graph on the machine with its costs, and the search over its plans."""

    graph: Graph
    machine: Machine
    table: CostTable
    search: Search


@dataclass(frozen=True)
class Fitting:
    """A placed plan: what was searched, what it comes to, the best period of any plan placed, and the bound.

    `complete`: ties between placements were broken completely.
    """

    solution: Solution
    evaluation: Evaluation
    best_period_s: float
    bound_s: float
    complete: bool


def fitting(case: Case, aim: Limits, limits: Limits, near_optimal: float, tolerance: float) -> Fitting:
    """The best plan under `aim` (which may be tighter than `limits`) whose placement keeps `limits`.

    Raises: Infeasible; NoPlanInTime where tightening leads to no plan.
    """
    bound, tight, last = None, aim, ""
    for _ in range(TRIES):
        try:
            solution = case.search.throughput(tight, near_optimal, tolerance)
        except Infeasible:
            if bound is None:
                raise
            break
        bound = solution.bound_s if bound is None else bound
        try:
            chosen, best, complete = _placed(case, solution, tight, near_optimal)
        except Unplaceable:
            tight, last = _roomier(case, tight, solution), "groups and nodes of these sizes"
            continue
        tighter, last = _tighter(tight, limits, chosen.predicted)
        if tighter == tight:
            return Fitting(solution, chosen, best, bound, complete)
        tight = tighter
    raise NoPlanInTime(
        f"plans were found, but none that keeps {last} when it is placed on cores",
        advice="A limit a few percent wider leaves room for distances and the borders of nodes.",
    )


def _placed(case: Case, solution: Solution, limits: Limits, near_optimal: float) -> tuple[Evaluation, float, bool]:
    """The chosen plan with its cores, the best period of any plan placed, and whether ties were broken completely.

    Distances come with the placement: where they take a plan of few stages out of the allowance, the strict optimum
    is taken instead.
    """
    chosen, complete = _on_cores(case, solution.stages, limits)
    if solution.strict is None:
        return chosen, chosen.predicted.period_s, complete
    strict, strictly = _on_cores(case, solution.strict.stages, limits)
    best = min(chosen.predicted.period_s, strict.predicted.period_s)
    if chosen.predicted.period_s > best * (1 + near_optimal):
        return strict, best, strictly
    return chosen, best, complete


def _on_cores(case: Case, stages: tuple[StageChoice, ...], limits: Limits) -> tuple[Evaluation, bool]:
    held = None
    if limits.node_memory_bytes is not None:
        held = Held(
            tuple(s.weight_bytes for s in stages), tuple(s.memory_bytes for s in stages), limits.node_memory_bytes
        )
    placed, complete = place(case.graph, case.machine, case.search.problem, stages, held)
    return evaluate(case.graph, case.machine, case.table, placed), complete


def _tighter(tight: Limits, limits: Limits, predicted: Predicted) -> tuple[Limits, str]:
    """`tight` as it is where `predicted` keeps `limits`; otherwise with the broken limit drawn in, and its option."""
    most = limits.max_latency_s
    if most is not None and predicted.latency_s > most * KEPT:
        at = (tight.max_latency_s or most) * most / predicted.latency_s
        return replace(tight, max_latency_s=at), "--max-latency"
    if predicted.period_s > limits.max_period_s * KEPT:
        at = (tight.min_throughput_per_s or 0.0) * predicted.period_s / limits.max_period_s
        return replace(tight, min_throughput_per_s=at), "--min-throughput"
    most = limits.node_memory_bytes
    if most is not None and max(predicted.node_memory_bytes) > most * KEPT:
        at = (tight.node_memory_bytes or most) * most / max(predicted.node_memory_bytes)
        return replace(tight, node_memory_bytes=at), "--memory-per-node"
    return tight, ""


def _roomier(case: Case, tight: Limits, solution: Solution) -> Limits:
    """Limits that leave more room for packing: a little less memory in all, or else a core less."""
    if tight.node_memory_bytes is not None:
        return replace(tight, node_memory_bytes=tight.node_memory_bytes * 0.96)
    configs = case.search.problem.configs
    used = sum(stage.replicas * configs[stage.config].cores for stage in solution.stages)
    return replace(tight, max_cores=used - 1)
