"""What stages hold in the memory of NUMA nodes, for every pair of ideals (problem.md, *memory of node n*)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mapper.solver.covers.cover import replicas_of
from mapper.solver.covers.intervals import Intervals
from mapper.solver.problem import Array, Problem
from mapper.solver.reductions.reduce import Reduction

CHUNK = 50_000
"""Pairs at a time: their ops are a matrix."""


@dataclass(frozen=True)
class StageMemory:
    """`shared[p]`: weight bytes of the stage of pair p, once for all its replicas on a node. `each[p]`: of a replica:
    the most that is live at once, the slots of what enters, and its process."""

    shared: Array
    each: Array


def stage_memory(original: Problem, reduction: Reduction, member: NDArray[np.bool_], costs: Intervals) -> StageMemory:
    """The memory of every pair's stage, its ops in the order of `original`."""
    assert original.memory is not None
    home = np.empty(original.ops, dtype=int)
    for new, ops in enumerate(reduction.members):
        home[list(ops)] = new
    weights = [(weight.bytes, weight.users) for weight in original.memory.weights]
    shared, each = _of_pairs(
        costs, member[:, home], original.memory.own_bytes, weights,
        lambda inside: _live(original, inside) + original.ring_slots * _entering(original, inside),
    )  # fmt: skip
    return StageMemory(shared, each + original.memory.process_bytes)


def least_memory(
    original: Problem, heads: Sequence[Sequence[int]], member: NDArray[np.bool_], costs: Intervals
) -> StageMemory:
    """What every pair's stage holds at least, of the ops `heads` of each block alone (in those of `original`): their
    weights, and of a replica its process and the most that one op reads from others and writes."""
    memory = original.memory
    assert memory is not None
    own = np.array([memory.own_bytes[list(ops)].sum() for ops in heads])
    touched = memory.write_bytes.copy()
    for tensor in original.tensors:
        touched[list(tensor.readers)] += tensor.bytes
    most = np.array([touched[list(ops)].max() for ops in heads])
    block = {v: b for b, ops in enumerate(heads) for v in ops}
    users = [(weight.bytes, sorted({block[v] for v in weight.users if v in block})) for weight in memory.weights]
    shared, each = _of_pairs(costs, member, own, users, lambda inside: (inside * most).max(axis=1))
    return StageMemory(shared, each + memory.process_bytes)


def _of_pairs(
    costs: Intervals, member: NDArray[np.bool_], own: Array, weights: Iterable[tuple[float, Sequence[int]]],
    each_of: Callable[[NDArray[np.bool_]], Array],
) -> tuple[Array, Array]:  # fmt: skip
    """For every pair the bytes that its stage holds once, `own` ones and `weights` (bytes, who uses them), and those of
    each replica, which `each_of` gives from what is inside: (pairs, columns of `member`)."""
    known = [(size, list(users)) for size, users in weights if len(users)]
    shared, each = np.empty(len(costs.source)), np.empty(len(costs.source))
    for at in range(0, len(shared), CHUNK):
        pairs = slice(at, at + CHUNK)
        inside = member[costs.target[pairs]] & ~member[costs.source[pairs]]
        shared[pairs] = inside @ own
        for size, users in known:
            shared[pairs] += size * inside[:, users].any(axis=1)
        each[pairs] = each_of(inside)
    return shared, each


@dataclass(frozen=True)
class Places:
    """(options, pairs) of stages that meet a period in nodes of limited memory: the `nodes` that each has replicas on
    and the bytes `held` on all of them, both at least; infinite where it cannot be."""

    nodes: Array
    held: Array


def places(
    costs: Intervals, memory: StageMemory, problem: Problem, period_s: float, node_bytes: float, *, spread: bool
) -> Places:
    """What each stage takes when it meets `period_s` and no node holds more than `node_bytes`.

    It has a replica on as many nodes as hold its cores, and as hold its memory: a node has room for whole replicas.
    Its weights are on every node that it has a replica on, or once on all the nodes that a team spans (`interleave`);
    with `spread` once, on all nodes of the machine.
    """
    assert problem.memory is not None
    count, most = len(problem.memory.nodes), sum(problem.memory.nodes)
    spans = np.array([problem.memory.span(cores) if cores else 0 for cores in range(most + 1)], dtype=float)
    nodes, held = np.empty_like(costs.load_s), np.empty_like(costs.load_s)
    for o, load in enumerate(costs.load_s):  # one by one: the whole at once would not fit the caches
        cores = int(costs.cores[o])
        span = spans[min(cores, most)]
        needed = replicas_of(load, period_s)
        replicas = np.where(np.isnan(needed), 1.0, needed)
        with np.errstate(divide="ignore", invalid="ignore"):
            weights = memory.shared * (span / count) if spread else memory.shared
            room = np.floor((node_bytes * span - weights) / memory.each * (1 + 1e-9))
            taken = np.minimum(replicas * cores, most).astype(int)
            sites = np.maximum(np.ceil(spans[taken] / span), np.ceil(replicas / room))
            weights = memory.shared if spread else sites * memory.shared
        fits = (room >= 1) & (sites * span < count + span) & ~np.isnan(needed)
        nodes[o] = np.where(fits, sites * span, np.inf)
        held[o] = np.where(fits, weights + replicas * memory.each, np.inf)
    return Places(nodes, held)


def _live(problem: Problem, inside: NDArray[np.bool_]) -> Array:
    """(pairs,): the most bytes of the stage's own tensors that are alive at once: what an op writes, and all that was
    written before it and is read by it or later, or by another stage."""
    assert problem.memory is not None
    ends: list[Array] = []
    for tensor in problem.tensors:
        last = np.where(inside[:, tensor.producer], float(tensor.producer), -1.0)
        for reader in tensor.readers:
            last = np.where(inside[:, reader], np.maximum(last, float(reader)), float(problem.ops))
        ends.append(np.where(inside[:, tensor.producer], last, -1.0))
    alive, most = np.zeros(len(inside)), np.zeros(len(inside))
    made: dict[int, list[int]] = {}
    for x, tensor in enumerate(problem.tensors):
        made.setdefault(tensor.producer, []).append(x)
    waiting: list[int] = []
    for v in range(problem.ops):
        most = np.maximum(most, np.where(inside[:, v], alive + problem.memory.write_bytes[v], 0.0))
        for x in made.get(v, ()):
            alive = alive + problem.tensors[x].bytes * (ends[x] > v)
            waiting.append(x)
        for x in [x for x in waiting if v in problem.tensors[x].readers]:
            alive = alive - problem.tensors[x].bytes * (ends[x] == v)
            if v == max(problem.tensors[x].readers):
                waiting.remove(x)
    return most


def _entering(problem: Problem, inside: NDArray[np.bool_]) -> Array:
    """(pairs,): bytes of the tensors that enter the stage, each once."""
    out = np.zeros(len(inside))
    for tensor in problem.tensors:
        out += tensor.bytes * (~inside[:, tensor.producer] & inside[:, list(tensor.readers)].any(axis=1))
    return out
