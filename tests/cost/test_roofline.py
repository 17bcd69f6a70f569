"""The roofline against figures computed by hand, and what must hold for any machine."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings

from mapper.cost.configurations import Config, configurations, parse_configurations
from mapper.cost.residency import DRAM, GROUP, PACKAGE
from mapper.cost.roofline import roofline
from mapper.cost.transfer import nearest, transfer_s
from mapper.errors import BadInput, UsageError
from mapper.graph.model import Graph
from mapper.machine.files import load_machine
from mapper.machine.model import Machine
from tests.planning.graphs import graphs, machines
from tests.planning.test_machines import with_figure
from tests.tracing import traced

SG2042 = load_machine("sg2042")


def graph(**op: object) -> Graph:
    return Graph.model_validate({"name": "g", "ops": [{"name": "a", **op}], "tensors": []})


def test_configurations_of_the_sg2042() -> None:
    names = [config.name for config in configurations(SG2042)]
    assert names == ["1x1", "1x2", *[f"{g}x4" for g in range(1, 17)]]


def test_sizes_that_do_not_divide_a_group_are_left_out() -> None:
    machine = Machine.model_validate(
        SG2042.model_dump(by_alias=True) | {"nodes": [{"groups": ["0-5", "6-11"]}], "distances": None, "layout": None}
    )
    assert [config.name for config in configurations(machine)] == ["1x1", "1x2", "1x6", "2x6"]


def test_unknown_configurations_are_refused_by_name() -> None:
    with pytest.raises(UsageError, match="'1x3' is no configuration"):
        parse_configurations("1x4,1x3", configurations(SG2042))


def test_a_product_on_one_core_takes_flop_over_rate() -> None:
    """1e9 FLOP at 16 GFLOP/s · 0.25, 1.25 times slower on a busy chip, plus 35 µs of dispatch."""
    table = roofline(graph(kind="matmul", flop=1e9, elements=10**6), SG2042)
    assert table.seconds[0, 0, GROUP] == pytest.approx(1e9 / (16e9 * 0.25) * 1.25 + 35e-6)


def test_weights_that_do_not_fit_a_cache_are_streamed_from_dram() -> None:
    """96 MB at one core's 4.8 GB/s take longer than the arithmetic."""
    weights = [{"name": "w", "bytes": 96 * 10**6, "touched_bytes": 96 * 10**6}]
    table = roofline(graph(kind="matmul", flop=1e6, elements=1000, weights=weights), SG2042)
    assert table.compute_s[0, 0, DRAM] == pytest.approx(96e6 / 4.8e9 * 1.25)
    assert table.compute_s[0, 0, PACKAGE] == pytest.approx(96e6 / 7e9 * 1.25)


def test_four_cores_of_a_group_fork_over_three_lines() -> None:
    """Base 2.5 µs + 2.5 · 3 · 47 ns + 5 µs · 4 / 64."""
    table = roofline(graph(kind="matmul", flop=1e9, elements=10**6), SG2042)
    assert table.fork_join_s[0, table.index("1x4")] == pytest.approx(2.5e-6 + 2.5 * 3 * 47e-9 + 5e-6 * 4 / 64)


def test_small_elementwise_ops_stay_on_one_core() -> None:
    table = roofline(graph(kind="elementwise", flop=1000, elements=1000), SG2042)
    assert table.fork_join_s[0, table.index("16x4")] == 0
    assert table.compute_s[0, table.index("16x4"), GROUP] == table.compute_s[0, 0, GROUP]


def test_a_kind_without_a_figure_is_named() -> None:
    compute = SG2042.compute.model_copy(update={"efficiency": {}})
    with pytest.raises(BadInput, match="no figure for ops of kind 'conv', such as a") as raised:
        roofline(graph(kind="conv", flop=10), SG2042.model_copy(update={"compute": compute}))
    assert raised.value.place == "/compute/efficiency"


