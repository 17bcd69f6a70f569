"""A problem file to a checked plan of it: the search on its arrays, the numbers from `evaluate_problem`."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mapper import __version__
from mapper.errors import BadInput, Infeasible, UsageError, one_of
from mapper.plans.check import OPTIMAL_GAP
from mapper.plans.model import Proof, Solver, Status
from mapper.plans.problem_check import problem_violations
from mapper.plans.problem_evaluate import Evaluated, Proposed, evaluate_problem
from mapper.plans.problem_file import ProblemFile, ProblemRef, read_problem, unpacked
from mapper.plans.problem_plan import ProblemLimits, ProblemPlan, ProblemPredicted, ProblemRequest
from mapper.solver.problem import Limits, Objective, Problem, Solution, StageChoice
from mapper.solver.problem_file import problem_of_file
from mapper.solver.search.aim import Aim, aimed
from mapper.solver.search.infeasible import infeasible
from mapper.solver.search.least_period import throughput
from mapper.solver.search.space import Progress, Space, silent
from mapper.solver.stop import Stop

ASSUMPTION = "costs are those of the problem file"
_RELATIVE = 1e-9
_HOPELESS = 1e4
"""Seconds of one op beyond so many times the least seconds of all ops together are as good as more of them."""
_ROUNDING = 2.0**-48
"""Relative error of the search's sums, which are differences of sums over all ops."""


def plan_problem(
    path: Path,
    limits: Limits | None = None,
    near_optimal: float = 0.0,
    *,
    objective: Objective = "throughput",
    configurations: Sequence[str] | None = None,
    progress: Progress = silent,
    stop: Stop | None = None,
) -> ProblemPlan:
    """The best plan of the problem file in `path` under `limits`, with what was proved of it.

    Best is the least period ("throughput"), or the least latency, or the fewest cores, and then the least period. Of
    plans within `near_optimal` (a fraction) of the best period, the one with the fewest stages is chosen.
    `configurations` names those of the file that may be used; None is all of them. When `stop` is reached, or the user
    interrupts (`stop.interrupted` then), the best plan so far is taken.

    Raises: BadInput for a file that is none, or whose best period is 0; Infeasible with the smallest change of each
    limit that helps; UsageError for more stages than ops, or limits that no problem file knows; AssertionError, a bug
    of the planner, if the plan fails its check.
    """
    file, reference = read_problem(path)
    return plan_of_file(
        file, reference, limits, near_optimal, objective=objective, configurations=configurations, progress=progress,
        stop=stop,
    )  # fmt: skip


def plan_of_file(
    file: ProblemFile,
    reference: ProblemRef,
    limits: Limits | None = None,
    near_optimal: float = 0.0,
    *,
    objective: Objective = "throughput",
    configurations: Sequence[str] | None = None,
    progress: Progress = silent,
    stop: Stop | None = None,
) -> ProblemPlan:
    """`plan_problem` of a file that was read: `reference` is how the plan refers to it."""
    limits = _known(limits or Limits(), file, reference)
    searched = narrowed(file, configurations, reference)
    problem = without_hopeless(_problem(searched, limits, reference))
    space = Space(problem, progress=progress, stop=stop or Stop())
    try:
        aim = aimed(space, objective, limits, OPTIMAL_GAP / 4)
        solution = throughput(space, aim.limits, near_optimal, OPTIMAL_GAP / 4)
    except Infeasible:
        raise infeasible(space, limits) from None
    chosen = _evaluated(file, searched, problem, solution.stages)
    if chosen.period_s <= 0:
        raise BadInput(reference.file, "the best period is 0 s, so there is nothing to plan", place="/ops")
    best_s = chosen.period_s
    if solution.strict is not None:
        best_s = min(best_s, _evaluated(file, searched, problem, solution.strict.stages).period_s)
    request = ProblemLimits.model_validate(limits.as_options() | {"configurations": configurations or None})
    made = ProblemPlan(
        problem=reference,
        request=ProblemRequest(objective=objective, limits=request),
        solver=_solver(searched, space, solution, aim, chosen.predicted, best_s, near_optimal),
        predicted=chosen.predicted,
        stages=chosen.stages,
        provenance={"mapper": __version__},
    )
    found = problem_violations(made, file)
    if found:  # no assert statement: this must be looked at under python -O too
        raise AssertionError(f"the planner made a plan that its own check refuses: {found}")
    return made


def narrowed(file: ProblemFile, configurations: Sequence[str] | None, reference: ProblemRef) -> ProblemFile:
    """`file` with only the configurations called so; None keeps all. Raises: UsageError for one that it lacks."""
    if not configurations:
        return file
    known = [config.name for config in file.configs]
    for name in configurations:
        if name not in known:
            raise UsageError(f"{name!r} is no configuration of {reference.file}", advice=one_of(name, known))
    keep = [c for c, name in enumerate(known) if name in configurations]
    if all(file.configs[c].cores > file.machine.cores for c in keep):
        raise UsageError(f"{', '.join(configurations)}: no such replica fits the {file.machine.cores} cores")
    ops = tuple(op.model_copy(update={"seconds": tuple(op.seconds[c] for c in keep)}) for op in file.ops)
    return file.model_copy(update={"configs": tuple(file.configs[c] for c in keep), "ops": ops})


