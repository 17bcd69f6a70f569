"""The cost of one stage that somebody proposes, written plainly; `intervals` has the same for all stages at once."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mapper.cost.residency import DRAM, GROUP, PACKAGE
from mapper.solver.problem import Problem, StageChoice


def stage_choice(problem: Problem, ops: Sequence[int], config: int, replicas: int, *, alone: bool) -> StageChoice:
    """The stage of `ops` (indices) with `replicas` replicas of configuration `config` (an index), with its load.

    `alone`: its groups can hold no other stage. It then takes them to itself (`exclusive`) where that brings its
    working set nearer, and only there.
    """
    load_s, dram_bytes = stage_cost(problem, ops, config)
    exclusive = False
    if alone and problem.configs[config].cores < problem.cores_per_group:
        there = stage_cost(problem, ops, config, exclusive=True)
        exclusive = there < (load_s, dram_bytes)
        load_s, dram_bytes = min(there, (load_s, dram_bytes))
    return StageChoice(tuple(sorted(ops)), config, replicas, exclusive, load_s, dram_bytes)


def stage_cost(problem: Problem, ops: Sequence[int], config: int, *, exclusive: bool = False) -> tuple[float, float]:
    """Load in seconds and DRAM bytes per item of one replica of the stage of `ops` (problem.md, *Cost*).

    `exclusive`: no other stage is in its groups; that counts for parts of a group only.
    """
    inside, rows = set(ops), list(ops)
    crossing_s = crossing_bytes = entering = 0.0
    for tensor in problem.tensors:
        reads, made = not inside.isdisjoint(tensor.readers), tensor.producer in inside
        if (reads and not made) or (made and not inside.issuperset(tensor.readers)):
            crossing_s += problem.handoff_s + tensor.seconds
            crossing_bytes += tensor.bytes
            entering += tensor.bytes if not made else 0.0
    weights = sum(weight.bytes for weight in problem.weights if not inside.isdisjoint(weight.users))
    private = float(problem.footprint[rows].max()) + problem.ring_slots * entering
    residency = _residency(problem, weights, private, config, exclusive)
    dram_bytes = (weights if residency == DRAM else 0.0) + float(problem.dram_bytes[rows, config].sum())
    work_s = float(problem.seconds[rows, config, residency].sum())
    return work_s + crossing_s + crossing_bytes / problem.link_bytes_per_s[config], dram_bytes


def _residency(problem: Problem, weights: float, private: float, config: int, exclusive: bool) -> int:
    """The nearest cache that holds `weights` and `private` bytes of one replica."""
    caches, size, cores = problem.caches, problem.cores_per_group, problem.configs[config].cores
    if cores >= size:
        near = weights + private <= caches.group_bytes * problem.cache_shares[config]
    elif exclusive:
        near = caches.fits_exclusive(weights, private, cores, size) or caches.fits_share(weights, private, cores, size)
    else:
        near = caches.fits_share(weights, private, cores, size)
    if near:
        return GROUP
    return PACKAGE if caches.holds_model(problem.weight_bytes) else DRAM


def cores_of(problem: Problem, stage: StageChoice) -> int:
    """Cores that the stage takes: whole groups where it has them to itself."""
    cores, size = stage.replicas * problem.configs[stage.config].cores, problem.cores_per_group
    return math.ceil(cores / size) * size if stage.exclusive else cores


def period_of(problem: Problem, stages: Sequence[StageChoice]) -> float:
    """Seconds between two results of `stages`: the slowest stage, or the DRAM of the machine."""
    dram_s = sum(stage.dram_bytes for stage in stages) / problem.dram_bytes_per_s
    return max([stage.load_s / stage.replicas for stage in stages] + [dram_s])
