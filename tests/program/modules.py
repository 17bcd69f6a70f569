"""Small modules, each with something that a tracer or splitter can get wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from random import Random

import torch
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from mapper.graph.model import Graph
from mapper.program.model import Program
from mapper.program.rebuild import rebuild
from tests.tracing import traced


@dataclass(frozen=True)
class Case:
    """A module with inputs, and its program, weights and graph."""

    module: nn.Module
    inputs: tuple[torch.Tensor, ...]
    program: Program
    weights: dict[str, torch.Tensor]
    graph: Graph

    def expected(self) -> list[torch.Tensor]:
        """What the module itself returns for the inputs."""
        with torch.no_grad():
            returned = self.module(*self.inputs)
        return [returned] if isinstance(returned, torch.Tensor) else list(returned)


class Skip(nn.Module):
    """Convolutions with batch normalisation, a skip over two of them, a convolution by groups."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.Conv2d(8, 8, 3, padding=1, groups=4)
        self.norm, self.again = nn.BatchNorm2d(8), nn.BatchNorm2d(8)
        nn.init.uniform_(self.norm.running_var, 0.5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.first(x)))
        return functional.adaptive_avg_pool2d(torch.relu(self.again(self.second(x)) + x), 1).flatten(1)


class Attention(nn.Module):
    """Two heads over a fused projection that is split in three, with a residual."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.qkv, self.out = nn.LayerNorm(16), nn.Linear(16, 48), nn.Linear(16, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, _ = x.shape
        parts = self.qkv(self.norm(x)).split(16, dim=-1)
        q, k, v = (part.view(batch, length, 2, 8).transpose(1, 2) for part in parts)
        mixed = functional.scaled_dot_product_attention(q, k, v)
        return x + self.out(mixed.transpose(1, 2).reshape(batch, length, 16))


class Tied(nn.Module):
    """A language model whose head is its embedding, with positions and a causal mask made of constants."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.positions = nn.Embedding(50, 8), nn.Embedding(6, 8)
        self.head = nn.Linear(8, 50, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        length = ids.shape[1]
        order = torch.arange(length)
        x = self.embedding(ids) + self.positions(order)
        scores = (x @ x.transpose(1, 2)).masked_fill(order[None, :] > order[:, None], float("-inf"))
        return self.head(scores.softmax(-1) @ x)


class Views(nn.Module):
    """Transposed, expanded and strided views of one tensor, read in many places; outputs that are views."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 6)
        self.row = nn.Parameter(torch.randn(6))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        shared = self.linear(x)
        turned = shared.t()
        low, where = torch.sort(torch.relu(turned) + 1, dim=0)
        wide = shared.mean(0, keepdim=True).expand(5, 6)
        return turned, (wide * self.row.expand_as(wide)).t()[1:, ::2], low + shared.t(), where, shared + 2, x


def _mlp() -> nn.Module:
    return nn.Sequential(*(layer for _ in range(3) for layer in (nn.Linear(8, 8), nn.Tanh())))


_BUILD: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": (_mlp, (4, 8)),
    "skip": (Skip, (2, 3, 8, 8)),
    "attention": (Attention, (2, 5, 16)),
    "tied": (Tied, (2, 6)),
    "views": (Views, (5, 6)),
}
NAMES = sorted(_BUILD)


def module_of(name: str) -> nn.Module:
    """A new module, always with the same weights."""
    torch.manual_seed(0)
    return _BUILD[name][0]().eval()


@cache
def case(name: str) -> Case:
    """The module called `name`, traced."""
    module, shape = module_of(name), _BUILD[name][1]
    x = torch.randint(0, 50, shape) if name == "tied" else torch.randn(shape)
    found = traced(module, x, name=name)
    return Case(module, (x,), found.program, found.weights, found.graph)


@st.composite
def partitions(draw: st.DrawFn, graph: Graph, most: int = 5) -> list[list[str]]:
    """The ops of `graph` in 2 to `most` stages, none empty, so that values only flow forward."""
    wanted = draw(st.integers(2, most))
    stage: dict[str, int] = {}
    for op in graph.ops:
        earliest = max((stage[before] for before in graph.digraph.predecessors(op.name)), default=0)
        stage[op.name] = draw(st.integers(earliest, wanted - 1))
    groups = [[name for name, s in stage.items() if s == t] for t in range(wanted)]
    return [draw(st.permutations(group)) for group in groups if group]


def convex(graph: Graph, count: int, random: Random) -> list[list[str]]:
    """The ops of `graph` in `count` stages, none empty (fewer where there are fewer ops): any order in which they can
    run, cut anywhere, which gives every partition into convex stages whose tensors only flow forward."""
    waiting = {op.name: graph.digraph.in_degree(op.name) for op in graph.ops}
    ready, order = [name for name, before in waiting.items() if before == 0], []
    while ready:
        name = ready.pop(random.randrange(len(ready)))
        order.append(name)
        for after in graph.digraph.successors(name):
            waiting[after] -= 1
            if waiting[after] == 0:
                ready.append(after)
    ends = sorted(random.sample(range(1, len(order)), min(count, len(order)) - 1))
    return [order[a:b] for a, b in zip([0, *ends], [*ends, len(order)], strict=True)]


def run_pieces(
    program: Program, weights: Mapping[str, torch.Tensor], inputs: Sequence[torch.Tensor], pieces: Sequence[Program]
) -> list[torch.Tensor]:
    """Runs `pieces` of `program` in order; each takes its inputs by name from the item and from what earlier ones
    returned."""
    values = {given.name: tensor for given, tensor in zip(program.inputs, inputs, strict=True)}
    with torch.no_grad():
        for piece in pieces:
            outputs = rebuild(piece, weights)(*(values[given.name] for given in piece.inputs))
            values |= dict(zip(piece.output_names, outputs, strict=True))
    return [
        weights[name] if kind == "weight" else values[name]
        for output in program.outputs
        for kind, name in output.items()
    ]


def same(left: list[torch.Tensor], right: list[torch.Tensor]) -> bool:
    """Bit by bit, shapes, dtypes and NaNs too."""
    return len(left) == len(right) and all(
        a.dtype == b.dtype and a.shape == b.shape and torch.equal(a.isnan(), b.isnan())
        and torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(left, right, strict=True)
    )  # fmt: skip


def attention(batch: int = 2) -> tuple[nn.Module, torch.Tensor]:
    """As `package.module:callable` for the command line."""
    return Attention(), torch.zeros(batch, 5, 16)


def interrupted() -> None:
    """As if the user had pressed Ctrl-C meanwhile."""
    raise KeyboardInterrupt
