"""`mapper.plan`: the whole way from graph and machine to a checked plan."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from mapper import __version__
from mapper.backends.registry import EAGER, backend_called
from mapper.cost.configurations import configurations
from mapper.cost.imported import given_costs
from mapper.cost.roofline import roofline
from mapper.cost.table import GIVEN, CostTable
from mapper.errors import Infeasible, UsageError
from mapper.graph.model import Graph
from mapper.jsonio import plain, sha256
from mapper.machine.model import Machine
from mapper.machine.synthetic import with_own_memory
from mapper.plans.check import optimal_gap, value_of, violations
from mapper.plans.micro_batches import in_items
from mapper.plans.model import ModelRef, Plan, Proof, Request, Solver, Status
from mapper.plans.reference import reference_of
from mapper.solver.alternatives import OnHosts, alternatives
from mapper.solver.micro_batches import found_for_items
from mapper.solver.peers.plans import attributed, fitting_by, require_kept
from mapper.solver.placement.candidates import Case
from mapper.solver.placement.fitting import Fitting
from mapper.solver.placement.strategies import OPTIMAL
from mapper.solver.problem import Limits, Objective, Problem, problem_of
from mapper.solver.search.aim import Aim, aimed
from mapper.solver.search.infeasible import infeasible
from mapper.solver.search.space import Progress, Space, silent
from mapper.solver.stop import Stop

NEAR_OPTIMAL = 0.01
ASSUMPTIONS = (
    "costs are those of the cost model",
    "every core is as busy as all of them",
    "live activations do not push weights out of the package's cache",
    "the feeder's work costs the stages nothing",
)
HOSTS = "hosts that differ are all as slow as the slowest; the network serves each host at its bandwidth in and out"
"""Of several hosts."""
GIVEN_ASSUMPTIONS = ("costs are those of the graph file, the same on every unit",)
PLACED = "all weights lie on the nodes of their team, or all of them on all nodes"
PLACED_AT_HOME = "weights lie on the nodes of their team"
"""Under a limit on memory, of plans with the best period and with the least latency or the fewest cores: no others were
searched, and the bound does not hold for them."""


def plan(
    graph: Graph,
    machine: Machine,
    *,
    costs: CostTable | None = None,
    objective: Objective = "throughput",
    limits: Limits | None = None,
    near_optimal: float = NEAR_OPTIMAL,
    model: ModelRef | None = None,
    batch: int = 1,
    micro_batches: int = 1,
    progress: Progress = silent,
    time_limit_s: float | None = None,
    stop: Stop | None = None,
    planner: str = OPTIMAL,
    strategy: str = OPTIMAL,
    backend: str | None = None,
) -> Plan:
    """The best mapping of `graph` onto `machine` under `limits`, with what was proved of it.

    Best is the least period ("throughput"), or the least latency, or the fewest cores, and then the least period. Of
    plans within `near_optimal` (a fraction) of the best period, the one with the fewest stages is chosen. `model` says
    where the graph comes from, so that the plan can be run from its file. After `time_limit_s` seconds, or when
    interrupted (`stop.interrupted` then), the best plan so far is taken. `planner` (`solver.peers`) and `strategy` (the
    placement, `solver.placement`) name what others do. `backend` computes it (None: eager; an ONNX model: onnxruntime).

    `graph` is of one call of the model; `micro_batches` calls make an item of `batch` elements, and limits, values and
    what is predicted are of items. A graph that brings its own times is planned with those; where tensors have bytes
    only, `costs` must price them (`cost.imported.given_costs`). Under a limit on memory, each unit of `uniform:K` has
    memory of its own.

    Raises: Infeasible with the smallest change of each limit that helps; UsageError for more stages than ops, or a back
    end that is not there; BadInput where no op takes any time; NoPlanInTime where no placement of what was found keeps
    the limits; AssertionError, a bug.
    """
    limits, name = within_quota(limits or Limits(), machine), _backend_of(model, backend)
    machine = machine if limits.node_memory_bytes is None else with_own_memory(machine)
    table = _costs(graph, machine, costs)
    if limits.stages is not None and limits.stages > len(graph.ops):
        raise UsageError(f"{limits.stages} stages were asked for, but {graph.name} has {len(graph.ops)} ops")
    _require_known(planner, strategy, micro_batches)
    problem = problem_of(graph, machine, table, limits)
    case = Case(graph, machine, table, Space(problem, progress=progress, stop=stop or Stop(time_limit_s)))
    aim, found = _found(case, objective, limits, near_optimal, micro_batches, planner, strategy)
    made = Plan(
        model=model or reference_of(graph),
        machine=machine,
        fingerprint=machine.fingerprint,
        request=Request(
            objective=objective, limits=limits.as_options(), batch=batch, micro_batches=micro_batches, backend=name,
            costs={"source": table.source, **table.options},
        ),
        solver=_solver(case, found, aim, micro_batches, near_optimal, limits),
        predicted=in_items(found.evaluation.predicted, micro_batches),
        stages=found.evaluation.stages,
        edges=found.evaluation.edges,
        alternatives=alternatives(case.space, found.solution, limits, micro_batches, _on_hosts(case, found)),
        provenance={"mapper": __version__, "topology_sha256": sha256(plain(machine))},
    )  # fmt: skip
    return _checked(attributed(made, planner, strategy, found.solution, problem), case, planner, strategy)


def _costs(graph: Graph, machine: Machine, costs: CostTable | None) -> CostTable:
    """What the graph's ops cost: `costs`, else their own times, else those of the cost model. Raises: BadInput."""
    table = costs or (given_costs(graph) if graph.costed else roofline(graph, machine, configurations(machine)))
    table.require_time(graph.name)
    return table


