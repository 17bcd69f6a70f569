"""The family of models behind the map: equal dense layers, one after another, so that a model is known by its weights
and by the rows that it multiplies them with."""

from __future__ import annotations

import math

from mapper.graph.measure import graph_of
from mapper.graph.model import Graph
from mapper.program.model import ITEM_BYTES, Input, Program, ProgramOp, TensorType, Weight

DTYPE = "float32"
LAYERS = 96
"""Layers of a model of the map, unless others are asked for: as many as there are cores on the largest machine."""


def dense(layers: int, rows: int, width: int) -> Graph:
    """The graph of `layers` products of `rows` × `width` by `width` × `width`, without biases.

    An item reads 4 · layers · width² bytes of weights, with `flop_per_byte(rows)` work for each; layers hand each other
    4 · rows · width bytes.
    """
    passed = _matrix(rows, width)
    reads = [{"input": "x"}, *({"op": f"layer{i}"} for i in range(layers))]
    return graph_of(Program(
        name=f"{layers} dense layers", inputs=(Input(name="x", type=passed),),
        weights=tuple(Weight(name=f"weight{i}", type=_matrix(width, width)) for i in range(layers)),
        ops=tuple(
            ProgramOp(name=f"layer{i}", target="aten.linear.default", args=(reads[i], {"weight": f"weight{i}"}),
                      outputs=(passed,))
            for i in range(layers)
        ),
        outputs=(reads[-1],), output_names=("y",),
    ))  # fmt: skip


def flop_per_byte(rows: int) -> float:
    """Work per weight byte of an item of a dense layer: a multiply-add, two FLOP, of each weight and row."""
    return 2 * rows / ITEM_BYTES[DTYPE]


def width_for(weight_bytes: float, layers: int) -> int:
    """The width at which `layers` have about `weight_bytes` together; at least 1."""
    return max(1, round(math.sqrt(weight_bytes / layers / ITEM_BYTES[DTYPE])))


def _matrix(rows: int, columns: int) -> TensorType:
    return TensorType(shape=(rows, columns), strides=(columns, 1), dtype=DTYPE)
