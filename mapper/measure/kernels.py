"""The calls behind `cases`: each sort's operator, called as the eager back end calls it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

SPREAD_BYTES = 8 * 2**20
"""Bytes that were touched since a call's operands were: within a model they are not in the nearest cache either."""
MOST_COPIES = 8

Tensors = tuple[torch.Tensor, ...]
Kernel = Callable[..., object]
_OPS = torch.ops.aten


def kernel(sort: str, sizes: Sequence[int]) -> Callable[[], object]:
    """What computes an op of `sort` once, each time on other operands until all have had their turn."""
    call, made = _KERNELS[sort](*sizes)
    first = made()
    footprint = sum(t.numel() * t.element_size() for t in first)
    copies = max(1, min(MOST_COPIES, math.ceil(SPREAD_BYTES / max(1, footprint))))
    turns = itertools.cycle([first, *(made() for _ in range(copies - 1))])
    return lambda: call(*next(turns))


def operands(sort: str, sizes: Sequence[int]) -> tuple[Kernel, Tensors]:
    """The operator of `sort` with its operands."""
    call, made = _KERNELS[sort](*sizes)
    return call, made()


Made = tuple[Kernel, Callable[[], Tensors]]


def _matmul(rows: int, inner: int, columns: int) -> Made:
    return _OPS.linear.default, lambda: (_rand(rows, inner), _rand(columns, inner), _rand(columns))


def _batched(products: int, rows: int, inner: int, columns: int) -> Made:
    return _OPS.bmm.default, lambda: (_rand(products, rows, inner), _rand(products, inner, columns))


def _conv(groups_of: int | None = None) -> Callable[..., Made]:
    """A convolution with padding; `groups_of` channels a group."""

    def made(images: int, channels: int, side: int, outputs: int, window: int, stride: int) -> Made:
        per_group = groups_of or channels
        groups, padding = channels // per_group, window // 2

        def call(x: torch.Tensor, kernel: torch.Tensor, bias: torch.Tensor) -> object:
            return _OPS.conv2d.default(x, kernel, bias, [stride, stride], [padding, padding], [1, 1], groups)

        return call, lambda: (
            _rand(images, channels, side, side), _rand(outputs, per_group, window, window), _rand(outputs),
        )  # fmt: skip

    return made


def _transposed(images: int, channels: int, side: int, outputs: int, window: int, stride: int) -> Made:
    def call(x: torch.Tensor, kernel: torch.Tensor, bias: torch.Tensor) -> object:
        return _OPS.conv_transpose2d.input(x, kernel, bias, [stride, stride])

    return call, lambda: (_rand(images, channels, side, side), _rand(channels, outputs, window, window), _rand(outputs))


def _attention(heads: int, length: int, size: int) -> Made:
    """Heads as a model makes them: a view of (length, heads · size) with the heads in front."""

    def one() -> torch.Tensor:
        return _rand(1, length, heads, size).transpose(1, 2)

    return _OPS.scaled_dot_product_attention.default, lambda: (one(), one(), one())


def _masked(heads: int, length: int, size: int) -> Made:
    """With a bias for each pair of positions, as windows have."""
    call, made = _attention(heads, length, size)
    return call, lambda: (*made(), _rand(1, heads, length, length))


def _layer(rows: int, columns: int) -> Made:
    def call(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> object:
        return _OPS.layer_norm.default(x, [columns], weight, bias)

    return call, lambda: (_rand(rows, columns), _rand(columns), _rand(columns))


def _batch(channels: int, pixels: int) -> Made:
    def call(x: torch.Tensor, *of_channels: torch.Tensor) -> object:
        return _OPS.batch_norm.default(x, *of_channels, False, 0.1, 1e-5, True)

    return call, lambda: (_rand(1, channels, pixels, 1), *(_rand(channels) for _ in range(4)))


def _pool(operator: Any) -> Callable[..., Made]:
    def made(channels: int, side: int, window: int, stride: int) -> Made:
        padding = window // 2 if window % 2 else 0

        def call(x: torch.Tensor) -> object:
            return operator(x, [window, window], [stride, stride], [padding, padding])

        return call, lambda: (_rand(1, channels, side, side),)

    return made


def _on_one(call: Kernel) -> Callable[..., Made]:
    """An operator on one tensor of any sizes."""
    return lambda *sizes: (call, lambda: (_rand(*sizes),))


def _embedding(rows: int, columns: int, vocabulary: int) -> Made:
    return _OPS.embedding.default, lambda: (_rand(vocabulary, columns), torch.randint(vocabulary, (rows,)))


def _rand(*sizes: int) -> torch.Tensor:
    return torch.rand(sizes)


_KERNELS: dict[str, Callable[..., Made]] = {
    "matmul": _matmul,
    "matmul.vector": _matmul,
    "matmul.batched": _batched,
    "conv": _conv(),
    "conv.pointwise": _conv(),
    "conv.stem": _conv(),
    "conv.depthwise": _conv(1),
    "conv.transposed": _transposed,
    "attention": _attention,
    "attention.masked": _masked,
    "softmax": _on_one(lambda x: _OPS.softmax.int(x, -1)),
    "normalization.layer": _layer,
    "normalization.batch": _batch,
    "elementwise": lambda *sizes: (_OPS.add.Tensor, lambda: (_rand(*sizes), _rand(*sizes))),
    "elementwise.strided": lambda a, b: (_OPS.add.Tensor, lambda: (_rand(a, b).t(), _rand(b, a))),
    "transcendental.gelu": _on_one(_OPS.gelu.default),
    "transcendental.tanh": _on_one(_OPS.tanh.default),
    "transcendental.silu": _on_one(_OPS.silu.default),
    "transcendental.sigmoid": _on_one(_OPS.sigmoid.default),
    "transcendental.hardswish": _on_one(_OPS.hardswish.default),
    "transcendental.exp": _on_one(_OPS.exp.default),
    "transcendental.pow": _on_one(lambda x: _OPS.pow.Tensor_Scalar(x, 3.0)),
    "pool.max": _pool(_OPS.max_pool2d.default),
    "pool.average": _pool(_OPS.avg_pool2d.default),
    "reduce": _on_one(lambda x: _OPS.mean.dim(x, [-1])),
    "reduce.adaptive": lambda channels, side: (
        lambda x: _OPS.adaptive_avg_pool2d.default(x, [1, 1]),
        lambda: (_rand(1, channels, side, side),),
    ),
    "embedding": _embedding,
    "copy": _on_one(_OPS.clone.default),
    "copy.strided": lambda a, b: (
        lambda x: _OPS.clone.default(x, memory_format=torch.contiguous_format),
        lambda: (_rand(a, b).t(),),
    ),
    "copy.cat": lambda *s: (lambda a, b: _OPS.cat.default([a, b]), lambda: (_rand(*s), _rand(*s))),
    "none": _on_one(lambda x: _OPS.select.int(x, 0, 0)),
}
