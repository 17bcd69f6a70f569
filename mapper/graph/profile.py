"""What the shape of a graph says about splitting it: bytes live at each cut, the critical path, skip edges.

*Work* of an op is its FLOP, or its seconds where the graph brings times.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from mapper.graph.model import Graph, Op


@dataclass(frozen=True)
class Cut:
    """The cut before the op at `position` of the order: bytes that cross it, and the share of the work before it."""

    position: int
    bytes: int
    share: float


@dataclass(frozen=True)
class CriticalPath:
    """The path with the most work: its ops, the work on it, and that of the whole graph."""

    ops: tuple[str, ...]
    work: float
    total: float

    @property
    def parallelism(self) -> float:
        """Total work over that of the path: what branches beside each other could gain at most."""
        return self.total / self.work if self.work else 1.0


def work_of(graph: Graph, op: Op) -> float:
    """The work of `op`: seconds where the graph brings times, else FLOP."""
    return op.proc_s or 0.0 if graph.costed else op.flop


def live_bytes(graph: Graph) -> tuple[int, ...]:
    """Bytes that cross each cut of the order: produced before it, read after it. One less than there are ops.

    What the feeder hands in and takes out is not counted: a pipeline hands it to the stage that reads it.
    """
    change = [0] * (len(graph.ops) + 1)
    for tensor in graph.tensors:
        if tensor.readers:
            change[graph.position[tensor.producer] + 1] += tensor.bytes
            change[max(graph.position[reader] for reader in tensor.readers) + 1] -= tensor.bytes
    return tuple(itertools.accumulate(change[1:-1]))


def best_cuts(graph: Graph, count: int = 5) -> tuple[Cut, ...]:
    """The cuts that the fewest bytes cross, in the order of the graph; of equal ones those nearest to half the work.

    Cuts with less than a twentieth of the work on one side count only where there are no others.
    """
    total = sum(work_of(graph, op) for op in graph.ops)
    done = itertools.accumulate(work_of(graph, op) for op in graph.ops)
    cuts = [
        Cut(i + 1, size, before / total if total else (i + 1) / len(graph.ops))
        for i, (size, before) in enumerate(zip(live_bytes(graph), done, strict=False))
    ]
    inner = [cut for cut in cuts if 0.05 <= cut.share <= 0.95]
    chosen = sorted(inner or cuts, key=lambda cut: (cut.bytes, abs(cut.share - 0.5)))[:count]
    return tuple(sorted(chosen, key=lambda cut: cut.position))


def critical_path(graph: Graph) -> CriticalPath:
    """The path with the most work, up to the last op that adds none. One pass over the order finds it."""
    longest: dict[str, float] = {}
    before: dict[str, str | None] = {op.name: None for op in graph.ops}
    arrives = dict.fromkeys(before, 0.0)
    produced: dict[str, list[str]] = {}
    for tensor in graph.tensors:
        produced.setdefault(tensor.producer, []).extend(tensor.readers)
    for op in graph.ops:
        longest[op.name] = arrives[op.name] + work_of(graph, op)
        for reader in produced.get(op.name, ()):
            if before[reader] is None or longest[op.name] > arrives[reader]:
                arrives[reader], before[reader] = longest[op.name], op.name
    end: str | None = max(reversed(longest), key=lambda name: longest[name])
    work, path = longest[end or ""], list[str]()
    while end is not None:
        path.append(end)
        end = before[end]
    return CriticalPath(tuple(reversed(path)), work, sum(work_of(graph, op) for op in graph.ops))


def skip_edges(graph: Graph) -> tuple[tuple[str, str], ...]:
    """Edges that another path between the same two ops goes around, such as residual connections."""
    position, after, into = graph.position, dict[str, set[str]](), dict[str, int]()
    for tensor in graph.tensors:
        after.setdefault(tensor.producer, set()).update(tensor.readers)
    for readers in after.values():
        for reader in readers:
            into[reader] = into.get(reader, 0) + 1
    found = []
    for producer, readers in after.items():
        for reader in sorted(readers, key=position.__getitem__) if len(readers) > 1 else ():
            if into[reader] > 1 and _reaches(reader, readers - {reader}, after, position):
                found.append((producer, reader))
    return tuple(found)


def _reaches(target: str, starts: set[str], after: dict[str, set[str]], position: dict[str, int]) -> bool:
    """Whether a path leads from one of `starts` to `target`; what comes after it in the order is not looked at."""
    pending, seen = [name for name in starts if position[name] < position[target]], set(starts)
    while pending:
        for name in after.get(pending.pop(), ()):
            if name == target:
                return True
            if name not in seen and position[name] < position[target]:
                seen.add(name)
                pending.append(name)
    return False


def shared_weights(graph: Graph) -> dict[str, tuple[str, ...]]:
    """Weights that more than one op reads, with those ops."""
    users: dict[str, list[str]] = {}
    for op in graph.ops:
        for name in {weight.name for weight in op.weights}:
            users.setdefault(name, []).append(op.name)
    return {name: tuple(ops) for name, ops in sorted(users.items()) if len(ops) > 1}
