"""From a `Program` to something that computes: a torch.fx.GraphModule, or an interpreter that switches threads."""

from __future__ import annotations

import operator
from collections import ChainMap
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch

from mapper.errors import BadInput
from mapper.program.model import Program, ProgramOp
from mapper.program.views import Reference, Views, views

Tensors = Mapping[str, torch.Tensor]
_WHATEVER_LAYOUT = {"aten.view.default": "aten.reshape.default"}
"""Another version of torch may lay out the result of an op otherwise than the one that traced it (2.6 attention with
an expanded mask, not as 2.13), and a view that was possible is none: reshape is a view where it can be, else a copy."""


def rebuild(program: Program, weights: Tensors) -> torch.fx.GraphModule:
    """A module that computes `program`: called with its inputs in order, it returns a tuple of its outputs.

    `weights` holds a tensor of the stated type for every weight of the program; they are used as they are, not copied.
    Prepared ops are computed here, with the number of threads of the moment, and never again: what the module reads of
    them and of the weights are its buffers. An output that is prepared is the same tensor for every item.

    Raises: BadInput when a weight is missing or of another type, or this torch lacks an op.
    """
    check_weights(program, weights)
    found = views(program)
    root = torch.nn.Module()
    graph = torch.fx.Graph()
    nodes: dict[Reference, torch.fx.Node] = {}
    # never the names from the file: torch.fx pastes them into the source of the function that it compiles
    for i, given in enumerate(program.inputs):
        nodes["input", given.name] = graph.placeholder(f"input_{i}")
    for i, (reference, tensor) in enumerate(held(program, weights, found, found.prepared).items()):
        key = f"{'weight' if reference[0] == 'weight' else 'prepared'}_{i}"
        root.register_buffer(key, tensor)
        nodes[reference] = graph.get_attr(key)
    for op in program.ops:
        if op.name not in found.prepared:
            args = tuple(decode(a, nodes) for a in op.args)
            kwargs = {key: decode(a, nodes) for key, a in op.kwargs.items()}
            nodes["op", op.name] = graph.create_node("call_function", function(op), args, kwargs, name=op.name)
    graph.output(tuple(decode(reference, nodes) for reference in program.outputs))
    return torch.fx.GraphModule(root, graph, class_name="Stage").eval()


def held(program: Program, weights: Tensors, found: Views, names: Collection[str]) -> dict[Reference, torch.Tensor]:
    """What all other ops of `program`, and its outputs, read of its weights and of the ops `names`, which are computed.

    `names` depend on no input. Each value is as its op returns it, strides too; ops that compute the same share one,
    and what is of no further use is dropped on the way.
    """
    values: dict[Reference, Any] = {
        ("weight", weight.name): weights[weight.name].detach() for weight in program.weights
    }
    kept = {reference for op in program.ops if op.name not in names for reference in op.operands()}
    kept.update(reference for output in program.outputs for reference in output.items())
    reads: dict[str, list[Reference]] = {}
    for op in program.ops:
        if op.name in names:
            first = found.first.get(op.name, op.name)
            reads[op.name] = [("op", op.name), *(op.operands() if first == op.name else [("op", first)])]
    last = {reference: name for name, references in reads.items() for reference in references}
    with torch.no_grad():
        for name, references in reads.items():
            first = found.first.get(name, name)
            values["op", name] = _computed(program.op[name], values) if first == name else values["op", first]
            for reference in set(references):
                if last[reference] == name and reference not in kept:
                    del values[reference]
    return values


def _computed(op: ProgramOp, values: Mapping[Reference, Any]) -> Any:
    """What `op` returns for `values`."""
    kwargs = {key: decode(a, values) for key, a in op.kwargs.items()}
    return function(op)(*(decode(a, values) for a in op.args), **kwargs)


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
    namespace, name, overload = _WHATEVER_LAYOUT.get(op.target, op.target).split(".")
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


def decode(argument: Any, values: Mapping[Reference, Any]) -> Any:
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

    The unsplit reference for plans whose stages have different teams: sums are split as the stages split them. What
    depends on no input is computed by each stage that reads it, so with the threads of what reads it; where it is an
    output, with those that `threads_of` its own name gives.
    """
    found = views(program)
    values: dict[Reference, Any] = {
        ("input", given.name): tensor for given, tensor in zip(program.inputs, inputs, strict=True)
    }
    of_team: dict[int, dict[Reference, torch.Tensor]] = {}

    def seen_with(threads: int | None) -> Mapping[Reference, Any]:
        """All values at hand, those without an input as a team of `threads` computes them."""
        if threads is not None and threads != torch.get_num_threads():
            torch.set_num_threads(threads)
        team = torch.get_num_threads()
        if team not in of_team:
            of_team[team] = held(program, weights, found, found.inputless)
        return ChainMap(values, of_team[team])

    before = torch.get_num_threads()
    try:
        for op in program.ops:
            if op.name not in found.inputless:
                own = op.name in found.free or op.target == "getitem"
                values["op", op.name] = _computed(op, seen_with(None if own else threads_of(op.name)))
        return tuple(
            decode(output, seen_with(threads_of(name) if name in found.inputless else None))
            for output in program.outputs
            for name in output.values()
        )
    finally:
        torch.set_num_threads(before)
