"""Average pools whose windows are larger than what they slide over, as compilers that refuse them want them."""

from __future__ import annotations

from mapper.program.model import Program, ProgramOp, TensorType

_POOLS = {f"aten.avg_pool{n}d.default": n for n in (1, 2, 3)}
"""Average pools, with the number of their dimensions."""


def with_windows_inside(program: Program) -> Program:
    """`program` with windows of average pools that reach beyond their padded input cut to it.

    Torch takes such a window where the length of the output is rounded up (`ceil_mode`): there is one then, and it
    averages what lies inside, so that the result is the same.
    """
    ops = tuple(_inside(op, program.type_of(op.args[0])) if op.target in _POOLS else op for op in program.ops)
    return program.model_copy(update={"ops": ops})


def _inside(op: ProgramOp, given: TensorType) -> ProgramOp:
    dimensions = _POOLS[op.target]
    window, stride, padding = (
        _each(op, i, name, dimensions) for i, name in ((1, "kernel_size"), (2, "stride"), (3, "padding"))
    )
    room = [n + 2 * p for n, p in zip(given.shape[-dimensions:], padding or [0] * dimensions, strict=True)]
    cut = [min(one, most) for one, most in zip(window, room, strict=True)]
    if cut == window:
        return op
    kwargs = {name: value for name, value in op.kwargs.items() if name not in ("kernel_size", "stride")}
    return op.model_copy(update={"args": (op.args[0], cut, stride or window, *op.args[3:]), "kwargs": kwargs})


def _each(op: ProgramOp, position: int, name: str, dimensions: int) -> list[int]:
    """An argument that has a number for each dimension, or one for all of them; empty where it is not given."""
    value = op.args[position] if len(op.args) > position else op.kwargs.get(name, [])
    numbers = [value] if isinstance(value, int) else list(value)
    return numbers * dimensions if len(numbers) == 1 else numbers
