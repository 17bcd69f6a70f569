"""dnn-partitioning JSON, the format of msr-fiddle/dnn-partitioning ("Efficient Algorithms for Device Placement of DNN
Graph Operators", NeurIPS 2020): `nodes` with times in milliseconds, `edges` with the cost of what their source hands
over, the same on all edges of one source.

    file                                   graph
    nodes[].id                             Op.name, as text
    nodes[].name                           Op.module
    nodes[].fpgaLatency      ms            Op.proc_s
    nodes[].size             bytes         Op.memory_bytes
    nodes[].colorClass                     Op.together
    edges[].cost             ms            Tensor.comm_s
    edges[].size             bytes         Tensor.bytes, rounded up
    everything else                        `given`, which the exporter writes back
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from mapper import jsonio
from mapper.errors import BadInput
from mapper.graph.importers.draft import Output, assembled
from mapper.graph.model import Graph, Op, Scalar


class _Part(BaseModel):
    """A part of the file. Fields that are not known are kept, if they are plain values."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True, allow_inf_nan=False, populate_by_name=True)
    __pydantic_extra__: dict[str, Scalar]


class _Node(_Part):
    id: int
    name: str | None = None
    supported: bool | int = Field(default=True, alias="supportedOnFpga")
    seconds: float = Field(alias="fpgaLatency", ge=0, description="milliseconds in the file")
    backward: bool | int = Field(default=False, alias="isBackwardNode")
    colour: int | None = Field(default=None, alias="colorClass")
    size: float = Field(default=0.0, ge=0)
    cpu: float | None = Field(default=None, alias="cpuLatency", ge=0)


class _Edge(_Part):
    source: int = Field(alias="sourceId")
    target: int = Field(alias="destId")
    cost: float = Field(ge=0)
    size: float | None = Field(default=None, ge=0)


class _File(_Part):
    nodes: tuple[_Node, ...] = Field(strict=False)
    edges: tuple[_Edge, ...] = Field(strict=False)


def parse(document: dict[str, Any], source: str, name: str) -> Graph:
    """The graph of a dnn-partitioning `document`. Raises: BadInput with the JSON pointer of what is wrong."""
    file = jsonio.validated(_File, document, source)
    seen: dict[int, int] = {}
    for i, node in enumerate(file.nodes):
        if node.id in seen:
            raise BadInput(source, f"op {node.id} is there twice, first at /nodes/{seen[node.id]}", place=f"/nodes/{i}")
        seen[node.id] = i
        _refuse(node, source, f"/nodes/{i}")
    ops = [_op(node, raw) for node, raw in zip(file.nodes, document["nodes"], strict=True)]
    return assembled(source, name, ops, _outputs(file, seen, source), file.__pydantic_extra__)


def _refuse(node: _Node, source: str, place: str) -> None:
    if not node.supported:
        raise BadInput(source, f"op {node.id} cannot run on an accelerator, and nothing else is planned",
                       place=f"{place}/supportedOnFpga")  # fmt: skip
    if node.backward:
        raise BadInput(source, f"op {node.id} is of the backward pass: inference graphs are planned",
                       place=f"{place}/isBackwardNode")  # fmt: skip


def _op(node: _Node, raw: dict[str, Any]) -> Op:
    kept = ("supportedOnFpga", "isBackwardNode", "cpuLatency", *(node.__pydantic_extra__ or {}))
    return Op(
        name=str(node.id),
        kind="other",
        module=node.name or "",
        proc_s=node.seconds / 1000,
        memory_bytes=node.size,
        together=None if node.colour is None else str(node.colour),
        given={key: raw[key] for key in kept if raw.get(key) is not None} or None,
    )


def _outputs(file: _File, known: dict[int, int], source: str) -> dict[str, Output]:
    """What each op hands over. All edges of an op must agree on its cost; of sizes the largest counts."""
    outputs: dict[str, Output] = {}
    first: dict[int, int] = {}
    seen: set[tuple[int, int]] = set()
    for i, edge in enumerate(file.edges):
        place = f"/edges/{i}"
        for field, end in (("sourceId", edge.source), ("destId", edge.target)):
            if end not in known:
                raise BadInput(source, f"there is no op {end}", place=f"{place}/{field}")
        if edge.source == edge.target:
            raise BadInput(source, f"op {edge.source} reads its own output: a loop", place=place)
        out = outputs.setdefault(str(edge.source), Output(0.0, edge.cost / 1000))
        at = first.setdefault(edge.source, i)
        if file.edges[at].cost != edge.cost:
            twice = "is there twice" if (edge.source, edge.target) in seen else "leaves an op"
            raise BadInput(source, f"the edge {edge.source} → {edge.target} {twice} with another cost: {edge.cost:g}, "
                           f"but {file.edges[at].cost:g} at /edges/{at}", place=f"{place}/cost",
                           advice="The cost is that of moving the producer's one output.")  # fmt: skip
        if (edge.source, edge.target) not in seen:
            out.readers.append(str(edge.target))
        seen.add((edge.source, edge.target))
        size = edge.size or 0.0
        if size > out.bytes:
            out.bytes = size
            out.given = {} if size.is_integer() else {"size": size}
    return outputs
