"""Where the process runs that hands items in and collects results: it needs a core, too."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator

from mapper.execution.place import Places
from mapper.host.affinity import allowed_pus
from mapper.plans.model import Plan

LEAST_SLACK = 0.2
"""Of the time a worker waits, from which on its PUs have room for the feeder."""


def feeder_pus(plan: Plan, places: Places, allowed: Collection[int]) -> tuple[int, ...]:
    """The PUs, among those `allowed`, on which to feed and collect.

    Those that no worker has; where workers have all, those of the stage that is predicted to wait most, if that is a
    fifth of the time or more; else all, as nobody knows a better place than the kernel.
    """
    used = {pu for stage in places for pus in stage for pu in pus}
    if spare := set(allowed) - used:
        return tuple(sorted(spare))
    busy = {
        s: stage.load.total_s / len(stage.replicas) / plan.predicted.period_s for s, stage in enumerate(plan.stages)
    }
    idlest = min(busy, key=lambda s: (busy[s], s))
    if 1 - busy[idlest] < LEAST_SLACK:
        return tuple(sorted(allowed))
    return tuple(sorted({pu for pus in places[idlest] for pu in pus}.intersection(allowed))) or tuple(sorted(allowed))


@contextlib.contextmanager
def bound(pus: Collection[int]) -> Iterator[None]:
    """Runs the block with the calling thread, and threads that it starts, on `pus`; and as before after it. Where the
    system refuses, it runs where it was: that costs time at most."""
    before = allowed_pus()
    with contextlib.suppress(OSError):
        os.sched_setaffinity(0, pus)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, before)
