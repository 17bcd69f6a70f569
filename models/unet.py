"""U-Net of Ronneberger, Fischer and Brox (arXiv 1505.04597), in plain torch.

Convolutions are padded, so that an image's mask is as large as the image; each is followed by batch normalisation.
"""

from __future__ import annotations

import torch
from torch import nn


def double(channels: int, width: int) -> nn.Sequential:
    """Two 3 × 3 convolutions."""
    parts: list[nn.Module] = []
    for given in (channels, width):
        parts += [nn.Conv2d(given, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*parts)


class UNet(nn.Module):
    """Images of shape (batch, 3, size, size) to a score of each class for each pixel; size a multiple of 2^depth."""

    def __init__(self, width: int = 32, depth: int = 4, classes: int = 2) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(depth + 1)]
        self.down = nn.ModuleList(double(a, b) for a, b in zip([3, *widths], widths, strict=False))
        upwards = list(zip(reversed(widths), reversed(widths[:-1]), strict=False))
        self.widen = nn.ModuleList(nn.ConvTranspose2d(a, b, 2, stride=2) for a, b in upwards)
        self.up = nn.ModuleList(double(2 * b, b) for _, b in upwards)
        self.pool, self.head = nn.MaxPool2d(2), nn.Conv2d(width, classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores of `x`; what each level going down computed is read again on the way up."""
        kept: list[torch.Tensor] = []
        for level, block in enumerate(self.down):
            x = block(self.pool(x) if level else x)
            kept.append(x)
        for widen, block, beside in zip(self.widen, self.up, reversed(kept[:-1]), strict=True):
            x = block(torch.cat([beside, widen(x)], dim=1))
        return self.head(x)  # type: ignore[no-any-return]
