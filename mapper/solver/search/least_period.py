"""The search: the best cover by ideals within limits; of nearly best covers, the one with fewest stages.

Where nothing keeps the limits, `Infeasible` is raised bare; `solver.infeasible` finds out which limits conflict.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NoReturn

from mapper.errors import Infeasible
from mapper.solver.covers.nearness import Rises
from mapper.solver.problem import Limits, Solution, multiplied, renamed
from mapper.solver.search import bounds
from mapper.solver.search.request import Found, Manner, Request
from mapper.solver.search.space import Space

TOLERANCE = 1e-4
"""A plan whose best value is proved to this relative precision is called optimal."""
PRECISION = TOLERANCE / 4
"""Of the search, so that the distances of the placement, which come on top, seldom spend the rest."""

WORTH = 1e-3
"""A gap that is worth a search in other blocks."""


def throughput(
    space: Space, limits: Limits, near_optimal: float = 0.0, tolerance: float = PRECISION, *,
    manner: Manner = "any", proof_s: float = 0.0,
) -> Solution:  # fmt: skip
    """The least period under `limits`; of plans within `near_optimal` of it the one with fewest stages.

    Where the time is up or the user interrupts, the best plan so far (`Solution.stopped`). The bound is that of plans
    of the `manner` that was asked for. Where not all plans were searched, up to `proof_s` seconds go into a better one
    and a better bound (`cpsat.prove`).

    Raises: Infeasible.
    """
    space = space.counted(limits)
    solution = least_period(space, limits, near_optimal, tolerance, manner)
    if solution.whole_space or not proof_s or space.stop.reached:
        return solution
    if space.blocked is None:
        return _proved(space, solution, limits, near_optimal, proof_s)
    try:
        return _with_floor(space, solution, limits, near_optimal, tolerance, manner)
    except KeyboardInterrupt:
        space.stop.now()
        return solution


def _with_floor(
    space: Space, found: Solution, limits: Limits, near_optimal: float, tolerance: float, manner: Manner
) -> Solution:
    """`found`, or a better plan where what needs no input is apart, and a bound for all plans, also of those that cut
    blocks: the least period of the floor."""
    assert space.floor is not None
    lower = Request(space.floor, _lower(limits), manner)
    bound_s = max(found.bound_s, (lower.least_period(tolerance) or _none())[1])
    if space.gathered is not None and bound_s < found.best_period_s * (1 - WORTH):
        other = least_period(space.gathered, limits, near_optimal, tolerance, manner)
        found = min(found, other, key=lambda solution: solution.best_period_s)
    return replace(found, bound_s=min(bound_s, found.best_period_s))


def least_period(
    space: Space, limits: Limits, near_optimal: float, tolerance: float, manner: Manner = "any",
    rises: Rises | None = None, known_s: float = 0.0,
) -> Solution:  # fmt: skip
    """The least period of the chains of `space`, and the chosen plan; with `rises` as stages share groups or not.
    `known_s` is a bound that holds already.

    Raises: Infeasible.
    """
    request = Request(space, limits, manner, rises)
    best, proved = request.least_period(tolerance, known_s) or _none()
    try:
        chosen = request.fewest_stages(best, best.period_s * (1 + near_optimal), tolerance)
    except KeyboardInterrupt:
        space.stop.now()
        chosen = best
    solution = request.solution(chosen, best.period_s, proved)
    strict = request.solution(best, best.period_s, proved) if chosen.period_s > best.period_s else None
    return replace(solution, strict=strict)


def _none() -> NoReturn:
    raise Infeasible("no plan keeps the limits")


def _lower(limits: Limits) -> Limits:
    """`limits` in the floor, where a plan may have fewer stages than it has."""
    return replace(limits, stages=None, max_stages=limits.stages or limits.max_stages)


def _proved(space: Space, found: Solution, limits: Limits, near_optimal: float, proof_s: float) -> Solution:
    """`found` or a better solution, and the better bound, from a search that needs no list of ideals."""
    from mapper.solver.cpsat.prove import prove

    left = space.stop.left_s
    best, bound_s = prove(
        space.exact.problem, limits, renamed(found, space.exact.gather), found.bound_s, progress=space.progress,
        time_limit_s=proof_s if left is None else left, near_optimal=near_optimal, stop=space.stop,
    )  # fmt: skip
    return replace(renamed(best, space.exact.restore), bound_s=bound_s, passes=found.passes)


def alike(
    space: Space, parts: int, limits: Limits, near_optimal: float, tolerance: float, each: Space | None = None
) -> Solution:
    """The least period of plans that are the same on each of `parts` equal parts of the machine, or in each of so many
    places that are at least as large as `each` says. The bound is that of such plans only.

    Raises: Infeasible.
    """
    part = each or space.part(parts)
    known = limits.configurations or space.problem.configs
    fitting = tuple(config for config in known if config.groups <= part.problem.groups)
    smaller = replace(shared_limits(limits, parts), configurations=fitting)
    return multiplied(throughput(part, smaller, near_optimal, tolerance), parts)


def shared_limits(limits: Limits, parts: int) -> Limits:
    """`limits` of one of so many parts that are planned alike. Raises: Infeasible where they leave nothing."""
    if any(number and number < parts for number in (limits.max_replicas, limits.max_cores)):
        _none()
    return replace(
        limits,
        max_replicas=limits.max_replicas and limits.max_replicas // parts,
        max_cores=limits.max_cores and limits.max_cores // parts,
        min_throughput_per_s=limits.min_throughput_per_s and limits.min_throughput_per_s / parts,
    )


def least_latency(space: Space, limits: Limits, tolerance: float = PRECISION) -> tuple[float, float]:
    """The least sum of loads under `limits` but that on latency, and a proved bound of it.

    Raises: Infeasible.
    """
    best, proved = _least_latency(space, replace(limits, max_latency_s=None), tolerance)
    if space.floor is not None:
        proved = _least_latency(space.floor, _lower(replace(limits, max_latency_s=None)), tolerance)[1]
    elif not space.ideals.complete or space.blocks:
        proved = bounds.latency(space.exact.problem)
    return best, min(proved, best)


def _least_latency(space: Space, free: Limits, tolerance: float) -> tuple[float, float]:
    """The least sum of loads of the chains of `space`, and a bound of it."""
    found = _feasible(Request(space, free))
    least = low = proved = _latency_alone(space, free)
    best, at = found.latency_s, least * (1 + tolerance / 4)
    while low < best * (1 - tolerance) and not space.stop.reached:
        request = Request(space, replace(free, max_latency_s=at))
        decision = request.decide(free.max_period_s)
        if decision.cells is not None and decision.covers is not None:
            best = min(best, request.found(decision.covers, decision.cells).latency_s)
        else:
            low = at
            proved = at if decision.refuted else proved
        at = max(math.sqrt(low * best), low * (1 + tolerance / 2))
    return best, min(proved, best)


def _feasible(request: Request) -> Found:
    """Some plan that keeps the limits. Raises: Infeasible."""
    return request.feasible(request.limits.max_period_s) or _none()


def _latency_alone(space: Space, limits: Limits) -> float:
    """The least sum of loads where neither DRAM nor memory limits anything: a bound."""
    request = Request(space, replace(limits, node_memory_bytes=None))
    covers = request.cover(limits.max_period_s)
    return min(float(covers.front(n)[-1]) for n in request.counts())


def fewest_cores(space: Space, limits: Limits) -> tuple[int, int]:
    """The fewest cores with which `limits` can be kept, and a proved bound of it.

    Raises: Infeasible.
    """
    best, proved = _fewest_cores(space, limits)
    if space.floor is not None:
        proved = _fewest_cores(space.floor, _lower(limits))[1]
    elif not space.ideals.complete or space.blocks:
        problem = space.exact.problem
        proved = math.ceil(bounds.area(problem, limits) * problem.cores / limits.max_period_s * (1 - 1e-9))
    return best, max(1, min(proved, best))


def _fewest_cores(space: Space, limits: Limits) -> tuple[int, int]:
    """The fewest cores of the chains of `space` that keep `limits`, and a bound of it."""
    request = Request(space, limits)
    best, low, proved = _feasible(request).cores, 0, 0
    while best - low > 1 and not space.stop.reached:
        middle = (low + best) // 2
        decision = request.decide(limits.max_period_s, cores=middle)
        if decision.cells is not None:
            best = middle
        else:
            low = middle
            proved = middle if decision.refuted else proved
    return best, proved + 1
