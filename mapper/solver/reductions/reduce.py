"""Reductions that lose no plan, each with the way back."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, replace

import networkx as nx
import numpy as np

from mapper.solver.problem import Problem, TensorArc, WeightArc, merged


@dataclass(frozen=True)
class Reduction:
    """A smaller problem, and for each of its ops the ops of the original that it stands for."""

    problem: Problem
    members: tuple[tuple[int, ...], ...]

    def restore(self, ops: Iterable[int]) -> tuple[int, ...]:
        """The original ops that the reduced `ops` stand for, ascending."""
        return tuple(sorted(v for op in ops for v in self.members[op]))

    def gather(self, ops: Iterable[int]) -> tuple[int, ...]:
        """The reduced ops that stand for the original `ops`, which are all of theirs, ascending."""
        wanted = set(ops)
        return tuple(op for op, members in enumerate(self.members) if members[0] in wanted)


def reduce(problem: Problem, *, idle: bool = True) -> Reduction:
    """Merges what every plan keeps together, or some best plan does.

    * ops that the request wants together, and with them every op on a path between them;
    * where `idle`, an op without producers, time and weights whose tensor one op reads: apart, it only adds a
      transfer. A request for an exact number of stages may need it apart, one for ops that belong together or apart
      may say where it is.
    """
    graph = nx.DiGraph()
    graph.add_nodes_from(range(problem.ops))
    graph.add_edges_from((t.producer, reader) for t in problem.tensors for reader in t.readers)
    for ops in (*problem.together, *(_idle_sources(problem, graph) if idle else ())):
        for a, b in itertools.pairwise(ops):
            graph.add_edges_from(((a, b), (b, a)))
    condensed = nx.condensation(graph)
    order = nx.lexicographical_topological_sort(condensed, key=lambda c: min(condensed.nodes[c]["members"]))
    members = tuple(tuple(sorted(condensed.nodes[c]["members"])) for c in order)
    return Reduction(merge(problem, members), members)


def _idle_sources(problem: Problem, graph: nx.DiGraph) -> list[tuple[int, int]]:
    """(source, its only reader) for ops that do nothing but provide one tensor."""
    users = {v for weight in problem.weights for v in weight.users}
    bound = {v for ops in (*problem.together, *problem.apart) for v in ops}
    produced: dict[int, list[TensorArc]] = {}
    for tensor in problem.tensors:
        produced.setdefault(tensor.producer, []).append(tensor)
    found = []
    for v, tensors in produced.items():
        idle = (
            graph.in_degree(v) == 0
            and v not in users
            and v not in bound
            and not problem.seconds[v].any()
            and not problem.dram_bytes[v].any()
        )
        readers = {reader for tensor in tensors for reader in tensor.readers}
        if idle and len(readers) == 1 and problem.footprint[v] <= problem.footprint[min(readers)]:
            found.append((v, min(readers)))
    return found


def merge(problem: Problem, members: tuple[tuple[int, ...], ...]) -> Problem:
    """`problem` with one op for each of `members`, which are its ops in groups, in an order in which they can run."""
    home = {v: new for new, ops in enumerate(members) for v in ops}
    tensors = []
    for tensor in problem.tensors:
        producer = home[tensor.producer]
        readers = tuple(sorted({home[r] for r in tensor.readers} - {producer}))
        if readers:
            tensors.append(TensorArc(producer, readers, tensor.bytes, tensor.seconds))
    weights = [WeightArc(tuple(sorted({home[v] for v in w.users})), w.bytes) for w in problem.weights]
    return replace(
        problem,
        seconds=merged(problem.seconds, members),
        dram_bytes=merged(problem.dram_bytes, members),
        footprint=np.array([problem.footprint[list(ops)].max() for ops in members]),
        tensors=tuple(tensors),
        weights=tuple(weights),
        together=(),
        apart=tuple(tuple(home[v] for v in ops) for ops in problem.apart),
        memory=None,
    )
