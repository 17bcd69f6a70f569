"""Inception-v3 of Szegedy et al. (arXiv 1512.00567), without its auxiliary classifier, in plain torch.

The five kinds of modules are those of the paper's figures 5, 6, 7 and 10; their branches depend on nothing but the
module's input. Channels are those of the authors' published model.
"""

from __future__ import annotations

import torch
from torch import nn

Size = int | tuple[int, int]


class Conv(nn.Module):
    """A convolution that keeps height and width unless it has a stride, batch normalisation, ReLU."""

    def __init__(self, channels: int, width: int, kernel: Size = 1, stride: int = 1, padded: bool = True) -> None:
        super().__init__()
        sizes = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (sizes[0] // 2, sizes[1] // 2) if padded else 0
        self.conv = nn.Conv2d(channels, width, sizes, stride=stride, padding=padding, bias=False)
        self.norm = nn.BatchNorm2d(width, eps=0.001)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`x` convolved."""
        return torch.relu(self.norm(self.conv(x)))


class Branches(nn.Module):
    """Branches over one input, their channels side by side."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """What all branches make of `x`."""
        return torch.cat([branch(x) for branch in self.branches], dim=1)


def chain(channels: int, *steps: tuple[int, Size]) -> nn.Sequential:
    """Convolutions of (width, kernel) one after the other."""
    widths = [channels, *(width for width, _ in steps)]
    return nn.Sequential(*(Conv(before, width, kernel) for before, (width, kernel) in zip(widths, steps, strict=False)))


def pooled(channels: int, width: int) -> nn.Sequential:
    """The average of the surroundings, then a 1 × 1 convolution."""
    return nn.Sequential(nn.AvgPool2d(3, stride=1, padding=1), Conv(channels, width))


def square(channels: int, pool: int) -> Branches:
    """Figure 5, at 35 × 35."""
    return Branches(
        chain(channels, (64, 1)), chain(channels, (48, 1), (64, 5)), chain(channels, (64, 1), (96, 3), (96, 3)),
        pooled(channels, pool),
    )  # fmt: skip


def halved(channels: int) -> Branches:
    """Figure 10: from 35 × 35 to 17 × 17."""
    return Branches(
        Conv(channels, 384, 3, stride=2, padded=False),
        nn.Sequential(chain(channels, (64, 1), (96, 3)), Conv(96, 96, 3, stride=2, padded=False)),
        nn.MaxPool2d(3, stride=2),
    )


def rows(channels: int, width: int) -> Branches:
    """Figure 6, at 17 × 17: 7 × 7 convolutions as rows and columns."""
    row, column = (1, 7), (7, 1)
    return Branches(
        chain(channels, (192, 1)),
        chain(channels, (width, 1), (width, row), (192, column)),
        chain(channels, (width, 1), (width, column), (width, row), (width, column), (192, row)),
        pooled(channels, 192),
    )


def halved_again(channels: int) -> Branches:
    """Figure 10 with rows and columns: from 17 × 17 to 8 × 8."""
    return Branches(
        nn.Sequential(Conv(channels, 192), Conv(192, 320, 3, stride=2, padded=False)),
        nn.Sequential(
            chain(channels, (192, 1), (192, (1, 7)), (192, (7, 1))), Conv(192, 192, 3, stride=2, padded=False)
        ),
        nn.MaxPool2d(3, stride=2),
    )


def wide(channels: int) -> Branches:
    """Figure 7, at 8 × 8: branches that fork once more."""

    def fork() -> Branches:
        return Branches(Conv(384, 384, (1, 3)), Conv(384, 384, (3, 1)))

    return Branches(
        chain(channels, (320, 1)),
        nn.Sequential(chain(channels, (384, 1)), fork()),
        nn.Sequential(chain(channels, (448, 1), (384, 3)), fork()),
        pooled(channels, 192),
    )


class Inception(nn.Module):
    """Images of shape (batch, 3, 299, 299) to logits of shape (batch, classes)."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            Conv(3, 32, 3, stride=2, padded=False), Conv(32, 32, 3, padded=False), Conv(32, 64, 3),
            nn.MaxPool2d(3, stride=2), Conv(64, 80), Conv(80, 192, 3, padded=False), nn.MaxPool2d(3, stride=2),
        )  # fmt: skip
        self.mixed = nn.Sequential(
            square(192, 32), square(256, 64), square(288, 64), halved(288),
            rows(768, 128), rows(768, 160), rows(768, 160), rows(768, 192), halved_again(768),
            wide(1280), wide(2048),
        )  # fmt: skip
        self.head = nn.Linear(2048, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of `x`."""
        return self.head(self.mixed(self.stem(x)).mean(dim=(2, 3)))  # type: ignore[no-any-return]
