"""The whole space of a small problem, enumerated from the definition (problem.md) with nothing of the search's."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Way:
    """One way to run one stage, with its replicas."""

    each_s: float
    load_s: float
    dram_bytes: float
    cores: int
    memory_bytes: float


@dataclass(frozen=True)
class Outcome:
    """What a plan comes to; the period is infinite where a limit is not kept."""

    period_s: float
    latency_s: float
    cores: int
    memory_bytes: float


def nodes_of(problem: Problem) -> int:
    """NUMA nodes."""
    return len(problem.memory.nodes) if problem.memory else 1


def held(problem: Problem, stage: Stage, c: int, replicas: int, node_bytes: float) -> float:
    """Bytes that a stage needs on all nodes together, on as few nodes as have the cores and room for the replicas."""
    if problem.memory is None:
        return 0.0
    memory, inside = problem.memory, set(stage)
    weights = sum(w.bytes for w in memory.weights if inside & set(w.users)) + sum(memory.own_bytes[v] for v in stage)
    most = 0.0
    for v in sorted(stage):
        alive = memory.write_bytes[v]
        for tensor in problem.tensors:
            if tensor.producer in inside and tensor.producer < v:
                leaves = bool(set(tensor.readers) - inside)
                alive += tensor.bytes * (leaves or max(r for r in tensor.readers if r in inside) >= v)
        most = max(most, alive)
    entering = sum(t.bytes for t in problem.tensors if t.producer not in inside and inside & set(t.readers))
    each = most + problem.ring_slots * entering + memory.process_bytes
    config = problem.configs[c]
    spans = memory.span(config.cores)
    copies = math.ceil(memory.span(min(replicas * config.cores, sum(memory.nodes))) / spans)
    while (math.ceil(replicas / copies) * each + weights) > node_bytes * spans * WITHIN:
        copies += 1
        if copies > replicas or (copies - 1) * spans >= len(memory.nodes):
            return math.inf
    return float(copies * weights + replicas * each)


def options(problem: Problem, stage: Stage, limits: Limits) -> list[Way]:
    """Every way to run one stage."""
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
                    memory = held(problem, stage, c, replicas, limits.node_memory_bytes or math.inf)
                    found.append(Way(cost[0] / replicas, cost[0], cost[1], cores, memory))
    return found


def outcomes(problem: Problem, limits: Limits) -> Iterator[Outcome]:
    """Every plan that keeps `limits`."""
    total = min(problem.cores, limits.max_cores or problem.cores)
    memory = math.inf if limits.node_memory_bytes is None else limits.node_memory_bytes * nodes_of(problem)
    for stages in partitions(problem):
        if limits.stages is not None and len(stages) != limits.stages:
            continue
        if limits.max_stages is not None and len(stages) > limits.max_stages:
            continue
        if any(len(set(ops) & set(stage)) > 1 for ops in problem.apart for stage in stages):
            continue
        for choice in itertools.product(*(options(problem, stage, limits) for stage in stages)):
            dram = sum(x.dram_bytes for x in choice) / problem.dram_bytes_per_s
            out = Outcome(
                max(max(x.each_s for x in choice), dram), sum(x.load_s for x in choice),
                sum(x.cores for x in choice), sum(x.memory_bytes for x in choice),
            )  # fmt: skip
            latency = math.inf if limits.max_latency_s is None else limits.max_latency_s
            kept = (out.cores <= total, out.latency_s <= latency * WITHIN, out.memory_bytes <= memory * WITHIN,
                    out.period_s <= limits.max_period_s * WITHIN)  # fmt: skip
            if all(kept):
                yield out


WITHIN = 1 + 1e-9


def least_period(problem: Problem, limits: Limits) -> float:
    """The best period of all plans within `limits`, infinite where there is none."""
    return min((out.period_s for out in outcomes(problem, limits)), default=math.inf)
