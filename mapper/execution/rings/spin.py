"""Who may spin before blocking: only who has its PUs to itself, since spinning takes them from whoever shares them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from mapper.execution.place import Places
from mapper.execution.rings.ring import FEEDER_ID

SPIN_NS = 50_000
"""How long to ask for an item before blocking. Waking a process that blocks takes 5 to 50 µs, so waiting that long
costs at most about as much as it may save, however long the wait turns out to be."""


def spins(places: Places, allowed: Collection[int]) -> dict[tuple[int, int], int]:
    """For the worker of each stage and replica, and for the feeder (stage `FEEDER_ID`, replica 0), how many nanoseconds
    it spins, 0 where it may not. `allowed` are the PUs that the feeder may use.

    The feeder runs beside the workers where they leave it a PU (`seat`), else on the PU of one of them, and nobody
    knows whose, so then nobody spins.
    """
    used = Counter(pu for stage in places for pus in stage for pu in pus)
    spare = bool(set(allowed) - set(used))
    found = {
        (s, r): SPIN_NS if spare and all(used[pu] == 1 for pu in pus) else 0
        for s, stage in enumerate(places)
        for r, pus in enumerate(stage)
    }
    return found | {(FEEDER_ID, 0): SPIN_NS if spare else 0}
