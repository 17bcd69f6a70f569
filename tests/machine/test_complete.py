"""What a description leaves out: defaults, and a machine of the same shape that is known."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mapper.errors import MachineMismatch
from mapper.machine.complete import like
from mapper.machine.discover import discover
from mapper.machine.files import load_machine, machine_text, similar
from mapper.machine.model import Machine, figures
from tests.machines.trees import booted_on, write_tree

SG2042 = load_machine("sg2042")
AS_SHOWN = SG2042.model_copy(update={"caches": SG2042.caches[:2]})
"""The L3 is not in the device tree, so no kernel shows it."""
CPUINFO = "processor\t: 0\nhart\t: 0\nisa\t: rv64imafdc\n"


def loaded(tmp_path: Path, **document: object) -> Machine:
    file = tmp_path / "m.json"
    file.write_text(json.dumps({"schema": "mapper-topology/1", "name": "mine", **document}))
    return load_machine(file)


def test_a_shape_is_enough(tmp_path: Path) -> None:
    machine = loaded(tmp_path, nodes={"shape": "numa:4 group:4 core:4"})
    assert machine.fingerprint == SG2042.fingerprint
    found = dict(figures(machine))
    assert len(found) > 20
    assert {figure.kind for figure in found.values()} == {"assumed", "specified"}
    assert [place for place, figure in found.items() if figure.kind == "specified"] == ["/overheads/grain_elements"]


def test_what_is_given_stays_and_the_rest_of_its_section_is_filled_in(tmp_path: Path) -> None:
    machine = loaded(
        tmp_path,
        nodes=[{"groups": ["0-3"]}, {"groups": ["4-7"]}],
        isa="x86_64 avx2 fma",
        frequency_hz=3e9,
        overheads={"dispatch_s": 1e-6},
        memory={"core_bandwidth_bytes_per_s": 5e9},
        caches=[{"name": "L2", "level": 2, "shared_by": "core", "bytes": 2**20}],
    )
    assert machine.overheads.dispatch_s.value == 1e-6
    assert machine.overheads.handoff_s.source.startswith("default")
    assert machine.compute.peak_flop_per_s.value == 32 * 3e9
    assert machine.memory.package_bandwidth_bytes_per_s is None, "a bandwidth that is left out limits nothing"
    assert machine.caches[0].core_bandwidth_bytes_per_s is not None


def test_a_board_completed_like_the_sg2042_is_one(tmp_path: Path) -> None:
    board = discover(write_tree(tmp_path, booted_on(AS_SHOWN, 8), cpuinfo=CPUINFO))
    assert similar(board) == ["sg2042"]
    whole = like(board, SG2042)
    assert [core.pus for core in whole.cores] == [core.pus for core in board.cores], "numbering stays the board's"
    assert whole.package_cache is not None and whole.package_cache.bytes.value == 64 * 2**20
    assert whole.caches[1].bytes.source == board.caches[1].bytes.source, "sizes that the kernel shows stay"
    assert whole.caches[1].latency_s is not None
    assert whole.caches[1].latency_s.source.endswith("(as sg2042)")
    assert whole.memory.package_bandwidth_bytes_per_s is not None
    assert whole.memory.package_bandwidth_bytes_per_s.value == 38.9e9
    assert whole.compute.peak_flop_per_s.value == 16e9
    assert whole.layout == SG2042.layout
    assert "L3" in whole.notes[-1] and "/memory" in whole.notes[-1] and "sg2042" in whole.notes[-1]
    assert Machine.model_validate(json.loads(machine_text(whole))) == whole


def test_a_kernel_without_nodes_keeps_one_node_and_no_places(tmp_path: Path) -> None:
    whole = like(discover(write_tree(tmp_path, AS_SHOWN, nodes=False)), SG2042)
    assert whole.counts["nodes"] == 1
    assert whole.layout is None
    assert whole.memory.node_bandwidth_bytes_per_s is None, "a controller's bandwidth is not that of all four"


def test_a_kernel_without_caches_gets_all_of_them(tmp_path: Path) -> None:
    whole = like(discover(write_tree(tmp_path, AS_SHOWN, caches=False)), SG2042)
    assert [(c.name, c.bytes.value) for c in whole.caches] == [(c.name, c.bytes.value) for c in SG2042.caches]
    assert all(c.bytes.source.endswith("(as sg2042)") for c in whole.caches)


def test_another_shape_is_not_completed() -> None:
    with pytest.raises(MachineMismatch, match="not like sg2042: it has 8 cores") as caught:
        like(load_machine("core:8"), SG2042)
    assert caught.value.exit_code == 6


def test_another_family_of_instructions_is_not_proposed(tmp_path: Path) -> None:
    board = discover(write_tree(tmp_path, AS_SHOWN, cpuinfo="processor : 0\nflags : lm sse2\n"))
    assert board.fingerprint == SG2042.fingerprint and similar(board) == []


def test_where_no_caches_are_shown_a_note_says_so_until_a_known_machine_adds_them(tmp_path: Path) -> None:
    silent = discover(write_tree(tmp_path / "silent", SG2042, caches=False, cpuinfo=CPUINFO))
    assert [note for note in silent.notes if "shows no caches" in note]
    assert not [note for note in like(silent, SG2042).notes if "shows no caches" in note]
    shown = discover(write_tree(tmp_path / "shown", AS_SHOWN, cpuinfo=CPUINFO))
    assert shown.notes == ()


def test_nodes_that_the_system_does_not_show_are_told(tmp_path: Path) -> None:
    one = discover(write_tree(tmp_path / "one", AS_SHOWN, nodes=False, cpuinfo=CPUINFO))
    told = "The system shows 1 NUMA node, sg2042 has 4: memory near a core is not told from that far away."
    assert told in like(one, SG2042).notes
    four = discover(write_tree(tmp_path / "four", AS_SHOWN, cpuinfo=CPUINFO))
    assert not [note for note in like(four, SG2042).notes if "NUMA" in note]
