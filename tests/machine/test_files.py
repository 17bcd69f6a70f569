from __future__ import annotations

import json
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapper.errors import BadInput, SystemRefused, UnknownName
from mapper.jsonio import dumps, plain
from mapper.machine.files import bundled_names, load_machine, machine_text, save_machine
from mapper.machine.model import Machine
from mapper.machine.pus import format_pus, parse_pus

BUNDLED = resources.files("mapper.topologies")


def figures(value: Any, place: str = "") -> list[tuple[str, dict[str, Any]]]:
    """Every figure in a topology document with its place."""
    if isinstance(value, dict):
        if "kind" in value:
            return [(place, value)]
        return [found for key, part in value.items() for found in figures(part, f"{place}/{key}")]
    if isinstance(value, list):
        return [found for i, part in enumerate(value) for found in figures(part, f"{place}/{i}")]
    return []


@pytest.mark.parametrize("spec", ["sg2042", "sg2042.json"])
def test_a_bundled_machine_is_found_by_name(spec: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    machine = load_machine(spec)
    assert machine.counts == {"hosts": 1, "packages": 1, "nodes": 4, "groups": 16, "cores": 64, "pus": 64}


def test_a_file_in_the_working_folder_comes_before_a_bundled_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    save_machine(load_machine("sg2042").model_copy(update={"name": "mine"}), Path("sg2042.json"))
    assert load_machine("sg2042.json").name == "mine"
    assert load_machine("sg2042").name == "sg2042"
    assert load_machine(tmp_path / "sg2042.json").name == "mine"


def test_host_is_the_machine_at_hand() -> None:
    assert load_machine("host").counts["pus"] >= 1


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("sg2024", ["sg2044", "sg2042"]),
        ("SG2042x", ["sg2042", "sg2044"]),
        ("hots", ["host"]),
    ],
)
def test_an_unknown_name_is_told_the_near_ones(name: str, near: list[str]) -> None:
    with pytest.raises(UnknownName, match=f"Did you mean {near[0]}") as caught:
        load_machine(name)
    assert caught.value.near == near
    assert caught.value.exit_code == 3


def test_a_missing_file_is_not_taken_for_a_name(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such file"):
        load_machine(str(tmp_path / "absent.json"))
    with pytest.raises(BadInput, match="no such file"):
        load_machine(Path("absent"))


@pytest.mark.parametrize("name", bundled_names())
def test_bundled_files_are_valid_and_in_the_form_that_mapper_writes(name: str) -> None:
    machine = load_machine(name)
    assert machine.name == name
    assert machine_text(machine) == (BUNDLED / f"{name}.json").read_text()


@pytest.mark.parametrize("name", bundled_names())
def test_every_bundled_figure_says_where_it_is_from(name: str) -> None:
    document = json.loads((BUNDLED / f"{name}.json").read_text())
    found = figures(document)
    assert len(found) > 40
    for place, figure in found:
        assert figure["source"], place
        if figure["kind"] in ("specified", "measured"):
            cited = document["sources"].get(figure["source"].partition("]")[0].strip("["), figure["source"])
            assert "https://" in cited or "PyTorch" in cited, place


def test_sg2042_has_the_numbering_and_distances_of_boot_hart_0() -> None:
    machine = load_machine("sg2042")
    pus = [sorted(pu for group in node.groups for core in group for pu in core) for node in machine.nodes]
    assert list(map(format_pus, pus)) == ["0-7,16-23", "8-15,24-31", "32-39,48-55", "40-47,56-63"]
    assert all(len(group) == 4 and group[0][0] % 4 == 0 for node in machine.nodes for group in node.groups)
    assert machine.distances == ((10, 15, 25, 30), (15, 10, 30, 25), (25, 30, 10, 15), (30, 25, 15, 10))
    shared = {cache.level: (cache.shared_by, cache.bytes.value) for cache in machine.caches}
    assert shared == {1: ("core", 65536), 2: ("group", 2**20), 3: ("package", 64 * 2**20)}


def test_a_saved_machine_reads_back_equal(tmp_path: Path) -> None:
    machine = load_machine("host")
    save_machine(machine, tmp_path / "host.json")
    assert load_machine(tmp_path / "host.json") == machine


def test_saving_where_it_cannot_be_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(SystemRefused, match=r"absent/host\.json cannot be written"):
        save_machine(load_machine("sg2042"), tmp_path / "absent/host.json")


def test_the_fingerprint_is_blind_to_numbering_nodes_and_caches() -> None:
    machine = load_machine("sg2042")
    document = json.loads(dumps(plain(machine)))
    groups = [group for node in document["nodes"] for group in node["groups"]]
    document |= {"nodes": [{"groups": groups[::-1]}], "caches": [], "distances": None, "layout": None}
    assert Machine.model_validate(document).fingerprint == machine.fingerprint
    document["nodes"] = [{"groups": groups[1:]}]
    assert Machine.model_validate(document).fingerprint != machine.fingerprint


def test_a_copy_with_other_nodes_has_their_cores() -> None:
    machine = load_machine("sg2042")
    assert len(machine.cores) == 64
    copied = machine.model_copy(update={"nodes": machine.nodes[:1]})
    assert (len(copied.cores), len(copied.groups), copied.node_of_group) == (16, 4, (0, 0, 0, 0))


def test_two_hosts_need_the_link_between_them() -> None:
    document = json.loads(dumps(plain(load_machine("sg2042"))))
    document["nodes"] = [{"host": 0, "package": 0, "groups": ["0-3"]}, {"host": 1, "package": 1, "groups": ["0-3"]}]
    document["distances"] = None
    with pytest.raises(ValueError, match="'cluster' is missing"):
        Machine.model_validate(document)


@given(st.lists(st.integers(0, 200), unique=True))
def test_cpu_lists_read_back_in_order(numbers: list[int]) -> None:
    assert parse_pus(format_pus(numbers)) == tuple(numbers)


def test_commands_import_nothing_heavy() -> None:
    heavy = ("torch", "ortools", "numpy", "networkx", "pydantic")
    code = f"import mapper.cli.topo, mapper.cli.doctor, sys; print([m for m in {heavy} if m in sys.modules])"
    light = ("torch", "ortools", "numpy", "networkx")
    show = (
        "import mapper.machine.files as f, mapper.machine.draw, mapper.host.facts, mapper.host.affinity, sys; "
        f"f.load_machine('host'); print([m for m in {light} if m in sys.modules])"
    )
    for text in (code, show):
        assert subprocess.run([sys.executable, "-c", text], capture_output=True, text=True).stdout == "[]\n"
