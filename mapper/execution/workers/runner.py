"""The worker processes of a run, as the parent sees them: started, watched, stopped, and never left behind."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple, NoReturn

from mapper import jsonio
from mapper.errors import ExecutionFailed, MachineMismatch, MapperError, MissingFeature, SystemRefused
from mapper.execution.rings.layout import Layout
from mapper.execution.rings.memory import Memory
from mapper.execution.workers.environment import environment
from mapper.execution.workers.nursery import Nursery, ended_so
from mapper.execution.workers.post import Post
from mapper.execution.workers.replica import Counters, Job
from mapper.host.anonymous import anonymous_file
from mapper.machine.pus import format_pus
from mapper.plans.timeline import Doing

STOP_S = 5.0
"""How long workers may take to end by themselves."""
_AT = {Doing.WAITING: "it waits for", Doing.COMPUTING: "it computes", Doing.BLOCKED: "it waits for room for"}
"""What a worker says that it is at, before `item 3`."""
_PASSED_ON: dict[str, type[MapperError]] = {
    kind.__name__: kind for kind in (MachineMismatch, MissingFeature, SystemRefused)
}


class Replica(NamedTuple):
    """What a worker is to be: what it computes, on which PUs, with the weights in which file (its descriptor)."""

    job: Job
    pus: Sequence[int]
    weights: int


@dataclass
class Worker:
    """A replica's process. `pus` and `threads` are what it read back once it was ready."""

    stage: int
    replica: int
    pid: int
    control: int
    status: int
    log: IO[bytes]
    pus: tuple[int, ...]
    threads: int
    ready: bool = False
    gone: bool = False
    heard: bytes = field(default=b"", repr=False)

    def __str__(self) -> str:
        place = f"process {self.pid}, PU {format_pus(self.pus)}"
        return f"the worker of stage {self.stage}, replica {self.replica} ({place})"


