"""What an executor has seen: where the time of each worker and stage went, and how long items took."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mapper.jsonio import Record

if TYPE_CHECKING:
    from mapper.execution.workers.runner import Worker


class WorkerStatistics(Record):
    """One worker: where it is, what it is bound to, and where its time went, in seconds over all items."""

    stage: int
    replica: int
    host: int = 0
    pid: int
    pus: tuple[int, ...]
    threads: int
    items: int
    compute_s: float
    copy_s: float
    wait_in_s: float
    wait_out_s: float


class StageStatistics(Record):
    """One stage: seconds of work an item (`load_s`, what the plan predicts), and of waiting."""

    id: int
    items: int
    load_s: float
    compute_s: float
    copy_s: float
    wait_in_s: float
    wait_out_s: float


class Statistics(Record):
    """What an executor has seen since it started or was reset, the last items only, oldest first.

    `latencies_s` are from when an item is begun, put into the pipeline or, with a single stage, taken by a worker, to
    when its outputs are collected, of streams and of submitted items alike. `waits_s` are how long submitted items
    waited before that.
    """

    stages: tuple[StageStatistics, ...]
    workers: tuple[WorkerStatistics, ...]
    latencies_s: tuple[float, ...]
    waits_s: tuple[float, ...] = ()


def worker_statistics(worker: Worker, now: Sequence[int], base: Sequence[int]) -> WorkerStatistics:
    """What `worker` did between two readings of its counters."""
    items, compute, copy, wait_in, wait_out = (a - b for a, b in zip(now[:5], base[:5], strict=True))
    return WorkerStatistics(
        stage=worker.stage, replica=worker.replica, pid=worker.pid, pus=worker.pus, threads=worker.threads,
        items=items, compute_s=compute / 1e9, copy_s=copy / 1e9, wait_in_s=wait_in / 1e9, wait_out_s=wait_out / 1e9,
    )  # fmt: skip


def stage_statistics(number: int, workers: Sequence[WorkerStatistics]) -> StageStatistics:
    """The means over the items of all replicas of a stage."""
    items = sum(w.items for w in workers)

    def mean(*seconds: float) -> float:
        return sum(seconds) / max(items, 1)

    compute, copy = mean(*(w.compute_s for w in workers)), mean(*(w.copy_s for w in workers))
    return StageStatistics(
        id=number, items=items, load_s=compute + copy, compute_s=compute, copy_s=copy,
        wait_in_s=mean(*(w.wait_in_s for w in workers)), wait_out_s=mean(*(w.wait_out_s for w in workers)),
    )  # fmt: skip
