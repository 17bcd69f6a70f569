"""What this machine and installation can and cannot do, one fact at a time, for `mapper doctor`."""

from __future__ import annotations

import os
import platform
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from typing import Literal

from mapper.errors import MapperError
from mapper.host.affinity import allowed_pus
from mapper.host.memory import policy_error
from mapper.machine import cgroup, sysfs
from mapper.machine.kernel import text
from mapper.machine.pus import format_pus
from mapper.units import format_bytes

State = Literal["ok", "warn", "bad"]

LEAST_SHARED_BYTES = 256 * 2**20
LEAST_MEMORY_BYTES = 2 * 10**9

PACKAGES = {
    "torch": ("bad", "models cannot be traced or run"),
    "transformers": ("warn", "the library models (vit, bert, gpt2, resnet50, ...) are not available"),
    "ortools": ("warn", "nothing can be planned here; plans made elsewhere can be run"),
}
"""Packages that features need: how bad it is that one is missing, and what that means."""


EXTENSIONS = {
    "mapper.solver.covers._cover": "planning is slower: its inner loop runs in numpy",
    "mapper.solver.covers._labels": "planning under several limits at once is slower: its inner loop runs in Python",
    "mapper.solver.covers._nearness": "of large graphs, plans whose stages share groups are not searched by distance",
    "mapper.measure._probe": "calibrate cannot measure latencies, and bandwidths only roughly",
}
"""Compiled parts that installing builds where there is a C compiler: what it means that one is missing."""


@dataclass(frozen=True)
class Fact:
    """A fact: its `name`, its `value` in words, whether that is good, and what follows if it is not."""

    name: str
    value: str
    state: State = "ok"
    consequence: str = ""


def facts(root: Path = Path("/")) -> list[Fact]:
    """All facts about this process on this machine. Files are read under `root`; calls are really made."""
    found = [_pus(root), *_quota(root), _shared_memory(root), _memfd(), _affinity(), _memory_policy(root)]
    found += [*_numa_balancing(root), *_huge_pages(root), *_governor(root), *_load(root), _memory(root), _python()]
    return [*found, *map(_package, PACKAGES), *map(_extension, EXTENSIONS)]


def _pus(root: Path) -> Fact:
    allowed = allowed_pus()
    try:
        online = sorted(sysfs.online_pus(root))
    except MapperError:
        return Fact("PUs", format_pus(allowed), "warn", "the kernel shows no CPUs: the machine cannot be discovered")
    if set(online) <= set(allowed):
        return Fact("PUs", f"{format_pus(allowed)}, all that are online")
    value = f"{format_pus(allowed)} of {format_pus(online)}"
    return Fact("PUs", value, "warn", "plans are made for the allowed ones only (taskset, cpuset or container)")


def _quota(root: Path) -> Iterator[Fact]:
    quota = cgroup.cpu_quota(root)
    if quota is None:
        yield Fact("CPU quota", "none")
        return
    short = quota < len(allowed_pus())
    what = "workers on more PUs than that are stopped for part of every 0.1 s: plans for host use no more cores"
    yield Fact("CPU quota", f"{quota:.3g} PUs", "warn" if short else "ok", what if short else "")


def _shared_memory(root: Path) -> Fact:
    folder = root / "dev/shm"
    try:
        stat = os.statvfs(folder)
    except OSError as error:
        return Fact("/dev/shm", f"not there ({error.strerror})", "bad", "workers cannot share tensors")
    free = stat.f_bavail * stat.f_frsize
    value = f"{format_bytes(free)} free"
    if not os.access(folder, os.W_OK):
        return Fact("/dev/shm", f"{value}, read-only", "bad", "workers cannot share tensors")
    if free < LEAST_SHARED_BYTES:
        return Fact("/dev/shm", value, "warn", "large models do not fit: give the container more (--shm-size=1g)")
    return Fact("/dev/shm", value)


def _memfd() -> Fact:
    try:
        os.close(os.memfd_create("mapper-doctor"))
    except (OSError, AttributeError) as error:
        return Fact("memfd_create", f"refused ({error})", "warn", "shared memory needs /dev/shm instead")
    return Fact("memfd_create", "works")


