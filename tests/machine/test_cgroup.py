"""Control groups and cpusets, version 1 and 2, mounted in various places."""

from __future__ import annotations

from pathlib import Path

import pytest

from mapper.machine.cgroup import cpu_quota, cpuset, memory_limit
from mapper.machine.discover import discover
from mapper.machine.files import load_machine
from tests.machines.trees import write_tree


def tree(root: Path, files: dict[str, str]) -> Path:
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text + "\n")
    return root


def test_version_2_counts_the_smallest_quota_and_limit_above_the_process(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            "proc/self/cgroup": "0::/a/b",
            "proc/mounts": "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0",
            "sys/fs/cgroup/a/b/cpu.max": "max 100000",
            "sys/fs/cgroup/a/cpu.max": "250000 100000",
            "sys/fs/cgroup/cpu.max": "400000 100000",
            "sys/fs/cgroup/a/memory.max": "1000000",
            "sys/fs/cgroup/a/b/memory.max": "max",
            "sys/fs/cgroup/a/cpuset.cpus.effective": "0-3",
        },
    )
    assert (cpu_quota(root), memory_limit(root), cpuset(root)) == (2.5, 1_000_000, frozenset(range(4)))


def test_version_1_has_a_hierarchy_a_controller(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            "proc/self/cgroup": "3:cpuset:/c\n2:cpu,cpuacct:/q\n1:memory:/",
            "proc/mounts": "cgroup /cg/cpu cgroup rw,cpu,cpuacct 0 0\ncgroup /cg/set cgroup rw,cpuset 0 0",
            "cg/cpu/q/cpu.cfs_quota_us": "150000",
            "cg/cpu/q/cpu.cfs_period_us": "100000",
            "cg/cpu/cpu.cfs_quota_us": "-1",
            "cg/cpu/cpu.cfs_period_us": "100000",
            "cg/set/c/cpuset.cpus": "1,3",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "5000",
        },
    )
    assert (cpu_quota(root), memory_limit(root), cpuset(root)) == (1.5, 5000, frozenset({1, 3}))


def test_the_old_cpuset_file_system(tmp_path: Path) -> None:
    files = {
        "proc/self/cpuset": "/jobs",
        "proc/mounts": "none /dev/cpuset cpuset rw 0 0",
        "dev/cpuset/jobs/cpus": "2-5",
    }
    assert cpuset(tree(tmp_path, files)) == frozenset(range(2, 6))


def test_a_container_whose_path_lies_outside_of_what_it_sees(tmp_path: Path) -> None:
    files = {"proc/self/cgroup": "0::/docker/1234", "sys/fs/cgroup/cpu.max": "50000 100000"}
    assert cpu_quota(tree(tmp_path, files)) == 0.5


@pytest.mark.parametrize("text", ["", "max 100000", "-1", "x y", "100000 0", "0::"])
def test_no_quota_is_none(tmp_path: Path, text: str) -> None:
    assert cpu_quota(tree(tmp_path, {"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": text})) is None
    assert cpuset(tmp_path) is None and memory_limit(tmp_path) is None


def test_discovery_keeps_to_the_cpuset_and_tells_the_quota(tmp_path: Path) -> None:
    write_tree(tmp_path, load_machine("sg2042"))
    tree(
        tmp_path,
        {
            "proc/self/cgroup": "0::/a",
            "sys/fs/cgroup/a/cpuset.cpus.effective": "0-7",
            "sys/fs/cgroup/a/cpu.max": "250000 100000",
        },
    )
    found = discover(tmp_path)
    assert found.counts["cores"] == 8
    assert found.part_of is not None and found.part_of.fingerprint == load_machine("sg2042").fingerprint
    assert found.cpu_quota is not None and found.cpu_quota.value == 2.5
    (tmp_path / "sys/fs/cgroup/a/cpu.max").write_text("900000 100000\n")
    assert discover(tmp_path).cpu_quota is None, "more than there is limits nothing"
