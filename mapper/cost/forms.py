"""What an execution path needs to know of an op beside FLOP and bytes: its sort, and what it can be split over.

Derived from the op's program where the graph has one; an op of an imported graph is of the sort that its kind says,
and counts as one product, one image, one group, with as many rows as elements.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from mapper.graph.model import Graph, Op
from mapper.program.model import Program, ProgramOp, TensorType

GEMV_ROWS = 4
"""A product with at most so many rows reads its second factor once for hardly any arithmetic: matrix times vector."""
STEM_CHANNELS = 4
"""A convolution with at most so many input channels leaves most of a vector unit's lanes empty."""
_SORTS = {
    "bmm": "matmul.batched", "baddbmm": "matmul.batched", "einsum": "matmul.batched",
    "layer_norm": "normalization.layer", "native_layer_norm": "normalization.layer",
    "rms_norm": "normalization.layer", "_fused_rms_norm": "normalization.layer",
    "group_norm": "normalization.group", "native_group_norm": "normalization.group",
    "batch_norm": "normalization.batch", "_native_batch_norm_legit_no_training": "normalization.batch",
    "gelu": "transcendental.gelu", "tanh": "transcendental.tanh", "silu": "transcendental.silu",
    "sigmoid": "transcendental.sigmoid", "hardswish": "transcendental.hardswish", "exp": "transcendental.exp",
    "pow": "transcendental.pow",
    "max_pool2d": "pool.max", "max_pool2d_with_indices": "pool.max", "avg_pool2d": "pool.average",
    "adaptive_avg_pool2d": "reduce.adaptive", "adaptive_max_pool2d": "reduce.adaptive",
    "cat": "copy.cat", "stack": "copy.cat", "roll": "copy.cat", "pad": "copy.cat", "constant_pad_nd": "copy.cat",
}  # fmt: skip
"""Sort by operator name, where it is finer than the kind. What comes before the dot is the kind."""


@dataclass(frozen=True)
class Form:
    """An op as a path sees it.

    A product is `products` times rows × inner by inner × columns. A convolution has `images`, `groups` of channels and
    `lines` of its output (its height); as a product, a group's `rows` are output channels, `inner` input channels times
    kernel, `columns` output pixels. Softmax and normalization work on `rows` of `columns` elements. `pieces` are the
    calls of an attention that are split over the team. `units` is what the op's time is proportional to: FLOP of
    products, elements of the rest: of the operand of a reduction, and in pooling each as often as a window has it.
    """

    sort: str
    kind: str
    units: float
    elements: int
    rows: int = 1
    inner: int = 1
    columns: int = 1
    products: int = 1
    images: int = 1
    groups: int = 1
    lines: int = 1
    pieces: int = 1
    unfolded: bool = False

    @property
    def products_work(self) -> float:
        """Multiply-adds of one of its products."""
        return self.units / 2 / max(1, self.products) / max(1, self.groups) / max(1, self.images)


def forms(graph: Graph) -> tuple[Form, ...]:
    """The form of each op of `graph`, in its order."""
    program = graph.program
    return tuple(form(op, program) for op in graph.ops)


def form(op: Op, program: Program | None = None) -> Form:
    """The form of `op`; `program` is what its graph was made from, None where there is none."""
    by_flop = op.kind in ("matmul", "conv", "attention")
    units = op.flop if by_flop or op.kind in ("pool", "reduce") else float(op.elements)
    if op.kind == "none":
        units = 0.0
    unknown = max(1, op.elements)
    base = Form(_SORTS.get(_name(op.target), op.kind), op.kind, units, op.elements, rows=unknown, pieces=unknown)
    source = program.op.get(op.name) if program is not None else None
    if source is None:
        return base
    assert program is not None
    operands = [program.type_of({kind: name}) for kind, name in _tensors(program, source)]
    result = next((t for t in source.outputs if t is not None), None)
    if result is None or not operands:
        return base
    return _shaped(base, source, operands, result)


def _tensors(program: Program, op: ProgramOp) -> Iterator[tuple[str, str]]:
    return ((kind, name) for kind, name in op.operands() if not (kind == "op" and program.op[name].many))


def _name(target: str) -> str:
    return target.split(".")[1] if "." in target else target


