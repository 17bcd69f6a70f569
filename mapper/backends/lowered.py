"""Products and convolutions in bfloat16: what torch's autocast does, written into a stage's module once.

Operands of products, convolutions and attention are rounded to bfloat16, and so are the weights among them, when the
stage is loaded. What only moves data, and what is as good with 8 bits, computes in what it is given; all other ops
(sums, powers, softmax) in float32. Tensors at the borders of a stage keep the program's dtypes: no plan, ring or output
is another. (The lists follow those of torch.amp for CPUs: pytorch.org/docs/stable/amp.html.)
"""

from __future__ import annotations

import functools
import operator
from typing import Any

import torch
from torch.fx import GraphModule, Node

from mapper.program.model import Program

_PRODUCTS = """
linear addmm addmv mm mv bmm baddbmm matmul conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d
convolution scaled_dot_product_attention
"""
_MOVES = """
view _unsafe_view reshape flatten unflatten transpose t permute unsqueeze squeeze expand slice select split
split_with_sizes chunk unbind cat stack clone contiguous alias pad constant_pad_nd roll flip repeat index gather
index_select masked_fill dropout
"""
_AS_GOOD = """
relu gelu silu hardtanh hardswish hardsigmoid leaky_relu elu sigmoid tanh neg add sub mul max_pool1d max_pool2d
max_pool3d avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d layer_norm group_norm
native_layer_norm native_batch_norm _native_batch_norm_legit_no_training
"""
_ROUNDED = frozenset(_PRODUCTS.split())
"""Ops that compute in bfloat16."""
_EITHER = frozenset((_MOVES + _AS_GOOD).split())
"""Ops that compute in what they are given; where operands differ, torch takes the wider one. Norms sum in float32."""


def rounded(value: Any) -> Any:
    """`value` in bfloat16 if it is a float32 tensor."""
    if isinstance(value, torch.Tensor) and value.dtype is torch.float32:
        return value.to(torch.bfloat16)
    return value


def widened(value: Any) -> Any:
    """`value` in float32 if it is a bfloat16 tensor."""
    if isinstance(value, torch.Tensor) and value.dtype is torch.bfloat16:
        return value.to(torch.float32)
    return value


def as_dtype(value: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """`value` in `dtype`, itself where that is its own."""
    return value.to(dtype)


def lowered(module: GraphModule, program: Program) -> GraphModule:
    """`module`, which `rebuild` made of `program`, changed to compute with bfloat16 where that pays."""
    graph = module.graph
    made: dict[tuple[Node, Any], Node] = {}

    def cast(value: Node, how: Any) -> Node:
        if (value, how) not in made:
            with graph.inserting_after(value):
                held = how is rounded and value.op == "get_attr"
                made[value, how] = _held(module, value) if held else graph.call_function(how, (value,))
        return made[value, how]

    for node in list(graph.nodes):
        if node.op == "call_function" and (how := _cast_for(node.target)) is not None:
            change = functools.partial(cast, how=how)
            node.args = torch.fx.node.map_arg(node.args, change)
            node.kwargs = torch.fx.node.map_arg(node.kwargs, change)
        elif node.op == "output":
            with graph.inserting_before(node):
                kinds = [getattr(torch, program.type_of(output).dtype) for output in program.outputs]
                node.args = (tuple(
                    graph.call_function(as_dtype, pair) for pair in zip(node.args[0], kinds, strict=True)
                ),)  # fmt: skip
    graph.eliminate_dead_code()
    module.delete_all_unused_submodules()
    used = {node.target for node in graph.nodes if node.op == "get_attr"}
    for name in [name for name, _ in module.named_buffers() if name not in used]:
        delattr(module, name)  # its rounded copy is read instead
    module.recompile()
    return module


def _cast_for(target: Any) -> Any:
    """What operands of an op are turned into; None where they stay."""
    if target is operator.getitem:
        return None
    name = target._schema.name.rpartition("::")[2]
    return rounded if name in _ROUNDED else None if name in _EITHER else widened


def _held(module: GraphModule, weight: Node) -> Node:
    """A node for the rounded copy of the buffer that `weight` reads."""
    name = f"{weight.target}_rounded"
    module.register_buffer(name, rounded(module.get_buffer(str(weight.target))))
    return module.graph.get_attr(name)