class Workers:
    """All workers of a run. Only processes that were started here are ever signalled. What they print is kept where
    one fails; with `logs`, that of all of them in this folder."""

    def __init__(self, layout: Layout, memory: Memory, logs: Path | None = None) -> None:
        self.layout = layout
        self.logs = logs
        self.memory = memory
        self.all: list[Worker] = []
        self._poll = select.poll()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  (closed with the nursery)
        self._nursery = Nursery(environment(1), self._log)

    def start(self, replicas: Iterable[Replica]) -> None:
        """Starts one process a replica, all at once; `wait_ready` tells when they are ready."""
        for job, pus, weights in replicas:
            worker = self._spawn(job, pus, weights)
            self.all.append(worker)
            self._poll.register(worker.status, select.POLLIN)

    def _spawn(self, job: Job, pus: Sequence[int], weights: int) -> Worker:
        log = self._opened_log(job)
        control_end, control = os.pipe()
        status, status_end = os.pipe()
        job_fd = anonymous_file("mapper-job")
        try:
            with os.fdopen(os.dup(job_fd), "wb") as out:
                out.write(jsonio.canonical(jsonio.plain(job)))
            pid = self._nursery.start(Post(
                stage=job.stage, replica=job.replica, pus=tuple(pus), threads=job.threads, parent=os.getpid(),
                job=job_fd, memory=self.memory.fd, weights=weights, control=control_end, status=status_end,
                log=log.fileno(),
            ))  # fmt: skip
        except BaseException:
            os.close(control)
            os.close(status)
            log.close()
            raise
        finally:
            for fd in (job_fd, control_end, status_end):
                os.close(fd)
        return Worker(job.stage, job.replica, pid, control, status, log, tuple(pus), job.threads)

    def _opened_log(self, job: Job) -> IO[bytes]:
        """Takes what a worker prints; closed with the worker."""
        if self.logs is None:
            return tempfile.TemporaryFile()
        path = self.logs / f"stage{job.stage}-replica{job.replica}.log"
        try:
            self.logs.mkdir(parents=True, exist_ok=True)
            return path.open("w+b", buffering=0)
        except OSError as error:
            raise SystemRefused(f"the log {path} cannot be written: {error.strerror}") from error

    def wait_ready(self, timeout_s: float | None) -> None:
        """Waits until every worker is ready. Raises: ExecutionFailed, or what kept a worker from starting."""
        until = None if timeout_s is None else time.monotonic() + timeout_s
        while waiting := [worker for worker in self.all if not worker.ready]:
            if until is not None and time.monotonic() > until:
                self._fail(waiting[0], f"was not ready within {timeout_s:g} s")
            self.check(0.1)

    def check(self, wait_s: float = 0.0) -> None:
        """Raises ExecutionFailed when a worker has died or failed; waits up to `wait_s` for news."""
        for fd, _ in self._poll.poll(wait_s * 1000):
            worker = next(w for w in self.all if w.status == fd)
            data = os.read(fd, 65536)
            worker.heard += data
            while b"\n" in worker.heard:
                line, _, worker.heard = worker.heard.partition(b"\n")
                self._hear(worker, json.loads(line))
            if not data:
                self._fail(worker, f"died: {self._how(worker)}")

    def _hear(self, worker: Worker, event: dict[str, Any]) -> None:
        if event["event"] == "ready":
            worker.ready, worker.pus, worker.threads = True, tuple(event["pus"]), event["threads"]
            return
        if (kind := _PASSED_ON.get(event.get("kind", ""))) is not None:
            raise kind(f"{worker}: {event['what']}", advice=event["advice"])
        self._fail(worker, f"raised {event['error']}", str(event["traceback"]))

    def hung(self, timeout_s: float, number: int) -> NoReturn:
        """Raises ExecutionFailed for want of item `number`, naming the first worker that has not handed it on."""
        now = time.monotonic_ns()
        for stage, replicas in enumerate(self.layout.replicas):
            worker = self.all[self.layout.worker(stage, number % replicas)]
            words = Counters(self.memory, self.layout, worker.stage, worker.replica).read()
            if words[Counters.ITEM] <= number:
                doing, since = Doing(words[Counters.DOING]), (now - words[Counters.SINCE]) / 1e9
                self._fail(
                    worker, f"hangs: no result within {timeout_s:g} s; {_AT[doing]} item {number} for {since:.1f} s"
                )
        self._fail(self.all[-1], f"gave no result within {timeout_s:g} s, though all have handed on item {number}")

    def _fail(self, worker: Worker, what: str, trace: str = "") -> NoReturn:
        """Ends all workers, keeps the log of this one, and raises."""
        message = f"{worker} {what}"
        self.kill()
        path = _keep_log(worker, message, trace, self.logs)
        raise ExecutionFailed(message, advice=f"{trace}Its log: {path}" if trace else f"Its log: {path}")

    def stop(self) -> None:
        """Ends the run: workers leave by themselves, or are killed after a while. All are gone afterwards."""
        self.memory.stop()
        for channel in self.layout.channels:
            channel.wake(self.memory)
        until = time.monotonic() + STOP_S
        for worker in self.all:
            self._reaped(worker, max(0.0, until - time.monotonic()))
        self.kill()

    def kill(self) -> None:
        """Kills every worker that is left, and waits until it is gone. Those of a dead nursery die with it."""
        left = [worker for worker in self.all if not worker.gone]
        for worker in left:
            if self._nursery.alive:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker.pid, signal.SIGKILL)
        for worker in left:
            if self._reaped(worker, STOP_S) is None:
                _await_end(worker.status)

    def _reaped(self, worker: Worker, within_s: float) -> int | None:
        """How `worker` ended, if it does within the time, once."""
        code = None if worker.gone else self._nursery.ended(worker.pid, within_s)
        worker.gone |= code is not None
        return code

    def _how(self, worker: Worker) -> str:
        """How `worker`, whose pipe is closed, ended."""
        code = self._reaped(worker, STOP_S)
        return ended_so(code) if code is not None else "it closed its pipe, and nobody knows how it ended"

    def close(self) -> None:
        """Kills what is left, and gives back descriptors and logs."""
        try:
            self.kill()
        finally:
            self._nursery.close()
            for worker in self.all:
                os.close(worker.control)  # a worker that was not reaped ends when it sees this
                os.close(worker.status)
                worker.log.close()
            self._log.close()
            self.all = []


def _await_end(status: int) -> None:
    """Waits until the worker at the other end of `status` is gone."""
    poll = select.poll()
    poll.register(status, 0)
    poll.poll(STOP_S * 1000)


def _keep_log(worker: Worker, message: str, trace: str, folder: Path | None) -> str:
    """Writes what `worker` printed, with what is known of its end, to a file that stays, in `folder` or where temporary
    files are; its path."""
    worker.log.seek(0)
    printed = worker.log.read()
    try:
        prefix = f"mapper-stage{worker.stage}-replica{worker.replica}-"
        fd, path = tempfile.mkstemp(prefix=prefix, suffix=".log", dir=folder)
        with os.fdopen(fd, "wb") as out:
            out.write(f"{message}\n\n{trace}\n".encode() + printed)
    except OSError as error:
        return f"could not be kept ({error.strerror}); its end was: {printed[-500:].decode(errors='replace')}"
    return path
