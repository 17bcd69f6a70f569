"""What others would have planned: planners by name, for the same problem and with the same loads as the search."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from mapper.errors import Infeasible
from mapper.graph.model import Graph
from mapper.solver.peers import baselines, programs
from mapper.solver.peers.register import Proposal, Task, planner_called
from mapper.solver.placement.strategies import OPTIMAL
from mapper.solver.problem import Array, Limits, Problem, Solution, StageChoice
from mapper.solver.reductions.coarsen import coarsen
from mapper.solver.reductions.reduce import Reduction, reduce
from mapper.solver.stage import cores_of, period_of, stage_choice

REGISTERED = (baselines, programs)
"""The modules that fill the register of planners."""


def require_planner(name: str) -> None:
    """Raises UsageError when there is no planner called `name`."""
    if name != OPTIMAL:
        planner_called(name)


def flop_of(graph: Graph) -> Array | None:
    """(ops,): the FLOP of each op, None for a graph that brings times instead."""
    return None if graph.costed else np.array([op.flop for op in graph.ops], dtype=float)


def choose(name: str, problem: Problem, limits: Limits, flop: Array | None = None) -> tuple[StageChoice, ...]:
    """The stages of the planner called `name`, in order, with the loads that they have on `problem`.

    Of `limits`, planners keep numbers of cores, replicas and stages, as far as they choose those at all. `flop` (ops,)
    is for `equal-flop`. Raises: UsageError for an unknown name or a graph that the planner is not for; Infeasible when
    its plan does not keep those limits.
    """
    found = planner_called(name)
    fine = reduce(problem)
    if limits.stages is not None and limits.stages > fine.problem.ops:
        fine = reduce(problem, idle=False)
    given = coarsen(fine, found.blocks) if found.blocks is not None else fine
    task = Task(given.problem, limits, None if flop is None else _summed(flop, given))
    proposals = found.choose(task)
    stages = tuple(_stage(problem, proposal, given, task, len(proposals) == 1) for proposal in proposals)
    _require(name, problem, stages, limits)
    return stages


def peer_solution(name: str, problem: Problem, limits: Limits, proved: Solution, flop: Array | None = None) -> Solution:
    """The plan of the planner called `name` under the bound of `proved`, the optimum of the whole space (`strict`).

    Raises: as `choose`.
    """
    stages = choose(name, problem, limits, flop)
    period = period_of(problem, stages)
    return replace(proved, stages=stages, period_s=period, best_period_s=period, strict=proved)


def _summed(flop: Array, reduction: Reduction) -> Array:
    return np.array([flop[list(ops)].sum() for ops in reduction.members])


def _stage(problem: Problem, proposal: Proposal, given: Reduction, task: Task, only: bool) -> StageChoice:
    """The proposed stage in terms of the original ops. The only stage shares its groups with nobody, if they are
    whole groups that may be used."""
    size, cores = problem.cores_per_group, proposal.replicas * problem.configs[proposal.config].cores
    alone = proposal.alone or (only and math.ceil(cores / size) * size <= task.cores)
    return stage_choice(problem, given.restore(proposal.ops), proposal.config, proposal.replicas, alone=alone)


def _require(name: str, problem: Problem, stages: tuple[StageChoice, ...], limits: Limits) -> None:
    """Raises Infeasible when `stages` break a limit on numbers. What depends on cores is checked in the plan."""
    count, replicas = len(stages), max(stage.replicas for stage in stages)
    cores = sum(cores_of(problem, stage) for stage in stages)
    most = min(problem.cores, limits.max_cores or problem.cores)
    broken = [
        (limits.stages not in (None, count), f"--stages {count}"),
        (count > (limits.max_stages or count), f"--max-stages {count}"),
        (replicas > (limits.max_replicas or replicas), f"--replicas {replicas}"),
        (cores > most, f"--max-cores {cores}"),
    ]
    for missed, option in broken:
        if missed:
            raise Infeasible(f"the planner {name} does not keep the limits: its plan needs {option}",
                             [option, f"--planner {OPTIMAL}"])  # fmt: skip
