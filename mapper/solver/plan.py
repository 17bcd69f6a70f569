"""`mapper.plan`: the whole way from graph and machine to a checked plan."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from mapper import __version__
from mapper.cost.configurations import configurations
from mapper.cost.imported import given_costs
from mapper.cost.roofline import roofline
from mapper.cost.table import GIVEN, CostTable
from mapper.errors import UsageError
from mapper.graph.model import Graph
from mapper.jsonio import plain, sha256
from mapper.machine.model import Machine
from mapper.plans.check import optimal_gap, violations
from mapper.plans.evaluate import Evaluation, evaluate
from mapper.plans.model import ModelRef, Plan, Proof, Request, Solver, Status, TensorSpec
from mapper.solver.alternatives import alternatives
from mapper.solver.place import place
from mapper.solver.problem import Limits, Problem, Solution, problem_of
from mapper.solver.search import Progress, Search, silent

NEAR_OPTIMAL = 0.01
ASSUMPTIONS = (
    "costs are those of the cost model",
    "every core is as busy as all of them",
    "live activations do not push weights out of the package's cache",
    "the feeder's work costs the stages nothing",
)
GIVEN_ASSUMPTIONS = ("costs are those of the graph file, the same on every unit",)


def plan(
    graph: Graph,
    machine: Machine,
    *,
    costs: CostTable | None = None,
    limits: Limits | None = None,
    near_optimal: float = NEAR_OPTIMAL,
    model: ModelRef | None = None,
    batch: int = 1,
    progress: Progress = silent,
) -> Plan:
    """The mapping of `graph` onto `machine` with the least period under `limits`, with what was proved of it.

    Of plans within `near_optimal` (a fraction) of the best period, the one with the fewest stages is chosen. `model`
    says where the graph comes from, so that the plan can be run from its file.

    A graph that brings its own times is planned with those; where tensors have bytes only, `costs` must price them
    (`cost.imported.given_costs`).

    Raises: Infeasible with the smallest change of each limit that helps; UsageError for more stages than ops;
    AssertionError, a bug of the planner, if the plan fails its own check.
    """
    limits = _within_quota(limits or Limits(), machine)
    table = costs or (given_costs(graph) if graph.costed else roofline(graph, machine, configurations(machine)))
    problem = problem_of(graph, machine, table)
    if limits.stages is not None and limits.stages > problem.ops:
        raise UsageError(f"{limits.stages} stages were asked for, but {graph.name} has {problem.ops} ops")
    search = Search(problem, progress=progress)
    solution = search.throughput(limits, near_optimal, optimal_gap(table.source) / 4)
    evaluation, best_s, complete = _placed(graph, machine, table, problem, solution, near_optimal)
    made = Plan(
        model=model or reference(graph),
        machine=machine,
        fingerprint=machine.fingerprint,
        request=Request(limits=limits.as_options(), batch=batch, costs={"source": table.source, **table.options}),
        solver=_solver(
            search, table, solution, evaluation, best_s, near_optimal, complete, _assumptions(machine, table)
        ),
        predicted=evaluation.predicted,
        stages=evaluation.stages,
        edges=evaluation.edges,
        alternatives=alternatives(search, solution, limits),
        provenance={"mapper": __version__, "topology_sha256": sha256(plain(machine))},
    )
    found = violations(made, graph, table)
    if found:  # no assert statement: this must be looked at under python -O too
        raise AssertionError(f"the planner made a plan that its own check refuses: {found}")
    return made


def _within_quota(limits: Limits, machine: Machine) -> Limits:
    """`limits` with no more cores than the system grants the time of."""
    if machine.cpu_quota is None:
        return limits
    granted = max(1, math.floor(machine.cpu_quota.value))
    return dataclasses.replace(limits, max_cores=min(limits.max_cores or granted, granted))


def reference(graph: Graph) -> ModelRef:
    """How a plan names a graph that comes from no card."""
    program = graph.program
    item = (
        tuple(TensorSpec(name=i.name, shape=i.type.shape, dtype=i.type.dtype) for i in program.inputs)
        if program
        else ()
    )
    return ModelRef(name=graph.name, source="", graph_sha256=graph.sha256, weights="", dtype=graph.dtype, item=item)


def _placed(
    graph: Graph, machine: Machine, table: CostTable, problem: Problem, solution: Solution, near_optimal: float
) -> tuple[Evaluation, float, bool]:
    """The chosen plan with its cores, the best period of any plan placed, and whether ties were broken completely.

    Distances come with the placement: where they take a plan of few stages out of the allowance, the strict optimum
    is taken instead.
    """
    placed, complete = place(graph, machine, problem, solution.stages)
    chosen = evaluate(graph, machine, table, placed)
    if solution.strict is None:
        return chosen, chosen.predicted.period_s, complete
    placed, strictly = place(graph, machine, problem, solution.strict.stages)
    strict = evaluate(graph, machine, table, placed)
    best = min(chosen.predicted.period_s, strict.predicted.period_s)
    if chosen.predicted.period_s > best * (1 + near_optimal):
        return strict, best, strictly
    return chosen, best, complete


def _solver(
    search: Search,
    table: CostTable,
    solution: Solution,
    evaluation: Evaluation,
    best: float,
    near_optimal: float,
    complete: bool,
    assumptions: tuple[str, ...],
) -> Solver:
    """What was proved. The plan's own distances can only cost more than the least ones that the bound assumes."""
    objective = evaluation.predicted.period_s
    bound = min(solution.bound_s, best)
    gap = max(0.0, (best - bound) / best)
    status: Status = "optimal" if gap <= optimal_gap(table.source) * (1 + 1e-6) else "feasible"
    return Solver(
        status=status,
        objective=objective,
        best_objective=best,
        bound=bound,
        gap=gap,
        near_optimal=near_optimal,
        proved=Proof(space=_space(search, table, solution.whole_space), assumptions=assumptions),
        tie_break="complete" if complete else "incomplete",
        versions=_versions(),
    )


def _space(search: Search, table: CostTable, whole: bool) -> str:
    """Which plans were searched. The bound holds for all of them, also where some were not."""
    kind = "all" if whole else "some of the"
    of = f" of {search.blocks} blocks of neighbouring ops" if search.blocks else ""
    what = "one unit" if table.source == GIVEN else _names(search.problem)
    return f"{kind} chains of ideals{of} × {what} × any number of replicas"


def _assumptions(machine: Machine, table: CostTable) -> tuple[str, ...]:
    if table.source == GIVEN:
        return GIVEN_ASSUMPTIONS
    return (*ASSUMPTIONS, "every core is as fast as the slowest kind") if machine.core_kinds else ASSUMPTIONS


def _names(problem: Problem) -> str:
    names = [config.name for config in problem.configs]
    parts = [
        name for name, config in zip(names, problem.configs, strict=True) if config.cores < problem.cores_per_group
    ]
    whole = f"1..{problem.groups} groups of {problem.cores_per_group}"
    return " and ".join([*([", ".join(parts)] if parts else []), whole])


def _versions() -> dict[str, Any]:
    import ortools

    return {"mapper": __version__, "ortools": ortools.__version__}
