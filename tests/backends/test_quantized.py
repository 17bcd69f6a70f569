"""Stages with products of int8 in ONNX Runtime: what is quantized, what is not, and how near it comes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mapper.backends.eager import prepare
from mapper.execution.reference import accuracy_of
from tests.backends.stages import MLP, need
from tests.execution import models
from tests.tracing import Traced

NAME = "onnxruntime:int8"


def operators(found: Traced, folder: Path) -> list[str]:
    """The operators of the stage `found`, compiled into `folder`."""
    onnx = pytest.importorskip("onnx")
    compile = need(NAME).compile
    assert compile is not None
    compile(found.program, found.weights, 1, folder)
    return [node.op_type for node in onnx.load(folder / "stage.onnx").graph.node]


def test_products_with_weights_are_of_int8_and_near(tmp_path: Path) -> None:
    assert operators(MLP, tmp_path).count("MatMulInteger") == 4
    size = sum(file.stat().st_size for file in tmp_path.iterdir())
    assert size < sum(tensor.nbytes for tensor in MLP.weights.values()) / 2, "weights are kept in a byte each"
    assert sorted(file.name for file in tmp_path.iterdir())[0] == "stage.onnx"
    before = torch.get_num_threads()
    loaded = need(NAME).load(MLP.program, MLP.weights, 1, tmp_path)
    items = [torch.randn(8, 64) for _ in range(4)]
    with torch.inference_mode():
        exact = prepare(MLP.program, MLP.weights, 1)
        found = [tuple(t.clone() for t in loaded.compute(item)) for item in items]
        accuracy = accuracy_of(found, [exact(item) for item in items])
    torch.set_num_threads(before)
    assert accuracy.max_relative_difference is not None and 1e-4 < accuracy.max_relative_difference < 0.05
    assert accuracy.cosine_similarity > 0.999


def test_convolutions_stay_in_float32(tmp_path: Path) -> None:
    found = operators(models.skip(), tmp_path)
    assert found.count("Conv") == 3 and "ConvInteger" not in found


def test_accuracy_says_what_it_is_of() -> None:
    scores = torch.tensor([[1.0, 2.0, 4.0], [3.0, 2.0, 1.0]])
    other = torch.tensor([[1.0, 2.0, 3.0], [2.0, 3.0, 1.0]])
    found = accuracy_of([(other, torch.tensor([1]))], [(scores, torch.tensor([2]))])
    assert (found.items, found.top1_agreement, found.max_relative_difference) == (1, 0.5, 0.25)
    assert found.mean_relative_difference == pytest.approx(3 / 13)
    assert found.cosine_similarity == pytest.approx(float((scores * other).sum() / scores.norm() / other.norm()))
    zeros = accuracy_of([(torch.ones(3),)], [(torch.zeros(3),)])
    assert (zeros.max_relative_difference, zeros.mean_relative_difference) == (None, None)
    assert (zeros.cosine_similarity, zeros.top1_agreement) == (0.0, None)
    assert accuracy_of([(torch.zeros(3),)], [(torch.zeros(3),)]).cosine_similarity == 1.0
