"""From stages to cores: a placed plan that keeps the limits, distances and the sizes of nodes included.

The search takes distances at their least and the cores and memory of all nodes as one. Where a placed plan is beyond a
limit, that limit is drawn tighter by as much and the search asked again; its first bound holds for all plans anyway.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from mapper.cost.residency import DRAM
from mapper.cost.table import CostTable
from mapper.errors import Infeasible, NoPlanInTime
from mapper.graph.model import Graph
from mapper.machine.model import Machine
from mapper.plans.evaluate import Evaluation, evaluate
from mapper.plans.model import Predicted
from mapper.solver.placement.place import Held, Unplaceable, place
from mapper.solver.problem import Limits, Solution, StageChoice
from mapper.solver.search import alike, throughput
from mapper.solver.space import Space

TRIES = 5
"""How often limits are tightened."""
PROOF_S = 10.0
"""Seconds that go into a proof where there are too many ideals to search all, if the user sets no time limit."""
KEPT = 1 + 1e-7
"""A limit counts as kept up to this factor: less than what `plans.check` allows."""


@dataclass(frozen=True)
class Case:
    """What is planned: the graph on the machine with its costs, and the space of its plans."""

    graph: Graph
    machine: Machine
    table: CostTable
    space: Space


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

    Where placing costs something, plans that are the same on every node, or on every few nodes, are tried too, those
    whose stages draw evenly on the nodes' DRAM, those whose weights lie on all nodes, and with limited memory those
    whose teams do not cross nodes.

    Raises: Infeasible; NoPlanInTime where tightening leads to no plan.
    """
    first = throughput(case.space, aim, near_optimal, tolerance, proof_s=PROOF_S)
    tries = [_attempt(case, first, aim, limits, near_optimal)]
    if not _as_good(tries[0], first, tolerance):
        others = [_alike(case, d, aim, near_optimal, tolerance) for d in _divisors(case.machine)]
        if limits.node_memory_bytes is not None:
            others.append(_searched(case, _aligned(case, aim), near_optimal, tolerance))
        if len(case.machine.nodes) > 1 and any(stage.dram_bytes for stage in first.stages):
            others.append(_searched(case, aim, near_optimal, tolerance, even=True))
        tries += [_attempt(case, other, aim, limits, near_optimal) for other in others if other is not None]
        if limits.node_memory_bytes is None and case.table.spread_s is not None:
            tries += _spread(case, aim, limits, near_optimal, tolerance)
    if all(isinstance(x, Miss) for x in tries):
        tries += _tightened(case, tries[0], limits, near_optimal, tolerance)
    kept = [x for x in tries if isinstance(x, Fitting)]
    if not kept:
        option = next(x.option for x in tries if isinstance(x, Miss))
        raise NoPlanInTime(
            f"plans were found, but none that keeps {option} when it is placed on cores",
            advice="A limit a few percent wider leaves room for distances and the borders of nodes.",
        )
    return replace(min(kept, key=lambda x: x.best_period_s), bound_s=first.bound_s)


def _tightened(
    case: Case, last: Fitting | Miss, limits: Limits, near_optimal: float, tolerance: float
) -> Iterator[Fitting | Miss]:
    """Plans under limits drawn tighter from one to the next, until one is kept or none is found."""
    for _ in range(TRIES):
        if not isinstance(last, Miss):
            return
        solution = _searched(case, last.tighter, near_optimal, tolerance)
        if solution is None:
            return
        last = _attempt(case, solution, last.tighter, limits, near_optimal)
        yield last


def _searched(
    case: Case, limits: Limits, near_optimal: float, tolerance: float, *, even: bool = False
) -> Solution | None:
    try:
        return throughput(case.space, limits, near_optimal, tolerance, even=even)
    except Infeasible:
        return None


def _alike(case: Case, parts: int, limits: Limits, near_optimal: float, tolerance: float) -> Solution | None:
    try:
        return alike(case.space, parts, limits, near_optimal, tolerance)
    except Infeasible:
        return None


