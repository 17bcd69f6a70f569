"""What goes over a link: the bytes of a call's tensors, one behind the other, and nothing else.

Both ends know shapes, dtypes and the order of calls from the plan. Elements that a tensor repeats (stride 0) go once.
Tensors with larger elements come first, so that each begins where its dtype may.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from mapper.program.model import TensorType

LEAST_BYTES = 1
"""A message of no bytes is none: tensors without elements go as one byte."""


def message_bytes(types: Sequence[TensorType]) -> int:
    """Bytes of a message with tensors of these types."""
    return max(LEAST_BYTES, sum(kind.bytes for kind in types))


def pack(tensors: Sequence[torch.Tensor], types: Sequence[TensorType]) -> torch.Tensor:
    """The message (uint8) with `tensors`, which have these types. It may share memory with the only one."""
    parts = [_raw(tensors[i], types[i]) for i in _order(types)]
    if sum(part.numel() for part in parts) == 0:
        return torch.zeros(LEAST_BYTES, dtype=torch.uint8)
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _raw(tensor: torch.Tensor, kind: TensorType) -> torch.Tensor:
    """The distinct elements of `tensor`, row by row, as bytes."""
    for dimension, (n, stride) in enumerate(zip(kind.shape, kind.strides, strict=True)):
        if stride == 0 and n > 1:
            tensor = tensor.narrow(dimension, 0, 1)
    flat = tensor.contiguous().reshape(-1)
    return flat.as_strided(flat.shape, (1,)).view(torch.uint8)  # a tensor of one element or none may have any stride


def unpack(message: torch.Tensor, types: Sequence[TensorType]) -> list[torch.Tensor]:
    """The tensors of a message, which share its memory. Strides are the natural ones: who needs others copies."""
    found: list[torch.Tensor | None] = [None] * len(types)
    start = 0
    for i in _order(types):
        kind = types[i]
        part = message[start : start + kind.bytes].view(getattr(torch, kind.dtype))
        found[i] = part.reshape(kind.distinct_shape).expand(kind.shape)
        start += kind.bytes
    return [tensor for tensor in found if tensor is not None]


def _order(types: Sequence[TensorType]) -> list[int]:
    """The order of tensors in a message."""
    return sorted(range(len(types)), key=lambda i: -types[i].item_bytes)
