"""Machines from one line, and what is said about lines that are none."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapper.errors import BadInput
from mapper.machine.files import load_machine
from mapper.machine.model import figures
from mapper.machine.shape import Shape, parse_shape

LEVEL = st.integers(1, 9)


def test_a_shape_is_its_counts() -> None:
    machine = load_machine("pack:2 numa:4 group:4 core:4 pu:2")
    assert machine.counts == {"hosts": 1, "packages": 2, "nodes": 8, "groups": 32, "cores": 128, "pus": 256}
    assert machine.cores[5].pus == (10, 11)
    assert load_machine("pack:1 numa:4 group:4 core:4").fingerprint == load_machine("sg2042").fingerprint


def test_levels_have_longer_names_and_may_be_left_out() -> None:
    assert load_machine("package:2 node:2 core:3").counts["groups"] == 4
    assert load_machine("core:8").counts == {"hosts": 1, "packages": 1, "nodes": 1, "groups": 1, "cores": 8, "pus": 8}


def test_hosts_have_the_same_pus_and_a_link_between_them() -> None:
    machine = load_machine("host:2 pack:2 core:2")
    assert [core.pus for core in machine.cores] == [(0,), (1,), (2,), (3,)] * 2
    assert (machine.distance(0, 2), machine.distance(0, 4)) == ("host", "cluster")
    assert [node.package for node in machine.nodes] == [0, 1, 2, 3]


def test_attributes_become_figures_that_say_so() -> None:
    text = "pack:1(l3=64MiB bandwidth=39GB/s) numa:4(memory=32GiB,bandwidth=11GB/s) group:4(l2=1MiB) "
    machine = load_machine(text + "core:4(l1=64KiB frequency=2GHz flops=16G bandwidth=4.8GB/s)")
    assert [(c.name, c.shared_by, c.bytes.value) for c in machine.caches] == [
        ("L1d", "core", 65536), ("L2", "group", 2**20), ("L3", "package", 2**26),
    ]  # fmt: skip
    memory = {place: figure.value for place, figure in figures(machine.memory)}
    assert memory["/package_bandwidth_bytes_per_s"] == 39e9
    assert memory["/node_bandwidth_bytes_per_s"] == 11e9
    assert memory["/core_bandwidth_bytes_per_s"] == 4.8e9
    assert machine.nodes[3].memory_bytes is not None and machine.nodes[3].memory_bytes.value == 2**35
    assert (machine.frequency_hz and machine.frequency_hz.value, machine.compute.peak_flop_per_s.value) == (2e9, 16e9)
    assert machine.caches[1].bytes.source.startswith("as given: pack:1(l3=64MiB")
    assert machine.overheads.dispatch_s.source.startswith("default")


def test_the_instruction_set_decides_the_peak() -> None:
    plain, wide = load_machine("core:4(frequency=2GHz)"), load_machine("core:4(frequency=2GHz isa=avx512f)")
    assert (plain.compute.peak_flop_per_s.value, wide.compute.peak_flop_per_s.value) == (8e9, 128e9)


def test_uniform_units_cost_nothing_but_their_work() -> None:
    machine = load_machine("uniform:8")
    assert machine.counts["groups"] == machine.counts["cores"] == 8
    assert machine.caches == ()
    assert machine.dram_bytes_per_s == machine.core_dram_bytes_per_s == math.inf
    assert machine.links["node"].seconds(1e9) == 0
    assert machine.overheads.dispatch_s.value == machine.overheads.handoff_s.value == 0


@given(st.tuples(LEVEL, LEVEL, LEVEL, LEVEL, LEVEL, LEVEL))
def test_the_text_of_a_shape_is_read_back(counts: tuple[int, ...]) -> None:
    shape = Shape(*counts)
    assert parse_shape(str(shape)) == shape


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pack:2 socket:2", "'socket:2' is not a level of a shape"),
        ("core:4 numa:2", "'numa:2' is out of order"),
        ("core:4 core:4", "'core:4' is out of order"),
        ("numa:0 core:4", "'numa:0': a level has at least one"),
        ("pack:x", "'pack:x' is not a level"),
        ("core:-4", "'core:-4' is not a level"),
        ("numa:4(memory) core:4", "'memory' in 'numa:4(memory)' is not an attribute"),
        ("numa:4(memory=big) core:4", "'big' is not a size"),
        ("numa:4(memory=32GiB core:4", "is not a level"),
        ("core:4(memory=32GiB)", "core has no attribute 'memory'"),
        ("pu:2(l2=1MiB)", "pu has no attribute 'l2'"),
        ("core:4(l2=0)", "must be greater than zero"),
        ("host:1000 pack:1000 core:1000", "more than 1048576 PUs"),
        ("uniform:0", "with K from 1 to"),
        ("uniform:x", "uniform:K was expected"),
    ],
)
def test_a_wrong_line_names_the_part(text: str, message: str) -> None:
    with pytest.raises(BadInput) as caught:
        load_machine(text)
    assert message in str(caught.value)
    assert caught.value.exit_code == 3
