"""The ops that a calibration times: for each sort of op a few sizes, from next to no work to a few milliseconds of it.

Sizes are those of common models' ops; none was chosen for a model. What each kernel does with the sizes is in
`kernels`; units and bytes here are what `mapper.cost.forms` and the graph say of such an op.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

ITEM_BYTES = 4
Sizes = tuple[int, ...]


@dataclass(frozen=True)
class Case:
    """One op of a sort. `teams` says whether it is large enough to show what a team gains, `far` that its weights come
    from DRAM and show how fast the sort reads them."""

    sort: str
    sizes: Sizes
    teams: bool = False
    far: bool = False

    @property
    def name(self) -> str:
        """Such as matmul 128x768x768."""
        return f"{self.sort} {'x'.join(map(str, self.sizes))}"

    @property
    def kind(self) -> str:
        """What comes before the dot of the sort."""
        return self.sort.partition(".")[0]

    @property
    def units(self) -> float:
        """FLOP of products and attention, elements of the rest; 0 where nothing is computed."""
        return float(_UNITS[self.sort if self.sort in _UNITS else self.kind](self.sizes))

    @property
    def weight_bytes(self) -> float:
        """Bytes of the kernel that a convolution lays out anew, 0 for the rest."""
        if self.kind != "conv":
            return 0.0
        _, channels, _, outputs, window, _ = self.sizes
        return float(ITEM_BYTES * outputs * (1 if self.sort == "conv.depthwise" else channels) * window**2)


def _convolution(sizes: Sizes) -> float:
    """2 · window · input channels of a group for each output. Images, channels, side, outputs, window, stride."""
    images, channels, side, outputs, window, stride = sizes
    return 2 * images * outputs * (math.ceil(side / stride)) ** 2 * channels * window**2


_UNITS: dict[str, Callable[[Sizes], float]] = {
    "matmul": lambda s: 2 * math.prod(s),
    "conv": _convolution,
    "conv.depthwise": lambda s: _convolution((s[0], 1, *s[2:])),
    "conv.transposed": lambda s: 2 * s[0] * s[1] * s[2] ** 2 * s[3] * s[4] ** 2,
    "attention": lambda s: 4 * s[0] * s[1] * s[1] * s[2],
    "softmax": math.prod,
    "normalization": math.prod,
    "elementwise": math.prod,
    "transcendental": math.prod,
    "copy": math.prod,
    "copy.cat": lambda s: 2 * math.prod(s),
    "embedding": lambda s: s[0] * s[1],
    "pool": lambda s: s[0] * (s[1] // s[3]) ** 2 * s[2] ** 2,
    "reduce": math.prod,
    "reduce.adaptive": lambda s: s[0] * s[1] ** 2,
    "none": lambda s: 0,
}


def _cases(sort: str, *sizes: Sizes, teams: int = 2) -> list[Case]:
    """Cases of a sort from small to large; the last `teams`, never the first, are also timed with teams."""
    return [Case(sort, size, i >= max(1, len(sizes) - teams)) for i, size in enumerate(sizes)]


CASES: tuple[Case, ...] = (
    # rows, inner, columns
    *_cases("matmul", (8, 64, 64), (32, 128, 128), (64, 256, 256), (128, 768, 768), (197, 768, 768), (512, 512, 512),
            (128, 768, 3072), (197, 3072, 768), teams=4),
    *_cases("matmul.vector", (1, 64, 64), (1, 256, 256), (1, 768, 768), (1, 768, 3072)),
    Case("matmul.vector", (1, 4096, 4096), far=True),
    # products, rows, inner, columns
    *_cases("matmul.batched", (12, 8, 8, 8), (12, 32, 32, 32), (12, 128, 64, 128), (12, 197, 64, 197)),
    # images, channels, side, outputs, window, stride
    *_cases("conv", (1, 8, 7, 8, 3, 1), (1, 512, 7, 512, 3, 1), (1, 256, 14, 256, 3, 1), (1, 128, 28, 128, 3, 1),
            (1, 64, 56, 64, 3, 1), (1, 128, 56, 128, 3, 2), (1, 64, 35, 96, 3, 1), teams=4),
    *_cases("conv.pointwise", (1, 16, 7, 16, 1, 1), (1, 320, 7, 1280, 1, 1), (1, 96, 14, 576, 1, 1),
            (1, 24, 56, 144, 1, 1), (1, 1024, 14, 256, 1, 1), (1, 256, 28, 512, 1, 2), (1, 64, 56, 256, 1, 1),
            (1, 512, 28, 256, 1, 1), teams=4),
    *_cases("conv.depthwise", (1, 16, 7, 16, 3, 1), (1, 960, 7, 960, 3, 1), (1, 384, 14, 384, 3, 1),
            (1, 240, 28, 240, 5, 2), (1, 144, 56, 144, 3, 1), (1, 96, 112, 96, 3, 2), teams=3),
    *_cases("conv.stem", (1, 3, 16, 32, 3, 1), (1, 3, 112, 32, 3, 2), (1, 3, 224, 32, 3, 2), (1, 3, 224, 64, 7, 2)),
    *_cases("conv.transposed", (1, 16, 7, 16, 2, 2), (1, 128, 28, 64, 2, 2), (1, 256, 28, 128, 2, 2),
            (1, 64, 96, 32, 2, 2)),
    # heads, length, size of a head
    *_cases("attention", (2, 8, 16), (12, 64, 64), (12, 128, 64), (12, 197, 64), (12, 384, 64), teams=3),
    *_cases("attention.masked", (2, 8, 16), (96, 49, 32), (12, 128, 64), (384, 49, 32)),
    # rows, columns
    *_cases("softmax", (4, 16), (1536, 128), (2364, 197)),
    *_cases("normalization.layer", (1, 64), (128, 768), (197, 768), (1024, 768)),
    # channels, pixels
    *_cases("normalization.batch", (16, 16), (960, 49), (256, 196), (64, 3136), (96, 12544)),
    *_cases("elementwise", (1, 256), (64, 3136), (128, 3072), (96, 12544)),
    *_cases("elementwise.strided", (16, 16), (197, 768), (512, 3072)),
    *_cases("transcendental.gelu", (1, 256), (128, 3072), (197, 3072)),
    *_cases("transcendental.tanh", (1, 256), (128, 3072)),
    *_cases("transcendental.silu", (1, 256), (128, 3072)),
    *_cases("transcendental.sigmoid", (1, 256), (128, 3072)),
    *_cases("transcendental.hardswish", (1, 256), (128, 3072)),
    *_cases("transcendental.exp", (1, 256), (128, 3072)),
    *_cases("transcendental.pow", (1, 256), (128, 3072)),
    # channels, side, window, stride
    *_cases("pool.max", (4, 8, 2, 2), (192, 28, 3, 1), (128, 56, 2, 2), (64, 112, 3, 2)),
    *_cases("pool.average", (4, 8, 2, 2), (192, 28, 3, 1), (256, 28, 2, 2)),
    *_cases("reduce", (1, 64), (128, 768), (512, 3072)),
    # channels, side
    *_cases("reduce.adaptive", (4, 4), (1280, 7), (256, 28)),
    # rows that are read, columns, rows that there are
    *_cases("embedding", (1, 64, 64), (128, 768, 4096), (512, 768, 4096)),
    *_cases("copy", (1, 256), (128, 768), (512, 3072)),
    *_cases("copy.strided", (16, 16), (96, 784), (384, 3136)),
    *_cases("copy.cat", (1, 128), (128, 784), (512, 3136)),
    *_cases("none", (1, 64), teams=0),
)  # fmt: skip

STANDS_FOR = {
    "normalization": "normalization.layer",
    "transcendental": "transcendental.sigmoid",
    "pool": "pool.max",
}
"""The sort whose rate a kind takes for operators that have no sort of their own."""
