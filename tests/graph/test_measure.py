"""FLOP and bytes of ops: against torch's own counter where it is right, else against figures made by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import networkx as nx
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from mapper.errors import BadInput
from mapper.graph.model import Graph, Op
from mapper.graph.trace import trace
from mapper.jsonio import dumps, parse_json, plain
from mapper.program.rebuild import rebuild
from mapper.program.trace import trace_program
from mapper.program.views import MOST_GROWTH_BYTES, views
from tests.cards import traced_card
from tests.program.modules import NAMES, case


class Model(nn.Module):
    def __init__(self, compute: Callable[..., Any]) -> None:
        super().__init__()
        self.compute = compute
        self.square, self.row = nn.Parameter(torch.randn(6, 6)), nn.Parameter(torch.randn(6))
        self.table = nn.Embedding(100, 6)
        self.kernel = nn.Parameter(torch.randn(4, 3, 3, 2))
        self.narrow = nn.Parameter(torch.randn(8, 2, 3, 3))

    def forward(self, *args: torch.Tensor) -> Any:
        return self.compute(self, *args)


X, IMAGE, DEEP = torch.randn(5, 6), torch.randn(2, 3, 9, 8), torch.randn(1, 4, 9, 9)


def graph_of(compute: Callable[..., Any], *inputs: torch.Tensor) -> Graph:
    return trace(Model(compute).eval(), inputs or (X,), name="mine")


def op_of(compute: Callable[..., Any], *inputs: torch.Tensor) -> Op:
    (op,) = graph_of(compute, *inputs).ops
    return op


COUNTED: dict[str, tuple[Callable[..., Any], tuple[torch.Tensor, ...]]] = {
    "linear": (lambda self, x: functional.linear(x, self.square, self.row), (X,)),
    "linear, batched": (lambda self, x: functional.linear(x, self.square[:2]), (torch.randn(3, 5, 6),)),
    "addmm": (lambda self, x: torch.addmm(self.row, x, self.square), (torch.randn(9, 6),)),
    "addmm, weight first": (lambda self, x: torch.addmm(x[0], self.square, x.t()), (torch.randn(6, 6),)),
    "mm": (lambda self, x, y: torch.mm(x, y), (X, torch.randn(6, 3))),
    "mm, weight first": (lambda self, x: torch.mm(self.square[:2], x), (torch.randn(6, 3),)),
    "mm, constant first": (lambda self, x: torch.mm(torch.ones(3, 5), x), (X,)),
    "bmm": (lambda self, x, y: torch.bmm(x, y), (torch.randn(4, 5, 6), torch.randn(4, 6, 3))),
    "baddbmm": (lambda self, x, y: torch.baddbmm(self.row[:3], x, y), (torch.randn(4, 5, 6), torch.randn(4, 6, 3))),
    "matmul": (lambda self, x: x @ self.square, (torch.randn(2, 3, 5, 6),)),
    "einsum": (lambda self, x: torch.einsum("bij,kj->bki", x, self.square[:4]), (torch.randn(2, 5, 6),)),
    "einsum, sum first": (lambda self, x: torch.einsum("ji,jk", x, x), (torch.randn(7, 6),)),
    "einsum, dots": (lambda self, x: torch.einsum("...ij,...kj->...ik", x, x), (torch.randn(2, 3, 5, 6),)),
    "conv2d": (lambda self, x: functional.conv2d(x, self.kernel), (IMAGE,)),
    "conv2d, stride": (lambda self, x: functional.conv2d(x, self.kernel, stride=2, padding=1), (IMAGE,)),
    "conv2d, dilation": (lambda self, x: functional.conv2d(x, self.kernel, dilation=2), (IMAGE,)),
    "conv2d, groups": (lambda self, x: functional.conv2d(x, self.narrow, groups=2), (DEEP,)),
    "conv2d, constant": (lambda self, x: functional.conv2d(x, torch.ones(3, 1, 3, 3), groups=3), (IMAGE,)),
    "conv1d": (lambda self, x: functional.conv1d(x, self.square[None].transpose(0, 1)), (torch.randn(2, 1, 20),)),
    "conv_transpose2d": (
        lambda self, x: functional.conv_transpose2d(x, self.kernel, stride=2),
        (torch.randn(2, 4, 5, 5),),
    ),
}


@pytest.mark.parametrize("name", COUNTED)
def test_flop_are_those_of_torch_s_counter(name: str) -> None:
    compute, inputs = COUNTED[name]
    model = Model(compute).eval()
    program, weights = trace_program(model, inputs)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        rebuild(program, weights)(*inputs)
    assert counter.get_total_flops() > 0
    assert sum(op.flop for op in trace(model, inputs).ops if op.kind in ("matmul", "conv")) == counter.get_total_flops()


def test_flop_of_attention() -> None:
    """Scores: 2 · heads · queries · keys · size; their product with the values: the same with the values' size."""
    op = op_of(functional_attention, torch.randn(2, 3, 7, 8), torch.randn(2, 3, 5, 8), torch.randn(2, 3, 5, 4))
    assert (op.kind, op.flop) == ("attention", 2 * 2 * 3 * 7 * 5 * (8 + 4))
    own_query = op_of(
        lambda self, k, v: functional.scaled_dot_product_attention(self.square[None], k, v),
        torch.randn(1, 9, 6), torch.randn(1, 9, 2),
    )  # fmt: skip
    assert own_query.flop == 2 * 6 * 9 * (6 + 2)


