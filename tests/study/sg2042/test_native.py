"""PyTorch's own parallelism, as it is on a machine without oneDNN."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import nn

from mapper.cost.configurations import Config
from mapper.cost.roofline import roofline
from mapper.graph.model import Graph
from mapper.machine.files import load_machine
from mapper.machine.model import Machine
from mapper.machine.vary import vary
from mapper.study.sg2042.native import Native, native_s, op_seconds, teams
from tests.tracing import traced

SG2042 = load_machine("sg2042")
FREE = vary(SG2042, {f"/overheads/{name}": 0.0 for name in (
    "dispatch_s", "fork_join_base_s", "fork_join_factor", "fork_join_jitter_s", "panel_factor",
)} | {"/compute/imbalance": 0.0, "/compute/busy_slowdown": 1.0})  # fmt: skip
"""Without what grows with the team."""


@cache
def convolution(images: int, groups: int = 1) -> Graph:
    layer = nn.Conv2d(64, 64, 3, padding=1, groups=groups)
    return traced(layer, torch.zeros(images, 64, 56, 56), name=f"conv{images}.{groups}").graph


@cache
def large_linear() -> Graph:
    """Weights of 134 MB, which no cache holds."""
    return traced(nn.Linear(8192, 4096), torch.zeros(1, 8192), name="linear").graph


def test_teams_are_powers_of_two_and_everything() -> None:
    assert teams(SG2042) == [1, 2, 4, 8, 16, 32, 64]
    assert teams(load_machine("core:6")) == [1, 2, 4, 6]


def test_a_convolution_of_several_images_has_no_more_threads_than_images() -> None:
    assert native_s(convolution(2), FREE, Native(64)) == pytest.approx(native_s(convolution(2), FREE, Native(2)))
    assert native_s(convolution(1), FREE, Native(64)) < native_s(convolution(1), FREE, Native(2)) / 8, (
        "im2col and product"
    )
    assert native_s(convolution(64), FREE, Native(64)) < native_s(convolution(64), FREE, Native(2)) / 8


def test_groups_are_a_series_that_forks_a_team_for_each() -> None:
    one, all_ = (native_s(convolution(1, 64), SG2042, Native(threads)) for threads in (1, 64))
    assert all_ > one, "64 forks and joins cost more than 64 small products gain"
    assert native_s(convolution(1, 64), FREE, Native(64), path="onednn") < native_s(
        convolution(1, 64), FREE, Native(64)
    )


def test_weights_on_one_node_come_through_one_controller() -> None:
    touched, spread = (native_s(large_linear(), FREE, Native(64, pages)) for pages in ("first touch", "interleaved"))
    node = SG2042.memory.node_bandwidth_bytes_per_s
    assert node is not None
    assert touched == pytest.approx(8192 * 4096 * 4 / node.value, rel=0.05)
    assert spread < touched / 2.5
    alone = vary(FREE, {"/memory/node_bandwidth_bytes_per_s": None}).model_copy(update={"distances": None})
    pages = [native_s(large_linear(), alone, Native(64, pages)) for pages in ("first touch", "interleaved")]
    assert pages[0] == pages[1]


def test_a_core_is_slowed_down_by_those_at_work_only() -> None:
    busy = vary(FREE, {"/compute/busy_slowdown": 3.0})
    graph = convolution(1)

    def slower(threads: int) -> float:
        return native_s(graph, busy, Native(threads)) / native_s(graph, FREE, Native(threads))

    assert slower(1) == 1 and slower(64) == pytest.approx(3, rel=0.01) and 1 < slower(32) < slower(64)


@pytest.mark.parametrize("machine", ["sg2042", "epyc-7763", "core:4"])
def test_one_thread_costs_what_the_roofline_says_of_one_core_alone(machine: str) -> None:
    found: Machine = load_machine(machine)
    graph = convolution(1)
    table = roofline(graph, found, (Config(1, 1),), alone=True)
    residency = 1 if table.caches.holds_model(64 * 64 * 9 * 4 + 256) else 2
    assert op_seconds(graph, found, Native(1)) == pytest.approx(table.seconds[:, 0, residency].tolist())
