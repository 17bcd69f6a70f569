"""Discovery on captured machines, where a folder with them lies beside the repository; see its README."""

from __future__ import annotations

import functools
import re
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mapper.machine.discover import discover
from mapper.machine.files import load_machine

CAPTURED = Path(__file__).parents[2].parent / "shared/reference/machines"

pytestmark = pytest.mark.skipif(not CAPTURED.is_dir(), reason="no captured machines beside the repository")


NEEDED = re.compile(
    r"(.*/)?(proc/(cpuinfo|meminfo|mounts|self/(cgroup|cpuset))$|dev/cpuset|sys/fs/cgroup|sys/devices/cpu_|"
    r"sys/devices/system/(cpu/online|cpu/cpufreq|cpu/cpu\d+/(online|topology|cache|cpufreq|cpu_capacity)"
    r"|node/node\d+/(cpulist|cpumap|meminfo|distance)))"
)

Unpack = Callable[[str], Path]


@pytest.fixture(scope="session")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Unpack:
    """Unpacks what discovery reads of an archive, once a test run, and gives its root (with `sys` and `proc`)."""

    @functools.cache
    def unpack(name: str) -> Path:
        folder = tmp_path_factory.mktemp("captured")
        with tarfile.open(CAPTURED / name) as files:
            kept: dict[str, Any] = {"filter": "tar"} if hasattr(tarfile, "tar_filter") else {}  # since Python 3.11.4
            files.extractall(folder, [file for file in files if NEEDED.match(file.name)], **kept)
        return next(path.parent for path in [folder / "sys", *folder.glob("*/sys")] if path.is_dir())

    return unpack


def described(text: str) -> tuple[dict[str, int], list[int]]:
    """The counts in a drawing by lstopo (of packages those with a PU), and the OS numbers of its PUs."""
    counts = {kind: int(n) for n, kind in re.findall(r"depth\s+\d+:\s+(\d+) (Core|PU) ", text)}
    counts["Package"] = sum("PU L#" in part for part in text.split("Package L#")[1:])
    pus = [int(n) for n in re.findall(r"PU L#\d+ \(P#(\d+)", text)]
    return counts, pus


@pytest.mark.parametrize("drawing", sorted(CAPTURED.glob("*.lstopo.txt")), ids=lambda path: path.name.split(".")[0])
def test_counts_are_those_that_lstopo_prints(drawing: Path, unpacked: Unpack) -> None:
    counts, pus = described(drawing.read_text())
    found = discover(unpacked(drawing.name.replace(".lstopo.txt", ".tar.bz2")))
    assert sorted(pu for core in found.cores for pu in core.pus) == sorted(pus)
    assert found.counts["pus"] == counts["PU"]
    assert found.counts["cores"] == counts["Core"]
    assert found.counts["packages"] == counts["Package"]


@pytest.mark.parametrize(
    ("name", "groups"),
    [
        ("8em64t-2s2ca2c-buggynuma", 4),
        ("16em64t-4s2c2t", 8),
        ("20em64t-hybrid-1p6c2t+2ca4co1t", 8),
        ("48amd64-4pa2n6c-sparse", 8),
        ("memorysidecaches", 40),
        ("128arm-2pa2n8cluster4co", 32),
    ],
)
def test_groups_share_the_outermost_cache_that_the_package_does_not(name: str, groups: int, unpacked: Unpack) -> None:
    assert discover(unpacked(f"{name}.tar.bz2")).counts["groups"] == groups


def test_clusters_that_share_no_cache_are_groups_inside_of_a_nodes_cache(unpacked: Unpack) -> None:
    found = discover(unpacked("128arm-2pa2n8cluster4co.tar.bz2"))
    assert {len(group) for group in found.groups} == {4}
    assert found.package_cache is not None and found.package_cache.shared_by == "node"


def test_kinds_of_core(unpacked: Unpack) -> None:
    found = discover(unpacked("20em64t-hybrid-1p6c2t+2ca4co1t.tar.bz2"))
    assert [(len(kind.cores), kind.speed.value) for kind in found.core_kinds] == [(6, 1.0), (8, 0.75)]
    assert [len(group) for group in found.groups] == [1] * 6 + [4, 4]


def test_a_captured_cpuset_restricts(unpacked: Unpack) -> None:
    found = discover(unpacked("16amd64-8n2c-cpusets.tar.bz2"))
    assert found.part_of is not None and len(found.part_of.cores) == 10


@pytest.mark.parametrize("archive", sorted(CAPTURED.glob("*.tar.bz2")), ids=lambda path: path.name.split(".")[0])
def test_every_captured_machine_gives_a_valid_topology(archive: Path, unpacked: Unpack) -> None:
    found = discover(unpacked(archive.name))
    assert type(found).model_validate(found.model_dump(by_alias=True)) == found


@pytest.mark.parametrize("name", ["boot0", "boot1", "boot8", "boot8-nocache", "boot0-nonuma"])
def test_an_emulated_sg2042_has_the_shape_of_the_bundled_file(name: str, unpacked: Unpack) -> None:
    found = discover(unpacked(f"emulated-sg2042/{name}.tar.xz"))
    expected = load_machine("sg2042")
    assert found.fingerprint == expected.fingerprint
    assert found.counts == {**expected.counts, "nodes": 1 if name.endswith("nonuma") else 4}
    if name == "boot8":
        assert [core.pus for core in found.cores[:4]] == [(1,), (2,), (3,), (4,)]
