"""DenseNet of Huang et al. (arXiv 1608.06993), with bottleneck layers and compression, in plain torch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


def before(channels: int) -> list[nn.Module]:
    """What comes before each convolution: normalisation and ReLU."""
    return [nn.BatchNorm2d(channels), nn.ReLU()]


class Layer(nn.Module):
    """A 1 × 1 and a 3 × 3 convolution of all that came before; `growth` new channels are put beside it."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            *before(channels), nn.Conv2d(channels, 4 * growth, 1, bias=False),
            *before(4 * growth), nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`x` with `growth` channels more."""
        return torch.cat([x, self.convolutions(x)], dim=1)


class DenseNet(nn.Module):
    """Images of shape (batch, 3, 224, 224) to logits of shape (batch, classes). `layers` are those of each block."""

    def __init__(
        self, layers: Sequence[int] = (6, 12, 24, 16), growth: int = 32, channels: int = 64, classes: int = 1000
    ) -> None:
        super().__init__()
        parts: list[nn.Module] = [
            nn.Conv2d(3, channels, 7, stride=2, padding=3, bias=False), *before(channels),
            nn.MaxPool2d(3, stride=2, padding=1),
        ]  # fmt: skip
        for i, count in enumerate(layers):
            if i > 0:  # between blocks: half of the channels, half of the height and width
                parts += [*before(channels), nn.Conv2d(channels, channels // 2, 1, bias=False), nn.AvgPool2d(2)]
                channels //= 2
            parts += [Layer(channels + j * growth, growth) for j in range(count)]
            channels += count * growth
        self.features = nn.Sequential(*parts, *before(channels), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Linear(channels, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of `x`."""
        return self.classifier(self.features(x))  # type: ignore[no-any-return]
