"""Items: what one call of a model takes, and random ones to run it with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch


class ItemSpec(Protocol):
    """What `random_items` needs to know of an input."""

    @property
    def name(self) -> str:
        """The input's name."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape, batch included."""

    @property
    def dtype(self) -> str:
        """Its dtype, such as `float32`."""

    @property
    def high(self) -> int | None:
        """Integers are drawn below this; None for floating point."""


@dataclass(frozen=True)
class InputSpec:
    """An input of a realised model: shape with the batch in it."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    high: int | None = None


def random_items(specs: Sequence[ItemSpec], count: int, seed: int = 0) -> list[dict[str, torch.Tensor]]:
    """`count` items of random content: normal numbers, integers below `high`, or true and false."""
    import torch

    generator = torch.Generator().manual_seed(seed)

    def one(spec: ItemSpec) -> torch.Tensor:
        dtype = getattr(torch, spec.dtype)
        if dtype.is_floating_point:
            return torch.randn(spec.shape, generator=generator).to(dtype)
        return torch.randint(0, spec.high or 2, spec.shape, generator=generator).to(dtype)

    return [{spec.name: one(spec) for spec in specs} for _ in range(count)]


def spec_of(name: str, example: torch.Tensor) -> InputSpec:
    """The input called `name` that `example` is one of: integers say how large integers may be."""
    high = None
    if not example.is_floating_point() and not example.is_complex():
        high = max(1, int(example.max()) + 1) if example.numel() else 1
    return InputSpec(name, tuple(example.shape), str(example.dtype).removeprefix("torch."), high)
