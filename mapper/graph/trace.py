"""`mapper.trace`: from a torch module to its graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mapper.graph.measure import graph_of
from mapper.graph.model import Graph

if TYPE_CHECKING:
    import torch


def trace(model: torch.nn.Module, example_inputs: Any, *, name: str | None = None) -> Graph:
    """The costed graph of `model` for items like `example_inputs`; its `.program` is the traced program.

    `example_inputs` is a tensor, a tuple of positional arguments, or a dict of keyword arguments. Only shapes and
    dtypes are used.

    >>> import torch
    >>> from torch import nn
    >>> graph = trace(nn.Sequential(nn.Linear(8, 16), nn.ReLU()).eval(), torch.zeros(2, 8))
    >>> [(op.name, op.kind, op.flop) for op in graph.ops]
    [('linear', 'matmul', 512.0), ('relu', 'elementwise', 32.0)]

    Raises: BadInput when the model cannot be exported (with the operator and the line of the model).
    """
    from mapper.program.trace import trace_program

    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}
    if isinstance(example_inputs, Mapping):
        kwargs = dict(example_inputs)
    elif isinstance(example_inputs, tuple | list):
        args = tuple(example_inputs)
    else:
        args = (example_inputs,)
    program, _ = trace_program(model, args, kwargs, name=name or type(model).__name__)
    return graph_of(program)
