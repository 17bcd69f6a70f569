"""What depends on weights and constants alone is computed once, and stages still compute what the model does."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from mapper.program.model import Program
from mapper.program.rebuild import interpret, rebuild
from mapper.program.split import split
from mapper.program.views import MOST_GROWTH_BYTES, views
from tests.program.modules import convex, run_pieces, same
from tests.tracing import Traced, traced

QUICK = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Model(nn.Module):
    """A module whose forward is `compute`, with a table, which row of it is whose bias, and weights of few bits."""

    def __init__(self, compute: Callable[..., Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.compute = compute
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.table = nn.Parameter(torch.randn(9, 4))
        self.register_buffer("rows", torch.tensor([[0, 8, 3, 1], [2, 2, 7, 5], [6, 4, 1, 0], [3, 3, 8, 2]]))
        self.register_buffer("packed", torch.randint(-128, 128, (4, MOST_GROWTH_BYTES // 12 + 4), dtype=torch.int8))

    def forward(self, x: torch.Tensor) -> Any:
        return self.compute(self, x)


def bias(self: Model, x: torch.Tensor) -> torch.Tensor:
    """As in Swin: a bias from a table, strided, with a mask, read by two layers, once through a view."""
    found = self.table[self.rows.view(-1)].view(4, 4, 4).permute(2, 0, 1)
    masked = found.contiguous() + torch.zeros(4, 4).masked_fill(torch.arange(4)[None] > torch.arange(4)[:, None], -9.0)
    scores = (self.first(x) @ x.t() + masked).softmax(-1)
    again = (scores @ self.second(x) + found).tanh()
    return (again + masked.transpose(1, 2)).sum(0)


def parts(self: Model, x: torch.Tensor) -> torch.Tensor:
    """Tuples of weights and of constants, and a weight that is split."""
    low, where = torch.sort(self.table, dim=0)
    left, right = (self.table[:4] * 2).chunk(2, dim=1)
    even, odd = torch.arange(8).split(4)
    y = self.first(x) + low[:4] * where[3:7]
    return torch.cat([y[:, :2] * left, y[:, 2:] - right], dim=1) * even + odd


def unpacked(self: Model, x: torch.Tensor) -> torch.Tensor:
    """Weights of 8 bits, as a whole too large to be unpacked once, and a part that is not."""
    wide = self.packed.float() * 0.1
    some = self.packed[:, :4].float() * 0.1
    return self.first(x).tanh() @ wide[:, 4:9] + (x @ some).sum(1, keepdim=True)


def returned(self: Model, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Outputs that are prepared, or views of what is, beside one that is not."""
    made = self.table[self.rows[0]] * 3
    return made, self.second(torch.tanh(self.first(x) + made)), made.t(), self.table.t(), torch.arange(3) * 2, made


CASES = {"bias": bias, "parts": parts, "unpacked": unpacked, "returned": returned}
PER_ITEM = {"bias": 11, "parts": 9, "unpacked": 9, "returned": 4}
"""Calls that are left for an item."""


@cache
def known(name: str) -> Traced:
    """The model called `name`, traced."""
    return traced(Model(CASES[name]), torch.zeros(4, 4), name=name)


def expected(model: Traced, x: torch.Tensor) -> list[torch.Tensor]:
    """What the module itself returns."""
    with torch.no_grad():
        found = model.module(x)
    return [found] if isinstance(found, torch.Tensor) else list(found)


def calls(program: Program, weights: dict[str, torch.Tensor]) -> list[str]:
    """What a rebuilt program computes for each item."""
    return [node.name for node in rebuild(program, weights).graph.nodes if node.op == "call_function"]


@pytest.mark.parametrize("stages", [1, 2, 3, 7])
@pytest.mark.parametrize("name", CASES)
@QUICK
@given(random=st.randoms(use_true_random=False), seed=st.integers(0, 1000))
def test_stages_compute_what_the_model_does(name: str, stages: int, random: Random, seed: int) -> None:
    model = known(name)
    x = torch.randn(4, 4, generator=torch.Generator().manual_seed(seed))
    pieces = split(model.program, convex(model.graph, stages, random))
    assert same(run_pieces(model.program, model.weights, [x], pieces), expected(model, x))


@pytest.mark.parametrize("name", CASES)
def test_the_whole_program_and_the_interpreter_compute_what_the_model_does(name: str) -> None:
    model, x = known(name), torch.randn(4, 4)
    with torch.no_grad():
        module = rebuild(model.program, model.weights)
        assert same(list(module(x)), expected(model, x))
        assert same(list(module(x + 1)), expected(model, x + 1)), "a second item"
        assert same(list(interpret(model.program, model.weights, [x], lambda _: None)), expected(model, x))


@pytest.mark.parametrize("name", CASES)
def test_what_is_prepared_is_not_computed_for_an_item(name: str) -> None:
    model = known(name)
    prepared = views(model.program).prepared
    found = calls(model.program, model.weights)
    assert sorted(found) == sorted(op.name for op in model.program.ops if op.name not in prepared)
    assert len(found) == PER_ITEM[name], found
    for piece in split(model.program, convex(model.graph, 3, Random(0))):
        assert not prepared & set(calls(piece, model.weights))
        assert not prepared & set(piece.input), "each stage prepares what it reads"


