"""Graphs of the families that partitioners are compared on, made up: structure of the networks, seeded times.

Milliseconds in, seconds out. None of them is a profile of a real run.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from mapper.graph.importers.draft import Output, assembled
from mapper.graph.model import Graph, Op


@dataclass
class Sketch:
    """A graph while it is drawn."""

    seed: int
    ops: list[Op] = field(default_factory=list)
    outputs: dict[str, Output] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.pick = random.Random(self.seed)

    def op(self, work_ms: float, comm_ms: float, *reads: str, spread: float = 0.3) -> str:
        """One more op that takes about `work_ms`; its name."""
        name = f"op{len(self.ops)}"
        work = work_ms * (1 + spread * (2 * self.pick.random() - 1))
        self.ops.append(Op(name=name, kind="other", proc_s=round(work, 6) / 1e3))
        self.outputs[name] = Output(0.0, comm_ms / 1e3)
        for producer in dict.fromkeys(reads):
            self.outputs[producer].readers.append(name)
        return name

    def chain(self, count: int, work_ms: float, comm_ms: float, read: str) -> str:
        """`count` ops one after the other; the last one's name."""
        for _ in range(count):
            read = self.op(work_ms, comm_ms, read)
        return read

    def graph(self, name: str) -> Graph:
        """The graph as drawn."""
        return assembled(name, name, self.ops, {k: out for k, out in self.outputs.items() if out.readers})


def inception(blocks: int = 9, seed: int = 1) -> Graph:
    """Blocks of four branches of unequal length between concatenations, tensors shrinking with depth."""
    sketch = Sketch(seed)
    last, comm = sketch.op(4.0, 9.6), 6.4
    for block in range(blocks):
        comm = comm / 1.8 if block % 3 == 2 else comm
        ends = [sketch.chain(3 * length, 0.45, comm / 4, last) for length in (1, 2, 3, 2)]
        last = sketch.op(0.05, comm, *ends)
    sketch.chain(4, 1.0, 0.1, last)
    return sketch.graph(f"inception-{blocks}")


def encoder_decoder(layers: int = 8, steps: int = 6, seed: int = 2) -> Graph:
    """A grid of recurrent cells: each reads its left and lower neighbour; the decoder also attends to the encoder."""
    sketch = Sketch(seed)
    source = sketch.op(0.5, 0.05)
    encoded = [sketch.op(0.3, 0.05, source) for _ in range(steps)]
    for _ in range(layers):
        left: list[str] = []
        for below in encoded:
            left.append(sketch.op(2.0, 0.05, below, *left[-1:]))
        encoded = left
    attention = sketch.op(1.0, 0.1, *encoded)
    decoded = [sketch.op(0.3, 0.05, source) for _ in range(steps)]
    for _ in range(layers):
        right: list[str] = []
        for below in decoded:
            right.append(sketch.op(2.2, 0.05, below, attention, *right[-1:]))
        decoded = right
    sketch.op(12.0, 0.0, *decoded)
    return sketch.graph(f"encoder-decoder-{layers}x{steps}")


def cells(count: int = 12, seed: int = 3) -> Graph:
    """Cells of five pairs of chains that read the two cells before, all joined at the end."""
    sketch = Sketch(seed)
    before = sketch.op(10.0, 4.0)
    last, comm = sketch.chain(3, 1.0, 4.0, before), 4.0
    for cell in range(count):
        comm = comm / 2 if cell % 4 == 3 else comm
        inner = [sketch.chain(3, 0.4, comm / 2, last), sketch.chain(3, 0.4, comm / 2, before)]
        joined = []
        for pair in range(5):
            a, b = sketch.pick.choice(inner), inner[pair % 2]
            ends = [sketch.chain(7, 0.35, comm / 4, a), sketch.chain(1 + 6 * (pair % 2), 0.35, comm / 4, b)]
            joined.append(sketch.op(0.0, comm / 4, *ends))
            inner.append(joined[-1])
        before, last = last, sketch.op(0.0, comm, *joined)
    sketch.chain(2, 0.5, 0.05, last)
    return sketch.graph(f"cells-{count}")


def dense(layers: int = 40, seed: int = 4) -> Graph:
    """Every layer of a block reads all earlier ones of the block, through a concatenation."""
    sketch = Sketch(seed)
    last, comm = sketch.op(5.0, 6.0), 2.0
    for block in range(4):
        grown = [last]
        for _ in range(layers // 4):
            joined = sketch.op(0.05, comm * (1 + 0.2 * len(grown)), *grown)
            grown.append(sketch.chain(3, 0.6, comm / 4, joined))
        last, comm = sketch.op(0.4, comm, *grown), comm / 2
        last = sketch.chain(2, 0.4, comm * (block < 3), last)
    return sketch.graph(f"dense-{layers}")


def transformer(layers: int = 12, heads: int = 12, seed: int = 5) -> Graph:
    """An operator graph: heads side by side, weights as ops without work that one op reads, a mask that all read."""
    sketch = Sketch(seed)
    mask, last = sketch.op(0.02, 0.1), sketch.op(1.0, 0.75)

    def weighted(work: float, comm: float, weight: float, *reads: str) -> str:
        return sketch.op(work, comm, sketch.op(0.0, weight), *reads)

    for _ in range(layers):
        mixed = []
        for _ in range(heads):
            query, key, value = (weighted(0.04, 0.06, 0.3, last) for _ in range(3))
            scores = sketch.op(0.02, 0.2, query, key)
            softmax = sketch.op(0.02, 0.2, sketch.op(0.01, 0.2, scores, mask))
            mixed.append(sketch.op(0.02, 0.06, softmax, value))
        summed = sketch.op(0.02, 0.75, weighted(0.6, 0.75, 1.2, *mixed), last)
        normal = weighted(0.03, 0.75, 0.01, summed)
        wide = sketch.op(0.1, 3.0, weighted(1.6, 3.0, 4.7, normal))
        last = weighted(0.03, 0.75, 0.01, sketch.op(0.02, 0.75, weighted(1.6, 0.75, 4.7, wide), normal))
    weighted(0.5, 0.0, 1.2, last)
    return sketch.graph(f"transformer-{layers}x{heads}")


def residual(blocks: int = 16, seed: int = 6) -> Graph:
    """Chains of nine ops with a way around them, and the tensors of PipeDream's profiles: large, then small."""
    sketch = Sketch(seed)
    last, comm = sketch.op(19.0, 9.6), 12.8
    for block in range(blocks):
        comm = comm / 2 if block in (3, 7, 13) else comm
        last = sketch.op(0.6, comm, sketch.chain(8, 1.0, comm / 2, last), last)
    sketch.chain(3, 0.5, 0.1, last)
    return sketch.graph(f"residual-{blocks}")


FAMILIES: tuple[Callable[[], Graph], ...] = (inception, encoder_decoder, cells, dense, transformer, residual)
"""Each with its usual size."""