def _affinity() -> Fact:
    """Tries it in a thread of its own, so that the caller's mask stays what it is."""
    found: list[str] = []

    def attempt() -> None:
        try:
            one = max(os.sched_getaffinity(0))
            os.sched_setaffinity(0, {one})
            if os.sched_getaffinity(0) != {one}:
                found.append("ignored")
        except OSError as error:
            found.append(f"refused ({error.strerror})")

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    if found:
        return Fact("affinity", found[0], "bad", "workers cannot be bound to cores: plans cannot be run as planned")
    return Fact("affinity", "can be set")


def _memory_policy(root: Path) -> Fact:
    error = policy_error()
    if error is None:
        return Fact("memory policy", "can be set")
    nodes = len(list((root / "sys/devices/system/node").glob("node[0-9]*")))
    if nodes < 2:
        return Fact("memory policy", f"cannot be set ({error}), does not matter with one node")
    what = "memory lies on the node of the core that touches it first; a container or filter may forbid more"
    return Fact("memory policy", f"cannot be set ({error})", "warn", what)


def _huge_pages(root: Path) -> Iterator[Fact]:
    setting = text(root / "sys/kernel/mm/transparent_hugepage/enabled") or ""
    chosen = re.search(r"\[(\w+)\]", setting)
    if chosen is None:
        return
    never = chosen[1] == "never"
    what = "weights cost more address look-ups: echo madvise > /sys/kernel/mm/transparent_hugepage/enabled"
    yield Fact("huge pages", chosen[1], "warn" if never else "ok", what if never else "")


def _numa_balancing(root: Path) -> Iterator[Fact]:
    value = text(root / "proc/sys/kernel/numa_balancing")
    nodes = len(list((root / "sys/devices/system/node").glob("node[0-9]*")))
    if value is None or value == "0" or nodes < 2:
        yield Fact("NUMA balancing", "off" if value == "0" else "does not matter here")
        return
    what = "pages may move while workers run: sysctl kernel.numa_balancing=0"
    yield Fact("NUMA balancing", "on", "warn", what)


def _governor(root: Path) -> Iterator[Fact]:
    paths = (root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_governor")
    governors = sorted({governor for path in paths if (governor := text(path))})
    if governors:
        slow = governors != ["performance"]
        what = "the clock follows the load: measured times scatter; cpupower frequency-set -g performance"
        yield Fact("governor", ", ".join(governors), "warn" if slow else "ok", what if slow else "")


def _load(root: Path) -> Iterator[Fact]:
    value = (text(root / "proc/loadavg") or "").split()
    if len(value) >= 3:
        busy = float(value[0]) > 0.1 * len(allowed_pus())
        what = "others compute here: measurements say so, and are better repeated on an idle machine"
        yield Fact("load average", " ".join(value[:3]), "warn" if busy else "ok", what if busy else "")


def _memory(root: Path) -> Fact:
    lines = (text(root / "proc/meminfo") or "").splitlines()
    free = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)
    if free is None:
        return Fact("memory", "not known", "warn", "how many copies of a model fit cannot be told")
    limit = cgroup.memory_limit(root) or free
    value = f"{format_bytes(free)} available" + (f", limited to {format_bytes(limit)}" if limit < free else "")
    short = min(free, limit) < LEAST_MEMORY_BYTES
    what = "each worker takes about 0.4 GB before its weights"
    return Fact("memory", value, "warn" if short else "ok", what if short else "")


def _python() -> Fact:
    return Fact("python", f"{platform.python_version()} on {platform.machine()}")


def _extension(name: str) -> Fact:
    short = name.rpartition("._")[2]
    if util.find_spec(name) is not None:
        return Fact(f"compiled {short}", "built")
    advice = "a C compiler and a new installation of mapper build it"
    return Fact(f"compiled {short}", "not built", "warn", f"{EXTENSIONS[name]}; {advice}")


def _package(name: str, version: Callable[[str], str] = metadata.version) -> Fact:
    missing, consequence = PACKAGES[name]
    try:
        return Fact(name, version(name))
    except metadata.PackageNotFoundError:
        return Fact(name, "not installed", "bad" if missing == "bad" else "warn", consequence)
