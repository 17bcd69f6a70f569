"""`mapper.front`: the plans of a model of which none is better than another in throughput, latency and cores.

The sweep (`solver.sweep`) finds plans and corners: every plan of the cost model is no better than some corner. Points
are chosen by greedy set cover (Chvátal 1979), the one that covers most open corners first; each is placed on cores at
once, and only what it covers with its own distances counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from mapper import __version__
from mapper.cost.configurations import configurations
from mapper.cost.imported import given_costs
from mapper.cost.roofline import roofline
from mapper.cost.table import CostTable
from mapper.errors import Infeasible, NoPlanInTime, UsageError
from mapper.graph.model import Graph
from mapper.jsonio import plain, sha256
from mapper.machine.model import Machine
from mapper.machine.synthetic import with_own_memory
from mapper.plans.check import optimal_gap, violations
from mapper.plans.evaluate import Evaluation, evaluate
from mapper.plans.front import Front, FrontMachine, FrontPoint, FrontProof, FrontRequest, FrontStage
from mapper.plans.model import ModelRef, Plan, Proof, Solver
from mapper.plans.model import Request as PlanRequest
from mapper.plans.reference import reference_of
from mapper.solver.placement.candidates import Case
from mapper.solver.placement.fitting import KEPT
from mapper.solver.placement.floor import Held
from mapper.solver.placement.place import Unplaceable, place
from mapper.solver.plan import assumptions_of, searched, versions_used, within_quota
from mapper.solver.problem import Array, Limits, Solution, problem_of
from mapper.solver.search.infeasible import infeasible
from mapper.solver.search.request import Found, Request
from mapper.solver.search.space import Progress, Space, silent
from mapper.solver.search.sweep import ROUNDING, Sweep, Swept, efficient, values_of
from mapper.solver.stop import Stop

PRECISION = 0.1
"""Of a front, where none is asked for: some eighty points on 64 cores."""
NEAR_OPTIMAL = 0.01
TRIES = 3
"""Plans that are placed for a corner, until one covers it."""


@dataclass(frozen=True)
class Chosen:
    """A point of the front: the plan as searched, its period, latency and cores, and where it was placed."""

    solution: Solution
    values: tuple[float, float, int]
    placed: Evaluation | None


def front(
    graph: Graph,
    machine: Machine,
    *,
    costs: CostTable | None = None,
    limits: Limits | None = None,
    precision: float = PRECISION,
    near_optimal: float = NEAR_OPTIMAL,
    model: ModelRef | None = None,
    batch: int = 1,
    progress: Progress = silent,
    time_limit_s: float | None = None,
    stop: Stop | None = None,
) -> Front:
    """The trades of period, latency and cores of `graph` on `machine` under `limits`, with what was proved of them.

    For every plan of the cost model, with distances at their least, there is to be a point with at most the fraction
    `precision` more period and latency, in no more cores. For fewer stages a point may lose the fraction `near_optimal`
    of both, at most a quarter of `precision`. The other arguments are those of `mapper.plan`. After `time_limit_s`, or
    when interrupted (`stop.interrupted` then), the points are those of what was found so far, with the precision that
    they come to.

    Raises: Infeasible with the smallest change of each limit that helps; UsageError for more stages than ops, or a
    precision that is none; NoPlanInTime where no plan found can be placed within the limits.
    """
    return front_with_plans(
        graph, machine, costs=costs, limits=limits, precision=precision, near_optimal=near_optimal, model=model,
        batch=batch, progress=progress, stop=stop or Stop(time_limit_s),
    )[0]  # fmt: skip


def front_with_plans(
    graph: Graph, machine: Machine, *, costs: CostTable | None, limits: Limits | None, precision: float,
    near_optimal: float, model: ModelRef | None, batch: int, progress: Progress, stop: Stop,
) -> tuple[Front, tuple[Plan | None, ...]]:  # fmt: skip
    """`front`, and the plan of each point that was placed, checked. Raises: as `front`; AssertionError, a bug of the
    planner, if a plan fails its check."""
    if not 0 < precision <= 1:
        raise UsageError(f"a precision of {precision:.3g} was asked for; above 0 and up to 1 was expected")
    limits = within_quota(limits or Limits(), machine)
    machine = machine if limits.node_memory_bytes is None else with_own_memory(machine)
    table = costs or (given_costs(graph) if graph.costed else roofline(graph, machine, configurations(machine)))
    if limits.stages is not None and limits.stages > len(graph.ops):
        raise UsageError(f"{limits.stages} stages were asked for, but {graph.name} has {len(graph.ops)} ops")
    space = Space(problem_of(graph, machine, table, limits), progress=progress, stop=stop)
    try:
        counted = space.counted(limits)
        swept = Sweep(counted, limits, precision).run()
    except Infeasible:
        raise infeasible(space, limits) from None
    case = Case(graph, machine, table, counted)
    chosen = _chosen(case, swept, limits, precision, min(near_optimal, precision / 4))
    if not chosen:
        raise NoPlanInTime(
            "plans were found, but none that keeps the limits when it is placed on cores",
            advice="Limits a few percent wider leave room for distances and the borders of nodes.",
        )
    request = FrontRequest(
        limits=limits.as_options(), batch=batch, costs={"source": table.source, **table.options},
        near_optimal=near_optimal, precision=precision,
    )  # fmt: skip
    points = tuple(_point(case, x, swept.corners, limits) for x in chosen)
    named = FrontMachine(
        name=machine.name, title=machine.title, fingerprint=machine.fingerprint, cores=len(machine.cores),
        topology_sha256=sha256(plain(machine)),
    )  # fmt: skip
    made = Front(
        model=model or reference_of(graph), machine=named, request=request, points=points,
        proved=_proof(case, chosen, swept, limits, precision), provenance={"mapper": __version__},
    )  # fmt: skip
    return made, tuple(_plan(case, made, x, point, limits) for x, point in zip(chosen, points, strict=True))


# which plans


def _chosen(case: Case, swept: Swept, limits: Limits, precision: float, allowance: float) -> list[Chosen]:
    """The points, the fastest first: placed plans that cover all corners, as far as that can be."""
    request = Request(case.space, limits)
    count = 0

    def realise(found: Found) -> Chosen | None:
        nonlocal count
        count += 1
        try:
            case.space.progress(f"placing plan {count} of the front")
            return _realised(case, fewest_stages(case.space, found, limits, allowance), request)
        except KeyboardInterrupt:
            case.space.stop.now()
            return _realised(case, found, request)

    out = choose(swept, precision, allowance, realise)
    kept = needed(np.array([x.values for x in out], float).reshape(-1, 3), swept.corners, 1 + precision)
    return sorted((out[i] for i in kept), key=lambda x: x.values)


def choose(swept: Swept, precision: float, allowance: float, realise: Callable[[Found], Chosen | None]) -> list[Chosen]:
    """Plans by greedy set cover of the corners, and first those of the least period and of the least latency.

    `realise` says what a plan comes to when it is placed, None where it cannot be; that may cover less than was hoped.
    A corner that none covers to the precision is covered as nearly as can be.
    """
    within, values = 1 + precision, values_of(swept.found)
    reach = _reach(values, swept.corners)
    nearest = reach.min(axis=0)
    hopes = reach <= np.maximum(nearest, within / (1 + allowance)) * ROUNDING
    open_, tries = np.ones(len(swept.corners), dtype=bool), np.zeros(len(swept.corners), np.int64)
    untried = np.ones(len(values), dtype=bool)
    ends = [int(np.lexsort(values.T[columns])[0]) for columns in ([2, 1, 0], [2, 0, 1])]
    out: list[Chosen] = []
    while True:
        gains = (hopes & open_ & (tries < TRIES)).sum(axis=1) * untried
        if not ends and not gains.any():
            return out
        i = ends.pop(0) if ends else int(gains.argmax())
        if not untried[i]:
            continue
        untried[i] = False
        tries += hopes[i]
        point = realise(swept.found[i])
        if point is not None:
            out.append(point)
            come = _reach(np.array([point.values], float), swept.corners)[0]
            open_ &= come > np.maximum(nearest, within) * ROUNDING


def fewest_stages(space: Space, found: Found, limits: Limits, allowance: float) -> Found:
    """The plan with the fewest stages that is in period and latency no worse than `found` but for the fraction
    `allowance`, in no more cores."""
    request = Request(space, _within(limits, found.latency_s * (1 + allowance), found.cores))
    if len(found.cells) == 1 or limits.stages is not None or request.core_a_stage or space.stop.reached:
        return found
    period_s = min(found.period_s * (1 + allowance), limits.max_period_s)
    return request.feasible(period_s, len(found.cells) - 1) or found


def _within(limits: Limits, latency_s: float, cores: int) -> Limits:
    """`limits` with at most this latency and so many cores."""
    return replace(limits, max_latency_s=min(latency_s, limits.max_latency_s or math.inf), max_cores=cores)


def _realised(case: Case, found: Found, request: Request) -> Chosen | None:
    """`found` on cores; None where it does not fit or keep the limits there. Where the time is up, as it was found."""
    limits = request.limits
    solution = request.solution(found, found.period_s, 0.0)
    if case.space.stop.reached:
        return Chosen(solution, (found.period_s, found.latency_s, found.cores), None)
    most, held = limits.node_memory_bytes, None
    if most is not None:
        weights = tuple(stage.weight_bytes for stage in solution.stages)
        held = Held(weights, tuple(stage.memory_bytes for stage in solution.stages), most)
    try:
        cores, _ = place(case.graph, case.machine, case.space.problem, solution.stages, held)
    except Unplaceable:
        return None
    placed = evaluate(case.graph, case.machine, case.table, cores)
    predicted = placed.predicted
    kept = (
        predicted.latency_s <= (limits.max_latency_s or math.inf) * KEPT,
        predicted.period_s <= limits.max_period_s * KEPT,
        most is None or max(predicted.node_memory_bytes) <= most * KEPT,
    )
    return Chosen(solution, (predicted.period_s, predicted.latency_s, found.cores), placed) if all(kept) else None


def needed(values: Array, corners: Array, within: float) -> list[int]:
    """The rows of `values` that are no worse than another, without those that `corners` do not need: each corner is
    covered `within` a factor, or as nearly as any row covers it, without them. The last ones go first."""
    kept = sorted(efficient(values).tolist())
    reach = _reach(values, corners)
    covers = reach <= np.maximum(reach.min(axis=0), within) * ROUNDING
    ends = {min(kept, key=lambda i: tuple(values[i][columns])) for columns in ([0, 1, 2], [1, 0, 2])}
    for i in reversed(kept.copy()):
        rest = [j for j in kept if j != i]
        if i not in ends and covers[rest].any(axis=0).all():
            kept = rest
    return kept


def _reach(values: Array, corners: Array) -> Array:
    """(points, corners): the least factor within which each point covers each corner."""
    factors = np.maximum(values[:, None, 0] / corners[None, :, 0], values[:, None, 1] / corners[None, :, 1])
    return np.where(values[:, None, 2] <= corners[None, :, 2], factors, math.inf)


# what is said of them


def _point(case: Case, chosen: Chosen, corners: Array, limits: Limits) -> FrontPoint:
    """The record of a point."""
    period_s, latency_s, cores = chosen.values
    within = corners[(corners[:, 1] <= latency_s * KEPT) & (corners[:, 2] <= cores)]
    return FrontPoint(
        throughput_per_s=1 / period_s, period_s=period_s, latency_s=latency_s, cores_used=cores,
        bound_s=float(within[:, 0].min(initial=period_s)), placed=chosen.placed is not None,
        stages=_stages(case, chosen.solution),
        options=options_of(latency_s, cores, case.space.problem.cores, limits),
    )  # fmt: skip


def _stages(case: Case, solution: Solution) -> tuple[FrontStage, ...]:
    names, configs = [op.name for op in case.graph.ops], case.space.problem.configs
    return tuple(
        FrontStage(
            ops=len(stage.ops), first=names[stage.ops[0]], last=names[stage.ops[-1]],
            configuration=configs[stage.config].name, replicas=stage.replicas, threads=configs[stage.config].cores,
        )
        for stage in solution.stages
    )  # fmt: skip


def options_of(latency_s: float, cores: int, of: int, limits: Limits) -> str:
    """The limits that a point keeps: its latency, rounded up to four digits but not beyond `limits`, and its cores."""
    step = 10.0 ** (math.floor(math.log10(latency_s)) - 3)
    up = float(f"{math.ceil(latency_s / step * (1 - 1e-9)) * step:.4g}")
    most = limits.max_latency_s
    limit, digits = (up, 4) if most is None or up <= most else (most, 15)
    shown = f"{limit:.{digits}g}s" if limit >= 1 else f"{limit * 1e3:.{digits}g}ms"
    few = f" --max-cores {cores}" if cores < of else ""
    return f"--max-latency {shown}{few}"


def _proof(case: Case, chosen: list[Chosen], swept: Swept, limits: Limits, precision: float) -> FrontProof:
    """What the points cover, of the values that they are shown with."""
    space = case.space
    whole = space.ideals.complete or space.blocked is not None
    shown = _covered(np.array([x.values for x in chosen], float), swept.corners, precision) if whole else None
    statement = "of the plans found none is better in all three; others are not ruled out"
    if shown is not None:
        statement = (
            "for every plan of this cost model, with distances at their least, there is a point with at most "
            f"{shown:.4g} of its period and latency more, in no more cores"
        )
    return FrontProof(
        status="complete" if shown == precision else "incomplete",
        precision=shown,
        before_distances=_covered(values_of(swept.found), swept.corners, precision) if whole else None,
        statement=statement,
        space=searched(space, case.table, space.ideals.complete and space.blocked is None),
        assumptions=assumptions_of(case.machine, case.table, "cores", limits),
    )


def _covered(values: Array, corners: Array, precision: float) -> float | None:
    """The fraction to which `values` cover `corners`: `precision`, or more; None where one has too few cores."""
    worst = float(_reach(values, corners).min(axis=0).max(initial=1.0))
    if worst <= (1 + precision) * ROUNDING:
        return precision
    return worst - 1 if math.isfinite(worst) else None


def _plan(case: Case, made: Front, chosen: Chosen, point: FrontPoint, limits: Limits) -> Plan | None:
    """The plan of a point, as one of the least period within its latency and cores; None where it was not placed.

    Raises: AssertionError, a bug of the planner, if it fails its check.
    """
    if chosen.placed is None:
        return None
    predicted = chosen.placed.predicted
    gap = (predicted.period_s - point.bound_s) / predicted.period_s
    source = case.table.source
    plan = Plan(
        model=made.model,
        machine=case.machine,
        fingerprint=case.machine.fingerprint,
        request=PlanRequest(
            limits=_within(limits, point.latency_s, point.cores_used).as_options(), batch=made.request.batch,
            costs=made.request.costs,
        ),
        solver=Solver(
            status="optimal" if gap <= optimal_gap(source) * (1 + 1e-6) else "feasible", objective=predicted.period_s,
            best_objective=predicted.period_s, bound=point.bound_s, gap=gap, near_optimal=0.0,
            proved=Proof(space=made.proved.space, assumptions=made.proved.assumptions), versions=versions_used(),
        ),
        predicted=predicted, stages=chosen.placed.stages, edges=chosen.placed.edges,
        provenance={"mapper": __version__, "topology_sha256": made.machine.topology_sha256},
    )  # fmt: skip
    wrong = violations(plan, case.graph, case.table)
    if wrong:  # no assert statement: this must be looked at under python -O too
        raise AssertionError(f"the planner made a plan that its own check refuses: {wrong}")
    return plan
