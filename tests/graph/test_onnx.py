"""ONNX models: FLOP, bytes, weights and edges of small models made here, and what is said about bad files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto as T
from onnx import helper as h

from mapper.errors import BadInput, MissingFeature
from mapper.graph.importers import onnx_model
from mapper.graph.model import Graph

FLOAT = T.FLOAT


def weight(name: str, *shape: int, type: int = FLOAT) -> Any:
    """A weight of zeros."""
    size = 4 if type == FLOAT else 8
    count = 1
    for n in shape:
        count *= n
    return h.make_tensor(name, type, shape, bytes(size * count), raw=True)


def saved(
    folder: Path,
    nodes: list[Any],
    inputs: dict[str, list[Any]],
    outputs: list[str],
    weights: list[Any],
    opset: int = 17,
) -> Path:
    """The file of a model."""
    given = [h.make_tensor_value_info(name, T.INT64 if name == "ids" else FLOAT, dims) for name, dims in inputs.items()]
    made = [h.make_tensor_value_info(name, FLOAT, None) for name in outputs]
    graph = h.make_graph(nodes, "g", given, made, weights)
    path = folder / "m.onnx"
    onnx.save(h.make_model(graph, opset_imports=[h.make_opsetid("", 17), h.make_opsetid("com.example", 1)]), path)
    return path


def load_onnx(path: Path, sizes: dict[str, int] | None = None) -> Graph:
    return onnx_model.load_onnx(path, sizes).graph


def small(folder: Path, batch: Any = "batch") -> Path:
    """conv - relu - (pool | skip) - add - flatten - gemm - softmax, as an image model has them."""
    nodes = [
        h.make_node("Conv", ["x", "w", "b"], ["c"], name="conv", pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
        h.make_node("Relu", ["c"], ["r"], name="relu"),
        h.make_node("MaxPool", ["r"], ["p"], name="pool", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        h.make_node("Add", ["p", "r"], ["a"], name="add"),
        h.make_node("Flatten", ["a"], ["f"], name="flatten"),
        h.make_node("Gemm", ["f", "g"], ["y"], name="gemm", transB=1),
        h.make_node("Softmax", ["y"], ["s"], name="softmax"),
    ]
    return saved(
        folder, nodes, {"x": [batch, 3, 8, 8]}, ["s"], [weight("w", 4, 3, 3, 3), weight("b", 4), weight("g", 10, 256)]
    )


def test_work_bytes_and_weights_are_those_of_the_operators(tmp_path: Path) -> None:
    graph = load_onnx(small(tmp_path))
    ops = {op.name: op for op in graph.ops}
    assert list(ops) == ["conv", "relu", "pool", "add", "gemm", "softmax"], "a Flatten only shows its input anew"
    assert ops["conv"].flop == 2 * (4 * 8 * 8) * 27
    assert ops["gemm"].flop == 2 * 10 * 256
    assert (ops["relu"].flop, ops["pool"].flop, ops["softmax"].flop) == (256, 256, 30)
    assert [op.kind for op in graph.ops] == ["conv", "elementwise", "pool", "elementwise", "matmul", "softmax"]
    assert {w.name: w.bytes for w in ops["conv"].weights} == {"w": 432, "b": 16}
    assert (ops["add"].read_bytes, ops["add"].write_bytes) == (2 * 1024, 1024)
    assert {t.name: (t.producer, t.readers, t.bytes) for t in graph.tensors} == {
        "c": ("conv", ("relu",), 1024),
        "r": ("relu", ("pool", "add"), 1024),
        "p": ("pool", ("add",), 1024),
        "a": ("add", ("gemm",), 1024),
        "y": ("gemm", ("softmax",), 40),
    }
    assert [(b.name, b.ops, b.bytes) for b in (*graph.inputs, *graph.outputs)] == [
        ("x", ("conv",), 768), ("s", ("softmax",), 40),
    ]  # fmt: skip


def test_the_batch_is_the_first_open_size(tmp_path: Path) -> None:
    one, four = load_onnx(small(tmp_path)), load_onnx(small(tmp_path), {"batch": 4})
    assert four.flop == 4 * one.flop
    assert four.weight_bytes == one.weight_bytes
    assert load_onnx(small(tmp_path, batch=2), {"batch": 4}).flop == 2 * one.flop, "a size that is fixed stays"


def test_a_look_up_touches_rows_and_shapes_are_constants(tmp_path: Path) -> None:
    nodes = [
        h.make_node("Gather", ["table", "ids"], ["e"], name="embed"),
        h.make_node("Shape", ["e"], ["shape"], name="shape"),
        h.make_node("Reshape", ["e", "shape"], ["again"], name="reshape"),
        h.make_node("Transpose", ["w"], ["wt"], name="transpose"),
        h.make_node("MatMul", ["again", "wt"], ["y"], name="project"),
    ]
    path = saved(tmp_path, nodes, {"ids": ["n", "sequence"]}, ["y"], [weight("table", 100, 16), weight("w", 8, 16)])
    with pytest.raises(BadInput, match=r"size 1 of input 'ids' is open \(sequence\)") as caught:
        load_onnx(path)
    assert "--length" in str(caught.value)
    graph = load_onnx(path, {"length": 5})
    assert [op.name for op in graph.ops] == ["embed", "project"]
    assert graph.ops[0].weights[0].touched_bytes == 5 * 16 * 4
    assert graph.ops[1].flop == 2 * 5 * 8 * 16
    assert [w.name for w in graph.ops[1].weights] == ["w"]


def test_a_grouped_and_a_transposed_convolution(tmp_path: Path) -> None:
    nodes = [
        h.make_node("Conv", ["x", "w"], ["c"], name="depthwise", group=4),
        h.make_node("ConvTranspose", ["c", "v"], ["y"], name="up", strides=[2, 2]),
    ]
    weights = [weight("w", 4, 1, 3, 3), weight("v", 4, 2, 2, 2)]
    graph = load_onnx(saved(tmp_path, nodes, {"x": [1, 4, 6, 6]}, ["y"], weights))
    assert [op.flop for op in graph.ops] == [2 * 4 * 16 * 9, 2 * 4 * 16 * 8]


def test_an_einsum_counts_what_is_summed(tmp_path: Path) -> None:
    node = h.make_node("Einsum", ["x", "w"], ["y"], name="e", equation="bik,kj->bij")
    graph: Graph = load_onnx(saved(tmp_path, [node], {"x": [2, 3, 5]}, ["y"], [weight("w", 5, 7)]))
    assert graph.ops[0].flop == 2 * 2 * 3 * 7 * 5


def test_what_is_no_model_is_told(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"not protobuf at all")
    with pytest.raises(BadInput, match="not an ONNX model"):
        load_onnx(tmp_path / "m.onnx")
    (tmp_path / "m.onnx").write_bytes(b"")
    with pytest.raises(BadInput, match="not an ONNX model, or one without ops"):
        load_onnx(tmp_path / "m.onnx")
    with pytest.raises(BadInput, match="no such file"):
        load_onnx(tmp_path / "absent.onnx")
    data = small(tmp_path).read_bytes()
    (tmp_path / "cut.onnx").write_bytes(data[: len(data) // 2])
    with pytest.raises(BadInput, match=r"cut\.onnx"):
        load_onnx(tmp_path / "cut.onnx")


def test_an_open_size_and_an_unknown_operator_name_their_place(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"size 2 of input 'x' is open \(height\)"):
        load_onnx(saved(tmp_path, [h.make_node("Relu", ["x"], ["y"])], {"x": [1, 3, "height", 4]}, ["y"], []))
    node = h.make_node("Magic", ["x"], ["y"], name="magic", domain="com.example")
    with pytest.raises(BadInput, match=r"op magic: the shape of .* the result of operator com\.example\.Magic"):
        load_onnx(saved(tmp_path, [node], {"x": [1, 3]}, ["y"], []))


def test_without_the_package_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = small(tmp_path)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingFeature, match="pip install onnx") as caught:
        load_onnx(path)
    assert caught.value.exit_code == 8
