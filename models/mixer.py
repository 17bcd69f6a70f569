"""MLP-Mixer of Tolstikhin et al. (arXiv 2105.01601), in plain torch."""

from __future__ import annotations

import torch
from torch import nn


def perceptron(width: int, hidden: int) -> nn.Sequential:
    """Two linear layers over the last dimension."""
    return nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))


class Block(nn.Module):
    """A perceptron across the patches, then one across the channels, both with residuals."""

    def __init__(self, patches: int, width: int, across_patches: int, across_channels: int) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.tokens, self.channels = perceptron(patches, across_patches), perceptron(width, across_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`x` of shape (batch, patches, width) after this block."""
        x = x + self.tokens(self.norm_1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.channels(self.norm_2(x))  # type: ignore[no-any-return]


class Mixer(nn.Module):
    """Images of shape (batch, 3, size, size) to logits of shape (batch, classes)."""

    def __init__(
        self, size: int = 224, patch: int = 16, width: int = 768, blocks: int = 12, across_patches: int = 384,
        across_channels: int = 3072, classes: int = 1000,
    ) -> None:  # fmt: skip
        super().__init__()
        self.stem = nn.Conv2d(3, width, patch, stride=patch)
        patches = (size // patch) ** 2
        self.blocks = nn.Sequential(*(Block(patches, width, across_patches, across_channels) for _ in range(blocks)))
        self.norm, self.head = nn.LayerNorm(width, eps=1e-6), nn.Linear(width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of `x`."""
        x = self.blocks(self.stem(x).flatten(2).transpose(1, 2))
        return self.head(self.norm(x).mean(dim=1))  # type: ignore[no-any-return]