def functional_attention(self: Model, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return functional.scaled_dot_product_attention(q, k, v)


FIGURES: dict[str, tuple[Callable[..., Any], str, float, int, int, int]] = {
    # kind, FLOP, bytes read, bytes written, weight bytes touched; x is 5 × 6 float32, 120 bytes
    "add": (lambda self, x: x + 1, "elementwise", 30, 120, 120, 0),
    "add, weight": (lambda self, x: x + self.row, "elementwise", 30, 120, 120, 24),
    "add, twice the same": (lambda self, x: x + x, "elementwise", 30, 120, 120, 0),
    "tanh": (lambda self, x: x.tanh(), "transcendental", 30, 120, 120, 0),
    "softmax": (lambda self, x: x.softmax(-1), "softmax", 90, 120, 120, 0),
    "sum": (lambda self, x: x.sum(0), "reduce", 30, 120, 24, 0),
    "linear": (lambda self, x: functional.linear(x, self.square, self.row), "matmul", 360, 120, 120, 144 + 24),
    "layer_norm": (lambda self, x: functional.layer_norm(x, [6], self.row), "normalization", 150, 120, 120, 24),
    "clone": (lambda self, x: x.t().contiguous(), "copy", 0, 120, 120, 0),
    "to": (lambda self, x: x.to(torch.float64), "copy", 0, 120, 240, 0),
    "select": (lambda self, x: x[1], "none", 0, 0, 0, 0),
    "unfold": (lambda self, x: x.unfold(0, 2, 1), "none", 0, 0, 0, 0),
    "cat": (lambda self, x: torch.cat([x, x]), "copy", 0, 120, 240, 0),
}


@pytest.mark.parametrize("name", FIGURES)
def test_figures_of_ops(name: str) -> None:
    compute, *expected = FIGURES[name]
    op = op_of(compute)
    assert [op.kind, op.flop, op.read_bytes, op.write_bytes, op.touched_bytes] == expected
    assert op.footprint_bytes == op.read_bytes + op.write_bytes


def test_an_expanded_tensor_is_read_once() -> None:
    op = op_of(lambda self, x, y: x + y.expand(5, 6), X, torch.randn(1, 6))
    assert (op.read_bytes, op.nodes) == (120 + 24, 2)


def test_an_embedding_touches_the_rows_that_it_returns() -> None:
    op = op_of(lambda self, ids: self.table(ids), torch.zeros(3, dtype=torch.int64))
    (use,) = op.weights
    assert (use.bytes, use.touched_bytes) == (100 * 6 * 4, 3 * 6 * 4)
    assert (op.kind, op.flop, op.write_bytes) == ("embedding", 0, 72)
    many = op_of(lambda self, ids: self.table(ids), torch.zeros(1000, dtype=torch.int64))
    assert many.touched_bytes == 2400, "not more than there is"


def test_rows_taken_from_an_activation_are_read_alone() -> None:
    graph = graph_of(lambda self, x, ids: (x + 1)[ids], torch.randn(1000, 6), torch.tensor([1, 2, 3]))
    index = graph.ops[-1]
    assert (index.kind, index.write_bytes, index.read_bytes) == ("embedding", 72, 144), "not all of its 24,000 bytes"


def test_an_op_that_reads_a_tensor_twice_is_one_reader_of_it() -> None:
    graph = graph_of(lambda self, x: (lambda y: y @ y.t())(x + 1))
    assert [tensor.readers for tensor in graph.tensors] == [("matmul",)]
    assert graph.ops[-1].read_bytes == 120


def test_shared_weights_count_once() -> None:
    graph = case("tied").graph
    embedding, head = (op for op in graph.ops if any(w.name == "embedding.weight" for w in op.weights))
    assert (embedding.kind, embedding.touched_bytes, head.kind, head.touched_bytes) == (
        "embedding", 2 * 6 * 8 * 4, "matmul", 50 * 8 * 4,
    )  # fmt: skip
    assert graph.weights == {"embedding.weight": 1600, "embedding_1": 192}, "positions are prepared"
    assert graph.weight_bytes == 1792


def test_full_views_and_constants_are_no_ops_but_are_counted_with_their_reader() -> None:
    graph = graph_of(lambda self, x: (x + 1).t().reshape(6, 5, 1)[None] + torch.arange(5)[:, None])
    assert [op.name for op in graph.ops] == ["add", "add_1"]
    assert [op.nodes for op in graph.ops] == [1, 4], "what is prepared runs for no item"
    assert [(t.producer, t.readers, t.bytes) for t in graph.tensors] == [("add", ("add_1",), 120)]


@pytest.mark.parametrize("name", NAMES)
def test_every_program_op_runs_with_exactly_one_graph_op(name: str) -> None:
    known = case(name)
    read = {n for op in known.program.ops for n in op.references("op")}
    found = views(known.program)
    idle = (found.free - read) | found.prepared
    assert sum(op.nodes for op in known.graph.ops) == len(known.program.ops) - len(idle)


def test_a_prepared_tensor_is_a_weight_of_its_readers_and_no_op() -> None:
    graph = graph_of(lambda self, x: (lambda bias: (x + bias).tanh() * bias)(self.square[:5].exp()))
    assert [op.name for op in graph.ops] == ["add", "tanh", "mul"]
    add, tanh, mul = (op.weights for op in graph.ops)
    assert [(use.name, use.bytes, use.touched_bytes) for use in add] == [("exp", 120, 120)]
    assert (mul, tanh) == (add, ()), "one weight, read twice"
    assert (graph.weights, graph.flop) == ({"exp": 120}, 3 * 30), "nothing of the weight behind it, nor of its work"
    assert [op.read_bytes for op in graph.ops] == [120, 120, 120]
    assert [tensor.name for tensor in graph.tensors] == ["add", "tanh"]


def test_prepared_ops_that_compute_the_same_are_one_weight() -> None:
    graph = graph_of(
        lambda self, x: (
            (x + self.square[:5].exp()) * self.square[:5].exp() - self.square[1:].exp() / self.square[1:].tanh()
        )
    )
    assert [[use.name for use in op.weights] for op in graph.ops] == [["exp"], ["exp"], ["div"]]
    graph = graph_of(lambda self, x: x + self.square[:5].exp() - self.square[:5].tanh())
    assert [[use.name for use in op.weights] for op in graph.ops] == [["exp"], ["tanh"]]


def test_rows_of_a_prepared_table_are_touched_and_views_of_it_are_the_table() -> None:
    graph = graph_of(lambda self, x, ids: x + functional.embedding(ids, self.table.weight * 2), X, torch.arange(5) * 3)
    (rows,) = (op for op in graph.ops if op.kind == "embedding")
    assert [(use.name, use.bytes, use.touched_bytes) for use in rows.weights] == [("mul", 2400, 120)]
    product = op_of(lambda self, x: x @ (self.square * 2).t()[None].squeeze(0))
    assert [(use.name, use.bytes) for use in product.weights] == [("mul", 144)]
    assert (product.flop, product.nodes) == (360, 1)


def test_parts_of_a_prepared_tuple_are_weights() -> None:
    graph = graph_of(lambda self, x: (lambda low, where: x + low.sum() * where[0])(*self.square.sort(dim=1)))
    uses = {use.name: use.bytes for op in graph.ops for use in op.weights}
    assert uses == {"mul": 24}
    graph = graph_of(lambda self, x: (lambda low, where: x * low[:5] + where[:5])(*self.square.sort(dim=1)))
    assert {use.name: use.bytes for op in graph.ops for use in op.weights} == {"slice_1": 120, "slice_2": 240}


def test_a_large_prepared_tensor_stays_an_op() -> None:
    rows = MOST_GROWTH_BYTES // 24 + 1

    def repeated(more: int) -> Graph:
        return graph_of(lambda self, x: x + self.row.repeat(rows + more, 1).sum(0))

    assert [op.name for op in repeated(0).ops] == ["add"]
    assert [op.name for op in repeated(1).ops] == ["repeat", "sum_1", "add"]


def test_an_output_that_is_prepared_has_no_op() -> None:
    graph = graph_of(lambda self, x: (x + 1, self.square * 2, (self.square * 2).t()))
    assert [out.ops for out in graph.outputs] == [("add",), (), ()]
    with pytest.raises(BadInput, match="computes nothing"):
        graph_of(lambda self, x: self.square * 2)


def test_no_prepared_tensor_is_called_as_a_weight() -> None:
    model = Model(lambda self, x: (x + self.square[:5].exp()) * self.exp)
    model.exp = nn.Parameter(torch.randn(6))
    graph = trace(model.eval(), (X,), name="mine")
    assert graph.weights == {"exp'": 120, "exp": 24}


def test_a_tuple_is_one_op_with_several_tensors() -> None:
    graph = case("attention").graph
    split = next(op for op in graph.ops if "split" in op.target)
    parts = [tensor for tensor in graph.tensors if tensor.producer == split.name]
    assert [tensor.name for tensor in parts] == ["getitem", "getitem_1", "getitem_2"]
    assert split.nodes == 4
    assert {tensor.bytes for tensor in parts} == {2 * 5 * 16 * 4}
    (attention,) = {reader for tensor in parts for reader in tensor.readers}
    assert len(graph.digraph.edges[split.name, attention]["tensors"]) == 3


def test_batch_norm_writes_its_result_and_not_the_empty_statistics() -> None:
    norm = next(op for op in case("skip").graph.ops if op.kind == "normalization")
    assert norm.write_bytes == norm.read_bytes == 2 * 8 * 4 * 4 * 4
    assert norm.flop == 5 * 2 * 8 * 4 * 4


@pytest.mark.parametrize("name", NAMES)
def test_a_graph_comes_back_from_its_json(name: str) -> None:
    known = case(name)
    graph = known.graph
    again = Graph.model_validate(parse_json(dumps(plain(graph)), "graph.json"))
    assert (again.sha256, again.program) == (graph.sha256, None)
    assert again.with_program(known.program) == graph


@pytest.mark.parametrize("name", NAMES)
def test_the_digraph_is_the_graph(name: str) -> None:
    graph = case(name).graph
    digraph = graph.digraph
    assert list(digraph) == [op.name for op in graph.ops]
    assert set(digraph.edges) == {(t.producer, r) for t in graph.tensors for r in t.readers}
    assert nx.is_directed_acyclic_graph(digraph)
    assert all(digraph.nodes[op.name]["op"] is op for op in graph.ops)


def test_a_graph_in_another_order_is_refused() -> None:
    document = plain(case("mlp").graph)
    document["ops"].reverse()
    with pytest.raises(ValueError, match=r"/tensors/0: .* is read before it is produced"):
        Graph.model_validate(document)


def test_inputs_and_outputs_name_the_ops_at_the_border() -> None:
    graph = case("views").graph
    (given,) = graph.inputs
    assert (given.name, given.ops, given.bytes) == ("x", ("linear",), 120)
    assert [out.ops for out in graph.outputs] == [("linear",), ("slice_2",), ("add_1",), ("sort",), ("add_2",), ()]


TOTALS = {
    # parameters of the module; 2 × the multiply-adds that torchvision publishes (BERT, GPT-2: made by hand, see below)
    "vit": (85_800_194, 2 * 17.564e9),
    "resnet50": (25_557_032, 2 * 4.089e9),
    "mobilenetv2": (3_506_153, 2 * 0.3e9),
    "vgg16": (138_357_544, 2 * 15.47e9),
    "bert": (109_482_240, None),
    "gpt2": (124_439_808, None),
}


def transformer_flop(tokens: int, layers: int, width: int) -> int:
    """Per layer 12 · width² weights (attention 4, feed-forward 8), each one multiply-add a token; two products of
    tokens × tokens × width."""
    return layers * (2 * tokens * 12 * width**2 + 2 * 2 * tokens**2 * width)


@pytest.mark.parametrize("name", TOTALS)
def test_totals_of_the_bundled_models(name: str) -> None:
    graph, _ = traced_card(name)
    parameters, published = TOTALS[name]
    assert graph.program is not None
    assert sum(w.type.elements for w in graph.program.weights if not is_buffer(w.name)) == parameters
    work = sum(op.flop for op in graph.ops if op.kind in ("matmul", "conv", "attention"))
    assert math.isclose(work, published or BY_HAND[name], rel_tol=0.03 if published else 0)
    assert work <= graph.flop <= 1.08 * work


BY_HAND = {
    "bert": transformer_flop(128, 12, 768) + 2 * 768**2,  # and the pooler, which reads one token
    "gpt2": transformer_flop(128, 12, 768) + 2 * 128 * 768 * 50257,  # and the head
}


def is_buffer(name: str) -> bool:
    """Statistics of normalisations, positions and tables: not trained."""
    return name.endswith(("running_mean", "running_var", "position_ids", "token_type_ids")) or "lifted" in name
