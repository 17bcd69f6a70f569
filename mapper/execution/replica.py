"""One replica's life: take an item, compute, hand the result on, until the run is over."""

from __future__ import annotations

import contextlib
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from enum import IntEnum
from pathlib import Path

import torch

from mapper import jsonio
from mapper.backends.registry import Compute, Loaded, backend_called
from mapper.errors import BadInput
from mapper.execution.layout import Layout
from mapper.execution.memory import Memory, Semaphore
from mapper.execution.post import Post
from mapper.execution.ring import Consumer, Producer
from mapper.jsonio import Record
from mapper.program.model import Program, TensorType
from mapper.program.weights import map_weights


class Job(Record):
    """What a worker computes: stage and replica, the stage's program, how, and how the shared memory is laid out.
    `artefact` is the folder with what its back end compiled, empty where there is none."""

    stage: int
    replica: int
    threads: int
    backend: str
    artefact: str = ""
    program: Program
    layout: Layout


class Doing(IntEnum):
    """What a worker is at: waiting for an item, computing one, or waiting for a slot to put it in."""

    WAITING = 0
    COMPUTING = 1
    BLOCKED = 2

    @property
    def words(self) -> str:
        """What a message says before `item 3`."""
        return ("it waits for", "it computes", "it waits for room for")[self]


class Counters:
    """What a worker tells about itself, in shared memory, so that the parent can look at any time.

    Written before the slot is handed on: who has an item's result sees what it cost. Times are in nanoseconds.
    """

    ITEMS, COMPUTE, COPY, WAIT_IN, WAIT_OUT, ITEM, DOING, SINCE = range(8)

    def __init__(self, memory: Memory, layout: Layout, stage: int, replica: int) -> None:
        start = layout.counters(stage, replica) // 8
        self.words = memory.words[start : start + 8]

    def read(self) -> list[int]:
        """All of them, in the order of the constants."""
        return self.words.tolist()

    def doing(self, what: Doing, item: int, now_ns: int) -> None:
        """Notes what the worker is at since `now_ns`."""
        self.words[self.ITEM], self.words[self.DOING], self.words[self.SINCE] = item, what, now_ns

    def add(self, *, wait_in: int, compute: int, wait_out: int, copy: int) -> None:
        """Counts one item."""
        words = self.words
        words[self.WAIT_IN] += wait_in
        words[self.COMPUTE] += compute
        words[self.WAIT_OUT] += wait_out
        words[self.COPY] += copy
        words[self.ITEMS] += 1


class StageFailed(Exception):
    """The stage's computation raised; names its ops."""


class _RunOver(Exception):
    """The parent has said so."""


def run(post: Post, report: Callable[[dict[str, object]], None]) -> None:
    """Prepares the replica that `post` points to, reports that it is ready, and serves until the run is over."""
    job = jsonio.validated(Job, jsonio.parse_json(_whole(post.job), "job"), "job")
    torch.set_num_interop_threads(1)
    loaded = _loaded(job, post)
    memory = Memory(post.memory, job.layout.bytes)
    replica = _Replica(job, memory, loaded.compute)
    with torch.inference_mode():
        replica.warm_up()
        pus = sorted(os.sched_getaffinity(0))
        report({"event": "ready", "pus": pus, "threads": loaded.threads, "torch": torch.__version__})
        with contextlib.suppress(_RunOver):
            replica.serve()


def _whole(fd: int) -> bytes:
    return os.pread(fd, os.fstat(fd).st_size, 0)


def _loaded(job: Job, post: Post) -> Loaded:
    backend = backend_called(job.backend)
    backend.require(compiling=False)
    weights = map_weights(post.weights, "weights", names=job.program.weight)
    return backend.load(job.program, weights, job.threads, Path(job.artefact) if job.artefact else None)


class _Replica:
    def __init__(self, job: Job, memory: Memory, compute: Compute) -> None:
        self.job, self.memory, self.compute = job, memory, compute
        self.first, self.step = job.replica, job.layout.replicas[job.stage]
        self.counters = Counters(memory, job.layout, job.stage, job.replica)
        self.inputs = [
            Consumer(memory, channels, job.stage, job.replica, self._wait) for channels in job.layout.read_by(job.stage)
        ]
        self.output = Producer(memory, job.layout.written_by(job.stage, job.replica), self._wait)
        names = [name for consumer in self.inputs for name in consumer.names]
        self.order = [names.index(given.name) for given in job.program.inputs]

    def warm_up(self) -> None:
        """Computes once on zeros, so that the first item finds threads started and memory in place."""
        zeros = [_zeros(given.type) for given in self.job.program.inputs]
        try:
            results = self.compute(*zeros)
        except Exception:  # zeros may not suit the model; a real failure shows with the first item
            traceback.print_exc(file=sys.stderr)
            return
        self._check(results)
        self.output.touch(results)

    def serve(self) -> None:
        """Items first, first + step, ...: blocks where there is nothing to do; raises when the run is over."""
        number, begun = self.first, time.monotonic_ns()
        while True:
            self.counters.doing(Doing.WAITING, number, begun)
            given = [tensor for consumer in self.inputs for tensor in consumer.take(number)]
            taken = time.monotonic_ns()
            self.counters.doing(Doing.COMPUTING, number, taken)
            results = self._results([given[i] for i in self.order])
            computed = time.monotonic_ns()
            self.counters.doing(Doing.BLOCKED, number, computed)
            self.output.acquire(number)
            acquired = time.monotonic_ns()
            self.output.write(number, results, taken)
            for consumer in self.inputs:  # results may be views of what came in: only now is that no longer read
                consumer.release(number)
            end = time.monotonic_ns()
            self.counters.add(
                wait_in=taken - begun, compute=computed - taken, wait_out=acquired - computed, copy=end - acquired
            )
            self.output.publish(number)
            number, begun = number + self.step, end

    def _results(self, tensors: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        try:
            results = self.compute(*tensors)
            self._check(results)
        except Exception as error:
            ops = self.job.program.ops
            shown = ", ".join(op.name for op in ops[:40]) + (f", ... ({len(ops)} ops)" if len(ops) > 40 else "")
            raise StageFailed(f"{type(error).__name__}: {error}\nThe ops of the stage: {shown}") from error
        return results

    def _check(self, results: Sequence[torch.Tensor]) -> None:
        """What a slot takes must have the stated shape: copying would stretch it silently."""
        for field, tensor in zip(self.output.channel.fields, results, strict=True):
            if tuple(tensor.shape) != field.type.shape or tensor.dtype != getattr(torch, field.type.dtype):
                raise BadInput(field.name, f"it came out as {tensor.dtype}{list(tensor.shape)}, "
                               f"not {field.type.dtype}{list(field.type.shape)}")  # fmt: skip

    def _wait(self, semaphore: Semaphore) -> None:
        semaphore.wait()
        if self.memory.stopped:
            raise _RunOver


def _zeros(kind: TensorType) -> torch.Tensor:
    """Zeros as they would lie in a slot."""
    count = kind.extent_bytes // kind.item_bytes
    return torch.zeros(count, dtype=getattr(torch, kind.dtype)).as_strided(kind.shape, kind.strides)
