"""Items that several calls of a program take: split on their way in, joined on their way out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch

Tensors = Sequence[torch.Tensor]


def split(item: Tensors, calls: int) -> Iterator[list[torch.Tensor]]:
    """The micro-batches of `item`: equal parts of every tensor's first dimension, not copied."""
    parts = [torch.split(tensor, tensor.shape[0] // calls) for tensor in item]
    return (list(part) for part in zip(*parts, strict=True))


def joined(micro_batches: Iterable[Tensors]) -> tuple[torch.Tensor, ...]:
    """The tensors of an item, from those of its micro-batches in order."""
    return tuple(torch.cat(parts) for parts in zip(*micro_batches, strict=True))
