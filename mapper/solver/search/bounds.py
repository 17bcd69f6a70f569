"""Lower bounds on the period that hold for every plan, whatever its stages."""

from __future__ import annotations

import networkx as nx
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


def latency(problem: Problem) -> float:
    """Seconds: each op with the configuration that is fastest for it; no sum of loads is less."""
    return float(_least_seconds(problem).min(axis=1).sum()) * (1 - 1e-12)


MOST_AROUND, MOST_OPS = 12, 2000
"""Ops around which the cheapest stage is looked for: so many of the longest, so many of those that cost most alone; and
ops of a graph beyond which none is looked for."""


def around(problem: Problem, limits: Limits, above: float) -> float:
    """Seconds: the largest, over some ops, of the least load of any stage that holds the op; `above` if that is more.

    Holds for one configuration, one replica and costs that no cache changes, otherwise `above` is returned. Convexity
    is dropped, which leaves a cut of least capacity: ops with the op are on one side, and pay their seconds and the
    tensors that cross. Such an op and its stage may cost far more than an equal share of the work.
    """
    linear = len(problem.configs) == 1 and limits.max_replicas == 1 and bool(np.isinf(problem.caches.group_bytes))
    if not linear or problem.ops > MOST_OPS:
        return above
    seconds = problem.seconds[:, 0, GROUP]
    alone = seconds.copy()
    for tensor in problem.tensors:
        for op in {tensor.producer, *tensor.readers}:
            alone[op] += problem.transfer_s(tensor, 0)
    network = _network(problem)
    chosen = [int(op) for by in (seconds, alone) for op in np.argsort(-by, kind="stable")[:MOST_AROUND]]
    for op in dict.fromkeys(chosen):
        if alone[op] > above:
            above = max(above, nx.maximum_flow_value(network, op, problem.ops) * (1 - 1e-9))
    return float(above)


def _network(problem: Problem) -> nx.DiGraph:
    """What each stage pays, as capacities of arcs out of it: an op's seconds, and each tensor that crosses, once.

    A tensor has two points: one is inside with any of its readers, the other only with all of them. Points are
    integers (ops, the outside, tensors): flows are added up in the order of their hashes.
    """
    network, outside = nx.DiGraph(), problem.ops
    for v in range(problem.ops):
        network.add_edge(v, outside, capacity=float(problem.seconds[v, 0, GROUP]))
    for x, tensor in enumerate(problem.tensors):
        price, read = problem.transfer_s(tensor, 0), outside + 1 + 2 * x
        written = read + 1
        network.add_edge(read, tensor.producer, capacity=price)
        network.add_edge(tensor.producer, written, capacity=price)
        for reader in tensor.readers:
            network.add_edge(reader, read)
            network.add_edge(written, reader)
    return network


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
