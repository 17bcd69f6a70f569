"""Plans of other planners, made like ours: placed and evaluated, and under the bound of our search."""

from __future__ import annotations

from typing import Any

from mapper.errors import Infeasible
from mapper.plans.evaluate import evaluate
from mapper.plans.model import Alternative, Plan
from mapper.solver.peers.choose import flop_of, peer_solution
from mapper.solver.placement.candidates import Case
from mapper.solver.placement.fitting import Fitting, fitting
from mapper.solver.placement.strategies import OPTIMAL, strategy_called
from mapper.solver.problem import Limits, Problem, Solution, StageChoice
from mapper.solver.search.least_period import throughput
from mapper.solver.stage import cores_of


def fitting_by(
    planner: str, strategy: str, case: Case, aim: Limits, limits: Limits, near_optimal: float, tolerance: float
) -> Fitting:
    """The plan of the planner called `planner`, or ours (`fitting`), with its cores chosen by `strategy`, or by us.

    The bound is that of our search under the same limits.

    Raises: Infeasible where nothing keeps the limits, or this planner does not; UsageError for a graph that it is not
    for, or a placement that cannot hold it; NoPlanInTime.
    """
    if planner == OPTIMAL:
        found = fitting(case, aim, limits, near_optimal, tolerance)
        return found if strategy == OPTIMAL else placed_by(case, chosen_stages(case, found), found, strategy)
    proved = throughput(case.space, limits, 0.0, tolerance)
    case.space.progress(f"Planning as {planner} would ...")
    made = peer_solution(planner, case.space.problem, limits, proved, flop_of(case.graph))
    return placed_by(case, made.stages, made, strategy)


def chosen_stages(case: Case, found: Fitting) -> tuple[StageChoice, ...]:
    """The stages that were placed in `found`: those of its solution, or of the strict optimum."""
    ops = [stage.ops for stage in found.evaluation.stages]
    for solution in (found.solution, found.solution.strict):
        if solution is not None:
            named = [tuple(case.graph.ops[v].name for v in stage.ops) for stage in solution.stages]
            if named == ops:
                return solution.stages
    raise AssertionError("a placed plan has the stages of its solution")


def placed_by(case: Case, stages: tuple[StageChoice, ...], of: Solution | Fitting, strategy: str) -> Fitting:
    """`stages` on the cores that `strategy` gives them, under the bound of `of`."""
    placed, complete = strategy_called(strategy).place(case.graph, case.machine, case.space.problem, stages)
    evaluation = evaluate(case.graph, case.machine, case.table, placed)
    solution = of.solution if isinstance(of, Fitting) else of
    return Fitting(solution, evaluation, evaluation.predicted.period_s, of.bound_s, complete)


def attributed(plan: Plan, planner: str, strategy: str, solution: Solution, problem: Problem) -> Plan:
    """`plan` with the names of its planner and placement in its request, where they are not ours.

    The plan of another planner is feasible, whatever its gap; `solution.strict` is the optimum and becomes its first
    alternative.
    """
    named: dict[str, Any] = {"planner": planner, "placement": strategy}
    named = {key: name for key, name in named.items() if name != OPTIMAL}
    if not named:
        return plan
    changes: dict[str, Any] = {"request": plan.request.model_copy(update=named)}
    if planner != OPTIMAL:
        proof = plan.solver.proved
        space = f"the plan of {planner} alone; the bound is that of {proof.space}"
        update = {"status": "feasible", "near_optimal": 0.0, "proved": proof.model_copy(update={"space": space})}
        changes["solver"] = plan.solver.model_copy(update=update)
        best = solution.strict
        assert best is not None
        cores = sum(cores_of(problem, stage) for stage in best.stages)
        optimum = Alternative(
            name=OPTIMAL, options=f"--planner {OPTIMAL}", throughput_per_s=1 / best.period_s,
            latency_s=best.latency_s, cores_used=cores,
        )  # fmt: skip
        changes["alternatives"] = (optimum, *plan.alternatives)
    return plan.model_copy(update=changes)


def require_kept(planner: str, strategy: str, wrong: list[str]) -> list[str]:
    """What is `wrong` with the plan. Raises: Infeasible when that is only a limit that another planner or placement
    does not keep."""
    ours = (planner, strategy) == (OPTIMAL, OPTIMAL)
    if not ours and wrong and all(text.startswith("/request/limits/") for text in wrong):
        what = f"the planner {planner}" if planner != OPTIMAL else f"the placement {strategy}"
        lever = f"--planner {OPTIMAL}" if planner != OPTIMAL else f"--placement {OPTIMAL}"
        broken = "; ".join(text.removeprefix("/request/limits/") for text in wrong)
        raise Infeasible(f"{what} does not keep the limits: {broken}", [lever])
    return wrong
