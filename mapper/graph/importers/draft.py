"""What importers share: from ops and edges in the order of a file to a graph, or to the cycle that prevents one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import networkx as nx

from mapper.errors import BadInput
from mapper.graph.model import Graph, Op, Scalar, Tensor


@dataclass
class Output:
    """What one op hands over, as the file says it: one tensor, whoever reads it. `comm_s` in seconds, if given."""

    bytes: float
    comm_s: float | None = None
    given: dict[str, Scalar] = field(default_factory=dict)
    readers: list[str] = field(default_factory=list)


def assembled(
    source: str, name: str, ops: Sequence[Op], outputs: dict[str, Output], given: dict[str, Scalar] | None = None
) -> Graph:
    """The graph of `ops` in an order in which they can run; of such orders the one nearest to the file's.

    Raises: BadInput when there is no op, or naming the ops on a cycle.
    """
    if not ops:
        raise BadInput(source, "an empty graph: it has no op")
    position = {op.name: i for i, op in enumerate(ops)}
    graph = nx.DiGraph()
    graph.add_nodes_from(position)
    graph.add_edges_from((producer, reader) for producer, out in outputs.items() for reader in out.readers)
    try:
        order = list(nx.lexicographical_topological_sort(graph, key=position.__getitem__))
    except nx.NetworkXUnfeasible:
        raise BadInput(source, f"the graph has a cycle: {_cycle(graph)}") from None
    rank = {v: i for i, v in enumerate(order)}
    tensors = [
        Tensor(
            name=v,
            producer=v,
            readers=tuple(sorted(outputs[v].readers, key=rank.__getitem__)),
            bytes=math.ceil(outputs[v].bytes),
            comm_s=outputs[v].comm_s,
            given=outputs[v].given or None,
        )
        for v in order
        if v in outputs
    ]
    return Graph(
        name=name, ops=tuple(ops[position[v]] for v in order), tensors=tuple(tensors), dtype="", given=given or None
    )


def _cycle(graph: nx.DiGraph) -> str:
    """The ops on one cycle, the first again at the end; the middle of a long one is left out."""
    names = [str(edge[0]) for edge in nx.find_cycle(graph)]
    if len(names) > 12:
        names = [*names[:6], f"… {len(names) - 10} more …", *names[-4:]]
    return " → ".join([*names, names[0]])


def cost(value: Any, what: str, source: str, place: str) -> float:
    """`value` as a finite number ≥ 0. Raises: BadInput saying what it is instead."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise BadInput(source, f"{what} is {value!r}, a number was expected", place=place) from None
    if not math.isfinite(number) or number < 0:
        raise BadInput(source, f"{what} is {value}: it must be finite and not negative", place=place)
    return number
