"""A stage of an ONNX model as an ONNX model again: the nodes of its ops, its weights, the tensors at its borders."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import torch

from mapper.errors import BadInput
from mapper.program.model import Program, ProgramOp, TensorType

_TYPES = {
    "float32": onnx.TensorProto.FLOAT, "float64": onnx.TensorProto.DOUBLE, "float16": onnx.TensorProto.FLOAT16,
    "int64": onnx.TensorProto.INT64, "int32": onnx.TensorProto.INT32, "int8": onnx.TensorProto.INT8,
    "uint8": onnx.TensorProto.UINT8, "bool": onnx.TensorProto.BOOL,
}  # fmt: skip


def write_onnx(program: Program, weights: Mapping[str, torch.Tensor], path: Path) -> None:
    """Writes `program`, whose ops are ONNX's, to `path`, and its weights to a file beside it.

    Raises: BadInput for an op that is not what `graph.importers.onnx_program` writes.
    """
    parts = {name: f"{call}:{i}" for op in program.ops if op.target == "getitem" for name, call, i in [_part(op)]}
    versions: dict[str, int] = {}
    nodes = [_node(op, parts, versions) for op in program.ops if op.target != "getitem"]
    graph = onnx.helper.make_graph(
        nodes, "stage", [_ends(f"input:{given.name}", given.type) for given in program.inputs],
        [_ends(_called(output, parts), program.type_of(output)) for output in program.outputs],
        [onnx.numpy_helper.from_array(weights[w.name].numpy(), f"weight:{w.name}") for w in program.weights],
    )  # fmt: skip
    opsets = [onnx.helper.make_opsetid(domain, version) for domain, version in versions.items()]
    model = onnx.helper.make_model(graph, opset_imports=opsets)
    model.ir_version = onnx.helper.find_min_ir_version_for(opsets, ignore_unknown=True)
    onnx.save_model(model, path, save_as_external_data=True, location=f"{path.name}.data")


def _part(op: ProgramOp) -> tuple[str, str, int]:
    """The getitem `op`: its name, the op that it takes a result of, and which."""
    return op.name, f"op:{next(op.references('op'))}", op.args[1]


def _called(reference: Mapping[str, str], parts: Mapping[str, str]) -> str:
    """What the value that `reference` names is called in the ONNX model."""
    ((kind, name),) = reference.items()
    return parts.get(name, f"op:{name}") if kind == "op" else f"{kind}:{name}"


def _node(op: ProgramOp, parts: Mapping[str, str], versions: dict[str, int]) -> Any:
    node = onnx.NodeProto()
    try:
        node.ParseFromString(base64.b64decode(op.kwargs["node"], validate=True))
        version = int(op.target.rpartition(".v")[2])
    except Exception as error:  # protobuf raises what it likes
        raise BadInput(op.name, f"no ONNX node: {error}", place="node") from None
    if f"onnx.{node.op_type}.v{version}" != op.target or versions.setdefault(node.domain, version) != version:
        raise BadInput(op.name, f"it says that it is {op.target}, and holds a {node.op_type}", place="node")
    node.name = op.name
    node.input.extend("" if argument is None else _called(argument, parts) for argument in op.args)
    if op.many:
        node.output.extend(f"op:{op.name}:{i}" if kind is not None else "" for i, kind in enumerate(op.outputs))
    else:
        node.output.append(f"op:{op.name}")
    return node


def _ends(name: str, kind: TensorType) -> Any:
    return onnx.helper.make_tensor_value_info(name, _TYPES[kind.dtype], kind.shape)
