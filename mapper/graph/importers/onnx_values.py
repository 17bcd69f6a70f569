"""What the tensors of an ONNX model are: shapes with every symbolic size decided, bytes, and which are constants."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mapper.errors import BadInput

_BITS = {1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64, 14: 64, 15: 128, 16: 16,
         17: 8, 18: 8, 19: 8, 20: 8, 21: 4, 22: 4, 23: 4}  # fmt: skip
"""Bits of an element by ONNX's numbers of data types (`TensorProto.DataType`)."""
_NAMES = {1: "float32", 3: "int8", 2: "uint8", 6: "int32", 7: "int64", 9: "bool", 10: "float16", 11: "float64",
          16: "bfloat16"}  # fmt: skip


@dataclass(frozen=True)
class Value:
    """A tensor: its shape, and ONNX's number of its data type."""

    shape: tuple[int, ...]
    type: int

    @property
    def elements(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """Its size."""
        return -(-self.elements * _BITS.get(self.type, 32) // 8)

    @property
    def dtype(self) -> str:
        """Its data type by the name that plans use."""
        return _NAMES.get(self.type, f"onnx:{self.type}")


def sized(model: Any, sizes: Mapping[str, int | None], source: str) -> Any:
    """`model` with every symbolic size of its inputs decided: `batch` and `length` by `sizes`, others refused.

    A symbolic first size is the batch; one whose name says `seq` or `len` is the length.

    Raises: BadInput naming the input and the size that nobody decides.
    """
    weights = {initializer.name for initializer in model.graph.initializer}
    for given in model.graph.input:
        if given.name in weights:
            continue
        for axis, dim in enumerate(given.type.tensor_type.shape.dim):
            if dim.dim_value > 0:
                continue
            name = dim.dim_param.lower()
            meant = "length" if "seq" in name or "len" in name else "batch" if axis == 0 or "batch" in name else None
            chosen = sizes.get(meant) if meant else None
            if chosen is None:
                advice = "Give it: --length N." if meant == "length" else "Export the model with this size fixed."
                raise BadInput(source, f"size {axis} of input {given.name!r} is open ({dim.dim_param or 'no name'})",
                               place=f"input {given.name}", advice=advice)  # fmt: skip
            dim.Clear()
            dim.dim_value = chosen
    del model.graph.value_info[:]  # found again from the inputs
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    return model


def values_of(model: Any) -> dict[str, Value]:
    """Every tensor of `model` whose shape is known: inputs, weights and what shape inference found."""
    found = {}
    for value in (*model.graph.input, *model.graph.value_info, *model.graph.output):
        tensor = value.type.tensor_type
        dims = [dim.dim_value if dim.HasField("dim_value") else -1 for dim in tensor.shape.dim]
        if tensor.HasField("shape") and min(dims, default=0) >= 0:
            found[value.name] = Value(tuple(dims), tensor.elem_type)
    for weight in model.graph.initializer:
        found[weight.name] = Value(tuple(weight.dims), weight.data_type)
    return found
