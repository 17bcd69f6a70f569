"""What control groups (version 1 and 2) and cpusets grant a process: PUs, PU time and memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mapper.machine.kernel import number, text
from mapper.machine.pus import parse_pus


def cpuset(root: Path) -> frozenset[int] | None:
    """The PUs in the cpuset of the process whose `proc/self` is in `root`; None where there is no cpuset."""
    for folder in _folders(root, "cpuset"):
        for name in ("cpuset.cpus.effective", "cpuset.cpus", "cpus"):
            try:
                pus = frozenset(parse_pus(text(folder / name) or ""))
            except ValueError:
                continue
            if pus:
                return pus
    return None


def cpu_quota(root: Path) -> float | None:
    """Seconds of PU time a second that the process may use: the smallest quota above it, None without one."""
    quotas = []
    for folder in _folders(root, "cpu"):
        v2 = (text(folder / "cpu.max") or "").split()
        v1 = [text(folder / name) or "" for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")]
        for quota, period in (pair for pair in (v2, v1) if len(pair) == 2):
            if quota.isdigit() and period.isdigit() and int(period) > 0:
                quotas.append(int(quota) / int(period))
    return min(filter(None, quotas), default=None)


def memory_limit(root: Path) -> int | None:
    """Bytes of memory that the process may use: the smallest limit above it, None without one."""
    names = ("memory.max", "memory.limit_in_bytes")
    limits = [number(folder / name) for folder in _folders(root, "memory") for name in names]
    return min((limit for limit in limits if limit), default=None)


def _folders(root: Path, controller: str) -> Iterator[Path]:
    """The folders of the groups that hold the process, innermost first."""
    for path, base in _paths(root, controller):
        inner = base / path.lstrip("/")
        for folder in (inner, *inner.parents):
            if not folder.is_relative_to(base):
                break
            yield folder


def _paths(root: Path, controller: str) -> Iterator[tuple[str, Path]]:
    """The process's path in each hierarchy that has `controller`, and where that is mounted."""
    mounts = _mounts(root, controller)
    for line in (text(root / "proc/self/cgroup") or "").splitlines():
        hierarchy, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if hierarchy == "0":
            yield path, mounts.get("cgroup2", root / "sys/fs/cgroup")
        elif controller in controllers.split(","):
            yield path, mounts.get("cgroup", root / "sys/fs/cgroup" / controllers)
    alone = mounts.get("cpuset") or mounts.get("cgroup")
    if controller == "cpuset" and alone is not None and (path := text(root / "proc/self/cpuset") or ""):
        yield path, alone


def _mounts(root: Path, controller: str) -> dict[str, Path]:
    """Where file systems of groups are mounted, by type: `cgroup2`, `cgroup` with the controller, `cpuset`."""
    found: dict[str, Path] = {}
    for line in (text(root / "proc/mounts") or "").splitlines():
        words = line.split()
        if len(words) < 4 or words[2] not in ("cgroup", "cgroup2", "cpuset"):
            continue
        if words[2] != "cgroup" or controller in words[3].split(","):
            found.setdefault(words[2], root / words[1].lstrip("/"))
    return found
