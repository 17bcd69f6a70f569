"""How busy PUs are, from two readings of `/proc/stat`: whether others computed while we measured."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from mapper.errors import SystemRefused

Snapshot = dict[int, tuple[float, float]]
"""For each online PU: seconds it was busy (stolen by a hypervisor included) and seconds in all, since it started."""


def snapshot(root: Path = Path("/")) -> Snapshot:
    """The counters of every online PU now, in seconds.

    Raises: SystemRefused when `/proc/stat` cannot be read.
    """
    try:
        text = (root / "proc/stat").read_text()
    except OSError as error:
        raise SystemRefused(f"{root / 'proc/stat'} cannot be read: {error.strerror}") from error
    tick_s = _tick_s()
    found: Snapshot = {}
    for number, counters in re.findall(r"^cpu(\d+) ([\d ]+)$", text, re.MULTILINE):
        # user, nice, system, idle, iowait, irq, softirq, steal; guest time after them is part of user and nice.
        ticks = [int(part) for part in counters.split()][:8]
        total, idle = sum(ticks), sum(ticks[3:5])
        found[int(number)] = ((total - idle) * tick_s, total * tick_s)
    return found


def busy_between(before: Snapshot, after: Snapshot, pus: Collection[int], own_s: float = 0.0) -> float:
    """The fraction of the time between two snapshots in which `pus` were busy, 0 where no time passed.

    `own_s` are the CPU seconds that the measured processes themselves used meanwhile on these PUs: without them, the
    fraction is what others took. The counters advance in ticks (10 ms), so take readings far apart.
    """
    known = [pu for pu in pus if pu in before and pu in after]
    busy = sum(after[pu][0] - before[pu][0] for pu in known)
    total = sum(after[pu][1] - before[pu][1] for pu in known)
    return min(1.0, max(0.0, (busy - own_s) / total)) if total > 0 else 0.0


@dataclass(frozen=True)
class Taken:
    """The share of the PUs' time that others took, 0 to 1, and how far the counters' ticks let that be off."""

    share: float
    resolution: float

    def over(self, share: float) -> bool:
        """Whether it was more than `share`, by more than what the counters may be off."""
        return self.share > share + self.resolution


class Others:
    """What processes other than `pids` and this one take of `pus`, from here on. `pids` and this one count as ours
    wherever they run."""

    def __init__(self, pus: Collection[int], pids: Collection[int], root: Path = Path("/")) -> None:
        self.pus, self.pids, self.root = sorted(pus), list(pids), root
        self.began = time.monotonic()
        self.before, self.own_s = snapshot(root), self._own_s()

    def taken(self) -> Taken:
        """What they took until now. The counters of a PU and of a process are each up to a tick behind."""
        own_s = self._own_s() - self.own_s
        time_s = (time.monotonic() - self.began) * max(1, len(self.pus))
        ticks = len(self.pus) + len(self.pids) + 1
        share = busy_between(self.before, snapshot(self.root), self.pus, own_s)
        return Taken(share, min(1.0, ticks * _tick_s() / time_s) if time_s > 0 else 1.0)

    def _own_s(self) -> float:
        return time.process_time() + sum(cpu_s(pid, self.root) for pid in self.pids)


def cpu_s(pid: int, root: Path = Path("/")) -> float:
    """CPU seconds that a process has used, 0 if it is gone: fields 14 and 15 of its `stat` (proc(5)), in ticks."""
    try:
        fields = (root / f"proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) * _tick_s()


def available_bytes(root: Path = Path("/")) -> int:
    """Memory that the kernel says new processes may have without swapping. Raises: SystemRefused."""
    try:
        text = (root / "proc/meminfo").read_text()
    except OSError as error:
        raise SystemRefused(f"{root / 'proc/meminfo'} cannot be read: {error.strerror}") from error
    found = re.search(r"^MemAvailable:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def _tick_s() -> float:
    return 1 / os.sysconf("SC_CLK_TCK")
