"""From a program of torch.export to ours."""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mapper.errors import BadInput
from mapper.program.model import Input, Program, ProgramOp, TensorType, Weight

Tensors = dict[str, torch.Tensor]
NAMESPACES = ("aten", "prims")
"""torch's own operators, which every installation of it has."""
TORCH = str(Path(torch.__file__).parent) + "/"


def read_exported(exported: Any, first_names: Mapping[str, str], name: str) -> tuple[Program, Tensors]:
    """The program called `name` that `exported` (an ExportedProgram without decompositions) is, and its weights.

    `first_names` gives for a weight's name the one to use for it, the same for all names of one tensor.

    Raises: BadInput, with operator and line of the model, for what cannot be mapped.
    """
    return _Reader(exported, first_names, name).read()


class _Reader:
    def __init__(self, exported: Any, first_names: Mapping[str, str], name: str) -> None:
        self.exported = exported
        self.first = first_names
        self.name = name
        self.reference: dict[str, dict[str, str]] = {}
        self.inputs: list[Input] = []
        self.weights: dict[str, Weight] = {}
        self.tensors: Tensors = {}
        self.ops: list[ProgramOp] = []

    def read(self) -> tuple[Program, Tensors]:
        specs = {spec.arg.name: spec for spec in self.exported.graph_signature.input_specs if hasattr(spec.arg, "name")}
        self._refuse_mutations()
        graph = self.exported.graph_module.graph
        graph.eliminate_dead_code(is_impure_node=lambda node: node.op in ("placeholder", "output"))
        for node in graph.nodes:
            if node.op == "placeholder":
                self._placeholder(node, specs[node.name])
            elif node.op == "call_function":
                self.reference[node.name] = {"op": node.name}
                self.ops.append(self._op(node))
            elif node.op == "get_attr":
                self._refuse_control_flow(node)
        output = next(node for node in graph.nodes if node.op == "output")
        outputs, names = self._outputs(output)
        used = {name for op in self.ops for name in op.references("weight")} | {
            o["weight"] for o in outputs if "weight" in o
        }
        weights = tuple(weight for weight in self.weights.values() if weight.name in used)
        program = Program(
            name=self.name,
            inputs=tuple(self.inputs),
            weights=weights,
            ops=tuple(self.ops),
            outputs=tuple(outputs),
            output_names=tuple(names),
        )
        return program, {weight.name: self.tensors[weight.name] for weight in weights}

    def _refuse_mutations(self) -> None:
        """Refuses a model that writes to a buffer or to its input, which would change the next item's result."""
        nodes = {node.name: node for node in self.exported.graph_module.graph.nodes}
        for spec in self.exported.graph_signature.output_specs:
            if spec.kind.name in ("USER_OUTPUT", "TOKEN"):
                continue
            what, advice = "its own state", "Only models whose items are independent of each other can be mapped."
            if spec.kind.name == "USER_INPUT_MUTATION":
                what, advice = "what it is given", "Let it work on a copy (clone) of its input."
            node = nodes[spec.arg.name]
            by = f" by {_target(node)}" if node.op == "call_function" else ""
            kind = spec.kind.name.lower().replace("_", " ")
            raise BadInput(
                self.name,
                f"the model changes {what} ({kind} of {spec.target!r}{by})",
                place=line_of(node),
                advice=advice,
            )

    def _refuse_control_flow(self, node: torch.fx.Node) -> None:
        """A graph within the graph: a branch or the body of a loop."""
        user = next(iter(node.users), node)
        raise BadInput(
            self.name,
            f"{_target(user)} chooses at run time what is computed",
            place=line_of(user),
            advice="Only models that compute the same for every item can be mapped.",
        )

    def _placeholder(self, node: torch.fx.Node, spec: Any) -> None:
        value = node.meta.get("val")
        if not isinstance(value, torch.Tensor):
            raise BadInput(
                self.name,
                f"the input {node.name!r} is a {type(value).__name__}, no tensor",
                advice="Bind other arguments before tracing (functools.partial or a small module).",
            )
        if spec.kind.name == "USER_INPUT":
            self._refuse_dynamic(node.name, value)
            self.reference[node.name] = {"input": node.name}
            self.inputs.append(Input(name=node.name, type=self._plain_type(value, f"the input {node.name!r}")))
            return
        target = self.first.get(spec.target, spec.target)
        self.reference[node.name] = {"weight": target}
        if target not in self.weights:
            self.weights[target] = Weight(name=target, type=self._plain_type(value, f"the weight {target!r}"))
            state = self.exported.state_dict
            self.tensors[target] = (
                state[spec.target] if spec.target in state else self.exported.constants[spec.target]
            ).detach()

    def _plain_type(self, tensor: torch.Tensor, what: str) -> TensorType:
        try:
            return tensor_type(tensor)
        except ValueError as error:
            raise BadInput(self.name, f"{what} cannot be mapped: {error}") from None

    def _refuse_dynamic(self, name: str, tensor: torch.Tensor) -> None:
        for i, size in enumerate(tensor.shape):
            if isinstance(size, torch.SymInt):
                bounds = self.exported.range_constraints.get(size.node.expr)
                within = f", {bounds.lower} to {bounds.upper}" if bounds is not None else ""
                raise BadInput(
                    self.name,
                    f"dimension {i} of the input {name!r} is dynamic ({size}{within})",
                    advice="Export the model with fixed shapes: without dynamic_shapes.",
                )

    def _op(self, node: torch.fx.Node) -> ProgramOp:
        target: Any = node.target
        name, view = _target(node), target is operator.getitem
        if not view:
            self._require_own(node, name)
            returns = target._schema.returns
            view = len(returns) == 1 and returns[0].alias_info is not None and not returns[0].alias_info.is_write
        value = node.meta.get("val")
        many = isinstance(value, tuple | list)
        parts: list[Any] = list(value) if isinstance(value, tuple | list) else [value]
        if not any(isinstance(part, torch.Tensor) for part in parts):
            raise BadInput(
                self.name,
                f"{name} turns a tensor into a number of the program",
                place=line_of(node),
                advice="Keep it a tensor: no .item(), int() or float() of one.",
            )
        try:
            return ProgramOp(
                name=node.name,
                target=name,
                args=tuple(self._encode(a) for a in node.args),
                kwargs={key: self._encode(a) for key, a in node.kwargs.items()},
                many=many,
                view=view,
                outputs=tuple(tensor_type(p) if isinstance(p, torch.Tensor) else None for p in parts),
                module=_module(node),
            )
        except ValueError as error:
            raise BadInput(
                self.name,
                f"{name} cannot be mapped: {error}",
                place=line_of(node),
                advice="Only fixed shapes can be mapped." if "depends on the data" in str(error) else "",
            ) from error

    def _require_own(self, node: torch.fx.Node, name: str) -> None:
        """Refuses what is no operator of torch itself, or draws random numbers."""
        target = node.target
        if not isinstance(target, torch._ops.OpOverload) or target.namespace not in NAMESPACES:
            raise BadInput(
                self.name,
                f"{name} is no operator of torch's own ({', '.join(NAMESPACES)})",
                place=line_of(node),
                advice="A worker loads no code but torch: write the operator with torch's own.",
            )
        if torch.Tag.nondeterministic_seeded in target.tags and _draws(node, target):
            raise BadInput(
                self.name, f"{name} draws random numbers", place=line_of(node), advice="Trace the model in eval mode."
            )

    def _encode(self, argument: Any) -> Any:
        if isinstance(argument, torch.fx.Node):
            return self.reference[argument.name]
        if isinstance(argument, tuple | list):
            return [self._encode(a) for a in argument]
        return encode_constant(argument)

    def _outputs(self, node: torch.fx.Node) -> tuple[list[dict[str, str]], list[str]]:
        """References to the returned tensors, and what the model calls them."""
        returned: Any = node.args[0]
        outputs = [self.reference[part.name] for part in returned if isinstance(part, torch.fx.Node)]
        if not outputs:
            raise BadInput(self.name, "the model returns no tensor")
        spec = self.exported.call_spec.out_spec
        keys = list(spec.context) if spec is not None and isinstance(spec.context, list | tuple) else []
        if keys and isinstance(keys[0], list | tuple):
            keys = list(keys[0])
        named = len(keys) == len(outputs) and all(isinstance(k, str) for k in keys)
        return outputs, [str(k) for k in keys] if named else [f"output{i}" for i in range(len(outputs))]


