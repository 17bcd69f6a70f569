"""Rules of execution paths: teams, turns and forks computed by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mapper.cost.configurations import Config, configurations
from mapper.cost.forms import Form, form
from mapper.cost.paths import DISPATCH_A_TURN, PATHS, RULES, Course, course, path_of, rule_of
from mapper.cost.residency import DRAM, GROUP
from mapper.cost.roofline import Roofline, between, roofline
from mapper.graph.measure import KIND_OF
from mapper.graph.model import Graph, Op
from mapper.machine.files import load_machine
from mapper.machine.parts import Path
from tests.tracing import traced

SG2042 = load_machine("sg2042")
GRAIN = 32768


class Net(torch.nn.Module):
    """One convolution."""

    def __init__(self, channels: int, outputs: int, window: int, groups: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(channels, outputs, window, stride, window // 2, groups=groups)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)


def convolution(batch: int, channels: int, side: int, outputs: int, window: int, groups: int = 1) -> Form:
    found = traced(Net(channels, outputs, window, groups), torch.zeros(batch, channels, side, side))
    return form(found.graph.ops[0], found.program)


def runs(path: Path, shown: Form, cores: int) -> Course:
    return course(rule_of(path, shown), shown, cores, GRAIN)


def counts(path: Path, shown: Form, cores: int) -> tuple[int, int, int]:
    found = runs(path, shown, cores)
    return found.team, found.turns, found.forks


def test_a_convolution_knows_its_images_groups_and_product() -> None:
    shown = convolution(2, 64, 28, 128, 3)
    assert (shown.sort, shown.images, shown.groups) == ("conv", 2, 1)
    assert (shown.rows, shown.inner, shown.columns, shown.lines) == (128, 64 * 9, 28 * 28, 28)
    assert shown.units == 2 * 2 * 128 * 28 * 28 * 64 * 9
    assert shown.products_work == 128 * 28 * 28 * 64 * 9
    assert convolution(1, 32, 14, 32, 3, 32).sort == "conv.depthwise"
    assert convolution(1, 32, 14, 32, 3, 8).sort == "conv.grouped"
    assert convolution(1, 32, 14, 32, 1).sort == "conv.pointwise"
    assert convolution(1, 3, 14, 32, 3).sort == "conv.stem"


def test_without_onednn_a_batch_is_split_and_one_image_is_not() -> None:
    """With one image im2col and the product inside are parallel: two regions. With three, three cores work."""
    assert counts("native-aten", convolution(1, 64, 28, 128, 3), 64) == (64, 1, 2)
    assert counts("native-aten", convolution(3, 64, 28, 128, 3), 64) == (3, 1, 1)
    assert counts("native-aten", convolution(100, 8, 4, 8, 3), 64) == (64, 1, 1)
    assert counts("onednn", convolution(3, 64, 28, 128, 3), 64) == (64, 1, 1)


def test_a_pointwise_convolution_has_nothing_to_unfold() -> None:
    assert counts("native-aten", convolution(1, 64, 28, 128, 1), 64) == (64, 1, 1)


def test_without_onednn_a_depthwise_convolution_is_a_loop_of_small_products() -> None:
    """144 groups in series: each unfolds in parallel, and its product of 9 · 56² multiply-adds stays on one thread."""
    shown = convolution(1, 144, 56, 144, 3, 144)
    assert shown.products_work == 9 * 56 * 56
    assert counts("native-aten", shown, 4) == (1, 144, 144)
    assert counts("native-aten", shown, 1) == (1, 144, 0)
    assert counts("onednn", shown, 4) == (4, 1, 1)


def test_its_loop_costs_a_dispatch_and_a_fork_and_join_each_turn() -> None:
    """Base 2.5 µs + 2.5 · 3 · 47 ns + 5 µs · 4 / 64 a fork; 35 µs the op, 16 µs each further turn."""
    found = traced(Net(144, 144, 3, 144), torch.zeros(1, 144, 56, 56))
    table = roofline(found.graph, SG2042)
    assert table.dispatch_s[0] == pytest.approx(35e-6 + 143 * 16e-6)
    assert table.fork_join_s[0, table.index("1x4")] == pytest.approx(144 * (2.5e-6 + 2.5 * 3 * 47e-9 + 5e-6 * 4 / 64))
    one, four = table.index("1x1"), table.index("1x4")
    assert table.compute_s[0, one, GROUP] == pytest.approx(table.compute_s[0, four, GROUP], rel=0.5)
    assert table.seconds[0, four, DRAM] > table.seconds[0, one, DRAM] * 0.9  # four cores gain nothing
    other = roofline(found.graph, SG2042, path="onednn")
    assert other.seconds[0, four, DRAM] < other.seconds[0, one, DRAM] / 2


def test_openblas_computes_small_products_on_one_thread() -> None:
    small, large = (Form("matmul", "matmul", 2.0 * n, 100, rows=8, inner=8, columns=8) for n in (2**18, 2**18 + 1))
    assert counts("native-aten", small, 64) == (1, 1, 0)
    assert counts("native-aten", large, 64) == (64, 1, 1)
    assert counts("onednn", small, 64) == (64, 1, 1)


def test_batched_products_run_one_after_the_other_without_mkl() -> None:
    shown = Form("matmul.batched", "matmul", 12 * 2.0 * 197 * 64 * 197, 12 * 197 * 197, products=12)
    assert counts("native-aten", shown, 16) == (16, 12, 12)
    assert counts("onednn", shown, 16) == (16, 1, 1)


@pytest.mark.parametrize(
    ("elements", "team"), [(1, 1), (GRAIN, 1), (GRAIN + 1, 2), (12 * GRAIN, 12), (1000 * GRAIN, 64)]
)
def test_elementwise_members_have_a_grain_each(elements: int, team: int) -> None:
    assert counts("native-aten", Form("elementwise", "elementwise", elements, elements), 64) == (team, 1, int(team > 1))


def test_rows_bound_the_team() -> None:
    """Softmax: at least 2,048 elements a member. LayerNorm: a row is enough. Attention: slices of queries."""
    assert counts("onednn", Form("softmax", "softmax", 8192, 8192, rows=64), 16)[0] == 4
    assert counts("onednn", Form("softmax", "softmax", 2**20, 2**20, rows=3), 16)[0] == 3
    assert counts("onednn", Form("normalization.layer", "normalization", 640, 640, rows=5), 16)[0] == 5
    assert counts("onednn", Form("attention", "attention", 1e9, 1000, pieces=24), 64)[0] == 24


def test_attention_is_split_over_heads_and_slices_of_queries() -> None:
    """197 queries in slices of 64 are 4, times 12 heads."""

    class Attention(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.scaled_dot_product_attention(x, x, x)

    found = traced(Attention(), torch.zeros(1, 12, 197, 64))
    assert form(found.graph.ops[0], found.program).pieces == 48


def test_strided_elementwise_and_copies_are_told_apart() -> None:
    class Adds(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x + x.t()) + (x + 1)

    found = traced(Adds(), torch.zeros(8, 8))
    sorts = [form(op, found.program).sort for op in found.graph.ops]
    assert sorts == ["elementwise.strided", "elementwise", "elementwise"]


def test_an_imported_op_is_what_its_kind_says() -> None:
    shown = form(Op(name="a", kind="normalization", elements=1000, flop=5000))
    assert (shown.sort, shown.rows, shown.units) == ("normalization", 1000, 1000)


def test_the_path_follows_the_instruction_set_or_the_file() -> None:
    assert path_of(SG2042) == path_of(load_machine("sg2044")) == "native-aten"
    assert path_of(load_machine("epyc-7763")) == path_of(load_machine("graviton3")) == "onednn"
    told = SG2042.model_copy(update={"compute": SG2042.compute.model_copy(update={"path": "onednn"})})
    assert path_of(told) == "onednn"


def test_every_rule_has_a_source_and_every_kind_a_rule() -> None:
    kinds = {*KIND_OF.values(), "none", "other", "elementwise"}
    for path in PATHS:
        assert kinds <= set(RULES[path])
        assert all(rule.source for rule in RULES[path].values())
        assert {sort.partition(".")[0] for sort in RULES[path]} <= kinds


@given(
    st.sampled_from(PATHS), st.sampled_from(sorted({*RULES["native-aten"], *RULES["onednn"]})), st.integers(0, 10**12),
    st.integers(0, 10**9), st.integers(1, 1000), st.integers(1, 1000), st.integers(1, 100), st.integers(1, 128),
)  # fmt: skip
def test_teams_are_within_the_cores(
    path: Path, sort: str, units: int, elements: int, rows: int, groups: int, images: int, cores: int
) -> None:  # fmt: skip
    shown = Form(sort, sort.partition(".")[0], units, elements, rows=rows, groups=groups, images=images)
    found = runs(path, shown, cores)
    assert 1 <= found.team <= cores
    assert found.turns >= 1
    assert (found.forks == 0) if cores == 1 else (found.forks <= 2 * found.turns)
    assert found.team == 1 or found.forks >= found.turns


@given(st.floats(1, 1e13), st.sampled_from(["sg2042", "epyc-7763", "core-i9-12900k"]))
def test_more_cores_leave_a_product_finite_and_positive(flop: float, name: str) -> None:
    machine = load_machine(name)
    graph = Graph(name="g", ops=(Op(name="a", kind="matmul", flop=flop, elements=1000),), tensors=())
    for seconds in roofline(graph, machine).seconds[0].ravel():
        assert 0 < seconds < math.inf


def test_a_loop_turn_costs_part_of_a_dispatch() -> None:
    assert pytest.approx(16) == DISPATCH_A_TURN * 35


def test_values_between_and_beyond_known_threads() -> None:
    known = {1: 1.0, 2: 1.8, 4: 3.0}
    assert [between(known, t) for t in (1, 2, 3, 4, 6)] == pytest.approx([1.0, 1.8, 2.4, 3.0, 4.2])
    assert between({1: 1.0, 2: 0.5}, 64) == 0.5
    assert between({1: 1.0}, 8) == 1.0


def test_configurations_do_not_change_what_one_core_costs() -> None:
    found = traced(Net(8, 8, 3, 8), torch.zeros(1, 8, 8, 8))
    model = Roofline(SG2042, "native-aten")
    shown = form(found.graph.ops[0], found.program)
    first = model.terms(found.graph.ops[0], shown, Config(1, 1))
    assert first.fork_join_s == 0
    assert {model.terms(found.graph.ops[0], shown, c).dispatch_s for c in configurations(SG2042)} == {first.dispatch_s}
