"""From stages to cores: a placed plan that keeps the limits, distances and the sizes of nodes included.

The search takes distances at their least and the cores and memory of all nodes as one. Where placing the best plan
costs something, others that suit the machine's nodes are tried (`candidates`). Where a placed plan is beyond a limit,
that limit is drawn tighter by as much and the search asked again; its first bound holds for all plans anyway.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from mapper.cost.residency import DRAM
from mapper.errors import Infeasible, NoPlanInTime
from mapper.machine.hosts import feeder_host, on_host
from mapper.plans.check import placed_of
from mapper.plans.dram import DRAM_OF_NODE
from mapper.plans.evaluate import Evaluation, Placed, evaluate
from mapper.plans.hosts import LINK
from mapper.plans.model import Predicted
from mapper.solver.placement.candidates import (
    Candidate,
    Case,
    Wanted,
    copies,
    fewer,
    near,
    others,
    regular,
    starts,
    tighter,
)
from mapper.solver.placement.floor import Held
from mapper.solver.placement.over_hosts import over_hosts
from mapper.solver.placement.place import Unplaceable, place
from mapper.solver.problem import Limits, Solution, StageChoice
from mapper.solver.search.space import Space
from mapper.solver.stage import cores_of

WORTH = 2e-3
"""A plan that is so near to the best one without distances is good enough where a search is long, and not looked for
under tighter limits."""
LONG = 4_000_000
"""Costs of stages (stages times options) from which on a search is long; it is where memory is limited, too."""
TRIES = 5
"""How often limits are tightened."""
PROOF_S = 10.0
"""Seconds that go into a proof where there are too many ideals to search all, if the user sets no time limit."""
HALVINGS = 7
"""How often the cores are halved between those of the first host and all, where the network limits plans."""
KEPT = 1 + 1e-7
"""A limit counts as kept up to this factor: less than what `plans.check` allows."""


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


@dataclass(frozen=True)
class Miss:
    """A placed plan that does not keep a limit: which, and the limits to search under instead."""

    option: str
    tighter: Limits


def fitting(case: Case, aim: Limits, limits: Limits, near_optimal: float, tolerance: float) -> Fitting:
    """The best plan under `aim` (which may be tighter than `limits`) whose placement keeps `limits`.

    Raises: Infeasible; NoPlanInTime where tightening leads to no plan.
    """
    wanted = Wanted(aim, near_optimal, tolerance)
    first = starts(case, wanted, PROOF_S)
    long = aim.node_memory_bytes is not None or case.space.costs.load_s.size > LONG
    enough = WORTH if long else 2 * tolerance
    goal, bound_s = first[0].solution.best_period_s, min(candidate.solution.bound_s for candidate in first)
    best: Fitting | None = None
    missed: dict[Candidate, Miss] = {}
    solution = first[0].solution

    def best_s() -> float:
        return best.best_period_s if best is not None else math.inf

    def alone(one: Case, fewer: Limits) -> tuple[Solution, tuple[Placed, ...]] | None:
        return _alone(one, fewer, near_optimal, tolerance)

    found = itertools.chain(
        first,
        over_hosts(case, wanted, solution, best_s, alone),
        near(case, wanted, solution),
        others(case, wanted, solution),
    )
    crowded = False
    for candidate in _distinct(found, case.space):
        attempt = _attempt(case, candidate, limits, near_optimal)
        best = _better(best, attempt, near_optimal)
        missed |= {candidate: attempt} if isinstance(attempt, Miss) else {}
        crowded = crowded or _is_crowded(attempt)
        if candidate.proves:
            goal, bound_s = candidate.solution.best_period_s, max(bound_s, candidate.solution.bound_s)
        if _within(best, goal, enough) or (best is not None and case.space.stop.reached):
            break  # the next one would be searched for
    if crowded and not _within(best, goal, enough):
        best = _nearer_home(case, wanted, limits, near_optimal, best)
    if not case.space.stop.interrupted and not _within(best, goal, enough):
        best = _best_of(best, copies(case, wanted), case, limits, near_optimal)
    if _is_drained(best) and not _within(best, goal, enough):
        best = _best_of(best, regular(case, wanted), case, limits, near_optimal)
    for candidate in missed:
        if (candidate in first or candidate.rises is not None) and not _within(best, goal, WORTH):
            best = _better(best, _tightened(case, wanted, candidate, missed[candidate], limits), near_optimal)
    if best is None:
        raise NoPlanInTime(
            f"plans were found, but none that keeps {missed[first[0]].option} when it is placed on cores",
            advice="A limit a few percent wider leaves room for distances and the borders of nodes.",
        )
    return replace(best, bound_s=min(bound_s, best.best_period_s))


def _alone(
    one: Case, limits: Limits, near_optimal: float, tolerance: float
) -> tuple[Solution, tuple[Placed, ...]] | None:
    """What is planned for one of several hosts; None where nothing is."""
    try:
        found = fitting(one, limits, limits, near_optimal, tolerance)
    except (Infeasible, NoPlanInTime):
        return None
    return found.solution, tuple(placed_of(stage, one.machine) for stage in found.evaluation.stages)


def _is_crowded(attempt: Fitting | Miss) -> bool:
    """Whether the network between hosts is what limits a plan."""
    return isinstance(attempt, Fitting) and attempt.evaluation.predicted.limited_by.startswith(LINK)


def _is_drained(best: Fitting | None) -> bool:
    """Whether the DRAM of a single node is what limits a plan."""
    return best is not None and best.evaluation.predicted.limited_by.startswith(DRAM_OF_NODE)


def _nearer_home(
    case: Case, wanted: Wanted, limits: Limits, near_optimal: float, best: Fitting | None
) -> Fitting | None:
    """`best`, or a better plan with fewer cores, so that fewer items leave the first host: the more cores, the less the
    stages take, and the more crosses the network."""
    machine = case.machine
    low = len(on_host(machine, feeder_host(machine)).cores)
    high = min(case.space.problem.cores, wanted.limits.max_cores or case.space.problem.cores)
    for _ in range(HALVINGS):
        middle = (low + high) // 2
        if not low < middle < high or case.space.stop.reached:
            break
        candidate = fewer(case, wanted, middle)
        attempt = _attempt(case, candidate, limits, near_optimal) if candidate is not None else None
        best = _better(best, attempt, near_optimal)
        low, high = (low, middle) if attempt is not None and _is_crowded(attempt) else (middle, high)
    return best


def _distinct(found: Iterator[Candidate], space: Space) -> Iterator[Candidate]:
    """`found` without those that were there before, unless they prove a bound, up to where the user interrupts a
    search."""
    seen = set()
    while True:
        try:
            candidate = next(found, None)
        except KeyboardInterrupt:
            space.stop.now()
            return
        if candidate is None:
            return
        if candidate.key not in seen or candidate.proves:
            seen.add(candidate.key)
            yield candidate


def _within(best: Fitting | None, goal_s: float, tolerance: float) -> bool:
    """Whether `best` is as good as `goal_s`, to `tolerance`."""
    return best is not None and best.best_period_s <= goal_s * (1 + tolerance)


def _better(best: Fitting | None, attempt: Fitting | Miss | None, near_optimal: float) -> Fitting | None:
    """Of the two the one with fewer stages, where its period is within `near_optimal` of the better."""
    if not isinstance(attempt, Fitting) or best is None:
        return best if not isinstance(attempt, Fitting) else attempt
    period_s = min(best.best_period_s, attempt.best_period_s)
    usable = [x for x in (best, attempt) if x.evaluation.predicted.period_s <= period_s * (1 + near_optimal)]
    chosen = min(usable, key=lambda x: (len(x.evaluation.stages), x.evaluation.predicted.period_s))
    return replace(chosen, best_period_s=period_s)


def _best_of(
    best: Fitting | None, candidates: Iterable[Candidate], case: Case, limits: Limits, near_optimal: float
) -> Fitting | None:
    """The best of `best` and all `candidates`, placed."""
    for candidate in candidates:
        best = _better(best, _attempt(case, candidate, limits, near_optimal), near_optimal)
    return best


def _tightened(case: Case, wanted: Wanted, candidate: Candidate, missed: Miss, limits: Limits) -> Fitting | None:
    """A plan under limits drawn tighter from one to the next, until one is kept; None where none is found."""
    for _ in range(TRIES):
        again = tighter(candidate, wanted, missed.tighter)
        if again is None:
            return None
        attempt = _attempt(case, again, limits, wanted.near_optimal)
        if isinstance(attempt, Fitting):
            return attempt
        missed = attempt
    return None


def _attempt(case: Case, candidate: Candidate, limits: Limits, near_optimal: float) -> Fitting | Miss:
    """`candidate` placed; or which of `limits` it does not keep then."""
    solution, tight = candidate.solution, candidate.limits
    try:
        chosen, best, complete = _placed(case, candidate, near_optimal)
    except Unplaceable:
        return Miss("groups and nodes of these sizes", _roomier(case, tight, solution))
    return _broken(tight, limits, chosen.predicted) or Fitting(solution, chosen, best, solution.bound_s, complete)


def _placed(case: Case, candidate: Candidate, near_optimal: float) -> tuple[Evaluation, float, bool]:
    """The chosen plan with its cores, the best period of any plan placed, and whether ties were broken completely.

    Distances come with the placement: where they take a plan of few stages out of the allowance, the strict optimum
    is taken instead.
    """
    solution = candidate.solution
    if candidate.placed is not None:
        known = evaluate(case.graph, case.machine, case.table, candidate.placed)
        return known, known.predicted.period_s, True
    chosen, complete = _on_cores(case, solution.stages, candidate)
    if solution.strict is None:
        return chosen, chosen.predicted.period_s, complete
    strict, strictly = _on_cores(case, solution.strict.stages, candidate)
    best = min(chosen.predicted.period_s, strict.predicted.period_s)
    if chosen.predicted.period_s > best * (1 + near_optimal):
        return strict, best, strictly
    return chosen, best, complete


def _on_cores(case: Case, stages: tuple[StageChoice, ...], candidate: Candidate) -> tuple[Evaluation, bool]:
    """`stages` placed and evaluated; its weights on all nodes if the candidate has them there."""
    most, spread = candidate.limits.node_memory_bytes, candidate.spread
    weights = tuple(0.0 if spread else stage.weight_bytes for stage in stages)
    on_all = sum(stage.weight_bytes for stage in stages) / len(case.machine.nodes) if spread else 0.0
    held = Held(weights, tuple(s.memory_bytes for s in stages), most - on_all) if most is not None else None
    if spread:  # no node serves more than another
        stages = tuple(replace(stage, dram_bytes=0.0) for stage in stages)
    placed, complete = place(case.graph, case.machine, case.space.problem, stages, held, candidate.homes)
    if spread:
        far = [True] * len(placed)
        if most is None:
            first = evaluate(case.graph, case.machine, case.table, placed)
            far = [stage.residency == case.table.caches.names[DRAM] for stage in first.stages]
        placed = tuple(replace(p, spread=f) for p, f in zip(placed, far, strict=True))
    return evaluate(case.graph, case.machine, case.table, placed), complete


def _broken(tight: Limits, limits: Limits, predicted: Predicted) -> Miss | None:
    """The first of `limits` that `predicted` does not keep, and `tight` with that limit drawn in; None if all are."""
    most = limits.max_latency_s
    if most is not None and predicted.latency_s > most * KEPT:
        at = (tight.max_latency_s or most) * most / predicted.latency_s
        return Miss("--max-latency", replace(tight, max_latency_s=at))
    if predicted.period_s > limits.max_period_s * KEPT:
        at = (tight.min_throughput_per_s or 0.0) * predicted.period_s / limits.max_period_s
        return Miss("--min-throughput", replace(tight, min_throughput_per_s=at))
    most = limits.node_memory_bytes
    if most is not None and max(predicted.node_memory_bytes) > most * KEPT:
        at = (tight.node_memory_bytes or most) * most / max(predicted.node_memory_bytes)
        return Miss("--memory-per-node", replace(tight, node_memory_bytes=at))
    return None


def _roomier(case: Case, tight: Limits, solution: Solution) -> Limits:
    """Limits that leave more room for packing: a core less, or, where memory is limited, by turns a group less and a
    little less memory in all."""
    problem = case.space.problem
    used = sum(cores_of(problem, stage) for stage in solution.stages)
    if tight.node_memory_bytes is None:
        return replace(tight, max_cores=used - 1)
    most = tight.max_cores or problem.cores
    if used > most - problem.cores_per_group:
        return replace(tight, max_cores=most - problem.cores_per_group)
    return replace(tight, node_memory_bytes=tight.node_memory_bytes * 0.98)
