"""Random machines: through a tree and discovery, through a file, restricted."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mapper.jsonio import dumps, plain
from mapper.machine.complete import completed
from mapper.machine.discover import discover
from mapper.machine.files import load_machine, machine_text
from mapper.machine.model import Machine
from mapper.machine.pus import format_pus
from mapper.machine.restrict import with_cores, with_pus
from tests.machines.generated import machines
from tests.machines.trees import parts, write_tree


@settings(max_examples=60, deadline=None)
@given(machine=machines(), old=st.booleans())
def test_a_random_machine_is_discovered_as_it_is(
    tmp_path_factory: pytest.TempPathFactory, machine: Machine, old: bool
) -> None:
    found = discover(write_tree(tmp_path_factory.mktemp("tree"), machine, lists=not old))
    assert parts(found) == parts(machine)
    assert (found.fingerprint, found.counts) == (machine.fingerprint, machine.counts)
    assert found.distances == machine.distances
    assert [core.pus for core in found.cores] == [core.pus for core in machine.cores]
    assert [node.memory_bytes and node.memory_bytes.value for node in found.nodes] == [
        node.memory_bytes and node.memory_bytes.value for node in machine.nodes
    ]
    assert {(c.level, c.bytes.value) for c in found.caches} == {(c.level, c.bytes.value) for c in machine.caches}
    if machine.counts["cores"] == machine.counts["packages"]:
        return  # what a single core has to itself is also its package's
    for mine, its in ((found.group_cache, machine.group_cache), (found.package_cache, machine.package_cache)):
        assert (mine and mine.level) == (its and its.level)


@settings(max_examples=60, deadline=None)
@given(machine=machines())
def test_files_give_the_machine_back(machine: Machine) -> None:
    for text in (machine_text(machine), dumps(plain(machine))):
        assert Machine.model_validate(json.loads(text)) == machine
        assert Machine.model_validate(completed(json.loads(text))) == Machine.model_validate(completed(plain(machine)))


@settings(max_examples=100, deadline=None)
@given(machine=machines(), data=st.data())
def test_a_restriction_takes_away_and_never_adds(machine: Machine, data: st.DataObject) -> None:
    whole = len(machine.cores)
    kept = sorted(data.draw(st.sets(st.integers(0, whole - 1), min_size=1)))
    part = with_cores(machine, kept)
    assert [core.pus for core in part.cores] == [machine.cores[core].pus for core in kept]
    assert part.caches == machine.caches and part.memory == machine.memory
    assert Machine.model_validate(plain(part)) == part
    for a, b in zip(part.cores, [machine.cores[core] for core in kept], strict=True):
        assert part.nodes[a.node].os_index == machine.nodes[b.node].os_index
    if part.part_of is None:
        assert part == machine
    else:
        assert (part.part_of.fingerprint, part.part_of.cores) == (machine.fingerprint, tuple(kept))
    again = sorted(data.draw(st.sets(st.integers(0, len(kept) - 1), min_size=1)))
    assert with_cores(part, again) == with_cores(machine, [kept[core] for core in again])


@settings(max_examples=40, deadline=None)
@given(machine=machines(), data=st.data())
def test_an_affinity_mask_is_a_restriction(
    tmp_path_factory: pytest.TempPathFactory, machine: Machine, data: st.DataObject
) -> None:
    every = sorted(pu for core in machine.cores for pu in core.pus)
    allowed = data.draw(st.sets(st.sampled_from(every), min_size=1))
    tree = write_tree(tmp_path_factory.mktemp("tree"), machine)
    found = discover(tree, allowed=allowed)
    assert {pu for core in found.cores for pu in core.pus} == allowed
    assert found == with_pus(discover(tree), allowed)


def test_4096_pus_load_restrict_and_are_written(tmp_path: pytest.TempPathFactory) -> None:
    machine = load_machine("pack:2 numa:8 group:16 core:8 pu:2")
    assert machine.counts["pus"] == 4096
    document = json.loads(dumps(plain(machine)))
    assert Machine.model_validate(document) == machine
    assert len(machine_text(machine)) < 20_000, "a regular machine is short whatever its size"
    assert with_cores(machine, range(100, 200)).counts["cores"] == 100
    assert format_pus([pu for core in machine.cores for pu in core.pus]) == "0-4095"