def test_transfers_cost_more_outside_a_group() -> None:
    assert nearest(SG2042) == "group"
    assert nearest(SG2042, outside_group=True) == "node"
    assert transfer_s(SG2042, 7e6, "node") == pytest.approx(3e-6 + 1e-3)
    assert transfer_s(SG2042, 7e6, "group") < transfer_s(SG2042, 7e6, "node")


@settings(max_examples=50, deadline=None)
@given(graphs(most_ops=4), machines())
def test_costs_are_finite_and_nearer_caches_are_not_slower(graph: Graph, machine: Machine) -> None:
    table = roofline(graph, machine)
    assert (table.seconds >= 0).all()
    assert math.isfinite(float(table.seconds.sum()))
    if machine.group_cache is None or machine.group_cache.core_bandwidth_bytes_per_s is None:
        return
    assert (table.seconds[:, :, GROUP] <= table.seconds[:, :, DRAM] + 1e-15).all()


def test_weights_of_a_team_that_spans_nodes_are_read_at_the_distances_between_them() -> None:
    """SG2042: two nodes at 10 and 15 mean 1.25 times the latency, four nodes 2.0 times, one node none."""
    assert [SG2042.interleaved_latency(g) for g in (1, 4, 5, 8, 16)] == [1, 1, 1.25, 1.25, 2.0]
    weights = [{"name": "w", "bytes": 10**9, "touched_bytes": 10**9}]
    streams = graph(kind="matmul", flop=1e8, elements=10**6, weights=weights)
    slow = with_figure(SG2042, "memory", package_bandwidth_bytes_per_s=None)
    slow = with_figure(slow, "overheads", panel_factor=None)
    uniform = slow.model_copy(update={"distances": None})
    for groups, times in ((4, 1.0), (8, 1.25), (16, 2.0)):
        near, far = (roofline(streams, m, (Config(groups, 4),)).compute_s[0, 0, DRAM] for m in (uniform, slow))
        assert far / near == pytest.approx(times), groups
    alone = graph(kind="matmul", flop=1e4, elements=10, weights=weights)  # too little work for more than one thread
    near, far = (roofline(alone, m, (Config(16, 4),)).compute_s[0, 0, DRAM] for m in (uniform, slow))
    assert far / near == pytest.approx(2.0), "its weights are spread all the same"


def test_memory_that_a_package_limits_is_no_slower_for_the_distance() -> None:
    assert SG2042.team_dram_bytes_per_s(64, 16, spread=16) == 38.9e9


def test_members_of_a_team_wait_for_each_other_at_each_panel_of_a_product() -> None:
    """Panels of 256 of the inner dimension, each with a line to every member."""
    layer = traced(torch.nn.Linear(1000, 512), torch.zeros(512, 1000)).graph
    config, without = Config(2, 4), with_figure(SG2042, "overheads", panel_factor=None)
    more = roofline(layer, SG2042, (config,)).compute_s - roofline(layer, without, (config,)).compute_s
    lines = 3 * SG2042.links["group"].line_s.value + 4 * SG2042.links["node"].line_s.value
    assert more[0, 0] == pytest.approx([4 * lines] * 3)
    alone = roofline(layer, SG2042, (Config(1, 1),)).compute_s
    assert (alone == roofline(layer, without, (Config(1, 1),)).compute_s).all()


def test_a_large_result_is_fresh_memory_at_each_call() -> None:
    small, large = (graph(kind="elementwise", elements=10, write_bytes=size) for size in (32 * 2**20, 33 * 2**20))
    without = with_figure(SG2042, "overheads", page_fault_s=None)
    for work, pages in ((small, 0), (large, 33 * 256)):
        more = roofline(work, SG2042, (Config(1, 1),)).compute_s - roofline(work, without, (Config(1, 1),)).compute_s
        assert more[0, 0] == pytest.approx([pages * 1.5e-6] * 3)
