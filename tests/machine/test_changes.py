"""Machines with other figures, by name."""

from __future__ import annotations

import pytest

from mapper.errors import BadInput, MapperError, UsageError
from mapper.machine.changes import changed, parse_figure, pointer_of
from mapper.machine.files import load_machine
from mapper.machine.model import figures

SG2042 = load_machine("sg2042")


def test_a_changed_figure_is_the_only_difference() -> None:
    other = load_machine("sg2042+l2_bytes=2MiB")
    assert other.name == "sg2042+l2_bytes=2MiB"
    before, after = dict(figures(SG2042)), dict(figures(other))
    assert [place for place in before if before[place] != after[place]] == ["/caches/1/bytes"]
    assert after["/caches/1/bytes"].value == 2**21
    assert after["/caches/1/bytes"].source != before["/caches/1/bytes"].source


def test_several_changes() -> None:
    other = load_machine("sg2042.json+l2_bytes=2MiB+dispatch_s=1us+/links/node/line_s=50ns")
    assert other.overheads.dispatch_s.value == 1e-6
    assert other.links["node"].line_s.value == pytest.approx(50e-9)


def test_the_nodes_dram_follows_that_of_the_package() -> None:
    before, after = SG2042.memory, changed(SG2042, "dram_bytes_per_s=200GB/s").memory
    assert before.package_bandwidth_bytes_per_s and before.node_bandwidth_bytes_per_s
    assert after.package_bandwidth_bytes_per_s and after.node_bandwidth_bytes_per_s
    factor = 200e9 / before.package_bandwidth_bytes_per_s.value
    assert after.package_bandwidth_bytes_per_s.value == 200e9
    assert after.node_bandwidth_bytes_per_s.value == pytest.approx(factor * before.node_bandwidth_bytes_per_s.value)


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("l3_bytes", "/caches/L3/bytes"), ("dispatch_s", "/overheads/dispatch_s"),
        ("peak_flop_per_s", "/compute/peak_flop_per_s"), ("efficiency_conv", "/compute/efficiency/conv"),
        ("links_node_line_s", "/links/node/line_s"), ("package_w", "/power/package_w"),
        ("/memory/core_bandwidth_bytes_per_s", "/memory/core_bandwidth_bytes_per_s"),
    ],
)  # fmt: skip
def test_short_names(name: str, place: str) -> None:
    assert pointer_of(SG2042, name) == place


@pytest.mark.parametrize(
    ("text", "kind", "told"),
    [
        ("l2_byte=1", UsageError, "no figure 'l2_byte'\nDid you mean l2_bytes"),
        ("bytes=1", UsageError, "several figures called 'bytes'"),
        ("frequency_hz=3GHz", UsageError, "no cost depends on /frequency_hz\nChange /compute/peak_flop_per_s."),
        ("l2_bytes", UsageError, "'l2_bytes' is no change of sg2042"),
        ("l2_bytes=0", BadInput, "/caches/1/bytes: must be greater than zero"),
        ("l2_fill=120%", BadInput, "/caches/1/fill: must be in (0, 1]"),
        ("l2_bytes=-1", UsageError, "must not be negative"),
    ],
)
def test_what_no_machine_has(text: str, kind: type[MapperError], told: str) -> None:
    with pytest.raises(kind) as error:
        changed(SG2042, text)
    assert told in str(error.value)


def test_units_are_those_of_the_name() -> None:
    assert parse_figure("l2_bytes", "2MiB") == 2**21
    assert parse_figure("dram_bytes_per_s", "100GB/s") == 1e11
    assert parse_figure("peak_flop_per_s", "16G") == 1.6e10
    assert parse_figure("dispatch_s", "1ms") == 1e-3
    assert parse_figure("/compute/seconds_per_element/softmax", "2ns") == pytest.approx(2e-9)
    assert parse_figure("imbalance", "12%") == 0.12
    assert parse_figure("package_w", "90") == 90
