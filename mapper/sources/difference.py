"""How far outputs are from what they should be, and how far rounding alone moves those of a model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from mapper.backends import eager
from mapper.backends.registry import BFLOAT16, FLOAT32
from mapper.sources.source import Source


@dataclass(frozen=True)
class Difference:
    """How far outputs are from what they should be. `largest` is absolute, infinite where only one side is a number;
    `relative` is against the largest magnitude of the tensor that should be there; infinite where that is all zeros,
    since nothing says then what would be small."""

    identical: bool
    largest: float
    relative: float


def difference_of(found: torch.Tensor, expected: torch.Tensor) -> Difference:
    """Compares two tensors, bit by bit and by magnitude. NaN equals NaN."""
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return Difference(False, math.inf, math.inf)
    if _bits_equal(found, expected):
        return Difference(True, 0.0, 0.0)
    wide = torch.complex128 if expected.is_complex() else torch.float64
    a, b = found.to(wide), expected.to(wide)
    same = (a == b) | (a.isnan() & b.isnan())
    gap = torch.where(same, 0.0, (a - b).abs())
    largest = float(gap.nan_to_num(nan=math.inf, posinf=math.inf).max())
    scale = float(torch.where(b.isfinite(), b.abs(), 0.0).max())
    return Difference(False, largest, largest / scale if scale else math.inf if largest else 0.0)


def noise_of(source: Source, items: Sequence[Sequence[torch.Tensor]]) -> tuple[float, ...]:
    """How far the outputs of the unsplit program of `source` move, each relative to its largest magnitude and at worst
    over `items`, when products and convolutions are rounded to bfloat16. 0 where nothing can be said.

    With the weights of `source` on both sides: a wrong weight moves the outputs, but not what rounding does to them.
    """
    with torch.inference_mode():
        threads = torch.get_num_threads()
        both = [eager.prepare(source.program, source.weights, threads, bits) for bits in (FLOAT32, BFLOAT16)]
        noise = [0.0] * len(source.program.outputs)
        for item in items:
            wanted, found = (compute(*item) for compute in both)
            moved = [difference_of(*pair).relative for pair in zip(found, wanted, strict=True)]
            noise = [max(old, new) if math.isfinite(new) else old for old, new in zip(noise, moved, strict=True)]
    return tuple(noise)


def _bits_equal(a: torch.Tensor, b: torch.Tensor) -> bool:
    if a.numel() == 0:
        return True
    left, right = (t.contiguous().reshape(-1).view(torch.uint8) for t in (a, b))
    return torch.equal(left, right)
