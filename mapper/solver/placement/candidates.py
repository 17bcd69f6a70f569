"""Plans worth placing: the best one with distances at their least, and others that suit the machine's nodes better.

Each comes from a search of its own, and is made only when the ones before it are placed and not good enough.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from mapper.cost.residency import DRAM
from mapper.cost.table import CostTable
from mapper.errors import Infeasible
from mapper.graph.model import Graph
from mapper.machine.model import Machine
from mapper.machine.parts import DISTANCES, Distance
from mapper.plans.evaluate import Placed
from mapper.solver.covers.near_cover import room_for
from mapper.solver.covers.nearness import Rises, likely_rises, slower_s, sure_rises
from mapper.solver.placement.hosts import Homes
from mapper.solver.problem import Limits, Solution
from mapper.solver.search.least_period import alike, least_period, throughput
from mapper.solver.search.request import Manner
from mapper.solver.search.space import Space
from mapper.solver.stop import Stop

SHARES = (0.0, 0.25, 0.5)
"""How much of what a stage hands over is taken to go to other groups, whatever is near: tensors that skip stages do."""


@dataclass(frozen=True)
class Case:
    """What is planned: the graph on the machine with its costs, and the space of its plans."""

    graph: Graph
    machine: Machine
    table: CostTable
    space: Space


@dataclass(frozen=True)
class Wanted:
    """What is searched for: limits (which may be tighter than the user's), the fraction of the best period that fewer
    stages may cost, and the relative precision."""

    limits: Limits
    near_optimal: float
    tolerance: float


@dataclass(frozen=True)
class Candidate:
    """Stages to be placed, and where they are from: the space, the limits and the manner of the search, and, where
    groups are part of it (`nearness`), by how much loads rise. `proves`: its bound holds for every plan. `homes`: on
    which of several hosts its stages would do well; `placed`: its cores, where they are known."""

    solution: Solution
    space: Space
    limits: Limits
    manner: Manner = "any"
    rises: Rises | None = None
    proves: bool = False
    homes: Homes | None = None
    placed: tuple[Placed, ...] | None = None

    @property
    def spread(self) -> bool:
        """Whether weights lie on all nodes: all of them where memory is limited, otherwise those in DRAM."""
        return self.manner == "spread"

    @cached_property
    def key(self) -> tuple[object, ...]:
        """The same for candidates that are the same when they are placed."""
        found = (self.solution, self.solution.strict)
        stages = [[(s.ops, s.config, s.replicas, s.exclusive) for s in x.stages] for x in found if x is not None]
        return (self.spread, self.homes, self.placed, *(tuple(x) for x in stages))


def starts(case: Case, wanted: Wanted, proof_s: float) -> list[Candidate]:
    """The best plan with distances at their least; under a limit on memory also the best whose weights lie on all
    nodes, once, which may need less. Best first: no plan is better than the bounds of these.

    Raises: Infeasible.
    """
    if wanted.limits.node_memory_bytes is None or case.table.spread_s is None or case.machine.counts["hosts"] > 1:
        own = throughput(case.space, wanted.limits, wanted.near_optimal, wanted.tolerance, proof_s=proof_s)
        return [Candidate(own, case.space, wanted.limits)]
    found = list(_best(case.space, wanted, proof_s=proof_s))
    try:
        found += _best(_priced(case), wanted, "spread", proof_s=proof_s)
    except KeyboardInterrupt:
        if not found:
            raise
        case.space.stop.now()
    if not found:
        raise Infeasible("no plan keeps the limits")
    return sorted(found, key=lambda candidate: candidate.solution.best_period_s)


def others(case: Case, wanted: Wanted, first: Solution) -> Iterator[Candidate]:
    """The best of plans that are the same on every node, or on every few nodes; of those whose stages draw evenly on
    the nodes' DRAM, or whose weights lie on all nodes; with limited memory of those whose teams do not cross nodes, or
    whose stages share no node; and the best where partners are far apart. `first` is the best but for distances."""
    space, machine = case.space, case.machine
    limited, several = wanted.limits.node_memory_bytes is not None, len(machine.nodes) > 1
    yield from _same_on_nodes(space, machine, wanted)
    if limited and several:
        yield from _best(space, wanted, "own nodes")
        yield from _best(space, replace(wanted, limits=_aligned(case, wanted.limits)))
    if several and any(stage.dram_bytes for stage in first.stages):
        yield from _best(space, wanted, "even")
    if not limited and case.table.spread_s is not None:
        yield from _best(_priced(case), wanted, "spread")
    if len(first.stages) > 1:
        for distance in _farther(machine):
            links = tuple(min(rate, machine.link_bytes_per_s(distance)) for rate in space.problem.link_bytes_per_s)
            if links != space.problem.link_bytes_per_s:
                yield from _best(space.priced(replace(space.problem, link_bytes_per_s=links)), wanted)


def near(case: Case, wanted: Wanted, first: Solution) -> Iterator[Candidate]:
    """The best plans where the search knows that only so many cores share a group; the first proves a bound.

    Not where memory per node is limited, where not all chains of ideals are searched (blocks, runs of ops), or where
    the machine is the same between groups as inside. Three amounts at a time are not settled by labels there: such a
    period counts as not refuted.
    """
    space, limits, machine = case.space.counted(wanted.limits), wanted.limits, case.machine
    problem, least = space.reduction.problem, space.costs
    stages = (first.strict or first).stages
    parts = any(problem.configs[stage.config].cores < problem.cores_per_group for stage in stages) and len(stages) > 1
    whole = space.ideals.complete and space.blocks is None and least.apart_s is None and least.work_s is None
    if not (parts and whole and limits.node_memory_bytes is None and slower_s(machine, problem) > 0):
        return
    cores = min(limits.max_cores or problem.cores, problem.cores)
    sure = sure_rises(machine, problem, space.ideals, least)
    if not room_for(least, sure, cores, limits.stages or limits.max_stages):
        return
    if not room_for(least, sure, cores, cores):  # no counting of stages
        wanted = replace(wanted, near_optimal=0.0)
    yield from _best(space, wanted, rises=sure, known_s=first.bound_s)
    slowest, best = min(problem.link_bytes_per_s), replace(wanted, near_optimal=0.0)  # counting stages takes longer
    for share in SHARES:
        links = tuple(1 / ((1 - share) / rate + share / slowest) for rate in problem.link_bytes_per_s)
        other = space.priced(replace(space.problem, link_bytes_per_s=links)) if share else space
        likely = likely_rises(machine, problem, space.ideals, least, share)
        yield from _best(other, best, rises=likely, known_s=first.bound_s, proves=False)


def copies(case: Case, wanted: Wanted) -> Iterator[Candidate]:
    """The whole model in every configuration, in as many copies as there is room for: alike on all nodes, so that none
    of these limits them more than others, and found at once, so also where the time is up before others could be."""
    whole, limits = case.space.undivided(), wanted.limits
    whole.stop = Stop()
    if limits.stages in (None, 1):
        for config in limits.configurations or whole.problem.configs:
            one = replace(wanted, limits=replace(limits, stages=None, configurations=(config,)))
            yield from _best(whole, one)
            yield from _same_on_nodes(whole, case.machine, one)


def regular(case: Case, wanted: Wanted) -> Iterator[Candidate]:
    """One pipeline of teams that are all alike, for every configuration, weights in DRAM near their stage or on all
    nodes: where single nodes' DRAM limits plans, these draw more evenly than the best without that limit. They are
    searched for while there is time."""
    limits = wanted.limits
    spaces: list[tuple[Space, Manner]] = [(case.space, "any")]
    if limits.node_memory_bytes is None and case.table.spread_s is not None:
        spaces.append((_priced(case), "spread"))
    for config in limits.configurations or case.space.problem.configs:
        one = replace(wanted, limits=replace(limits, max_replicas=1, configurations=(config,)))
        for space, manner in spaces:
            if case.space.stop.reached:
                return
            yield from _best(space, one, manner)


def tighter(candidate: Candidate, wanted: Wanted, limits: Limits) -> Candidate | None:
    """The best plan of the same space and manner under other `limits`, or None."""
    wanted = replace(wanted, limits=limits)
    return next(_best(candidate.space, wanted, candidate.manner, rises=candidate.rises, proves=False), None)


def fewer(case: Case, wanted: Wanted, cores: int) -> Candidate | None:
    """The best plan in at most so many cores, or None."""
    limits = replace(wanted.limits, max_cores=cores)
    return next(_best(case.space, replace(wanted, limits=limits)), None)


def _best(
    space: Space, wanted: Wanted, manner: Manner = "any", *, proof_s: float = 0.0, rises: Rises | None = None,
    known_s: float = 0.0, proves: bool = True,
) -> Iterator[Candidate]:  # fmt: skip
    """The best plan, if there is any."""
    limits, near_optimal, tolerance = wanted.limits, wanted.near_optimal, wanted.tolerance
    try:
        if rises is not None:
            found = least_period(space, limits, near_optimal, tolerance, rises=rises, known_s=known_s)
        else:
            found = throughput(space, limits, near_optimal, tolerance, manner=manner, proof_s=proof_s)
    except Infeasible:
        return
    yield Candidate(found, space, limits, manner, rises, proves and rises is not None)


def _same_on_nodes(space: Space, machine: Machine, wanted: Wanted) -> Iterator[Candidate]:
    """The best plans that are the same on every node, or on every few nodes."""
    for parts in _divisors(machine):
        try:
            found = alike(space, parts, wanted.limits, wanted.near_optimal, wanted.tolerance)
        except Infeasible:
            continue
        yield Candidate(found, space, wanted.limits)


def _priced(case: Case) -> Space:
    """The space where weights in DRAM lie on all nodes: no node serves more than another then, at a larger distance."""
    problem, table = case.space.problem, case.table
    assert table.spread_s is not None
    seconds = problem.seconds.copy()
    seconds[:, :, DRAM] += table.spread_s - table.compute_s[:, :, DRAM]
    return case.space.priced(replace(problem, seconds=seconds))


def _farther(machine: Machine) -> list[Distance]:
    """The distances between cores of different groups of `machine`, least first."""
    first = [group[0] for group in machine.groups]
    found = {machine.distance(first[0], core) for core in first[1:]}
    return [distance for distance in DISTANCES if distance in found]


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
