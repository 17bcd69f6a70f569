"""Programs in bfloat16: what autocast computes, weights rounded once, dtypes at the borders as they were."""

from __future__ import annotations

import pytest
import torch

from mapper.backends.eager import prepare
from mapper.backends.lowered import lowered
from mapper.backends.registry import BFLOAT16
from mapper.execution.reference import accuracy_of
from mapper.program.rebuild import rebuild
from mapper.program.weights import laid_out
from mapper.sources.difference import difference_of
from tests.execution import models
from tests.program.modules import NAMES, case
from tests.tracing import traced


def test_products_are_autocasts_bit_by_bit() -> None:
    found = models.mlp()
    x = torch.randn(8, 64)
    with torch.inference_mode():
        (output,) = prepare(found.program, found.weights, 1, BFLOAT16)(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            expected = found.module(x)
    assert output.dtype is torch.float32 and torch.equal(output, expected.float())


def test_weights_are_held_once_and_rounded() -> None:
    found = models.skip()
    module = lowered(rebuild(found.program, laid_out(found.program, found.weights)), found.program)
    held = dict(module.named_buffers())
    assert {tensor.dtype for tensor in held.values()} == {torch.bfloat16}
    assert sum(tensor.numel() for tensor in held.values()) == sum(w.type.elements for w in found.program.weights)
    calls = [str(node.target) for node in module.graph.nodes if "rounded" in str(node.target)]
    assert len([call for call in calls if "function" in call]) <= 4, "the input and each result that a product reads"


def test_sums_powers_and_softmax_stay_in_float32() -> None:
    class Long(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(8, 8, bias=False)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            y = self.linear(x)
            return y.softmax(-1), (y**2).mean(-1)

    found = traced(Long(), torch.randn(4, 8), name="long")
    x = torch.randn(4, 8)
    with torch.inference_mode():
        soft, mean = prepare(found.program, found.weights, 1, BFLOAT16)(x)
        weight = next(iter(found.weights.values())).to(torch.bfloat16)
        y = torch.nn.functional.linear(x.to(torch.bfloat16), weight).float()
    assert torch.equal(soft, y.softmax(-1)) and torch.equal(mean, (y**2).mean(-1))


@pytest.mark.parametrize("name", NAMES)
def test_every_small_module_keeps_shapes_and_dtypes_and_is_near(name: str) -> None:
    found = case(name)
    inputs = [found.inputs] if isinstance(found.inputs, torch.Tensor) else list(found.inputs)
    with torch.inference_mode():
        wide = prepare(found.program, found.weights, 1)(*inputs)
        low = prepare(found.program, found.weights, 1, BFLOAT16)(*inputs)
    for a, b in zip(low, wide, strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        assert difference_of(a, b).relative < 0.1 or not b.is_floating_point()
    assert accuracy_of([low], [wide]).cosine_similarity > 0.99