def test_buffers_are_what_is_read_and_nothing_behind_it() -> None:
    model = known("bias")
    module = rebuild(model.program, model.weights)
    shapes = sorted(tuple(buffer.shape) for buffer in module.buffers())
    assert shapes == [(4,), (4,), (4, 4), (4, 4), (4, 4, 4), (4, 4, 4), (4, 4, 4)], "no table, no rows"
    strides = {op.name: op.type.strides for op in model.program.ops if op.target == "aten.permute.default"}
    assert set(strides.values()) <= {buffer.stride() for buffer in module.buffers()}, "as it was computed"
    parted = rebuild(known("unpacked").program, known("unpacked").weights)
    packed = known("unpacked").weights["packed"]
    assert packed.data_ptr() in {buffer.data_ptr() for buffer in parted.buffers()}, "what is unpacked for an item stays"


def test_a_part_of_a_weight_takes_no_memory() -> None:
    model = traced(Model(lambda self, x: x + self.table[2:6]), torch.zeros(4, 4))
    (buffer,) = rebuild(model.program, model.weights).buffers()
    assert buffer.untyped_storage().data_ptr() == model.weights["table"].untyped_storage().data_ptr()


def test_stages_bring_the_weights_behind_what_they_prepare() -> None:
    model = known("bias")
    names = [op.name for op in model.graph.ops]
    pieces = split(model.program, [[name] for name in names])
    for name, piece in zip(names, pieces, strict=True):
        reads = {use.name for op in model.graph.ops if op.name == name for use in op.weights} & set(piece.op)
        assert bool(reads) == ("table" in piece.weight), name
        assert views(piece).prepared == views(model.program).prepared & set(piece.op)


def test_ops_that_compute_the_same_share_a_tensor() -> None:
    def twice(self: Model, x: torch.Tensor) -> torch.Tensor:
        return (x + self.table[1:5].exp()).tanh() * self.table[1:5].exp() - self.table[1:5].exp().log()

    model, x = traced(Model(twice), torch.zeros(4, 4)), torch.randn(4, 4)
    with torch.no_grad():
        module = rebuild(model.program, model.weights)
        assert same(list(module(x)), expected(model, x))
    assert len({buffer.data_ptr() for buffer in module.buffers()}) == 2


def test_intermediate_values_are_dropped_on_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    def chain(self: Model, x: torch.Tensor) -> torch.Tensor:
        made = self.table[:4]
        for _ in range(20):
            made = made * 0.5
        return x + made

    from mapper.program import rebuild as module

    model, computed, most = traced(Model(chain), torch.zeros(4, 4)), module._computed, [0]

    def counted(op: Any, values: Any) -> Any:
        most.append(len(values))
        return computed(op, values)

    monkeypatch.setattr(module, "_computed", counted)
    rebuild(model.program, model.weights)
    assert len(most) == 22 and max(most) == 1, "one value at a time, the weight included"


@pytest.mark.parametrize("name", ["bias", "returned"])
def test_the_interpreter_prepares_with_the_threads_of_the_reader(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each stage prepares what it reads with its own team, which may split sums in another way: here a prepared tensor
    is as many times what it should be as threads have computed it."""
    from mapper.program import rebuild as module

    model, computed, seen = known(name), module._computed, []
    prepared = views(model.program).prepared
    chosen = next(use.name for op in model.graph.ops for use in op.weights if use.name in prepared)
    readers = [op.name for op in model.graph.ops if chosen in {use.name for use in op.weights}]
    right = value_of(model, chosen)

    def counted(op: Any, values: Any) -> Any:
        if op.name in readers:
            seen.append(torch.equal(values["op", chosen], right * 2) and torch.get_num_threads() == 2)
        found = computed(op, values)
        return found * torch.get_num_threads() if op.name == chosen else found

    def threads_of(op: str) -> int:
        return 2 if op in readers or (name == "returned" and op != chosen) else 1

    monkeypatch.setattr(module, "_computed", counted)
    before = torch.get_num_threads()
    with torch.no_grad():
        outputs = interpret(model.program, model.weights, [torch.randn(4, 4)], threads_of)
    assert seen == [True] * len(readers) and readers
    assert torch.get_num_threads() == before
    if name == "returned":
        assert same([outputs[0], outputs[5]], [right, right]), "with the threads that its own name has"


def value_of(model: Traced, name: str) -> torch.Tensor:
    """What the prepared op `name` of `model` gives."""
    only = model.program.model_copy(update={"outputs": ({"op": name},)})
    return rebuild(only, model.weights)(torch.zeros(4, 4))[0]


def test_a_table_that_is_too_large_and_all_that_reads_it_are_computed_for_every_item() -> None:
    size = MOST_GROWTH_BYTES // 4 + 1
    model = traced(
        Model(lambda self, x: x + torch.arange(size, dtype=torch.float32).sum() * self.table[0]), torch.zeros(4, 4)
    )
    found = views(model.program)
    assert {"arange", "sum_1"} <= found.free - found.prepared and "mul" not in found.stageless
    less = traced(Model(lambda self, x: x + torch.arange(size - 1, dtype=torch.float32).sum()), torch.zeros(4, 4))
    assert {"arange", "sum_1"} <= views(less.program).prepared
