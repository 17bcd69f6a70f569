"""ONNX models: a graph with FLOP and bytes from the operators' definitions, without running or converting anything.

Weights that lie in files of their own are not opened: their shapes are in the model. Operators that only show a tensor
anew (Reshape, Squeeze, Flatten, Identity, ...) and those of constants alone are folded into what reads them.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mapper import jsonio
from mapper.errors import BadInput, MissingFeature
from mapper.graph.importers.onnx_program import VIEWS, OnnxProgram, node_names, onnx_program
from mapper.graph.importers.onnx_values import Value, sized, values_of
from mapper.graph.measure import einsum_flop
from mapper.graph.model import Boundary, Graph, Kind, Op, Tensor, WeightUse

_CONSTANTS = frozenset(["Shape", "Size", "Constant", "ConstantOfShape", "Range", "EyeLike"])
_KINDS: dict[Kind, str] = {
    "matmul": "MatMul Gemm MatMulInteger QLinearMatMul Einsum",
    "conv": "Conv ConvTranspose ConvInteger QLinearConv",
    "attention": "Attention",
    "softmax": "Softmax LogSoftmax",
    "normalization": "LayerNormalization BatchNormalization InstanceNormalization GroupNormalization RMSNormalization "
    "LpNormalization LRN",
    "transcendental": "Gelu Tanh Sigmoid Erf Exp Log Pow Sin Cos Softplus Elu Selu Mish HardSwish Swish",
    "pool": "MaxPool AveragePool LpPool",
    "reduce": "GlobalAveragePool GlobalMaxPool ReduceMean ReduceSum ReduceMax ReduceMin ReduceProd ReduceL2 "
    "ReduceSumSquare ArgMax ArgMin CumSum TopK",
    "copy": "Concat Pad Transpose Expand Tile Slice Split Gather GatherElements GatherND DepthToSpace SpaceToDepth "
    "ScatterND ScatterElements Resize OneHot",
}
KIND_OF: dict[str, Kind] = {name: kind for kind, names in _KINDS.items() for name in names.split()}
"""Kind by ONNX operator; what is not listed is elementwise."""


@dataclass(frozen=True)
class Root:
    """Where the data of a value comes from: a graph input, the result of an op, weights, or nothing (constants)."""

    kind: str
    name: str = ""
    weights: tuple[str, ...] = ()


@dataclass(frozen=True)
class OnnxModel:
    """An ONNX file: its graph, the shapes and dtypes of its inputs, its SHA-256, and its program; instead of that,
    where there can be none, why not."""

    graph: Graph
    inputs: dict[str, Value]
    sha256: str
    program: OnnxProgram | BadInput


def load_onnx(path: Path, sizes: Mapping[str, int | None] | None = None) -> OnnxModel:
    """The ONNX model in `path`, for a batch and a length as `sizes` says (batch 1 otherwise).

    Raises: BadInput for a file that is no ONNX model, a size that nobody decides, or an operator whose result has no
    known shape (with its name); MissingFeature when the package onnx is not installed.
    """
    source = str(path)
    data = jsonio.read_bytes(path, limit=2**31)
    onnx = _package()
    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:  # protobuf raises what it likes
        raise BadInput(source, f"not an ONNX model: {str(error).strip() or type(error).__name__}") from None
    if not model.graph.node:
        raise BadInput(source, "not an ONNX model, or one without ops")
    model = sized(model, {"batch": 1, **{k: v for k, v in (sizes or {}).items() if v is not None}}, source)
    try:
        model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except Exception as error:
        raise BadInput(source, f"shape inference fails: {str(error).strip()[:300]}") from None
    sha256 = hashlib.sha256(data).hexdigest()
    values = values_of(model)
    program = _program(model, values, path)
    known = program.program.sha256 if isinstance(program, OnnxProgram) else sha256
    reader = _Reader(model.graph, values, source, path.stem, known)
    return OnnxModel(reader.graph(), {name: reader.values[name] for name in reader.inputs}, sha256, program)


def _program(model: Any, values: dict[str, Value], path: Path) -> OnnxProgram | BadInput:
    """The program of `model`. What has none can be planned, but not run."""
    try:
        return onnx_program(model, values, path.stem, str(path))
    except BadInput as error:
        return error


def _package() -> Any:
    try:
        import onnx
        import onnx.shape_inference
    except ModuleNotFoundError:
        raise MissingFeature("reading ONNX models needs the package onnx, which is not installed",
                             advice="python -m pip install onnx") from None  # fmt: skip
    return onnx


class _Reader:
    """Reads an ONNX graph into ours."""

    def __init__(self, given: Any, values: dict[str, Value], source: str, name: str, sha256: str) -> None:
        self.given, self.values, self.source, self.name, self.sha256 = given, values, source, name, sha256
        self.roots = {weight.name: Root("weight", weights=(weight.name,)) for weight in given.initializer}
        self.inputs = [value.name for value in given.input if value.name not in self.roots]
        self.roots |= {value: Root("input", value) for value in self.inputs}
        self.ops: list[Op] = []
        self.readers: dict[Root, list[str]] = {}
        self.pending: dict[str, int] = {}

    def graph(self) -> Graph:
        """The whole graph."""
        for node, name in zip(self.given.node, node_names(self.given), strict=True):
            self._node(node, name)
        tensors = [
            Tensor(name=root.name, producer=self._producer(root), readers=tuple(readers), bytes=self._bytes(root.name))
            for root, readers in self.readers.items()
            if root.kind == "op"
        ]
        inputs = [self._boundary(name, tuple(self.readers.get(Root("input", name), ()))) for name in self.inputs]
        floats = [self.values[w.name].dtype for w in self.given.initializer if "float" in self.values[w.name].dtype]
        document = {
            "name": self.name, "ops": tuple(self.ops), "tensors": tuple(tensors), "inputs": tuple(inputs),
            "outputs": tuple(self._outputs()), "dtype": max(floats, key=floats.count) if floats else "float32",
            "program_sha256": self.sha256,
        }  # fmt: skip
        return jsonio.validated(Graph, document, self.source)

    def _node(self, node: Any, name: str) -> None:
        roots = [self._root(value, name) for value in node.input if value]
        made = [value for value in node.output if value]
        if node.op_type in _CONSTANTS or (roots and all(root.kind in ("weight", "none") for root in roots)):
            weights = () if node.op_type in _CONSTANTS else tuple(w for root in roots for w in root.weights)
            self.roots |= dict.fromkeys(made, Root("weight" if weights else "none", weights=weights))
        elif node.op_type in VIEWS:
            self.roots[made[0]] = roots[0]
        else:
            self._op(node, name, roots, made)

    def _op(self, node: Any, name: str, roots: list[Root], made: list[str]) -> None:
        for value in made:
            if value not in self.values:
                domain = f"{node.domain}." if node.domain else ""
                raise BadInput(self.source, f"the shape of {value!r} is not known, the result of operator "
                               f"{domain}{node.op_type}", place=f"op {name}")  # fmt: skip
            self.roots[value] = Root("op", value)
            self.pending[value] = len(self.ops)
        reads = list(dict.fromkeys(root for root in roots if root.kind in ("op", "input")))
        for root in reads:
            self.readers.setdefault(root, []).append(name)
        results = [self.values[value] for value in made]
        operands = [self.values[value] for value in node.input if value in self.values]
        weights = dict.fromkeys(weight for root in roots for weight in root.weights)
        lookup = node.op_type == "Gather" and roots[0].kind == "weight"
        kind: Kind = "embedding" if lookup else KIND_OF.get(node.op_type, "elementwise")
        written = sum(result.bytes for result in results)
        self.ops.append(Op(
            name=name, kind=kind, target=node.op_type, module=node.name,
            flop=flop(node, kind, operands, results[0]),
            elements=max(result.elements for result in results),
            read_bytes=sum(self._bytes(root.name) for root in reads), write_bytes=written,
            weights=tuple(self._use(weight, written if lookup else None) for weight in weights),
        ))  # fmt: skip

    def _use(self, weight: str, most: int | None) -> WeightUse:
        whole = self.values[weight].bytes
        return WeightUse(name=weight, bytes=whole, touched_bytes=whole if most is None else min(whole, most))

    def _root(self, value: str, name: str) -> Root:
        if value not in self.roots:
            raise BadInput(self.source, f"{value!r} is read, but nothing makes it before", place=f"op {name}")
        return self.roots[value]

    def _producer(self, root: Root) -> str:
        return self.ops[self.pending[root.name]].name

    def _bytes(self, value: str) -> int:
        if value not in self.values:
            raise BadInput(self.source, f"the shape of {value!r} is not known", place=f"value {value}")
        return self.values[value].bytes

    def _boundary(self, name: str, ops: tuple[str, ...]) -> Boundary:
        return Boundary(name=name, ops=ops, bytes=self._bytes(name))

    def _outputs(self) -> Iterator[Boundary]:
        for value in self.given.output:
            root = self._root(value.name, "output")
            yield self._boundary(value.name, (self._producer(root),) if root.kind == "op" else ())


def flop(node: Any, kind: Kind, operands: list[Value], result: Value) -> float:
    """FLOP of a node by the definition of its operator (onnx.ai/onnx/operators), a multiply-add as two, and counted as
    those of traced models are (`graph.measure`)."""
    if kind == "matmul":
        return _products(node, operands, result)
    if kind == "conv":
        per_element = math.prod(operands[1].shape[1:])  # of a group
        return 2.0 * (operands[0] if node.op_type == "ConvTranspose" else result).elements * per_element
    if kind == "attention":
        return 4.0 * operands[0].elements * operands[1].shape[-2]
    if kind in ("copy", "embedding", "none"):
        return 0.0
    if kind in ("pool", "reduce"):
        return float(operands[0].elements)
    return {"softmax": 3.0, "normalization": 5.0}.get(kind, 1.0) * result.elements


def _products(node: Any, operands: list[Value], result: Value) -> float:
    if node.op_type == "Einsum":
        equation = next(attribute.s.decode() for attribute in node.attribute if attribute.name == "equation")
        return einsum_flop(equation, [operand.shape for operand in operands], result.elements)
    first = operands[0].shape
    transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    return 2.0 * result.elements * (first[-2] if transposed else first[-1]) if first else 0.0
