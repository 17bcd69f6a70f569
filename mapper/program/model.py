"""A program: the traced ATen ops of a model with their arguments, as plain data.

The file `program.json` is this record. What an op is called (`aten.linear.default`) is looked up in torch's own
operator tables when a program is rebuilt; nothing in a program can name other code. Programs of ONNX models have ops
called `onnx.Conv.v20` (`graph.importers.onnx_program`), which only ONNX runtimes compute.

Arguments are JSON: null, booleans, numbers, strings and lists stand for themselves; everything else is an object of
one key: `{"op": name}`, `{"input": name}` and `{"weight": name}` refer to values, `{"dtype": "float32"}`,
`{"device": "cpu"}`, `{"layout": "strided"}` and `{"memory_format": "contiguous_format"}` are torch's, and
`{"float": "inf"}` is a number that JSON lacks.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from functools import cached_property
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from mapper import jsonio
from mapper.jsonio import Record

SCHEMA = "mapper-program/1"
REFERENCES = ("op", "input", "weight")
ITEM_BYTES = {
    "bool": 1, "uint8": 1, "int8": 1, "int16": 2, "int32": 4, "int64": 8,
    "float16": 2, "bfloat16": 2, "float32": 4, "float64": 8, "complex64": 8, "complex128": 16,
}  # fmt: skip
_TARGET = re.compile(r"getitem|(aten|prims|onnx)\.[A-Za-z_]\w*\.[A-Za-z_]\w*")


class TensorType(Record):
    """Shape, strides (both in elements) and dtype of a tensor."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str

    @model_validator(mode="after")
    def _sane(self) -> Self:
        if self.dtype not in ITEM_BYTES:
            raise ValueError(f"unknown dtype {self.dtype!r}; one of {', '.join(ITEM_BYTES)}")
        if len(self.shape) != len(self.strides) or any(n < 0 for n in self.shape + self.strides):
            raise ValueError("shape and strides must be of one length and not negative")
        return self

    @property
    def item_bytes(self) -> int:
        """Bytes of one element."""
        return ITEM_BYTES[self.dtype]

    @property
    def elements(self) -> int:
        """Number of elements that `shape` has."""
        return math.prod(self.shape)

    @property
    def distinct_shape(self) -> tuple[int, ...]:
        """`shape` with expanded dimensions (stride 0) counted once."""
        return tuple(min(n, 1) if stride == 0 else n for n, stride in zip(self.shape, self.strides, strict=True))

    @property
    def bytes(self) -> int:
        """Bytes that have to be sent for it: each distinct element once."""
        return math.prod(self.distinct_shape) * self.item_bytes

    @property
    def extent_bytes(self) -> int:
        """Bytes from its first to its last element in memory, gaps included."""
        if 0 in self.shape:
            return 0
        last = sum((n - 1) * stride for n, stride in zip(self.shape, self.strides, strict=True))
        return (last + 1) * self.item_bytes


class ProgramOp(Record):
    """One call of a torch operator. `outputs` has a type per returned tensor (None for what is no tensor)."""

    name: str
    target: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = Field(default={})
    outputs: tuple[TensorType | None, ...]
    many: bool = Field(default=False, description="returns a tuple; `getitem` ops take its parts")
    view: bool = Field(default=False, description="the result shares the memory of the first argument")
    module: str = Field(default="", description="the module of the model that it comes from")

    @field_validator("target")
    @classmethod
    def _known(cls, target: str) -> str:
        if not _TARGET.fullmatch(target):
            raise ValueError(f"{target!r} is not an operator of torch's own namespaces (aten, prims) or of ONNX")
        return target

    @model_validator(mode="after")
    def _part(self) -> Self:
        if self.target == "getitem" and not (
            len(self.args) == 2
            and len(list(references(self.args[0], "op"))) == 1
            and type(self.args[1]) is int
            and not self.kwargs
        ):
            raise ValueError("getitem takes an op that returns a tuple, and a number")
        return self

    @property
    def type(self) -> TensorType:
        """The type of its only tensor."""
        only = self.outputs[0] if len(self.outputs) == 1 else None
        if only is None:
            raise ValueError(f"{self.name} returns no single tensor")
        return only

    def references(self, kind: str) -> Iterator[str]:
        """Names of what the arguments refer to, of `kind` "op", "input" or "weight", in order, repeats kept."""
        return references(self.args, kind, self.kwargs)

    def operands(self) -> Iterator[tuple[str, str]]:
        """(kind, name) of every value that the arguments refer to, in their order, repeats kept."""
        return _operands([*self.args, *self.kwargs.values()])


