"""Planners of others that optimise: PipeDream's, Alpa's and dnn-partitioning's dynamic programs, on this problem."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from mapper.solver.covers.cover import Covers, cover
from mapper.solver.covers.ideals import Ideals, ideals
from mapper.solver.covers.intervals import intervals
from mapper.solver.peers.register import Proposal, Task, planner
from mapper.solver.problem import Array, Limits, Problem
from mapper.solver.search.least_period import throughput
from mapper.solver.search.space import Space

MOST_IDEALS = 400
"""Ideals up to which PipeDream's program runs over all of them, as the published code does; with more it runs over
the prefixes of the graph's order, as the paper describes it."""
MOST_BLOCKS = 800
"""Ops beyond which neighbours are made one before a program runs over all runs of them."""
MICROBATCHES = 64
"""B of Alpa's objective: how many items its pipeline is filled with and drained of again."""
GAP = 0.01
"""Relative distance of the largest stage latencies that Alpa's program tries (ε of the paper, absolute there)."""


@planner("pipedream", source="Narayanan et al., PipeDream, SOSP 2019, section 3.1; msr-fiddle/pipedream, optimizer",
         blocks=MOST_BLOCKS)  # fmt: skip
def pipedream(task: Task) -> tuple[Proposal, ...]:
    """PipeDream's stages, each with as many replicas as workers: its own program and cost, with groups as machines.

    Its cost is that of training: replicas of a stage exchange its weights (a shared weight counts for each op). Seconds
    are those of one group, bytes go at the rate of the link between groups. It uses all workers, and as many stages as
    come out.
    """
    problem = task.problem
    own = np.zeros(problem.ops)
    for weight in problem.weights:
        own[list(weight.users)] += weight.bytes
    most = min(task.workers, task.limits.max_replicas or task.workers)
    rate = problem.link_bytes_per_s[task.group]
    found = few_ideals(problem)
    _, stages = pipedream_program(found, task.seconds(task.group), own, task.workers, rate, most)
    return tuple(Proposal(ops, task.group, replicas) for ops, replicas in stages)


def pipedream_program(
    found: Ideals, seconds: Array, weight_bytes: Array, workers: int, bytes_per_s: float, most_replicas: int
) -> tuple[float, tuple[tuple[tuple[int, ...], int], ...]]:
    """The least period of a chain of `found` on exactly `workers` workers, or on as many as stages of one op each with
    `most_replicas` replicas would take, if that is fewer; and its stages with their replicas.

        A(j, m) = min over i ⊂ j and r of  max( A(i, m - r), T(i, j, r) )
        T(i, j, r) = ( C + 4 (r - 1) W / (B r) ) / r      C seconds and W weight bytes between ideals i and j

    The published code's objective: activations that are handed over cost nothing. `seconds`, `weight_bytes`: (ops,).
    """
    workers = min(workers, most_replicas * len(seconds))
    source, _, begin = found.pairs
    work, weights = (_between(found, values) for values in (seconds, weight_bytes))
    least = np.full((workers + 1, len(found.member)), np.inf)
    least[0, 0] = 0.0

    def value(m: int, r: int, pairs: slice) -> Array:
        load = replicated_s(work[pairs], weights[pairs], r, bytes_per_s)
        out: Array = np.maximum(least[m - r][source[pairs]], load)
        return out

    for m in range(1, workers + 1):
        for r in range(1, min(m, most_replicas) + 1):
            shortest = np.minimum.reduceat(value(m, r, slice(None)), begin[1:-1])
            least[m, 1:] = np.minimum(least[m, 1:], shortest)
    stages: list[tuple[tuple[int, ...], int]] = []
    m, j = workers, len(found.member) - 1
    while j > 0:
        here = slice(int(begin[j]), int(begin[j + 1]))
        options = [(float(v.min()), r, int(source[here][v.argmin()]))
                   for r in range(1, min(m, most_replicas) + 1) for v in (value(m, r, here),)]  # fmt: skip
        _, r, i = min(options)
        ops = (found.member[j] & ~found.member[i]).nonzero()[0]
        stages.append((tuple(int(v) for v in ops), r))
        m, j = m - r, i
    return float(least[workers, -1]), tuple(reversed(stages))


def replicated_s(work_s: Array, weight_bytes: Array, replicas: int, bytes_per_s: float) -> Array:
    """PipeDream's seconds a minibatch of a stage with `replicas` replicas that exchange its weights."""
    exchange_s = 4 * (replicas - 1) * weight_bytes / (bytes_per_s * replicas)
    out: Array = (work_s + exchange_s) / replicas
    return out