def _on_hosts(case: Case, found: Fitting) -> OnHosts | None:
    """How alternatives are placed where the machine is several hosts."""
    if case.machine.counts["hosts"] == 1:
        return None
    made = found.evaluation.predicted
    return OnHosts(case, (made.throughput_per_s, made.latency_s, made.cores_used))


def _backend_of(model: ModelRef | None, asked: str | None) -> str:
    """The back end of a plan of `model`. Raises: UsageError when no back end is called as `asked`."""
    if asked is not None:
        return backend_called(asked).name
    return "onnxruntime" if model is not None and model.source.endswith(".onnx") else EAGER


def _checked(made: Plan, case: Case, planner: str, strategy: str) -> Plan:
    """`made`, which keeps its promises. Raises: as `plan`."""
    wrong = require_kept(planner, strategy, violations(made, case.graph, case.table))
    if wrong:  # no assert statement: this must be looked at under python -O too
        raise AssertionError(f"the planner made a plan that its own check refuses: {wrong}")
    return made


def _found(
    case: Case, objective: Objective, limits: Limits, near_optimal: float, calls: int, planner: str, strategy: str
) -> tuple[Aim, Fitting]:
    """The placed plan, and what was aimed at, for items of so many `calls`. Raises: as `plan`."""
    fine = optimal_gap(case.table.source) / 4
    if calls > 1:
        return found_for_items(case, objective, limits, near_optimal, fine, calls)
    try:
        aim = aimed(case.space, objective, limits, fine)
        return aim, fitting_by(planner, strategy, case, aim.limits, limits, near_optimal, fine)
    except Infeasible as error:
        raise (error if error.levers else infeasible(case.space, limits)) from None


def _require_known(planner: str, strategy: str, micro_batches: int) -> None:
    """Refuses micro-batches of planners and placements that know none. Raises: UsageError."""
    if micro_batches > 1 and (planner, strategy) != (OPTIMAL, OPTIMAL):
        raise UsageError("other planners and placements know no micro-batches: give --micro-batches 1")


def within_quota(limits: Limits, machine: Machine) -> Limits:
    """`limits` with no more cores than the system grants the time of."""
    if machine.cpu_quota is None:
        return limits
    granted = max(1, math.floor(machine.cpu_quota.value))
    return dataclasses.replace(limits, max_cores=min(limits.max_cores or granted, granted))


def _solver(case: Case, found: Fitting, aim: Aim, calls: int, near_optimal: float, limits: Limits) -> Solver:
    """What was proved. The plan's own distances can only cost more than the least ones that the bound assumes."""
    space, table = case.space, case.table
    objective = value_of(aim.objective, in_items(found.evaluation.predicted, calls))
    best = found.best_period_s * calls if aim.objective == "throughput" else objective
    bound = min(aim.bound if aim.bound is not None else found.bound_s, best)
    gap = max(0.0, (best - bound) / best)
    status: Status = "optimal" if gap <= optimal_gap(table.source) * (1 + 1e-6) else "feasible"
    return Solver(
        status=status,
        objective=objective,
        best_objective=best,
        bound=bound,
        gap=gap,
        near_optimal=near_optimal,
        proved=Proof(
            space=searched(space, table, found.solution.whole_space),
            assumptions=assumptions_of(case.machine, table, aim.objective, limits),
        ),
        tie_break="complete" if found.complete else "incomplete",
        versions=versions_used(),
    )


def searched(space: Space, table: CostTable, whole: bool) -> str:
    """Which plans were searched. The bound holds for all of them, also where some were not."""
    kind = "all" if whole or space.ideals.complete else "some of the"
    of = f" of {space.blocks} blocks of neighbouring ops" if space.blocks else ""
    what = "one unit" if table.source == GIVEN else _names(space.problem)
    return f"{kind} chains of ideals{of} × {what} × any number of replicas"


def assumptions_of(machine: Machine, table: CostTable, objective: Objective, limits: Limits) -> tuple[str, ...]:
    """What a proof takes for granted."""
    if table.source == GIVEN:
        return GIVEN_ASSUMPTIONS
    kinds = ("every core is as fast as the slowest kind",) if machine.core_kinds else ()
    several = machine.counts["hosts"] > 1
    kinds = (*kinds, HOSTS) if several else kinds
    if limits.node_memory_bytes is None or table.spread_s is None:
        return (*ASSUMPTIONS, *kinds)
    return (*ASSUMPTIONS, *kinds, PLACED if objective == "throughput" and not several else PLACED_AT_HOME)


def _names(problem: Problem) -> str:
    names = [config.name for config in problem.configs]
    parts = [
        name for name, config in zip(names, problem.configs, strict=True) if config.cores < problem.cores_per_group
    ]
    whole = f"1..{problem.groups} groups of {problem.cores_per_group}"
    return " and ".join([*([", ".join(parts)] if parts else []), whole])


def versions_used() -> dict[str, Any]:
    """What decides a plan besides its inputs."""
    import ortools

    return {"mapper": __version__, "ortools": ortools.__version__}
