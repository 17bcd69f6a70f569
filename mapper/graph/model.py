"""The costed graph: what each op computes, reads and writes, and which tensors flow between ops.

Graph inputs and outputs are no ops here: the process that feeds and collects hands them over, at no cost to the
stages (problem.md, *feeder*). Free ops of the program (views, constants) are folded into the ops that read them;
prepared ones, which depend on weights alone, are weights of these (`mapper/program/views.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Literal, Self

import networkx as nx
from pydantic import Field, PrivateAttr, model_validator

from mapper import jsonio
from mapper.jsonio import Record
from mapper.program.model import Program

SCHEMA = "mapper-graph/1"

Kind = Literal[
    "matmul",
    "conv",
    "attention",
    "softmax",
    "normalization",
    "elementwise",
    "transcendental",
    "pool",
    "reduce",
    "embedding",
    "copy",
    "none",
    "other",
]
"""Sort of work, for the cost model; `other` in imported graphs, whose ops bring their own times."""

Scalar = bool | int | float | str


class WeightUse(Record):
    """A weight that an op reads: `touched_bytes` of its `bytes` for an item (an embedding reads some rows).

    What is prepared (computed once, from other weights) is a weight that is called as its op.
    """

    name: str
    bytes: int = Field(ge=0)
    touched_bytes: int = Field(ge=0)


class Op(Record):
    """A node. `elements` are those of its result; `nodes` counts the program ops that run with it for each item,
    itself included.

    Where a file gives costs: `proc_s` seconds of an item on one unit (`backward_s` of its backward pass, which is only
    kept), `memory_bytes` that the op takes there. Ops of one class `together` must share a stage. `given` is what
    else the file says of it; exporters write it back.
    """

    name: str
    kind: Kind
    target: str = ""
    module: str = ""
    flop: float = Field(default=0, ge=0)
    elements: int = Field(default=0, ge=0)
    read_bytes: int = Field(default=0, ge=0)
    write_bytes: int = Field(default=0, ge=0)
    weights: tuple[WeightUse, ...] = ()
    nodes: int = Field(default=1, ge=1)
    proc_s: float | None = Field(default=None, ge=0)
    backward_s: float | None = Field(default=None, ge=0)
    memory_bytes: float | None = Field(default=None, ge=0)
    together: str | None = None
    given: dict[str, Scalar] | None = None

    @property
    def touched_bytes(self) -> int:
        """Weight bytes that it reads for an item."""
        return sum(weight.touched_bytes for weight in self.weights)

    @property
    def footprint_bytes(self) -> int:
        """Activation bytes that it reads and writes."""
        return self.read_bytes + self.write_bytes


def touched_by(ops: Iterable[Op]) -> int:
    """Distinct weight bytes that `ops` read for an item."""
    return sum({(w.name, w.touched_bytes): w.touched_bytes for op in ops for w in op.weights}.values())


class Tensor(Record):
    """An edge to each of `readers`: one distinct tensor of `bytes` bytes, however many ops read it.

    `comm_s`, where a file gives it: seconds that handing it over costs each side.
    """

    name: str
    producer: str
    readers: tuple[str, ...]
    bytes: int = Field(ge=0)
    comm_s: float | None = Field(default=None, ge=0)
    given: dict[str, Scalar] | None = None


class Boundary(Record):
    """A tensor between the feeder and `ops`: the readers of a model input, or the producer of an output."""

    name: str
    ops: tuple[str, ...]
    bytes: int = Field(ge=0)


class Graph(Record):
    """Ops in an order in which they can run, and the tensors between them. `digraph` is it as networkx has it."""

    schema_: Literal["mapper-graph/1"] = Field(default="mapper-graph/1", alias="schema")
    name: str
    ops: tuple[Op, ...] = Field(min_length=1)
    tensors: tuple[Tensor, ...]
    inputs: tuple[Boundary, ...] = ()
    outputs: tuple[Boundary, ...] = ()
    dtype: str = "float32"
    program_sha256: str | None = None
    given: dict[str, Scalar] | None = None
    _program: Program | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        position = {op.name: i for i, op in enumerate(self.ops)}
        if len(position) != len(self.ops):
            raise ValueError(f"/ops: two ops have one name, {_twice(op.name for op in self.ops)!r}")
        if len({tensor.name for tensor in self.tensors}) != len(self.tensors):
            raise ValueError(f"/tensors: two tensors have one name, {_twice(t.name for t in self.tensors)!r}")
        if len({op.proc_s is None for op in self.ops}) > 1:
            raise ValueError("/ops: some ops have proc_s and some have not")
        for i, tensor in enumerate(self.tensors):
            for name in (tensor.producer, *tensor.readers):
                if name not in position:
                    raise ValueError(f"/tensors/{i}: unknown op {name!r}")
            if any(position[reader] <= position[tensor.producer] for reader in tensor.readers):
                raise ValueError(
                    f"/tensors/{i}: {tensor.name!r} is read before it is produced: ops must be in an order "
                    "in which they can run, without cycles"
                )
        return self

    @property
    def costed(self) -> bool:
        """Whether its ops bring their own times."""
        return self.ops[0].proc_s is not None

    @property
    def program(self) -> Program | None:
        """The program that it was made from, None where it was imported."""
        return self._program

    def with_program(self, program: Program) -> Self:
        """The same graph, with the program that it was made from."""
        copy = self.model_copy()
        copy._program = program
        return copy

    @cached_property
    def position(self) -> dict[str, int]:
        """The index of each op, by name."""
        return {op.name: i for i, op in enumerate(self.ops)}

    @cached_property
    def digraph(self) -> nx.DiGraph:
        """Nodes are op names with attribute `op`; an edge has the list `tensors` of those that flow along it."""
        out = nx.DiGraph(name=self.name)
        for op in self.ops:
            out.add_node(op.name, op=op)
        for tensor in self.tensors:
            for reader in tensor.readers:
                if not out.has_edge(tensor.producer, reader):
                    out.add_edge(tensor.producer, reader, tensors=[])
                out.edges[tensor.producer, reader]["tensors"].append(tensor)
        return out

    @cached_property
    def weights(self) -> dict[str, int]:
        """Bytes of each distinct weight, by name."""
        return {weight.name: weight.bytes for op in self.ops for weight in op.weights}

    @property
    def flop(self) -> float:
        """Arithmetic work of an item, FLOP."""
        return sum(op.flop for op in self.ops)

    @property
    def weight_bytes(self) -> int:
        """Bytes of all weights, shared ones once."""
        return sum(self.weights.values())

    @cached_property
    def sha256(self) -> str:
        """The identity in plans: the hash of the program, or of the graph where it has none or brings its own times."""
        return (None if self.costed else self.program_sha256) or jsonio.sha256(jsonio.plain(self))


def _twice(names: Iterable[str]) -> str:
    """The first of `names` that is there a second time."""
    seen: set[str] = set()
    return next(name for name in names if name in seen or seen.add(name))  # type: ignore[func-returns-value]