def tensor_type(tensor: torch.Tensor) -> TensorType:
    """The type of `tensor`. Raises: ValueError for a dynamic shape, sparse tensors and complex numbers."""
    if any(isinstance(n, torch.SymInt) for n in (*tensor.shape, *tensor.stride())):
        raise ValueError(f"its shape {tuple(tensor.shape)} depends on the data")
    dtype = str(tensor.dtype).removeprefix("torch.")
    if tensor.layout is not torch.strided:
        raise ValueError(f"its layout is {str(tensor.layout).removeprefix('torch.')}; only strided tensors are mapped")
    if tensor.is_complex():
        raise ValueError(f"its numbers are {dtype}; only real ones are mapped")
    return TensorType(shape=tuple(tensor.shape), strides=tuple(tensor.stride()), dtype=dtype)


def encode_constant(value: Any) -> Any:
    """`value` as JSON, in the form that `mapper.program.model` describes."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if value - value == 0 else {"float": str(value)}
    for kind in (torch.dtype, torch.layout, torch.memory_format):
        if isinstance(value, kind):
            return {kind.__name__: str(value).removeprefix("torch.")}
    if isinstance(value, torch.device):
        return {"device": str(value)}
    raise ValueError(f"the argument {value!r} is neither a tensor nor plain data")


def _target(node: torch.fx.Node) -> str:
    """What `node` calls, as programs name it where they can."""
    target: Any = node.target
    if target is operator.getitem:
        return "getitem"
    if isinstance(target, torch._ops.OpOverload):
        return f"{target.namespace}.{target._opname}.{target._overloadname}"
    return str(target)


def _draws(node: torch.fx.Node, target: Any) -> bool:
    """Whether an operator that can draw random numbers does so with these arguments."""
    given = {a.name: a.default_value for a in target._schema.arguments if a.has_default_value()}
    given |= dict(zip((a.name for a in target._schema.arguments), node.args, strict=False)) | node.kwargs
    if "dropout_p" in given:
        return bool(given["dropout_p"])
    return bool(given.get("train", True) and given.get("p", 1))


def _module(node: torch.fx.Node) -> str:
    """The dotted path of the innermost module, empty for the model itself."""
    stack = list(node.meta.get("nn_module_stack", {}).values())
    return str(stack[-1][0]) if stack else ""


def line_of(node: torch.fx.Node) -> str:
    """The innermost line of the model's source, outside torch, that made `node`; its name where torch knows none."""
    found = re.findall(r'File "([^"]*)", line (\d+)', str(node.meta.get("stack_trace") or ""))
    own = [place for place in found if not place[0].startswith((TORCH, "<"))]
    return f"{own[-1][0]}, line {own[-1][1]}" if own else node.name
