"""Lower bounds on the period that hold for every plan, whatever its stages."""

from __future__ import annotations

import numpy as np

from mapper.cost.residency import DRAM, GROUP, PACKAGE
from mapper.solver.problem import Array, Limits, Problem


def area(problem: Problem, limits: Limits) -> float:
    """Seconds: the least core-seconds of every op, shared out over all cores; and the longest op where copies are
    limited. An op is at the group's cache only if it fits there *alone*.

    Never above the optimum: a stage's load is at least the sum of its ops' seconds, its cores at least replicas
    times those of one, and replicas · period at least its load.
    """
    cores = np.array([config.cores for config in problem.configs], dtype=float)
    seconds = _least_seconds(problem)
    bound = float((seconds * cores).min(axis=1).sum()) / problem.cores
    if limits.max_replicas is not None:
        bound = max(bound, float(seconds.min(axis=1).max()) / limits.max_replicas)
    return max(bound, 0.0)


def _least_seconds(problem: Problem) -> Array:
    """(ops, configs): the seconds of each op at the nearest residency that it could have in any stage."""
    alone = np.zeros(problem.ops)
    for weight in problem.weights:
        alone[list(weight.users)] += weight.bytes
    size, caches = problem.cores_per_group, problem.caches
    far = PACKAGE if caches.holds_model(problem.weight_bytes) else DRAM
    out = np.empty((problem.ops, len(problem.configs)))
    for c, config in enumerate(problem.configs):
        if config.cores < size:
            share, whole = config.cores / size, size / config.cores
            near = (alone + problem.footprint <= caches.group_bytes * share) | (
                alone + problem.footprint * whole <= caches.group_bytes
            )
        else:
            near = alone + problem.footprint <= caches.group_bytes * problem.cache_shares[c]
        out[:, c] = np.where(near, problem.seconds[:, c, GROUP], problem.seconds[:, c, far])
    return out
