"""Kills a worker, and mapper itself, in the middle of a run: what is left of it; standard library only."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import watched
import workers
from planned import planned
from report import Told, check
from workers import Place, Seen

MANY = 1_000_000
GONE_S = 12
"""How long the last process may take to be gone; on a board it is less than a second."""


def main() -> None:
    """A worker, and then the process that the user started."""
    (bundle,) = Path.cwd().glob("*.bundle")
    plan = planned(bundle)
    victim = (len(plan) // 2, 0)
    with check("a worker is killed") as told:

        def kill_worker(mapper: int, seen: dict[Place, Seen]) -> None:
            os.kill(seen[victim].pid, signal.SIGKILL)

        ended = watched.run(plan, [bundle, "--items", MANY], kill_worker)
        told.require(ended.code == 7, f"exit {ended.code}: {ended.err}")
        told.require(f"the worker of stage {victim[0]}, replica 0" in ended.err, ended.err)
        told.require("SIGKILL" in ended.err, ended.err)
        took = nothing_is_left(told)
        told.detail = f"exit 7, {ended.err.splitlines()[0]}; {took}"
    with check("mapper is killed") as told:

        def kill_mapper(mapper: int, seen: dict[Place, Seen]) -> None:
            os.kill(mapper, signal.SIGKILL)

        ended = watched.run(plan, [bundle, "--items", MANY], kill_mapper)
        told.require(ended.code == -signal.SIGKILL, f"exit {ended.code}: {ended.err}")
        told.detail = nothing_is_left(told)


def nothing_is_left(told: Told) -> str:
    """Requires that no process, shared memory, or claim of a CPU is left, after a while; in words, after how long."""
    began = time.monotonic()
    while left := workers.of_mapper():
        told.require(time.monotonic() - began < GONE_S, f"left after {GONE_S} s: {'; '.join(left)}")
        time.sleep(0.02)
    took = time.monotonic() - began
    shared = sorted(path.name for path in Path("/dev/shm").iterdir())
    told.require(not shared, f"/dev/shm holds {shared}")
    claims = [line.split()[-1] for line in Path("/proc/net/unix").read_text().splitlines() if "mapper-pu-" in line]
    told.require(not claims, f"claimed: {claims}")
    return f"{took:.1f} s after its end no process, nothing in /dev/shm, no CPU claimed"


if __name__ == "__main__":
    main()
