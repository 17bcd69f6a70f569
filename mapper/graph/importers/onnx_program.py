"""From an ONNX graph to a program: each node an op, so that a plan of an ONNX model is split and run like any other.

An op's target is `onnx.Conv.v20`, after the operator and the version of its operator set; its arguments are the node's
inputs, and `node` holds the rest of it (attributes, domain) as ONNX writes it, in base64. Only ONNX runtimes compute
such ops: no torch operator is called so. Constants become weights; sizes of tensors, which are known, too.
"""

from __future__ import annotations

import base64
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mapper import jsonio
from mapper.errors import BadInput
from mapper.graph.importers.onnx_values import Value
from mapper.program.model import Program, references

VIEWS = frozenset(["Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Dropout"])
"""Operators that only show a tensor anew."""
_BODIES = (5, 10)
"""Attribute types of ONNX that are graphs (`AttributeProto.GRAPH`, `GRAPHS`)."""


@dataclass
class OnnxProgram:
    """A program of ONNX ops. `constants` are the tensors of its weights: `TensorProto`, or numbers that follow from
    shapes."""

    program: Program
    constants: dict[str, Any] = field(default_factory=dict)


def node_names(graph: Any) -> list[str]:
    """What the ops of an ONNX graph are called: as its nodes are, made distinct."""
    names: dict[str, None] = {}
    for number, node in enumerate(graph.node):
        name = node.name or f"{node.op_type}_{number}"
        names[name if name not in names else f"{name}_{number}"] = None
    return list(names)


def onnx_program(model: Any, values: Mapping[str, Value], name: str, source: str) -> OnnxProgram:
    """The program of `model`, an ONNX model whose tensors are `values`.

    Raises: BadInput naming the op that a program cannot have: one with graphs in it, or a tensor of unknown shape.
    """
    return _Writer(model, values, source).written(name)


class _Writer:
    def __init__(self, model: Any, values: Mapping[str, Value], source: str) -> None:
        self.graph, self.values, self.source = model.graph, values, source
        self.versions = {opset.domain: opset.version for opset in model.opset_import}
        self.constants: dict[str, Any] = {weight.name: weight for weight in self.graph.initializer}
        self.inputs = [given.name for given in self.graph.input if given.name not in self.constants]
        self.references = {value: {"input": value} for value in self.inputs}
        self.references |= {value: {"weight": value} for value in self.constants}
        self.ops: list[dict[str, Any]] = []

    def written(self, name: str) -> OnnxProgram:
        for node, called in zip(self.graph.node, node_names(self.graph), strict=True):
            self._node(node, called)
        outputs = [self._reference(value.name, "output") for value in self.graph.output]
        read = set(references([outputs, *(op["args"] for op in self.ops)], "weight"))
        constants = {value: tensor for value, tensor in self.constants.items() if value in read}
        document = {
            "name": name, "ops": self.ops, "outputs": outputs, "output_names": [v.name for v in self.graph.output],
            "inputs": [{"name": value, "type": self._type(value, "input")} for value in self.inputs],
            "weights": [{"name": value, "type": self._type(value, "weight")} for value in constants],
        }  # fmt: skip
        return OnnxProgram(jsonio.validated(Program, document, self.source), constants)

    def _node(self, node: Any, name: str) -> None:
        if any(attribute.type in _BODIES for attribute in node.attribute):
            raise BadInput(self.source, f"{node.op_type} has graphs of its own, which cannot be split into stages",
                           place=f"op {name}", advice="Export the model without control flow.")  # fmt: skip
        constant = self._constant(node)
        if constant is not None:
            self.constants[node.output[0]] = constant
            self.references[node.output[0]] = {"weight": node.output[0]}
            return
        made = [value for value in node.output if value]
        kinds = [self._type(value, name) if value else None for value in node.output]
        self.ops.append({
            "name": name, "target": f"onnx.{node.op_type}.v{self.versions.get(node.domain, 1)}",
            "args": [self._reference(value, name) if value else None for value in node.input],
            "kwargs": {"node": _rest(node)}, "outputs": kinds, "many": len(made) > 1 or len(node.output) > 1,
            "view": node.op_type in VIEWS and len(made) == 1, "module": node.name,
        })  # fmt: skip
        if not self.ops[-1]["many"]:
            self.references[made[0]] = {"op": name}
            return
        for number, value in enumerate(node.output):
            if value:
                part = f"{name}#{number}"
                self.ops.append({"name": part, "target": "getitem", "args": [{"op": name}, number],
                                 "outputs": [kinds[number]]})  # fmt: skip
                self.references[value] = {"op": part}

    def _constant(self, node: Any) -> Any:
        """The tensor that `node` gives whatever the model's inputs are, where that is plain; else None."""
        if node.op_type in ("Shape", "Size") and not node.attribute and node.input[0] in self.values:
            shape = self.values[node.input[0]].shape
            return list(shape) if node.op_type == "Shape" else self.values[node.input[0]].elements
        if node.op_type != "Constant":
            return None
        (attribute,) = node.attribute
        if attribute.name == "value":
            return attribute.t
        return {"value_float": attribute.f, "value_int": attribute.i, "value_floats": list(attribute.floats),
                "value_ints": list(attribute.ints)}.get(attribute.name)  # fmt: skip

    def _reference(self, value: str, name: str) -> dict[str, str]:
        if value not in self.references:
            raise BadInput(self.source, f"{value!r} is read, but nothing makes it before", place=f"op {name}")
        return self.references[value]

    def _type(self, value: str, name: str) -> dict[str, Any]:
        if value not in self.values:
            raise BadInput(self.source, f"the shape of {value!r} is not known", place=f"op {name}")
        shape = self.values[value].shape
        strides = [*itertools.accumulate(reversed(shape[1:]), lambda a, b: a * b, initial=1)][::-1] if shape else []
        return {"shape": shape, "strides": strides, "dtype": self.values[value].dtype}


def _rest(node: Any) -> str:
    """All of `node` but its name and its ends."""
    copy = type(node)()
    copy.CopyFrom(node)
    for part in ("name", "input", "output", "doc_string", "metadata_props"):
        copy.ClearField(part)
    return base64.b64encode(copy.SerializeToString(deterministic=True)).decode()