class Input(Record):
    """A tensor that the caller gives for each item."""

    name: str
    type: TensorType


class Weight(Record):
    """A parameter, buffer or constant: same for every item."""

    name: str
    type: TensorType


class Program(Record):
    """Ops in an order in which they can run, what they read, and what they give back."""

    schema_: Literal["mapper-program/1"] = Field(default="mapper-program/1", alias="schema")
    name: str
    inputs: tuple[Input, ...]
    weights: tuple[Weight, ...]
    ops: tuple[ProgramOp, ...]
    outputs: tuple[Any, ...] = Field(description="references, in the order in which the model returns them")
    output_names: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        known: dict[str, dict[str, bool]] = {"input": {}, "weight": {}, "op": {}}
        given = {"input": [x.name for x in self.inputs], "weight": [x.name for x in self.weights]}
        for kind, names in given.items():
            for i, name in enumerate(names):
                if name in known[kind]:
                    raise ValueError(f"/{kind}s/{i}: a second {kind} is called {name!r}")
                known[kind][name] = False
        for i, op in enumerate(self.ops):
            for kind in REFERENCES:
                for name in op.references(kind):
                    if name not in known[kind]:
                        raise ValueError(f"/ops/{i}: {op.name} reads the {kind} {name!r}, which is not there before it")
                    if known[kind][name] != (op.target == "getitem"):
                        raise ValueError(
                            f"/ops/{i}: {op.name} reads {name!r}: only getitem reads tuples, and only those"
                        )
            if op.name in known["op"] or op.name in known["input"]:
                raise ValueError(f"/ops/{i}: a second op or input is called {op.name!r}")
            known["op"][op.name] = op.many
        for i, output in enumerate(self.outputs):
            ((kind, name),) = output.items() if isinstance(output, dict) and len(output) == 1 else (("", ""),)
            if kind not in known or not isinstance(name, str) or known[kind].get(name, True):
                raise ValueError(f"/outputs/{i}: {output!r} refers to no tensor of the program")
        return self

    @cached_property
    def op(self) -> dict[str, ProgramOp]:
        """Ops by name."""
        return {op.name: op for op in self.ops}

    @cached_property
    def input(self) -> dict[str, Input]:
        """Inputs by name."""
        return {given.name: given for given in self.inputs}

    @cached_property
    def weight(self) -> dict[str, Weight]:
        """Weights by name."""
        return {weight.name: weight for weight in self.weights}

    @property
    def is_onnx(self) -> bool:
        """Whether its ops are ONNX's."""
        return any(op.target.startswith("onnx.") for op in self.ops)

    @cached_property
    def sha256(self) -> str:
        """Hash of the program as it stands in its file."""
        return jsonio.sha256(jsonio.plain(self))

    @property
    def weight_bytes(self) -> int:
        """Bytes of all weights, shared ones once."""
        return sum(weight.type.bytes for weight in self.weights)

    def type_of(self, reference: dict[str, str]) -> TensorType:
        """The type of the value that `reference` (such as `{"op": "linear"}`) names."""
        ((kind, name),) = reference.items()
        if kind == "op":
            return self.op[name].type
        return self.input[name].type if kind == "input" else self.weight[name].type


def _operands(argument: Any) -> Iterator[tuple[str, str]]:
    if isinstance(argument, list | tuple):
        for value in argument:
            yield from _operands(value)
    for kind in REFERENCES:
        if isinstance(argument, dict) and len(argument) == 1 and isinstance(argument.get(kind), str):
            yield kind, argument[kind]


def references(argument: Any, kind: str, *more: Any) -> Iterator[str]:
    """Names of what `argument` (and `more`) refer to, of `kind` "op", "input" or "weight"."""
    if isinstance(argument, dict):
        if len(argument) == 1 and kind in argument and isinstance(argument[kind], str):
            yield argument[kind]
        else:
            for value in argument.values():
                yield from references(value, kind)
    elif isinstance(argument, list | tuple):
        for value in argument:
            yield from references(value, kind)
    for value in more:
        yield from references(value, kind)
