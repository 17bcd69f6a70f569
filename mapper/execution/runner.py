"""The worker processes of a run, as the parent sees them: started, watched, stopped, and never left behind."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NoReturn

from mapper import jsonio
from mapper.errors import ExecutionFailed, MachineMismatch, MapperError, MissingFeature, SystemRefused
from mapper.execution.backend import Artefacts
from mapper.execution.layout import Layout
from mapper.execution.memory import Memory, anonymous_file
from mapper.execution.place import Places
from mapper.execution.post import Post
from mapper.execution.replica import Counters, Doing, Job
from mapper.machine.pus import format_pus
from mapper.program.model import Program

STOP_S = 5.0
"""How long workers may take to end by themselves."""
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_BINDING = ("OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY", "OMP_THREAD_LIMIT")
_MALLOC = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40)}
"""glibc keeps what is freed: every item needs the same memory again, and getting it anew from the kernel, page by
page, can cost as much as the computation (MobileNetV2: 31 ms an item instead of 18, with 6,800 page faults)."""
_PASSED_ON: dict[str, type[MapperError]] = {
    kind.__name__: kind for kind in (MachineMismatch, MissingFeature, SystemRefused)
}


@dataclass
class Worker:
    """A replica's process. `pus` and `threads` are what it read back once it was ready."""

    stage: int
    replica: int
    process: subprocess.Popen[bytes]
    control: int
    status: int
    log: IO[bytes]
    pus: tuple[int, ...]
    threads: int
    ready: bool = False
    heard: bytes = field(default=b"", repr=False)

    def __str__(self) -> str:
        place = f"process {self.process.pid}, PU {format_pus(self.pus)}"
        return f"the worker of stage {self.stage}, replica {self.replica} ({place})"


class Workers:
    """All workers of a run. Only processes that were started here are ever signalled."""

    def __init__(self, layout: Layout, memory: Memory) -> None:
        self.layout = layout
        self.memory = memory
        self.all: list[Worker] = []
        self._poll = select.poll()

    def start(
        self, programs: Sequence[Program], places: Places, threads: Sequence[Sequence[int]], backend: str,
        artefacts: Artefacts, weights: int,
    ) -> None:  # fmt: skip
        """Starts one process a replica, all at once; `wait_ready` tells when they are ready."""
        for s, program in enumerate(programs):
            for r, pus in enumerate(places[s]):
                team = threads[s][r]
                job = Job(
                    stage=s, replica=r, threads=team, backend=backend, artefact=str(artefacts.get((s, team), "")),
                    program=program, layout=self.layout,
                )  # fmt: skip
                worker = self._spawn(job, pus, weights)
                self.all.append(worker)
                self._poll.register(worker.status, select.POLLIN)

    def _spawn(self, job: Job, pus: tuple[int, ...], weights: int) -> Worker:
        control_end, control = os.pipe()
        status, status_end = os.pipe()
        job_fd = anonymous_file("mapper-job")
        log = tempfile.TemporaryFile()  # noqa: SIM115  (it has no name, and is closed with the worker)
        try:
            with os.fdopen(os.dup(job_fd), "wb") as out:
                out.write(jsonio.canonical(jsonio.plain(job)))
            post = Post(
                parent=os.getpid(), pus=pus, job=job_fd, memory=self.memory.fd, weights=weights,
                control=control_end, status=status_end,
            )  # fmt: skip
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "mapper.execution.worker", post.model_dump_json()],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment(job.threads),
                pass_fds=(job_fd, self.memory.fd, weights, control_end, status_end),
            )  # fmt: skip
        except OSError as error:
            os.close(control)
            os.close(status)
            log.close()
            raise SystemRefused(f"no worker process could be started: {error.strerror}") from error
        finally:
            for fd in (job_fd, control_end, status_end):
                os.close(fd)
        return Worker(job.stage, job.replica, process, control, status, log, pus, job.threads)

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
                self._fail(worker, f"died: {_how(worker.process)}")

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
                    worker, f"hangs: no result within {timeout_s:g} s; {doing.words} item {number} for {since:.1f} s"
                )
        self._fail(self.all[-1], f"gave no result within {timeout_s:g} s, though all have handed on item {number}")

    def _fail(self, worker: Worker, what: str, trace: str = "") -> NoReturn:
        """Ends all workers, keeps the log of this one, and raises."""
        message = f"{worker} {what}"
        self.kill()
        path = _keep_log(worker, message, trace)
        raise ExecutionFailed(message, advice=f"{trace}Its log: {path}" if trace else f"Its log: {path}")

    def stop(self) -> None:
        """Ends the run: workers leave by themselves, or are killed after a while. All are gone afterwards."""
        self.memory.stop()
        for channel in self.layout.channels:
            channel.wake(self.memory)
        until = time.monotonic() + STOP_S
        for worker in self.all:
            try:
                worker.process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                break
        self.kill()

    def kill(self) -> None:
        """Kills and reaps every worker that is left, and closes what belongs to them."""
        for worker in self.all:
            worker.process.kill()
        for worker in self.all:
            worker.process.wait()

    def close(self) -> None:
        """Kills what is left, and gives back descriptors and logs."""
        try:
            self.kill()
        finally:
            for worker in self.all:
                os.close(worker.control)  # a worker that was not reaped ends when it sees this
                os.close(worker.status)
                worker.log.close()
            self.all = []


def environment(threads: int) -> dict[str, str]:
    """The environment of a worker: `threads` for every library that starts its own, no binding but ours, and memory
    that is kept (what the user says of malloc goes before)."""
    out = _MALLOC | {name: value for name, value in os.environ.items() if name not in _BINDING}
    out |= {name: str(threads) for name in _THREADS} | {"OMP_DYNAMIC": "FALSE", "MKL_DYNAMIC": "FALSE"}
    home = str(Path(__file__).resolve().parents[2])  # last: only for a mapper that is not installed
    out["PYTHONPATH"] = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), home]))
    out["PYTHONUNBUFFERED"] = "1"
    return out


def _how(process: subprocess.Popen[bytes]) -> str:
    """How `process`, whose pipe is closed, ended."""
    try:
        code = process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        return "it closed its pipe, and is there still"
    if code >= 0:
        return f"exit code {code}"
    name = signal.Signals(-code).name
    return f"killed by {name}" + (" (by hand, or for want of memory: see dmesg)" if name == "SIGKILL" else "")


def _keep_log(worker: Worker, message: str, trace: str) -> str:
    """Writes what `worker` printed, with what is known of its end, to a file that stays; its path."""
    worker.log.seek(0)
    printed = worker.log.read()
    try:
        fd, path = tempfile.mkstemp(prefix=f"mapper-stage{worker.stage}-replica{worker.replica}-", suffix=".log")
        with os.fdopen(fd, "wb") as out:
            out.write(f"{message}\n\n{trace}\n".encode() + printed)
    except OSError as error:
        return f"could not be kept ({error.strerror}); its end was: {printed[-500:].decode(errors='replace')}"
    return path
