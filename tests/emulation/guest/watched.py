"""`mapper run` with its workers watched from outside; standard library only."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import workers
from planned import Worker
from report import Failed, Told
from workers import Place, Seen

STEP_S = 0.2
LONGER = (1, 8)
"""How many times as many items come before those that count: more where the first run ended before all was seen."""
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
    plan: Mapping[Place, Worker], arguments: list[object], once: Once | None = None, limit_s: float = 150
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


def measured(
    told: Told, plan: Mapping[Place, Worker], bundle: Path, items: int, *arguments: object
) -> tuple[Watched, dict[str, Any]]:
    """Runs `items` through the bundle and gives what it measured. Requires that it ended well, that the outputs were
    identical to the unsplit program's, and that --json says what the file says. A run that ended before every worker
    was seen at work is done once more, longer."""
    output = Path(os.environ["MAPPER_OUT"], f"{bundle.stem}.json")
    warmup = max(items, *(1 + replica for _, replica in plan))  # every replica computes
    for times in LONGER:
        words = ["--items", items, "--warmup", warmup * times, *arguments]
        ended = run(plan, [bundle, *words, "--json", "-o", output])
        told.require(ended.code == 0, f"exit {ended.code}: {ended.err}")
        if all_compute(plan, ended.seen):
            break
    found = json.loads(output.read_text())
    told.require(json.loads(ended.out) == found, "--json says something else than -o")
    told.require(found["outputs_identical"], f"{found}")
    return ended, found


def pus(measurement: Mapping[str, Any]) -> dict[Place, list[int]]:
    """The CPUs that each worker had, as it read them back."""
    return {(worker["stage"], worker["replica"]): worker["pus"] for worker in measurement["workers"]}


def all_compute(plan: Mapping[Place, Worker], seen: Mapping[Place, Seen]) -> bool:
    """Whether every worker of the plan was seen at work."""
    return all(at in seen and workers.computes(seen[at], worker.threads) for at, worker in plan.items())


def _watch(
    process: subprocess.Popen[bytes], plan: Mapping[Place, Worker], once: Once | None, limit_s: float
) -> tuple[dict[Place, Seen], float]:
    """What was seen until the process ended, and after how many seconds all workers were there."""
    seen: dict[Place, Seen] = {}
    began, there_s = time.monotonic(), 0.0
    while process.poll() is None:
        if time.monotonic() > began + limit_s:
            doing = "; ".join(f"{at} {workers.doing(worker.pid)}" for at, worker in sorted(seen.items()))
            raise Failed(f"mapper run did not end within {limit_s:g} s; {len(seen)} of {len(plan)} workers: {doing}")
        for at, pid in workers.workers(process.pid).items():
            workers.look_at(seen.setdefault(at, Seen(pid)))
        if seen.keys() == plan.keys():
            there_s = there_s or time.monotonic() - began
            if once is not None and all_compute(plan, seen):
                once(process.pid, seen)
                once = None
        time.sleep(STEP_S)
    return seen, there_s