def _shaped(base: Form, op: ProgramOp, operands: list[TensorType], result: TensorType) -> Form:
    """`base` with the sizes that the types say."""
    match base.kind:
        case "matmul":
            return _product(base, op, operands, result)
        case "conv":
            return _convolution(base, op, operands, result)
        case "attention":
            return _attention(base, operands)
        case "softmax" | "normalization":
            return _rows(base, op, result)
        case "pool":
            return replace(base, units=float(result.elements * _window(op, operands[0])))
        case "copy" | "elementwise":
            along = {_innermost(t) for t in (*operands, result) if t.elements >= result.elements > 1}
            strided = base.sort == base.kind and len(along - {None}) > 1
            return replace(base, sort=f"{base.kind}.strided") if strided else base
        case _:
            return base


def _product(base: Form, op: ProgramOp, operands: list[TensorType], result: TensorType) -> Form:
    """Rows × inner by inner × columns. `matmul` of two matrices with leading dimensions is batched."""
    first = operands[1] if _name(op.target) in ("addmm", "baddbmm", "addmv") and len(operands) > 2 else operands[0]
    inner = first.shape[-1] if first.shape else 1
    columns = result.shape[-1] if result.shape else 1
    batched = base.sort == "matmul.batched" or (
        _name(op.target) == "matmul" and len(operands[-1].shape) > 2 and len(first.shape) > 2
    )
    products = math.prod(result.shape[:-2]) if batched else 1
    rows = max(1, result.elements // max(1, columns * products))
    sort = "matmul.batched" if batched else "matmul.vector" if rows <= GEMV_ROWS else "matmul"
    return replace(base, sort=sort, rows=rows, inner=inner, columns=columns, products=max(1, products))


def _convolution(base: Form, op: ProgramOp, operands: list[TensorType], result: TensorType) -> Form:
    """Images, groups and the product of one of them."""
    data, kernel = operands[0].shape, operands[1].shape
    transposed = "transpose" in op.target or ("convolution" in op.target and len(op.args) > 6 and op.args[6] is True)
    channels = data[1] if len(data) > 1 else 1
    groups = max(1, channels // max(1, kernel[0 if transposed else 1])) if not transposed else 1
    pixels = math.prod(result.shape[2:])
    window = math.prod(kernel[2:])
    if transposed:
        sort = "conv.transposed"
    elif groups > 1:
        sort = "conv.depthwise" if kernel[1] == 1 else "conv.grouped"
    elif window == 1:
        sort = "conv.pointwise"
    else:
        sort = "conv.stem" if channels <= STEM_CHANNELS else "conv"
    return replace(
        base, sort=sort, images=data[0], groups=groups, rows=max(1, result.shape[1] // groups),
        inner=max(1, math.prod(kernel[1:])), columns=max(1, pixels), lines=(*result.shape, 1, 1)[2],
        unfolded=window > 1 or pixels != math.prod(data[2:]),
    )  # fmt: skip


def _attention(base: Form, operands: list[TensorType]) -> Form:
    """Batch × heads × slices of 32, 64 or 256 queries: cpu_flash_attention of FlashAttentionKernel.cpp."""
    query, masked = operands[0], len(operands) > 3
    length = query.shape[-2] if len(query.shape) > 1 else 1
    split = 256 if length >= 768 else 64 if length >= 192 else 32
    pieces = math.prod(query.shape[:-2]) * math.ceil(length / split)
    return replace(base, sort="attention.masked" if masked else base.sort, rows=length, pieces=max(1, pieces))


def _window(op: ProgramOp, data: TensorType) -> int:
    """Elements of the operand that a pooling looks at for each of the result: no more than a plane has."""
    given = op.args[1] if len(op.args) > 1 else 1
    sizes = (given, given) if isinstance(given, int) else tuple(given)
    return max(1, math.prod(min(n, side) for n, side in zip(sizes[-2:], data.shape[-2:], strict=False)))


def _rows(base: Form, op: ProgramOp, result: TensorType) -> Form:
    """Rows that are computed one by one: planes of channels in a batch norm, else all dimensions but the last."""
    if base.sort == "normalization.batch":
        rows = math.prod(result.shape[:2])
    elif base.sort == "normalization.group":
        groups = next((a for a in op.args if isinstance(a, int) and not isinstance(a, bool)), 1)
        rows = result.shape[0] * max(1, groups)
    else:
        rows = math.prod(result.shape[:-1])
    return replace(base, rows=max(1, rows), columns=max(1, result.elements // max(1, rows)))


def _innermost(kind: TensorType) -> int | None:
    """The dimension along which neighbours lie in memory; where tensors differ in it, one of them is read in leaps."""
    strides = [(stride, -dim) for dim, (n, stride) in enumerate(zip(kind.shape, kind.strides, strict=True)) if n > 1]
    return -min(strides)[1] if strides and min(strides)[0] else None