@planner("dnn-partitioning", source="Tarnawski et al., Efficient algorithms for device placement of DNN graph "
         "operators, NeurIPS 2020, max-load program over ideals")  # fmt: skip
def dnn_partitioning(task: Task) -> tuple[Proposal, ...]:
    """The least largest load of a stage, each on one group of its own, without replicas: at most so many stages.

    Its load is the one of this problem: seconds, and transfers once a producer on both sides. The search is ours.
    """
    limits = task.limits
    kept = Limits(stages=limits.stages, max_stages=task.stages, max_replicas=1, max_cores=limits.max_cores)
    alone = _only(task.problem, task.group)
    found = throughput(Space(alone), kept)
    return tuple(Proposal(stage.ops, task.group, 1) for stage in found.stages)


@planner("alpa", source="Zheng et al., Alpa, OSDI 2022, section 5: stages and submeshes", blocks=MOST_BLOCKS)
def alpa(task: Task) -> tuple[Proposal, ...]:
    """Alpa's runs of ops, each on a configuration of its own (its submesh), without replicas.

    It minimises Σ t + (B - 1) max t over the stages with B = `MICROBATCHES`, by trying largest stage latencies from
    the least one up until none can be better. Seconds are those of this problem without transfers, which it neglects.
    Cores may be left over, where the paper uses all devices.
    """
    problem = replace(
        task.problem, handoff_s=0.0, link_bytes_per_s=(math.inf,) * len(task.problem.configs),
        tensors=tuple(replace(t, seconds=0.0) for t in task.problem.tensors),
    )  # fmt: skip
    costs = intervals(problem, prefixes(problem.ops))
    size, cores = problem.cores_per_group, task.workers * problem.cores_per_group

    def best(period_s: float) -> tuple[float, Covers]:
        found = cover(costs, period_s, costs.load_s, cores=cores, cores_per_group=size, max_replicas=1)
        return float(found.front()[cores]), found

    least, fastest = best(math.inf)
    at = _shortest(best, _longest(fastest, cores), cores)
    chosen, value = fastest, math.inf
    while at + (least - at) / MICROBATCHES < value:
        latency, found = best(at)
        total = (latency + (MICROBATCHES - 1) * at) / MICROBATCHES
        if total < value:
            chosen, value = found, total
        at *= 1 + GAP
    return tuple(
        Proposal(tuple(range(int(costs.source[cell.pair]), int(costs.target[cell.pair]))),
                 int(costs.config[cell.option]), 1, bool(costs.exclusive[cell.option]))
        for cell in chosen.chain(cores)
    )  # fmt: skip


def _longest(covers: Covers, cores: int) -> float:
    """The largest load of the stages that cover all ops on at most `cores` cores."""
    return max(float(covers.intervals.load_s[cell.option, cell.pair]) for cell in covers.chain(cores))


def _shortest(best: Callable[[float], tuple[float, Covers]], high: float, cores: int) -> float:
    """The least period that `best` meets, to `GAP`; `high` is one that it does."""
    low = 0.0
    while low < high * (1 - GAP):
        at = math.sqrt(low * high) if low else high / 2
        latency, found = best(at)
        low, high = (low, _longest(found, cores)) if math.isfinite(latency) else (at, high)
    return high


def few_ideals(problem: Problem) -> Ideals:
    """All ideals of `problem` where they are at most `MOST_IDEALS`, else the prefixes of its order."""
    found = ideals(problem, MOST_IDEALS)
    return found if found.complete else prefixes(problem.ops)


def prefixes(ops: int) -> Ideals:
    """The ideals that are prefixes of the order of `ops` ops."""
    return Ideals(np.tri(ops + 1, ops, -1, dtype=bool), complete=ops < 2)


def _between(found: Ideals, values: Array) -> Array:
    """The sum of `values` over the ops between the two ideals of each pair."""
    source, target, _ = found.pairs
    prefix = found.member @ values
    out: Array = np.maximum(prefix[target] - prefix[source], 0.0)
    return out


def _only(problem: Problem, config: int) -> Problem:
    """`problem` with one configuration."""
    at = [config]
    return replace(
        problem, configs=(problem.configs[config],), cache_shares=(problem.cache_shares[config],),
        seconds=problem.seconds[:, at], dram_bytes=problem.dram_bytes[:, at],
        link_bytes_per_s=(problem.link_bytes_per_s[config],),
    )  # fmt: skip
