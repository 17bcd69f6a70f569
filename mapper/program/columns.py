"""A large op split into columns: a rewrite of the program, so that stages can share what one of them would bind.

The op `y = x·Wᵀ + b` becomes k ops of the same sort, each with a part of the rows of W and b (the *columns* of y), and
a concatenation that keeps the op's name: who reads y reads the same values as before. A convolution is split by its
output channels. Sums are the same as those of the whole op; a library may add their terms in another order for
another width.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mapper.errors import BadInput, UsageError, one_of
from mapper.program.model import Program, ProgramOp, TensorType


@dataclass(frozen=True)
class _Form:
    """Where an operator has its weight and its bias, which dimension of the weight makes columns, and which of the
    result they are."""

    weight: int
    bias: int | None
    rows: int
    columns: int


_FORMS = {
    "aten.linear.default": _Form(weight=1, bias=2, rows=0, columns=-1),
    "aten.addmm.default": _Form(weight=2, bias=0, rows=1, columns=-1),
    "aten.mm.default": _Form(weight=1, bias=None, rows=1, columns=-1),
    "aten.matmul.default": _Form(weight=1, bias=None, rows=1, columns=-1),
    "aten.conv1d.default": _Form(weight=1, bias=2, rows=0, columns=1),
    "aten.conv2d.default": _Form(weight=1, bias=2, rows=0, columns=1),
    "aten.conv3d.default": _Form(weight=1, bias=2, rows=0, columns=1),
}
_GROUPS = 6
"""The argument of a convolution that says how many groups its channels are in."""


def most_columns(program: Program, name: str) -> int:
    """Into how many columns the op `name` can be split: 1 where it cannot be."""
    op = program.op.get(name)
    form = _form(program, op) if op is not None else None
    return 1 if op is None or form is None else op.type.shape[form.columns]


def with_columns(program: Program, columns: Mapping[str, int]) -> Program:
    """`program` with each op of `columns` split into so many columns, as even as can be.

    Raises: UsageError for an op that is not there, cannot be split, or has fewer columns.
    """
    for name, count in columns.items():
        if name not in program.op:
            raise UsageError(f"{program.name} has no op {name!r}", advice=one_of(name, program.op))
        most = most_columns(program, name)
        if most == 1:
            raise UsageError(
                f"{name} ({program.op[name].target}) cannot be split into columns",
                advice="Products with one weight and convolutions of one group can be.",
            )
        if not 1 <= count <= most:
            raise UsageError(f"{name} has {most} columns: it can be split into 2 to {most}, not into {count}")
    wanted = {name: count for name, count in columns.items() if count > 1}
    if not wanted:
        return program
    ops = [new for op in program.ops for new in (_split(program, op, wanted[op.name]) if op.name in wanted else [op])]
    names = {op.name for op in ops} | {given.name for given in program.inputs}
    if len(names) < len(ops) + len(program.inputs):
        raise BadInput(program.name, f"splitting {', '.join(wanted)} makes a name that another op has already")
    return program.model_copy(update={"ops": tuple(ops)})


def _form(program: Program, op: ProgramOp) -> _Form | None:
    """How `op` can be split, or None: its weight must be one of the program, used whole."""
    form = _FORMS.get(op.target)
    if form is None or op.kwargs or len(op.outputs) != 1 or len(op.args) <= form.weight:
        return None
    weight = _weight(program, op.args[form.weight])
    grouped = len(op.args) > _GROUPS and op.args[_GROUPS] != 1
    if weight is None or len(weight.shape) <= form.rows or grouped:
        return None
    bias = op.args[form.bias] if form.bias is not None and len(op.args) > form.bias else None
    if bias is not None and _weight(program, bias) is None:
        return None
    return form if weight.shape[form.rows] == op.type.shape[form.columns] else None


def _weight(program: Program, argument: Any) -> TensorType | None:
    """The type of the weight that `argument` refers to."""
    if not isinstance(argument, Mapping) or "weight" not in argument:
        return None
    return program.weight[argument["weight"]].type


def _split(program: Program, op: ProgramOp, count: int) -> list[ProgramOp]:
    """The ops that take the place of `op`: parts of its weights, the columns, and their concatenation."""
    form = _form(program, op)
    assert form is not None, "asked only for what can be split"
    width = op.type.shape[form.columns]
    borders = [width * i // count for i in range(count + 1)]
    made: list[ProgramOp] = []
    pieces: list[ProgramOp] = []
    for i, (begin, end) in enumerate(itertools.pairwise(borders)):
        arguments, name = list(op.args), f"{op.name}_columns_{i}"
        for place, dimension, what in ((form.weight, form.rows, "weight"), (form.bias, 0, "bias")):
            if place is not None and len(arguments) > place and arguments[place] is not None:
                part = _part(program, op, arguments[place]["weight"], dimension, begin, end, f"{name}_{what}")
                arguments[place] = {"op": part.name}
                made.append(part)
        shape = list(op.type.shape)
        shape[form.columns] = end - begin
        kind = TensorType(shape=tuple(shape), strides=_strides(op.type, shape), dtype=op.type.dtype)
        pieces.append(op.model_copy(update={"name": name, "args": tuple(arguments), "outputs": (kind,)}))
    joined = ProgramOp(
        name=op.name, target="aten.cat.default", outputs=op.outputs, module=op.module,
        args=([{"op": piece.name} for piece in pieces], form.columns),
    )  # fmt: skip
    return [*made, *pieces, joined]


def _part(
    program: Program, op: ProgramOp, weight: str, dimension: int, begin: int, end: int, name: str
) -> ProgramOp:  # fmt: skip
    """The op that shows `begin` to `end` of a weight's `dimension`."""
    whole = program.weight[weight].type
    shape = tuple(end - begin if i == dimension else n for i, n in enumerate(whole.shape))
    return ProgramOp(
        name=name, target="aten.slice.Tensor", args=({"weight": weight}, dimension, begin, end), view=True,
        outputs=(TensorType(shape=shape, strides=whole.strides, dtype=whole.dtype),), module=op.module,
    )  # fmt: skip


def _strides(whole: TensorType, shape: list[int]) -> tuple[int, ...]:
    """Strides of a dense tensor of `shape` whose dimensions lie in memory in the order of those of `whole`."""
    strides, step = [0] * len(shape), 1
    for i in sorted(range(len(shape)), key=lambda i: (whole.strides[i], -i)):
        strides[i] = step
        step *= shape[i]
    return tuple(strides)