def _spread(case: Case, aim: Limits, limits: Limits, near_optimal: float, tolerance: float) -> list[Fitting | Miss]:
    """The best plan of those whose weights in DRAM lie on all nodes: no node serves more than another then."""
    space, table = case.space, case.table
    assert table.spread_s is not None
    seconds = space.problem.seconds.copy()
    seconds[:, :, DRAM] += table.spread_s - table.compute_s[:, :, DRAM]
    other = Space(replace(space.problem, seconds=seconds), progress=space.progress, stop=space.stop)
    found = _searched(replace(case, space=other), aim, near_optimal, tolerance)
    return [_attempt(case, found, aim, limits, near_optimal, spread=True)] if found is not None else []


def _as_good(found: Fitting | Miss, first: Solution, tolerance: float) -> bool:
    """Whether placing cost no more than what counts as optimal."""
    return isinstance(found, Fitting) and found.best_period_s <= first.best_period_s * (1 + 2 * tolerance)


def _divisors(machine: Machine) -> list[int]:
    """Into how many equal parts of whole nodes the machine can be divided, most first; nothing where nodes differ."""
    sizes = {tuple(sorted(map(len, node.groups))) for node in machine.nodes}
    count = len(machine.nodes)
    return [d for d in range(count, 1, -1) if count % d == 0] if len(sizes) == 1 else []


def _aligned(case: Case, limits: Limits) -> Limits:
    """`limits` with the configurations that divide a node evenly or are made of whole nodes."""
    each = max(1, len(case.machine.whole_groups) // len(case.machine.nodes))
    known = limits.configurations or case.space.problem.configs
    even = tuple(config for config in known if each % config.groups == 0 or config.groups % each == 0)
    return replace(limits, configurations=even) if even else limits


def _attempt(
    case: Case, solution: Solution, tight: Limits, limits: Limits, near_optimal: float, *, spread: bool = False
) -> Fitting | Miss:
    """`solution`, which was found under `tight`, placed; or which of `limits` it does not keep then."""
    try:
        chosen, best, complete = _placed(case, solution, tight, near_optimal, spread)
    except Unplaceable:
        return Miss("groups and nodes of these sizes", _roomier(case, tight, solution))
    return _broken(tight, limits, chosen.predicted) or Fitting(solution, chosen, best, solution.bound_s, complete)


def _placed(
    case: Case, solution: Solution, limits: Limits, near_optimal: float, spread: bool
) -> tuple[Evaluation, float, bool]:
    """The chosen plan with its cores, the best period of any plan placed, and whether ties were broken completely.

    Distances come with the placement: where they take a plan of few stages out of the allowance, the strict optimum
    is taken instead.
    """
    chosen, complete = _on_cores(case, solution.stages, limits, spread)
    if solution.strict is None:
        return chosen, chosen.predicted.period_s, complete
    strict, strictly = _on_cores(case, solution.strict.stages, limits, spread)
    best = min(chosen.predicted.period_s, strict.predicted.period_s)
    if chosen.predicted.period_s > best * (1 + near_optimal):
        return strict, best, strictly
    return chosen, best, complete


def _on_cores(case: Case, stages: tuple[StageChoice, ...], limits: Limits, spread: bool) -> tuple[Evaluation, bool]:
    """`stages` placed and evaluated; with `spread` those whose weights are in DRAM have them on all nodes."""
    held = None
    if limits.node_memory_bytes is not None:
        held = Held(
            tuple(s.weight_bytes for s in stages), tuple(s.memory_bytes for s in stages), limits.node_memory_bytes
        )
    if spread:
        stages = tuple(replace(stage, dram_bytes=0.0) for stage in stages)
    placed, complete = place(case.graph, case.machine, case.space.problem, stages, held)
    if spread:
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
    """Limits that leave more room for packing: a little less memory in all, or else a core less."""
    if tight.node_memory_bytes is not None:
        return replace(tight, node_memory_bytes=tight.node_memory_bytes * 0.92)
    configs = case.space.problem.configs
    used = sum(stage.replicas * configs[stage.config].cores for stage in solution.stages)
    return replace(tight, max_cores=used - 1)
