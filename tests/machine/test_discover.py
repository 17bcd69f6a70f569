"""Discovery on trees that `tests.machines.trees` writes: what it must see, and what it must do without."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mapper.errors import BadInput, MachineMismatch
from mapper.machine.discover import discover
from mapper.machine.files import load_machine
from mapper.machine.model import Machine
from mapper.machine.parts import Node
from mapper.machine.pus import parse_pus
from tests.machines.trees import booted_on, parts, renumbered, write_tree

SG2042 = load_machine("sg2042")


def caches_of(machine: Machine) -> list[tuple[int, str, float]]:
    return [(cache.level, cache.shared_by, cache.bytes.value) for cache in machine.caches]


@pytest.mark.parametrize("hart", [0, 1, 8, 22, 63])
def test_sg2042_whichever_hart_boots(tmp_path: Path, hart: int) -> None:
    board = booted_on(SG2042.model_copy(update={"caches": SG2042.caches[:2]}), hart)
    found = discover(write_tree(tmp_path, board))
    assert found.fingerprint == SG2042.fingerprint
    assert found.counts == SG2042.counts
    assert parts(found) == parts(board)
    assert found.distances == SG2042.distances
    assert caches_of(found) == caches_of(SG2042)[:2]


def test_boot_hart_8_is_not_taken_for_the_first_cluster(tmp_path: Path) -> None:
    found = discover(write_tree(tmp_path, booted_on(SG2042, 8)))
    assert [core.pus for core in found.cores[:4]] == [(1,), (2,), (3,), (4,)]
    assert found.nodes[1].groups[0] == ((0,), (9,), (10,), (11,))


def test_without_cache_folders_clusters_are_groups(tmp_path: Path) -> None:
    found = discover(write_tree(tmp_path, booted_on(SG2042, 8), caches=False))
    assert found.fingerprint == SG2042.fingerprint
    assert found.caches == ()


def test_without_caches_and_clusters_every_core_is_a_group(tmp_path: Path) -> None:
    found = discover(write_tree(tmp_path, SG2042, caches=False, clusters=False))
    assert found.counts == {**SG2042.counts, "groups": 64}


def test_without_numa_folders_there_is_one_node_with_the_memory_of_all(tmp_path: Path) -> None:
    found = discover(write_tree(tmp_path, SG2042, nodes=False))
    assert found.fingerprint == SG2042.fingerprint
    assert found.counts["nodes"] == 1
    memory = found.nodes[0].memory_bytes
    assert memory is not None and memory.value == 128 * 2**30
    assert found.distances is None


def test_memory_that_was_plugged_in_later_belongs_to_the_only_node(tmp_path: Path) -> None:
    one = load_machine("numa:1(memory=4GiB) group:2 core:2")
    write_tree(tmp_path, one)
    (tmp_path / "proc/meminfo").write_text("MemTotal: 8388608 kB\n")
    memory = discover(tmp_path).nodes[0].memory_bytes
    assert memory is not None and (memory.value, memory.source) == (8 * 2**30, "MemTotal in proc/meminfo")


@pytest.mark.parametrize("name", ["CPU @ 1.2.3 GHz", "CPU @ 0.00GHz", "CPU @ .GHz"])
def test_a_strange_model_name_states_no_clock(tmp_path: Path, name: str) -> None:
    found = discover(write_tree(tmp_path, SG2042, cpuinfo=f"processor : 0\nmodel name : {name}\n"))
    assert found.frequency_hz is not None and found.frequency_hz.kind in ("assumed", "specified")


def test_old_kernels_show_masks_only(tmp_path: Path) -> None:
    assert parts(discover(write_tree(tmp_path, SG2042, lists=False))) == parts(SG2042)


def test_offline_pus_are_left_out_and_the_group_keeps_its_other_cores(tmp_path: Path) -> None:
    found = discover(write_tree(tmp_path, SG2042, offline=[0, 5, 6, 7, 63]))
    assert found.counts == {**SG2042.counts, "cores": 59, "pus": 59}
    assert found.nodes[0].groups[:2] == (((1,), (2,), (3,)), ((4,),))


def test_a_restricted_process_sees_its_cores_and_the_whole_caches(tmp_path: Path) -> None:
    found = discover(write_tree(tmp_path, SG2042), allowed=[2, 3, 16, 40, 1000])
    assert [node.groups for node in found.nodes] == [(((2,), (3,)), ((16,),)), (((40,),),)]
    assert found.distances == ((10, 30), (30, 10))
    assert caches_of(found)[:2] == caches_of(SG2042)[:2]


def test_a_process_that_may_use_none_of_the_pus_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(MachineMismatch, match=r"none of the allowed PUs 70-71 is online\nOnline are 0-63"):
        discover(write_tree(tmp_path, SG2042), allowed=[70, 71])


def test_a_memory_only_node_is_skipped_with_its_row_of_distances(tmp_path: Path) -> None:
    gone = [pu for group in SG2042.nodes[2].groups for core in group for pu in core]
    found = discover(write_tree(tmp_path, SG2042, offline=gone))
    assert [node.os_index for node in found.nodes] == [0, 1, 3]
    assert found.distances == ((10, 15, 30), (15, 10, 25), (30, 25, 10))
    assert found.notes == ("Node 2 has memory only (34.4 GB): plans do not use it.",)


def test_distances_that_contradict_themselves_are_left_out_with_a_note(tmp_path: Path) -> None:
    write_tree(tmp_path, SG2042)
    (tmp_path / "sys/devices/system/node/node0/distance").write_text("10 99 25 30\n")
    found = discover(tmp_path)
    assert found.distances is None
    assert "99 from node 0 to 1, 15 back" in found.notes[0]


def test_a_folder_without_sys_and_proc_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="neither sys/devices/system/cpu nor proc/cpuinfo"):
        discover(tmp_path)


def test_cpuinfo_alone_is_enough(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text("processor\t: 0\nFeatures\t: fp asimd\n\nprocessor\t: 3\n")
    found = discover(tmp_path)
    assert [core.pus for core in found.cores] == [(0,), (3,)]
    assert found.isa == "aarch64 asimd"


@pytest.mark.parametrize(
    ("cpuinfo", "model", "isa", "peak"),
    [
        ("model name\t: Xeon  CPU @ 2.50GHz\ncpu MHz\t\t: 800.1\nflags\t\t: lm sse2 avx avx2 fma avx512f",
         "Xeon CPU @ 2.50GHz", "x86_64 avx512f avx2 fma avx", 160e9),
        ("model name\t: EPYC\ncpu MHz\t\t: 2000.0\nflags\t\t: lm sse2 avx avx2 fma",
         "EPYC", "x86_64 avx2 fma avx", 64e9),
        ("Features\t: fp asimd\nCPU implementer\t: 0x48\nCPU part\t: 0xd01",
         "implementer 0x48 part 0xd01", "aarch64 asimd", 32e9),
        ("hart\t\t: 0\nisa\t\t: rv64imafdcv_zicsr\nuarch\t\t: thead,c920", "thead,c920", "rv64imafdcv_zicsr", 16e9),
        ("isa\t\t: rv64imafdc_zicsr\nmmu\t\t: sv39", "", "rv64imafdc_zicsr", 8e9),
        ("", "", "", 8e9),
    ],
)  # fmt: skip
def test_the_arithmetic_peak_follows_cpuinfo(tmp_path: Path, cpuinfo: str, model: str, isa: str, peak: float) -> None:
    found = discover(write_tree(tmp_path, SG2042, cpuinfo=cpuinfo))
    assert (found.cpu_model, found.isa) == (model, isa)
    assert found.compute.peak_flop_per_s.value == pytest.approx(peak)


def test_every_discovered_figure_names_its_source(tmp_path: Path) -> None:
    write_tree(tmp_path, SG2042)

    def figures(value: object) -> list[dict[str, object]]:
        if isinstance(value, dict):
            return [value] if "kind" in value else [f for part in value.values() for f in figures(part)]
        return [f for part in value for f in figures(part)] if isinstance(value, list | tuple) else []

    found = figures(discover(tmp_path).model_dump())
    assert len(found) > 30
    assert all(figure["source"] for figure in found)


def test_this_machine_is_discovered_within_what_this_process_may_use() -> None:
    found = discover()
    assert {pu for core in found.cores for pu in core.pus} <= os.sched_getaffinity(0)


def test_harts_order_cores_whichever_boots(tmp_path: Path) -> None:
    board = booted_on(SG2042, 22)  # in the third group of its node
    found = discover(write_tree(tmp_path, board, harts=lambda pu: 22 if pu == 0 else pu - 1 if pu <= 22 else pu))
    assert [core.pus for core in found.cores[8:12]] == [(17,), (18,), (19,), (20,)]
    assert [core.pus for core in found.cores[12:16]] == [(21,), (22,), (0,), (23,)]


def test_clusters_inside_of_a_nodes_cache_are_groups(tmp_path: Path) -> None:
    l1, l2, l3 = SG2042.caches
    caches = (l1, l2.model_copy(update={"shared_by": "core"}), l3.model_copy(update={"shared_by": "node"}))
    found = discover(write_tree(tmp_path, SG2042.model_copy(update={"caches": caches})))
    assert found.fingerprint == SG2042.fingerprint
    assert [(cache.level, cache.shared_by) for cache in found.caches] == [(1, "core"), (2, "core"), (3, "node")]
    assert found.package_cache == found.caches[2] and found.group_cache is None


def test_clusters_of_cores_with_private_caches_only_are_no_groups(tmp_path: Path) -> None:
    caches = tuple(cache.model_copy(update={"shared_by": "core"}) for cache in SG2042.caches[:2])
    found = discover(write_tree(tmp_path, SG2042.model_copy(update={"caches": caches})))
    assert found.counts["groups"] == 64
    assert found.group_cache is not None and found.group_cache.level == 2


def test_kinds_of_core_by_capacity(tmp_path: Path) -> None:
    found = discover(write_tree(tmp_path, SG2042, capacity=lambda pu: 1024 if pu < 32 else 512))
    assert [(kind.name, kind.cores, kind.speed.value) for kind in found.core_kinds] == [
        ("capacity 1024", tuple(range(32)), 1.0), ("capacity 512", tuple(range(32, 64)), 0.5),
    ]  # fmt: skip
    assert found.slowest == 0.5
    assert discover(tmp_path, allowed=range(32)).slowest == 1.0
    assert discover(write_tree(tmp_path / "same", SG2042, capacity=lambda pu: 1024)).core_kinds == ()


def test_kinds_of_core_by_their_monitors(tmp_path: Path) -> None:
    write_tree(tmp_path, SG2042)
    for name, pus, top in (("cpu_core", "0-31", 5_000_000), ("cpu_atom", "32-63", 4_000_000)):
        (tmp_path / "sys/devices" / name).mkdir(parents=True)
        (tmp_path / "sys/devices" / name / "cpus").write_text(pus + "\n")
        for pu in parse_pus(pus):
            folder = tmp_path / f"sys/devices/system/cpu/cpu{pu}/cpufreq"
            folder.mkdir()
            (folder / "cpuinfo_max_freq").write_text(f"{top}\n")
    kinds = discover(tmp_path).core_kinds
    assert [(k.name, len(k.cores), k.speed.value) for k in kinds] == [("P-core", 32, 1.0), ("E-core", 32, 0.8)]


@st.composite
def regular_machines(draw: st.DrawFn) -> Machine:
    """A machine that is the same everywhere, with any numbering: packages, nodes, groups, cores and SMT threads."""
    packages, nodes = draw(st.integers(1, 2)), draw(st.integers(1, 3))
    groups, cores, threads = draw(st.integers(1, 3)), draw(st.integers(1, 4)), draw(st.integers(1, 2))
    assume(cores == 1 or nodes * groups > 1)  # a cache of the whole package makes no groups
    every = packages * nodes * groups * cores * threads
    assume(every <= 48)
    numbers = iter(draw(st.permutations(range(every))))
    gap, start = draw(st.integers(1, 3)), draw(st.integers(0, 2))
    made = [
        Node(package=n // nodes, os_index=gap * n, memory_bytes={"value": 2**30},  # type: ignore[arg-type]
             groups=tuple(tuple(tuple(next(numbers) for _ in range(threads)) for _ in range(cores))
                          for _ in range(groups)))
        for n in range(packages * nodes)
    ]  # fmt: skip
    distances = tuple(tuple(10.0 if a == b else 20.0 for a in made) for b in made)
    links = dict.fromkeys(("group", "node", "package", "host"), SG2042.links["package"])
    changed = {"nodes": tuple(made), "distances": distances, "links": links, "layout": None}
    plain = SG2042.model_copy(update=changed)
    return Machine.model_validate(renumbered(plain, lambda pu: gap * pu + start).model_dump(by_alias=True))


@settings(max_examples=40, deadline=None)
@given(machine=regular_machines())
def test_a_regular_machine_is_discovered_as_it_is(tmp_path_factory: pytest.TempPathFactory, machine: Machine) -> None:
    found = discover(write_tree(tmp_path_factory.mktemp("tree"), machine))
    assert parts(found) == parts(machine)
    assert found.fingerprint == machine.fingerprint
    assert found.distances == machine.distances
    assert caches_of(found) == caches_of(machine)
    assert found == discover(write_tree(tmp_path_factory.mktemp("again"), found)), "its own tree gives it again"