def _known(limits: Limits, file: ProblemFile, reference: ProblemRef) -> Limits:
    """`limits`, if they make sense for a problem file."""
    if limits.configurations is not None:
        raise UsageError(f"configurations of {reference.file} are given by their names in the file")
    if limits.node_memory_bytes is not None:
        raise UsageError(f"{reference.file} has no NUMA nodes, so none whose memory could be limited")
    if limits.stages is not None and limits.stages > len(file.ops):
        raise UsageError(f"{limits.stages} stages were asked for, but {reference.name} has {len(file.ops)} ops")
    return limits


def _problem(file: ProblemFile, limits: Limits, reference: ProblemRef) -> Problem:
    """The arrays of `file` with the limits that name ops."""
    place = {file.ops[v].name: i for i, v in enumerate(file.order)}

    def positions(names: Sequence[str]) -> tuple[int, ...]:
        for name in names:
            if name not in place:
                raise UsageError(f"{reference.file} has no op {name!r}", advice=one_of(name, place))
        return tuple(place[name] for name in names)

    return dataclasses.replace(
        problem_of_file(file),
        together=tuple(positions(names) for names in limits.together),
        apart=tuple(positions(names) for names in limits.apart),
    )


def without_hopeless(problem: Problem) -> Problem:
    """`problem` with no seconds that are hopeless: a file may say so that an op cannot run on a configuration.

    Sums with such a number would drown what tells other stages apart. Costs only become less, so a bound stays one.
    """
    least_s = float(problem.seconds.min(axis=(1, 2)).sum())
    most_s = _HOPELESS * least_s if least_s > 0 else math.inf
    return dataclasses.replace(problem, seconds=np.minimum(problem.seconds, most_s))


def _evaluated(file: ProblemFile, searched: ProblemFile, problem: Problem, stages: Sequence[StageChoice]) -> Evaluated:
    """The stages of a search of `problem`, made from `searched`, in terms of `file`: both must give the same costs.

    Raises: BadInput where the limits leave no plan but one with hopeless seconds.
    """
    proposed = [
        Proposed(
            tuple(sorted(searched.order[v] for v in stage.ops)),
            searched.configs[stage.config].name,
            stage.replicas,
            stage.exclusive,
        )
        for stage in stages
    ]
    fresh = evaluate_problem(file, proposed)
    most_s = float(problem.seconds.max())
    rounding = {"load_s": float(problem.seconds.sum(axis=0).max()), "dram_bytes": problem.weight_bytes}
    for stage, derived in zip(stages, fresh.stages, strict=True):
        for name, total in rounding.items():
            ours, theirs = getattr(stage, name), getattr(derived, name)
            if math.isclose(ours, theirs, rel_tol=_RELATIVE, abs_tol=max(1e-15, total * _ROUNDING)):
                continue
            worst = max(derived.ops, key=lambda v: max(map(max, file.ops[v].seconds)))
            if max(map(max, file.ops[worst].seconds)) > most_s:
                what = f"no plan within the limits but one with {file.ops[worst].name!r} where it takes hopelessly long"
                raise BadInput(file.name or "the problem", what, place=f"/ops/{worst}/seconds")
            what = f"stage {derived.id} has {name} {ours!r} in the search, but {theirs!r} by the file"
            raise AssertionError(f"the search and the evaluation disagree: {what}")
    return fresh


def _solver(
    searched: ProblemFile, space: Space, solution: Solution, aim: Aim, predicted: ProblemPredicted, best_s: float,
    near_optimal: float,
) -> Solver:  # fmt: skip
    """What was proved, of the numbers in the file. `best_s` is the best period of any plan found."""
    value = predicted.value(aim.objective)
    best = best_s if aim.objective == "throughput" else value
    bound = min(solution.bound_s if aim.bound is None else aim.bound, best)
    gap = (best - bound) / best
    status: Status = "optimal" if gap <= OPTIMAL_GAP * (1 + 1e-6) else "feasible"
    kind = "all" if solution.whole_space or space.ideals.complete else "some of the"
    blocks = f" of {space.blocks} blocks of neighbouring ops" if space.blocks else ""
    names = ", ".join(config.name for config in searched.configs)
    assumptions = [ASSUMPTION]
    if sizes := unpacked(searched):
        assumptions.append(sizes)
    return Solver(
        status=status,
        objective=value,
        best_objective=best,
        bound=bound,
        gap=gap,
        near_optimal=near_optimal,
        proved=Proof(
            space=f"{kind} chains of ideals{blocks} × {names} × any number of replicas", assumptions=tuple(assumptions)
        ),
        versions=_versions(),
    )


def _versions() -> dict[str, str]:
    """What decides the plan besides its inputs."""
    out = {"mapper": __version__}
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        out["ortools"] = importlib.metadata.version("ortools")
    return out
