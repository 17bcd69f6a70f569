"""How busy PUs are, from two readings of `/proc/stat`: whether others computed while we measured."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
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
    tick_s = 1 / os.sysconf("SC_CLK_TCK")
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
