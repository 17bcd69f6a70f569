"""In-place operators, views that are written, shared and returned tensors: stages compute what the model does."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from mapper.program.split import split
from tests.program.modules import convex, run_pieces, same
from tests.tracing import Traced, traced

QUICK = settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Model(nn.Module):
    """A module whose forward is `compute`, with a shared weight, buffers and a tensor that is neither."""

    def __init__(self, compute: Callable[..., Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.compute = compute
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4, bias=False)
        self.second.weight = self.first.weight
        self.register_buffer("table", torch.randn(6, 4))
        self.register_buffer("passing", torch.randn(4), persistent=False)
        self.constant = torch.randn(4)

    def forward(self, *args: torch.Tensor) -> Any:
        return self.compute(self, *args)


def written_columns(self: Model, x: torch.Tensor) -> torch.Tensor:
    y = self.first(x)
    y[:, 0] = 1
    y[1:, 2:] = x[1:, 2:]
    return torch.tanh(y)


def written_through_a_view(self: Model, x: torch.Tensor) -> torch.Tensor:
    y = self.first(x)
    turned = y.t()
    turned.mul_(2)
    y.view(-1)[3:7].zero_()
    return y + turned


def written_after_it_was_read(self: Model, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    y = self.first(x)
    z = y + 1
    y.zero_()
    y += z * x
    return y, z


def parts_written(self: Model, x: torch.Tensor) -> torch.Tensor:
    y = torch.exp(x)
    left, right = y.chunk(2, dim=1)
    left.add_(right)
    right.copy_(torch.relu(left))
    return y.sum(dim=0)


def masked(self: Model, x: torch.Tensor) -> torch.Tensor:
    y = self.first(x)
    y[x > 0] = 0.5
    y.masked_fill_(x < -1, float("-inf"))
    return y.softmax(dim=1)


def into_a_new_tensor(self: Model, x: torch.Tensor) -> torch.Tensor:
    out = torch.empty(4, 4)
    torch.add(x, 1, out=out)
    held = torch.zeros(2, 4, 4)
    held[0].copy_(out)
    held[1] += self.first(out)
    return held


def detached(self: Model, x: torch.Tensor) -> torch.Tensor:
    y = self.first(x)
    y.detach().add_(1)
    return y * 2


CASES: dict[str, Callable[..., Any]] = {
    "relu_": lambda self, x: functional.relu(self.first(functional.relu(x + 1, inplace=True)), inplace=True) * 2,
    "written columns": written_columns,
    "written through a view": written_through_a_view,
    "written after it was read": written_after_it_was_read,
    "parts written": parts_written,
    "masked": masked,
    "into a new tensor": into_a_new_tensor,
    "detached": detached,
    "input returned": lambda self, x: (x, self.first(x), x.t(), x),
    "output twice": lambda self, x: (lambda y: (y, y, y.t(), y[1:], torch.tanh(y)))(self.first(x)),
    "shared weight": lambda self, x: (self.second(torch.tanh(self.first(x))), self.first.weight.t() @ x),
    "weight returned": lambda self, x: (self.first.weight, self.first(x), self.table[2:]),
    "buffers": lambda self, x: torch.tanh(x * self.table[1:5]) + self.passing.expand(4, 4).t() * self.constant,
    "constants": lambda self, x: (x + torch.tensor([1.0, 2.0, 3.0, 4.0])) * torch.arange(4) + self.constant,
    "constant returned": lambda self, x: (torch.arange(3), self.first(x), torch.tensor(2.5)),
    "buffer copied and written": lambda self, x: torch.relu(self.table.clone()[1:5].add_(x)) * self.table[0],
}


@cache
def known(name: str) -> Traced:
    """The model called `name`, traced."""
    return traced(Model(CASES[name]), torch.zeros(4, 4), name="aliasing")


@pytest.mark.parametrize("name", CASES)
@QUICK
@given(st.sampled_from([1, 2, 3, 7]), st.randoms(use_true_random=False), st.integers(0, 1000))
def test_stages_compute_what_the_model_does(name: str, stages: int, random: Random, seed: int) -> None:
    model = known(name)
    x = torch.randn(4, 4, generator=torch.Generator().manual_seed(seed))
    before, state = x.clone(), {key: tensor.clone() for key, tensor in model.module.state_dict().items()}
    pieces = split(model.program, convex(model.graph, stages, random))
    found = run_pieces(model.program, model.weights, [x], pieces)
    assert torch.equal(x, before), "the item is not written to"
    with torch.no_grad():
        expected = model.module(x.clone())
    assert same(found, [expected] if isinstance(expected, torch.Tensor) else list(expected))
    assert all(torch.equal(tensor, state[key]) for key, tensor in model.module.state_dict().items())


def test_nothing_in_a_program_writes() -> None:
    for name in CASES:
        for op in known(name).program.ops:
            if op.target != "getitem":
                namespace, operator, overload = op.target.split(".")
                schema = getattr(getattr(getattr(torch.ops, namespace), operator), overload)._schema
                assert not schema.is_mutable, f"{name}: {op.target}"


def test_a_shared_weight_is_there_once() -> None:
    assert [weight.name for weight in known("shared weight").program.weights] == ["first.weight", "first.bias"]
