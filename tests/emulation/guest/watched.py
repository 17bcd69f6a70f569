"""`mapper run` with its workers watched from outside; standard library only."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import workers
from planned import Worker
from report import Failed
from workers import Place, Seen

STEP_S = 2.0
Once = Callable[[int, dict[Place, Seen]], None]
"""Given the process of mapper, and what was seen of its workers."""


@dataclass
class Watched:
    """A run that has ended: its exit code, what it printed, what was seen of its workers, and after how many seconds
    all of them were there."""

    code: int
    out: str
    err: str
    seen: dict[Place, Seen] = field(default_factory=dict)
    there_s: float = 0.0


def run(
    plan: Mapping[Place, Worker], arguments: list[object], once: Once | None = None, limit_s: float = 1500
) -> Watched:
    """Runs `mapper run ARGUMENTS`, which starts the workers of `plan`, and looks at them until it ends. When all
    compute, `once` is called. Raises: Failed when it does not end in time."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        command = ["mapper", "run", *map(str, arguments)]
        process = subprocess.Popen(command, stdout=out, stderr=err, stdin=subprocess.DEVNULL)
        try:
            seen, there_s = _watch(process, plan, once, limit_s)
        finally:
            process.kill()
            code = process.wait()
        out.seek(0)
        err.seek(0)
        return Watched(code, out.read(), err.read(), seen, there_s)


def _watch(
    process: subprocess.Popen[bytes], plan: Mapping[Place, Worker], once: Once | None, limit_s: float
) -> tuple[dict[Place, Seen], float]:
    """What was seen until the process ended, and after how many seconds all workers were there."""
    seen: dict[Place, Seen] = {}
    began, there_s = time.monotonic(), 0.0
    while process.poll() is None:
        if time.monotonic() > began + limit_s:
            raise Failed(f"mapper run did not end within {limit_s:g} s; {len(seen)} of {len(plan)} workers were seen")
        for at, pid in workers.workers(process.pid).items():
            workers.look_at(seen.setdefault(at, Seen(pid)))
        if seen.keys() == plan.keys():
            there_s = there_s or time.monotonic() - began
            if once is not None and all(workers.computes(seen[at], plan[at].threads) for at in plan):
                once(process.pid, seen)
                once = None
        time.sleep(STEP_S)
    return seen, there_s
