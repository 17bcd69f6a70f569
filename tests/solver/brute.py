"""The whole space of a small problem, enumerated from the definition (problem.md) with nothing of the search's."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

from mapper.cost.residency import DRAM, GROUP, PACKAGE
from mapper.solver.problem import Limits, Problem

Stage = tuple[int, ...]


def partitions(problem: Problem) -> Iterator[tuple[Stage, ...]]:
    """Every ordered partition into stages along which no tensor flows backwards."""
    for labels in itertools.product(range(problem.ops), repeat=problem.ops):
        count = max(labels) + 1
        if set(labels) != set(range(count)):
            continue
        if any(labels[r] < labels[t.producer] for t in problem.tensors for r in t.readers):
            continue
        yield tuple(tuple(v for v in range(problem.ops) if labels[v] == s) for s in range(count))


def load(problem: Problem, stage: Stage, c: int, alone: bool) -> tuple[float, float] | None:
    """Seconds and DRAM bytes of `stage` with configuration `c`; None where a group of its own is of no use."""
    config, size, caches = problem.configs[c], problem.cores_per_group, problem.caches
    inside = set(stage)
    entering = [t for t in problem.tensors if t.producer not in inside and inside & set(t.readers)]
    leaving = [t for t in problem.tensors if t.producer in inside and set(t.readers) - inside]
    weights = sum(w.bytes for w in problem.weights if inside & set(w.users))
    private = max(problem.footprint[v] for v in stage) + problem.ring_slots * sum(t.bytes for t in entering)
    if config.cores >= size:
        near = weights + private <= caches.group_bytes * problem.cache_shares[c]
    else:
        shared = weights + private <= caches.group_bytes * config.cores / size
        near = weights + private * size / config.cores <= caches.group_bytes if alone else shared
        if alone and (shared or not near):
            return None
    residency = GROUP if near else PACKAGE if problem.weight_bytes <= caches.package_bytes else DRAM
    transfers = sum(problem.handoff_s + t.bytes / problem.link_bytes_per_s[c] for t in entering + leaving)
    dram = (weights if residency == DRAM else 0) + sum(problem.dram_bytes[v, c] for v in stage)
    return float(sum(problem.seconds[v, c, residency] for v in stage) + transfers), float(dram)


def options(problem: Problem, stage: Stage, limits: Limits) -> list[tuple[float, float, int]]:
    """(load / replicas, load, DRAM bytes, cores) of every way to run one stage."""
    size, total = problem.cores_per_group, min(problem.cores, limits.max_cores or problem.cores)
    found = []
    for c, config in enumerate(problem.configs):
        if limits.configurations is not None and config not in limits.configurations:
            continue
        for alone in (False, True) if config.cores < size else (False,):
            cost = load(problem, stage, c, alone)
            for replicas in range(1, (limits.max_replicas or total) + 1):
                cores = replicas * config.cores
                cores = math.ceil(cores / size) * size if alone else cores
                if cost is not None and cores <= total:
                    found.append((cost[0] / replicas, cost[0], cost[1], cores))
    return found


def least_period(problem: Problem, limits: Limits) -> float:
    """The best period of all plans within `limits`, infinite where there is none."""
    total, best = min(problem.cores, limits.max_cores or problem.cores), math.inf
    for stages in partitions(problem):
        if limits.stages is not None and len(stages) != limits.stages:
            continue
        if limits.max_stages is not None and len(stages) > limits.max_stages:
            continue
        for choice in itertools.product(*(options(problem, stage, limits) for stage in stages)):
            if sum(x[3] for x in choice) > total:
                continue
            if sum(x[1] for x in choice) > (limits.max_latency_s or math.inf):
                continue
            period = max(max(x[0] for x in choice), sum(x[2] for x in choice) / problem.dram_bytes_per_s)
            best = min(best, period)
    return best
