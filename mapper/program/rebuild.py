"""From a `Program` to something that computes: a torch.fx.GraphModule, or an interpreter that switches threads."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from mapper.errors import BadInput
from mapper.program.model import Program, ProgramOp

Tensors = Mapping[str, torch.Tensor]


def rebuild(program: Program, weights: Tensors) -> torch.fx.GraphModule:
    """A module that computes `program`: called with its inputs in order, it returns a tuple of its outputs.

    `weights` holds a tensor of the stated type for every weight of the program; they are used as they are, not copied.

    Raises: BadInput when a weight is missing or of another type, or this torch lacks an op.
    """
    check_weights(program, weights)
    attribute = {weight.name: f"weight_{i}" for i, weight in enumerate(program.weights)}
    graph = torch.fx.Graph()
    nodes: dict[tuple[str, str], torch.fx.Node] = {}
    for i, given in enumerate(program.inputs):
        # never the name from the file: torch.fx pastes it into the source of the function that it compiles
        nodes["input", given.name] = graph.placeholder(f"input_{i}")
    for name in attribute:
        nodes["weight", name] = graph.get_attr(attribute[name])
    for op in program.ops:
        args = tuple(decode(a, nodes) for a in op.args)
        kwargs = {key: decode(a, nodes) for key, a in op.kwargs.items()}
        nodes["op", op.name] = graph.create_node("call_function", function(op), args, kwargs, name=op.name)
    graph.output(tuple(decode(reference, nodes) for reference in program.outputs))
    root = torch.nn.Module()
    for name, key in attribute.items():
        root.register_buffer(key, weights[name].detach())
    return torch.fx.GraphModule(root, graph, class_name="Stage").eval()


def check_weights(program: Program, weights: Tensors) -> None:
    """Refuses `weights` that are not what `program` says."""
    for weight in program.weights:
        if weight.name not in weights:
            raise BadInput(program.name, f"the weight {weight.name!r} is missing")
        given = weights[weight.name]
        if tuple(given.shape) != weight.type.shape or str(given.dtype) != f"torch.{weight.type.dtype}":
            expected = f"{weight.type.dtype}{list(weight.type.shape)}"
            raise BadInput(
                program.name, f"the weight {weight.name!r} is {given.dtype}{list(given.shape)}, not {expected}"
            )


def function(op: ProgramOp) -> Callable[..., Any]:
    """The torch operator that `op` names. Only torch's own tables are searched, and only for operators that compute:
    a program may come from a stranger, and torch has operators that write files or change their arguments."""
    if op.target == "getitem":
        return operator.getitem
    namespace, name, overload = op.target.split(".")
    try:
        found: Callable[..., Any] = getattr(getattr(getattr(torch.ops, namespace), name), overload)
    except AttributeError:
        raise BadInput(
            op.name,
            f"torch {torch.__version__} has no operator {op.target}",
            advice="Run it with the torch version that made the bundle, or a newer one.",
        ) from None
    if not _computes(found):
        raise BadInput(op.name, f"{op.target} is no operator that only computes tensors from its arguments")
    return found


def _computes(found: Any) -> bool:
    """Whether `found` is an operator of torch's dispatcher that neither changes its arguments nor opens files."""
    if not isinstance(found, torch._ops.OpOverload):
        return False
    schema = found._schema
    registered = f"{schema.name}.{schema.overload_name}" if schema.overload_name else schema.name
    return (
        torch._C._dispatch_has_kernel(registered)
        and not schema.is_mutable
        and all(argument.name != "filename" for argument in schema.arguments)
    )


def decode(argument: Any, values: Mapping[tuple[str, str], Any]) -> Any:
    """`argument` as torch takes it; references are looked up in `values` by (kind, name)."""
    if isinstance(argument, list | tuple):
        return [decode(a, values) for a in argument]
    if not isinstance(argument, dict):
        return argument
    ((kind, name),) = argument.items()
    if kind in ("op", "input", "weight"):
        return values[kind, name]
    if kind == "float":
        return float(name)
    if kind == "device":
        return torch.device(name)
    if kind in ("dtype", "layout", "memory_format"):
        found = getattr(torch, name, None)
        if isinstance(found, getattr(torch, kind)):
            return found
    raise BadInput("program", f"{argument!r} is no argument that mapper knows")


def interpret(
    program: Program, weights: Tensors, inputs: Sequence[torch.Tensor], threads_of: Callable[[str], int | None]
) -> tuple[torch.Tensor, ...]:
    """Computes `program` op by op, each with the number of threads that `threads_of` its name gives (None: as is).

    The unsplit reference for plans whose stages have different teams: sums are split as the stages split them.
    """
    values: dict[tuple[str, str], Any] = {("weight", name): tensor for name, tensor in weights.items()}
    values |= {("input", given.name): tensor for given, tensor in zip(program.inputs, inputs, strict=True)}
    before = torch.get_num_threads()
    try:
        for op in program.ops:
            threads = threads_of(op.name)
            if threads is not None and threads != torch.get_num_threads():
                torch.set_num_threads(threads)
            args = [decode(a, values) for a in op.args]
            values["op", op.name] = function(op)(*args, **{k: decode(a, values) for k, a in op.kwargs.items()})
    finally:
        torch.set_num_threads(before)
    return tuple(decode(reference, values) for reference in program.outputs)
