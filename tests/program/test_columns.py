"""Ops split into columns: the rewritten program computes the same, and what cannot be split says so."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mapper.errors import UsageError
from mapper.execution.run import run
from mapper.graph.measure import graph_of
from mapper.plans.source import graph_of_source
from mapper.program.columns import most_columns, with_columns
from mapper.program.model import Program
from mapper.program.rebuild import rebuild
from mapper.program.split import split
from tests.program.modules import run_pieces
from tests.tracing import Traced, cuts, plan_for, traced


class Mixed(nn.Module):
    """Every sort of op that can be split, with and without a bias, and some that cannot be."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 10, 3, padding=1)
        self.bare = nn.Conv2d(10, 8, 3, bias=False, stride=2)
        self.grouped = nn.Conv2d(8, 8, 3, groups=4)
        self.linear = nn.Linear(8, 17)
        self.unbiased = nn.Linear(17, 12, bias=False)
        self.matrix = nn.Parameter(torch.randn(12, 9))
        self.shift = nn.Parameter(torch.randn(9))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.grouped(torch.relu(self.bare(torch.relu(self.conv(x)))))
        x = self.unbiased(torch.relu(self.linear(x.mean((2, 3)))))
        return torch.addmm(self.shift, x, self.matrix) + torch.mm(x, self.matrix)


ITEM = torch.randn(2, 3, 11, 11, generator=torch.Generator().manual_seed(3))
CAN = ("conv2d", "conv2d_1", "linear", "linear_1", "addmm", "mm")


@pytest.fixture(scope="module")
def mixed() -> Traced:
    torch.manual_seed(1)
    return traced(Mixed(), ITEM)


def outputs(known: Traced, program: Program) -> torch.Tensor:
    (found,) = rebuild(program, known.weights)(ITEM)
    return found  # type: ignore[no-any-return]


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_the_same_values_whatever_is_split(mixed: Traced, data: st.DataObject) -> None:
    columns = {name: data.draw(st.integers(1, most_columns(mixed.program, name)), name) for name in CAN}
    rewritten = with_columns(mixed.program, columns)
    assert sum(op.target == "aten.cat.default" for op in rewritten.ops) == sum(n > 1 for n in columns.values())
    found = outputs(mixed, rewritten)
    assert found.shape == (2, 9)
    torch.testing.assert_close(found, outputs(mixed, mixed.program), rtol=1e-5, atol=1e-5)


def test_columns_are_as_even_as_can_be(mixed: Traced) -> None:
    rewritten = with_columns(mixed.program, {"linear": 5})
    widths = [rewritten.op[f"linear_columns_{i}"].type.shape[-1] for i in range(5)]
    assert sorted(widths) == [3, 3, 3, 4, 4]
    assert rewritten.op["linear"].type == mixed.program.op["linear"].type


def test_types_are_what_torch_gives(mixed: Traced) -> None:
    rewritten = with_columns(mixed.program, {"conv2d": 3, "linear": 2, "addmm": 2})
    seen: dict[str, torch.Tensor] = {}

    class Watch(torch.fx.Interpreter):
        def run_node(self, n: torch.fx.Node) -> object:
            result = super().run_node(n)
            seen[n.name] = result
            return result

    Watch(rebuild(rewritten, mixed.weights)).run(ITEM)
    for op in rewritten.ops:
        if op.name in seen and len(op.outputs) == 1:
            assert tuple(seen[op.name].shape) == op.type.shape, op.name
            assert tuple(seen[op.name].stride()) == op.type.strides, op.name


def test_columns_in_stages_of_their_own(mixed: Traced) -> None:
    rewritten = with_columns(mixed.program, {"linear": 3})
    ops = [op.name for op in graph_of(rewritten).ops]
    cut = [ops.index("linear_columns_1"), ops.index("linear_columns_2"), ops.index("linear")]
    parts = [ops[: cut[0]], ops[cut[0] : cut[1]], ops[cut[1] : cut[2]], ops[cut[2] :]]
    (found,) = run_pieces(rewritten, mixed.weights, [ITEM], split(rewritten, parts))
    assert torch.equal(found, outputs(mixed, rewritten))
    weights = [sum(w.touched_bytes for w in op.weights) for op in graph_of(rewritten).ops if "columns" in op.name]
    assert sum(weights) == 17 * 8 * 4 + 17 * 4, "each part of the weights belongs to the columns that read it"


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"linaer": 2}, "no op 'linaer'"),
        ({"relu": 2}, "cannot be split"),
        ({"conv2d_2": 2}, "cannot be split"),
        ({"linear": 18}, "has 17 columns"),
    ],
)
def test_what_cannot_be_split(mixed: Traced, columns: dict[str, int], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        with_columns(mixed.program, columns)


def test_one_column_is_the_op_itself(mixed: Traced) -> None:
    assert with_columns(mixed.program, {"linear": 1}).sha256 == mixed.program.sha256


def test_a_weight_that_is_computed_cannot_be_split() -> None:
    class Doubled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(4, 3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.linear(x, self.weight * x.sum())

    assert most_columns(traced(Doubled(), torch.randn(2, 3)).program, "linear") == 1


def test_a_source_with_columns_is_traced_again_as_it_was() -> None:
    graph, reference = graph_of_source("mobilenetv2", {"columns": {"linear": 2}})
    again, _ = graph_of_source(reference.source, reference.options)
    assert again.sha256 == graph.sha256 == reference.graph_sha256
    assert reference.options == {"columns": {"linear": 2}}


def test_a_run_compares_with_the_rewritten_program(mixed: Traced) -> None:
    rewritten = with_columns(mixed.program, {"linear": 3})
    graph = graph_of(rewritten)
    made = plan_for(replace(mixed, program=rewritten, graph=graph), cuts(graph, [4, 0]))
    asked = made.model.model_copy(update={"options": {"columns": {"linear": 3}}})
    plan = made.model_copy(update={"model": asked})
    measured = run(plan, mixed.module, items=4, inputs=[ITEM], oversubscribe=True)
    assert measured.outputs_identical
    assert measured.compared_with == "the unsplit program"
