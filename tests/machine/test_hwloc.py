"""Import of hwloc XML: texts written here, exports of random machines, and captured machines where they are."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mapper.errors import BadInput
from mapper.machine import hwloc
from mapper.machine.discover import discover
from mapper.machine.files import load_machine
from mapper.machine.model import Machine
from tests.machine.test_captured import CAPTURED, Unpack, unpacked
from tests.machine.test_discover import SG2042, caches_of, regular_machines
from tests.machines.trees import booted_on, parts

__all__ = ["unpacked"]
LSTOPO = shutil.which("lstopo-no-graphics") or shutil.which("lstopo")

captured = pytest.mark.skipif(not CAPTURED.is_dir(), reason="no captured machines beside the repository")
installed = pytest.mark.skipif(LSTOPO is None, reason="lstopo is not installed")


def mask(pus: Iterable[int]) -> str:
    """The set as hwloc writes it: 32-bit words, the highest first, zero words but the last one left out."""
    value, words = sum(1 << pu for pu in set(pus)), []
    while value or not words:
        words.append(f"0x{value % 2**32:08x}" if value % 2**32 else "" if words else "0x0")
        value >>= 32
    return ",".join(reversed(words))


def element(kind: str, pus: Iterable[int], inner: str = "", /, **attributes: object) -> str:
    given = "".join(f' {name}="{value}"' for name, value in attributes.items())
    return f'<object type="{kind}" cpuset="{mask(pus)}"{given}>\n{inner}</object>\n'


def info(name: str, value: object) -> str:
    return f'<info name="{name}" value="{value}"/>\n'


def document(inner: str, version: str = "2.0", beside: str = "") -> str:
    named = f' version="{version}"' if version else ""
    doctype = f'<!DOCTYPE topology SYSTEM "hwloc{"2" if version else ""}.dtd">'
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{doctype}\n<topology{named}>\n{inner}{beside}</topology>\n'


def exported(machine: Machine, old: bool = False) -> str:
    """`machine` as hwloc 2 writes it, or hwloc 1 (`old`), with every node a part of a package."""
    sizes = {cache.shared_by: (cache.level, int(cache.bytes.value)) for cache in machine.caches}

    def cached(scope: str, pus: Sequence[int], inner: str) -> str:
        if scope not in sizes:
            return inner
        level, size = sizes[scope]
        name = "Cache" if old else f"L{level}Cache"
        return element(name, pus, inner, cache_size=size, depth=level, cache_type=int(level == 1))

    def core(pus: Sequence[int]) -> str:
        threads = "".join(element("PU", [pu], os_index=pu) for pu in pus)
        return cached("core", pus, element("Core", pus, threads))

    packages: dict[int, list[int]] = {}
    for number, node in enumerate(machine.nodes):
        packages.setdefault(node.package, []).append(number)
    text = ""
    for numbers in packages.values():
        inside, whole = "", []
        for node in (machine.nodes[n] for n in numbers):
            groups = [[pu for c in group for pu in c] for group in node.groups]
            own = [pu for group in groups for pu in group]
            inner = "".join(
                cached("group", pus, "".join(map(core, group))) for pus, group in zip(groups, node.groups, strict=True)
            )
            memory = int(node.memory_bytes.value) if node.memory_bytes else 0
            numa = functools.partial(element, "NUMANode", own, os_index=node.os_index, local_memory=memory)
            inside += numa(inner) if old else element("Group", own, numa() + inner, kind=1001)
            whole += own
        text += element("Socket" if old else "Package", whole, cached("package", whole, inside))
    every = [pu for c in machine.cores for pu in c.pus]
    tables = _old_distances(machine) if old else _distances(machine)
    top = element("Machine", every, (tables if old else "") + text, allowed_cpuset=mask(every))
    return document(top, "" if old else "2.0", "" if old else tables)


def _distances(machine: Machine) -> str:
    count, rows = len(machine.nodes), machine.distances or ()
    indexes = " ".join(str(node.os_index) for node in machine.nodes)
    values = "".join(f"<u64values>{' '.join(f'{d:g}' for d in row)} </u64values>" for row in rows)
    return (f'<distances2 type="NUMANode" nbobjs="{count}" kind="5" name="NUMALatency" indexing="os">'
            f"<indexes>{indexes} </indexes>{values}</distances2>\n")  # fmt: skip


def _old_distances(machine: Machine) -> str:
    cells = "".join(f'<latency value="{d / 10:.6f}"/>' for row in machine.distances or () for d in row)
    return f'<distances nbobjs="{len(machine.nodes)}" relative_depth="2" latency_base="10.000000">{cells}</distances>\n'


def imported(tmp_path: Path, text: str) -> Machine:
    file = tmp_path / "board.xml"
    file.write_text(text)
    return load_machine(file)


def memory(machine: Machine) -> list[float | None]:
    return [node.memory_bytes and node.memory_bytes.value for node in machine.nodes]


def clusters(groups: Sequence[Sequence[int]], **attributes: object) -> str:
    """Group objects of single-PU cores."""
    return "".join(
        element("Group", pus, "".join(element("Core", [n], element("PU", [n], os_index=n)) for n in pus), **attributes)
        for pus in groups
    )


CLUSTERS = document(
    element("Machine", range(8), info("Architecture", "riscv64")
        + element("Package", range(8), info("CPUModel", "A  board's CPU")
            + element("Group", range(4), element("NUMANode", range(4), os_index=0, local_memory=2**34)
                      + clusters([(0, 1), (2, 3)], kind=222, subkind=0), kind=1001)
            + element("Group", range(4, 8), element("NUMANode", range(4, 8), os_index=2, local_memory=2**33)
                      + clusters([(4, 5)], subtype="Cluster")
                      + element("Group", (6, 7), info("Type", "Cluster") + clusters([(6, 7)], kind=0)), kind=900)
            + element("NUMANode", range(8), os_index=7, local_memory=2**32)),
        allowed_cpuset="0xf...f",
    ),
    beside='<distances2 type="NUMANode" nbobjs="3" kind="9" indexing="os"><indexes>0 2 7</indexes></distances2>\n'
    '<distances2 type="NUMANode" nbobjs="3" kind="5" indexing="os"><indexes length="5">2 0 7 </indexes>'
    '<u64values length="9">10 25 40 </u64values><u64values>25 11 40 40 40 10 </u64values></distances2>\n'
    f'<cpukind cpuset="0x0000000f">{info("CoreType", "IntelAtom")}{info("FrequencyMaxMHz", 2000)}</cpukind>\n'
    f'<cpukind cpuset="0x000000f0">{info("CoreType", "IntelCore")}{info("FrequencyMaxMHz", 2500)}</cpukind>\n',
)  # fmt: skip


def test_clusters_distances_kinds_and_a_node_without_cores_of_its_own(tmp_path: Path) -> None:
    machine = imported(tmp_path, CLUSTERS)
    assert (machine.name, machine.title, machine.cpu_model) == ("board", "A board's CPU", "A board's CPU")
    assert machine.isa == "rv64"
    assert [node.groups for node in machine.nodes] == [(((0,), (1,)), ((2,), (3,))), (((4,), (5,)), ((6,), (7,)))]
    assert [node.os_index for node in machine.nodes] == [0, 2]
    assert memory(machine) == [2**34, 2**33]
    assert machine.nodes[1].memory_bytes and "NUMANode 2 in the hwloc export" in machine.nodes[1].memory_bytes.source
    assert machine.distances == ((11, 25), (25, 10))
    kinds = [(kind.name, kind.cores, kind.speed.value) for kind in machine.core_kinds]
    assert kinds == [("P-core", (4, 5, 6, 7), 1.0), ("E-core", (0, 1, 2, 3), 0.8)]
    assert machine.frequency_hz and machine.frequency_hz.value == 2.5e9
    assert machine.notes[0] == "Node 7 has memory only (4.29 GB): plans do not use it."
    assert "no vector instructions" in machine.notes[1]


@pytest.mark.parametrize(("kind", "groups"), [(0, 4), (10, 4), (900, 4), (1001, 4), (222, 2)])
def test_only_groups_that_are_clusters_of_the_kernel_make_groups(tmp_path: Path, kind: int, groups: int) -> None:
    inner = element("Package", range(4), clusters([(0, 1), (2, 3)], kind=kind))
    assert imported(tmp_path, document(element("Machine", range(4), inner))).counts["groups"] == groups


SOCKETS = document(
    element("Machine", range(6), info("Architecture", "x86_64") + "".join(
        element("NUMANode", pus, element("Socket", pus, info("CPUModel", "Xeon @ 2.50GHz") + element(
            "Cache", pus, "".join(
                element("Cache", [n], element("Cache", [n], element("Core", [n], element("PU", [n], os_index=n)),
                                              cache_size=16384, depth=1, cache_type=2), cache_size=32768, depth=1)
                for n in pus), cache_size=2**20, depth=2, cache_type=0)), os_index=node, local_memory=2**30)
        for node, pus in enumerate([(0, 1, 2), (3, 4, 5)])
    ), online_cpuset="0x1f", allowed_cpuset="0x0000001d"),
    version="",
)  # fmt: skip


def test_hwloc_1_with_sockets_and_pus_that_are_offline_or_not_allowed(tmp_path: Path) -> None:
    machine = imported(tmp_path, SOCKETS)
    assert [node.groups for node in machine.nodes] == [(((0,),), ((2,),)), (((3,),), ((4,),))]
    assert machine.counts["packages"] == 2
    assert caches_of(machine) == [(1, "group", 32768), (2, "package", 2**20)]
    assert machine.part_of is not None and machine.part_of.cores == (0, 2, 3, 4)
    assert machine.frequency_hz and machine.frequency_hz.value == 2.5e9
    assert machine.compute.peak_flop_per_s.value == 8 * 2.5e9


def test_pus_without_cores_packages_and_nodes(tmp_path: Path) -> None:
    inner = "".join(f'<object type="PU" os_index="{n}"/>' for n in (5, 0, 40))
    text = f'<topology><object type="Machine" local_memory="{2**30}">{inner}</object></topology>'
    machine = imported(tmp_path, text)
    assert machine.nodes[0].groups == (((0,),), ((5,),), ((40,),))
    assert memory(machine) == [2**30]
    assert machine.caches == () and machine.cpu_model == "" and machine.core_kinds == ()


def test_a_cache_without_a_size_is_skipped(tmp_path: Path) -> None:
    for size in ({}, {"cache_size": 0}):
        inner = element("L2Cache", [0], element("PU", [0], os_index=0), **size)
        assert imported(tmp_path, document(element("Machine", [0], inner))).caches == ()


def test_kinds_without_a_speed_or_with_a_pu_left_over_are_left_out(tmp_path: Path) -> None:
    for cut, instead in ((info("FrequencyMaxMHz", 2000), ""), ('cpukind cpuset="0x0000000f"', 'cpukind cpuset="0x7"')):
        assert imported(tmp_path, CLUSTERS.replace(cut, instead)).core_kinds == ()


@pytest.mark.parametrize(
    ("given", "pus"),
    [
        ("0x0000000f", {0, 1, 2, 3}),
        ("f", {0, 1, 2, 3}),
        ("0x1,0x00000002", {1, 32}),
        ("0x00000001,,0x0", {64}),
        ("0x100000001", {0, 32}),
        ("0x0", set()),
        ("0xf...f", set(range(70))),
        ("0xf...f,0x0000fffe", {*range(1, 16), *range(32, 70)}),
    ],
)
def test_masks(given: str, pus: set[int]) -> None:
    found = hwloc._Element("board.xml", 1, "object", {"cpuset": given}).mask("cpuset")
    assert found is not None and {n for n in range(70) if found >> n & 1} == pus


PU = '<object type="PU" os_index="0"/>'
NODE = '<object type="NUMANode" os_index="0" cpuset="0x1"/>'
CACHE = f'<object type="Cache" cache_size="4096">{PU}</object>'


def machine_of(inner: str, **attributes: str) -> str:
    given = "".join(f' {name}="{value}"' for name, value in attributes.items())
    return f'<topology version="2.0">\n<object type="Machine"{given}>\n{inner}\n</object></topology>'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1, column 1: not XML: no element found"),
        ("lstopo", "line 1, column 1: not XML: syntax error"),
        (CLUSTERS[: len(CLUSTERS) // 2], "not XML: "),
        ("<topology>\n<object></topology>", "line 2, column 11: not XML: mismatched tag"),
        ('<?xml version="1.0" encoding="klingon"?><topology/>', "not XML that can be read: unknown encoding: klingon"),
        ('<!DOCTYPE t [\n<!ENTITY a "ha">\n<!ENTITY b "&a;&a;">]><t>&b;</t>', "line 1: the document type declares"),
        ("<topology>&a;</topology>", "not XML: undefined entity"),
        ("<svg/>", "line 1: the outermost element is <svg>, not <topology>"),
        ('<topology version="4.0"/>', "line 1: version is '4.0', known are 1, 2 and 3"),
        ("<topology/>", "line 1: a topology has exactly one outermost object"),
        ("<topology>\n" + "<object>" * 200, "line 2: nested more than 100 deep"),
        (machine_of(""), "line 2: no PU at all"),
        (machine_of(PU, cpuset="0x2"), "line 2: no PU that is online"),
        (machine_of(PU, allowed_cpuset="0x2"), "line 2: none of the PUs that are online is allowed"),
        (machine_of(PU, cpuset="0-3"), "line 2: cpuset is '0-3', a mask such as 0x0000000f,0xffffffff was expected"),
        (machine_of(PU, cpuset=""), "line 2: cpuset is '', a mask"),
        (machine_of(PU, cpuset="0x1,0x000000000"), "line 2: cpuset is '0x1,0x000000000', a mask"),
        (machine_of(PU, cpuset="f" * 20000), "line 2: cpuset names a PU above 65535"),
        (machine_of(f'{PU}\n<object type="Die" cpuset="all"/>'), "line 4: cpuset is 'all', a mask"),
        (machine_of(f"{PU}\n{PU}"), "line 4: PU 0 is given twice"),
        (machine_of('<object type="PU"/>'), "line 3: a PU without os_index"),
        (machine_of('<object type="PU" os_index="-1"/>'), "line 3: os_index is '-1', a number from 0 to 65535"),
        (machine_of('<object type="PU" os_index="4294967295"/>'), "line 3: os_index is '4294967295', a number"),
        (machine_of(PU + NODE.replace("cpuset", "nodeset")), "line 3: NUMANode 0 has no cpuset"),
        (machine_of(f"{PU}{NODE}\n{NODE}"), "line 4: NUMANode 0 is given twice"),
        (machine_of(PU + NODE.replace("/>", ' local_memory="-5"/>')), "line 3: local_memory is '-5', a number"),
        (machine_of(CACHE.replace("4096", "9" * 30)), "line 3: cache_size is '999"),
        (machine_of(CACHE), "line 3: a cache whose depth (its level) is not 1 to 5"),
        (machine_of(CACHE.replace("Cache", "Cache\" depth=\"6", 1)), "line 3: depth is '6', a number from 0 to 5"),
        (CLUSTERS.replace("25 11 40", "25 11"), "3 different nodes and 8 distances"),
        (CLUSTERS.replace("2 0 7 <", "2 2 7 <"), "3 different nodes and 9 distances"),
        (CLUSTERS.replace("25 11 40", "25 x 40"), "distance is 'x', a number"),
        (CLUSTERS.replace('cpukind cpuset="0x0000000f"', "cpukind"), "a cpukind without cpuset"),
        (CLUSTERS.replace('value="2500"', 'value="2.5G"'), "FrequencyMaxMHz is '2.5G', a number"),
    ],
)  # fmt: skip
def test_what_is_no_hwloc_export_is_refused_with_the_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(BadInput) as caught:
        imported(tmp_path, text)
    assert message in str(caught.value)
    assert caught.value.source.endswith("board.xml") and caught.value.place.startswith("line ")
    assert caught.value.exit_code == 3


def test_a_document_type_on_the_network_or_disk_is_never_read(tmp_path: Path) -> None:
    (tmp_path / "secret.dtd").write_text('<!ENTITY a "0">')
    text = machine_of('<object type="PU" os_index="&a;"/>')
    with pytest.raises(BadInput, match="os_index is ''"):
        imported(tmp_path, f'<!DOCTYPE topology SYSTEM "{tmp_path}/secret.dtd">{text}')


def test_a_file_of_too_many_elements_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hwloc, "_MOST_ELEMENTS", 10)
    with pytest.raises(BadInput, match="more than 10 elements"):
        imported(tmp_path, CLUSTERS)


@settings(max_examples=40, deadline=None)
@given(machine=regular_machines(), old=st.booleans())
def test_a_regular_machine_is_imported_as_it_is(
    tmp_path_factory: pytest.TempPathFactory, machine: Machine, old: bool
) -> None:
    found = imported(tmp_path_factory.mktemp("hwloc"), exported(machine, old))
    assert parts(found) == parts(machine)
    assert found.counts == machine.counts and found.fingerprint == machine.fingerprint
    assert found.distances == machine.distances
    assert caches_of(found) == caches_of(machine)
    assert memory(found) == memory(machine)
    assert Machine.model_validate(found.model_dump(by_alias=True)) == found


@pytest.mark.parametrize("hart", [0, 8])
def test_sg2042_is_recognised(tmp_path: Path, hart: int) -> None:
    found = imported(tmp_path, exported(booted_on(SG2042, hart)))
    assert (found.fingerprint, found.counts) == (SG2042.fingerprint, SG2042.counts)
    assert found.distances == SG2042.distances


@captured
@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("xml/16amd64-4distances", (8, 8, 16, 16)),
        ("xml/16em64t-4s2c2t-offlines", (4, 4, 6, 7)),
        ("fakeheterocpunuma", (2, 6, 12, 24)),
    ],
)
def test_exports_of_captured_machines(name: str, counts: tuple[int, ...]) -> None:
    found = load_machine(CAPTURED / f"{name}.xml")
    assert tuple(found.counts[name] for name in ("packages", "nodes", "cores", "pus")) == counts
    assert (found.distances is None) == (name != "xml/16amd64-4distances")


def lstopo(*arguments: str, **environment: str) -> str:
    assert LSTOPO is not None
    run = subprocess.run([LSTOPO, *arguments, "--of", "xml"], env={**os.environ, **environment}, capture_output=True,
                         text=True, check=True, timeout=60)  # fmt: skip
    return run.stdout


def agree(found: Machine, expected: Machine) -> None:
    assert found.fingerprint == expected.fingerprint
    assert found.counts == expected.counts
    assert caches_of(found) == caches_of(expected)


@captured
def test_the_export_and_the_files_of_one_machine_agree(unpacked: Unpack) -> None:
    found, expected = load_machine(CAPTURED / "fakeheterocpunuma.xml"), discover(unpacked("fakeheterocpunuma.tar.bz2"))
    agree(found, expected)
    assert parts(found) == parts(expected)
    assert memory(found) == memory(expected)


@captured
@installed
@pytest.mark.parametrize("old", [False, True], ids=["hwloc2", "hwloc1"])
@pytest.mark.parametrize("name", sorted(path.name.split(".")[0] for path in CAPTURED.glob("[!f]*.tar.bz2")))
def test_an_export_of_a_captured_machine_agrees_with_discovery(
    name: str, old: bool, unpacked: Unpack, tmp_path: Path
) -> None:
    """All but one whose nodes overlap: hwloc 2 drops some of them. The export of it by hwloc 3 is tested above."""
    root = unpacked(f"{name}.tar.bz2")
    text = lstopo("--disallowed", "--export-xml-flags", str(int(old)),
                  HWLOC_FSROOT=str(root), HWLOC_THISSYSTEM="0", HWLOC_COMPONENTS="linux,stop")  # fmt: skip
    found, expected = imported(tmp_path, text), discover(root)
    agree(found, expected)
    made_up = {"nodes"} if expected.nodes[0].os_index is None else set()  # hwloc always has a node
    assert {key for key, part in parts(found).items() if part != parts(expected)[key]} <= made_up
    if not old:  # hwloc 1 knows no kinds; hwloc takes the clock of a kind's slower cores where they nearly agree
        speeds = {(kind.name, kind.cores): kind.speed.value for kind in expected.core_kinds}
        assert {(k.name, k.cores): k.speed.value for k in found.core_kinds} == pytest.approx(speeds, rel=0.1)
    if found.distances is not None:  # hwloc leaves out a table that is the same everywhere
        assert found.distances == expected.distances


@installed
def test_the_export_of_this_machine_agrees_with_discovery(tmp_path: Path) -> None:
    found = imported(tmp_path, lstopo("--disallowed"))
    expected = discover(allowed=[pu for core in found.cores for pu in core.pus])
    agree(found, expected)
    assert [core.pus for core in found.cores] == [core.pus for core in expected.cores]
    assert found.cpu_model == expected.cpu_model


@installed
@pytest.mark.parametrize("old", ["0", "1"], ids=["hwloc2", "hwloc1"])
@pytest.mark.parametrize(
    ("shape", "counts", "scopes"),
    [
        ("pack:2 numa:2 l3:1 l2:2 core:2 pu:2", (2, 4, 4, 16, 32), "core group"),
        ("pack:1 numa:4 l2:4 core:4 pu:1", (1, 4, 16, 64, 64), "group"),
        ("numa:2 pack:2 l3:1 core:3 l1:1 pu:2", (4, 4, 12, 12, 24), "group package"),
    ],
)
def test_synthetic_machines(tmp_path: Path, shape: str, counts: tuple[int, ...], scopes: str, old: str) -> None:
    found = imported(tmp_path, lstopo("-i", shape, "--export-xml-flags", old))
    names = ("packages", "nodes", "groups", "cores", "pus")
    assert tuple(found.counts[name] for name in names) == counts
    assert [cache.shared_by for cache in found.caches] == scopes.split()
