"""What the shape of a graph says, on graphs that were worked out by hand."""

from __future__ import annotations

from mapper.graph.model import Graph, Op, Tensor, WeightUse
from mapper.graph.profile import best_cuts, critical_path, live_bytes, shared_weights, skip_edges
from mapper.reports.graph import sparkline


def made(flop: dict[str, float], tensors: dict[str, tuple[str, int]]) -> Graph:
    """Ops with FLOP in order; tensors by producer: readers (one letter each) and bytes."""
    return Graph(
        name="hand",
        ops=tuple(Op(name=name, kind="matmul", flop=work) for name, work in flop.items()),
        tensors=tuple(
            Tensor(name=f"{producer}.out", producer=producer, readers=tuple(readers), bytes=size)
            for producer, (readers, size) in tensors.items()
        ),
    )


#      a ──10──▶ b ──20──▶ c ──30──▶ e
#      └────────10──────────────────▶┘   and  b ──20──▶ d ──5──▶ e
DIAMOND = made(
    {"a": 1, "b": 2, "c": 30, "d": 4, "e": 5}, {"a": ("be", 10), "b": ("cd", 20), "c": ("e", 30), "d": ("e", 5)}
)


def test_live_bytes_count_a_tensor_once_from_its_producer_to_its_last_reader() -> None:
    #   after a: a=10; after b: a + b = 30; after c: a + b + c = 60; after d: a + c + d = 45
    assert live_bytes(DIAMOND) == (10, 30, 60, 45)
    assert live_bytes(made({"a": 1}, {})) == ()


def test_best_cuts_are_the_cheapest_in_order() -> None:
    cuts = best_cuts(DIAMOND, 2)
    assert [(cut.position, cut.bytes) for cut in cuts] == [(2, 30), (4, 45)], "what cuts off hardly any work is no cut"
    assert cuts[0].share == 3 / 42 and cuts[1].share == 37 / 42


def test_cuts_of_a_graph_with_one_heavy_op_may_be_at_its_ends() -> None:
    assert [cut.position for cut in best_cuts(made({"a": 0, "b": 1}, {"a": ("b", 3)}))] == [1]


def test_critical_path_is_the_one_with_most_work() -> None:
    path = critical_path(DIAMOND)
    assert path.ops == ("a", "b", "c", "e") and path.work == 38 and path.total == 42
    assert path.parallelism == 42 / 38


def test_critical_path_of_two_branches_that_never_meet() -> None:
    path = critical_path(made({"a": 3, "b": 4}, {}))
    assert path.ops == ("b",) and path.parallelism == 7 / 4


def test_critical_path_without_any_work_still_is_a_path() -> None:
    path = critical_path(made({"a": 0, "b": 0}, {"a": ("b", 1)}))
    assert path.parallelism == 1.0 and path.work == 0


def test_skip_edges_are_those_that_another_path_goes_around() -> None:
    assert skip_edges(DIAMOND) == (("a", "e"),)
    assert skip_edges(made({"a": 1, "b": 1, "c": 1}, {"a": ("b", 1), "b": ("c", 1)})) == ()


def test_shared_weights_are_those_of_several_ops() -> None:
    tied = WeightUse(name="embedding", bytes=8, touched_bytes=4)
    ops = tuple(Op(name=name, kind="matmul", weights=(tied,) if name != "b" else ()) for name in "abc")
    assert shared_weights(Graph(name="tied", ops=ops, tensors=())) == {"embedding": ("a", "c")}


def test_sparkline_shows_the_largest_of_each_column() -> None:
    assert sparkline([0, 1, 8, 4]) == " ▁█▄"
    assert sparkline([0, 0]) == "  " and len(sparkline(range(1000))) == 60
    assert sparkline([1] * 100 + [8] + [1] * 19, 60)[50] == "█"
