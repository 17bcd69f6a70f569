"""Small models that cross stage borders in the ways that matter."""

from __future__ import annotations

from functools import cache

import torch
from torch import nn

from tests.tracing import Traced, traced


@cache
def mlp() -> Traced:
    """Four layers: linear, relu, four times over."""
    torch.manual_seed(0)
    module = nn.Sequential(*(layer for _ in range(4) for layer in (nn.Linear(64, 64), nn.ReLU())))
    return traced(module, torch.randn(8, 64), name="mlp")


class _Skip(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.third = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        y = self.second(torch.relu(x))
        return self.third(torch.relu(y)) + x


@cache
def skip() -> Traced:
    """A convolution net whose first result is read by its last op: ops conv, relu, conv, relu, conv, add."""
    torch.manual_seed(1)
    return traced(_Skip(), torch.randn(2, 3, 16, 16), name="skip")


class _Strides(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 6)
        self.weight = nn.Parameter(torch.randn(6, 4).t())

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
        doubled = self.linear(x) * 2
        turned = torch.relu(doubled).t() + 1
        row = doubled.mean(0, keepdim=True)
        first, second = torch.split(turned, 3)
        low, where = torch.sort(row + 1, dim=-1)
        return {
            "wide": low[:1].expand(7, 6), "weighed": low @ self.weight.t(), "turned": second.t(),
            "first": first[1:, ::2], "where": where, "mask": mask, "same": doubled,
        }  # fmt: skip


@cache
def strides() -> Traced:
    """Two inputs, seven outputs: transposed, expanded and strided tensors, an input handed through, integers."""
    torch.manual_seed(2)
    return traced(_Strides(), torch.randn(5, 6), torch.ones(3, dtype=torch.bool), name="strides")
