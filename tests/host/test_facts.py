from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from mapper.cli.doctor import doctor_command
from mapper.host.facts import Fact, facts


def told(root: Path, name: str) -> Fact:
    return next(fact for fact in facts(root) if fact.name == name)


def write(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text + "\n")


def test_fewer_allowed_pus_than_online_is_a_warning(tmp_path: Path) -> None:
    write(tmp_path, "sys/devices/system/cpu/online", "0-4095")
    fact = told(tmp_path, "PUs")
    assert fact.state == "warn"
    assert fact.value.endswith("of 0-4095")


@pytest.mark.parametrize("state", ["ok", "warn"])
@pytest.mark.parametrize("version", [1, 2])
def test_the_smallest_quota_of_all_cgroups_counts(tmp_path: Path, version: int, state: str) -> None:
    pus = len(os.sched_getaffinity(0)) * (1 if state == "ok" else 0.5)
    quota = round(pus * 100_000)
    if version == 2:
        write(tmp_path, "proc/self/cgroup", "0::/a/b")
        write(tmp_path, "sys/fs/cgroup/a/b/cpu.max", "max 100000")
        write(tmp_path, "sys/fs/cgroup/a/cpu.max", f"{quota} 100000")
    else:
        write(tmp_path, "proc/self/cgroup", "3:cpu,cpuacct:/a\n0::/")
        write(tmp_path, "sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", "-1")
        write(tmp_path, "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", str(quota))
        write(tmp_path, "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000")
    fact = told(tmp_path, "CPU quota")
    assert (fact.value, fact.state) == (f"{pus:.3g} PUs", state)


def test_no_shared_memory_is_bad(tmp_path: Path) -> None:
    assert told(tmp_path, "/dev/shm").state == "bad"


def test_balancing_matters_where_there_are_nodes(tmp_path: Path) -> None:
    write(tmp_path, "proc/sys/kernel/numa_balancing", "1")
    assert told(tmp_path, "NUMA balancing").state == "ok"
    for n in range(2):
        write(tmp_path, f"sys/devices/system/node/node{n}/cpulist", str(n))
    assert told(tmp_path, "NUMA balancing").state == "warn"


def test_a_governor_that_saves_power_is_a_warning(tmp_path: Path) -> None:
    write(tmp_path, "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "schedutil")
    assert told(tmp_path, "governor").state == "warn"


def test_memory_is_limited_by_the_cgroup(tmp_path: Path) -> None:
    write(tmp_path, "proc/meminfo", "MemTotal: 9000000 kB\nMemAvailable: 8000000 kB")
    write(tmp_path, "proc/self/cgroup", "0::/a")
    write(tmp_path, "sys/fs/cgroup/a/memory.max", "1000000000")
    fact = told(tmp_path, "memory")
    assert (fact.value, fact.state) == ("8.19 GB available, limited to 1.00 GB", "warn")


def test_trying_affinity_leaves_the_mask_as_it_was() -> None:
    before = os.sched_getaffinity(0)
    facts()
    assert os.sched_getaffinity(0) == before


def test_whatever_is_wrong_has_a_consequence(tmp_path: Path) -> None:
    for fact in [*facts(), *facts(tmp_path)]:
        assert (fact.state != "ok") == bool(fact.consequence), fact


def test_the_command_gives_one_document_or_a_table() -> None:
    app = typer.Typer()
    app.command()(doctor_command)
    document = json.loads(CliRunner().invoke(app, ["--json"]).stdout)
    names = [fact["name"] for fact in document["facts"]]
    assert {"PUs", "/dev/shm", "affinity", "torch", "ortools"} <= set(names)
    table = CliRunner().invoke(app, []).stdout
    assert all(name in table for name in names)
