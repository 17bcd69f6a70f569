from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import mapper
from mapper.cost.forms import forms
from mapper.study.where.dense import dense, flop_per_byte, width_for
from mapper.study.where.splitting import weights_of


def test_it_is_what_a_traced_stack_of_linear_layers_is() -> None:
    module = torch.nn.Sequential(*(torch.nn.Linear(24, 24, bias=False) for _ in range(3))).eval()
    traced, made = mapper.trace(module, torch.zeros(7, 24)), dense(3, 7, 24)
    sizes = ("kind", "target", "flop", "elements", "read_bytes", "write_bytes", "touched_bytes", "nodes")
    for name in sizes:
        assert [getattr(op, name) for op in made.ops] == [getattr(op, name) for op in traced.ops]
    assert forms(made) == forms(traced)
    assert [t.bytes for t in made.tensors] == [t.bytes for t in traced.tensors]
    assert [b.bytes for b in (*made.inputs, *made.outputs)] == [b.bytes for b in (*traced.inputs, *traced.outputs)]


@settings(deadline=None, max_examples=25)
@given(layers=st.integers(1, 12), rows=st.integers(1, 300), width=st.integers(1, 500))
def test_weights_and_work_are_what_they_are_said_to_be(layers: int, rows: int, width: int) -> None:
    graph = dense(layers, rows, width)
    assert weights_of(graph) == graph.weight_bytes == 4 * layers * width**2
    assert graph.flop / graph.weight_bytes == flop_per_byte(rows)
    assert abs(width_for(4 * layers * width**2, layers) - width) == 0
