"""What the guest's kernel shows of its CPUs, read plainly from /sys and /proc without mapper; standard library only."""

from __future__ import annotations

import re
from pathlib import Path

CPUS = Path("/sys/devices/system/cpu")
NODES = Path("/sys/devices/system/node")


def numbers(listed: str) -> set[int]:
    """The numbers of a list such as 1-8,16-23."""
    found: set[int] = set()
    for part in filter(None, listed.strip().split(",")):
        first, _, last = part.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    return found


def harts() -> dict[int, int]:
    """The hart of each logical CPU."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    found = re.findall(r"^processor\s*:\s*(\d+)$.*?^hart\s*:\s*(\d+)$", cpuinfo, re.MULTILINE | re.DOTALL)
    return {int(cpu): int(hart) for cpu, hart in found}


def clusters() -> set[frozenset[int]]:
    """The logical CPUs of each cluster."""
    files = CPUS.glob("cpu[0-9]*/topology/cluster_cpus_list")
    return {frozenset(numbers(file.read_text())) for file in files}


def nodes() -> dict[int, frozenset[int]]:
    """The logical CPUs of each NUMA node."""
    return {int(folder.name[4:]): frozenset(numbers((folder / "cpulist").read_text()))
            for folder in NODES.glob("node[0-9]*")}  # fmt: skip


def distances() -> list[list[int]]:
    """The firmware's distances between nodes, in the order of their numbers."""
    return [[int(far) for far in (NODES / f"node{n}/distance").read_text().split()] for n in sorted(nodes())]


def shared_caches(level: int) -> set[frozenset[int]]:
    """The logical CPUs that share a cache of `level`; empty where no caches are shown."""
    found = set()
    for index in CPUS.glob("cpu[0-9]*/cache/index*"):
        if int((index / "level").read_text()) == level:
            found.add(frozenset(numbers((index / "shared_cpu_list").read_text())))
    return found
