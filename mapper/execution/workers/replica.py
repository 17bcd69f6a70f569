"""One replica's life: take an item, compute, hand the result on, until the run is over."""

from __future__ import annotations

import contextlib
import os
import struct
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from mapper import jsonio
from mapper.backends.artefacts import hold
from mapper.backends.core import zeros
from mapper.backends.registry import Loaded, backend_called
from mapper.errors import BadInput
from mapper.execution.rings.layout import Layout
from mapper.execution.rings.memory import Memory, Semaphore
from mapper.execution.rings.ring import Consumer, Producer
from mapper.execution.workers.post import Post
from mapper.execution.workers.trace import Trace
from mapper.jsonio import Record
from mapper.plans.timeline import Doing
from mapper.program.model import Program
from mapper.program.weights import map_weights


class Job(Record):
    """What a worker computes: stage and replica, the stage's program, how, and how the shared memory is laid out.
    `artefact` is the folder with what its back end compiled, empty where there is none. `spin_ns`: see `spin`."""

    stage: int
    replica: int
    threads: int
    backend: str
    artefact: str = ""
    spin_ns: int = 0
    program: Program
    layout: Layout


_TOTALS, _DOING = struct.Struct("5q"), struct.Struct("3q")


class Counters:
    """What a worker tells about itself, in shared memory, so that the parent can look at any time.

    Written before the slot is handed on: who has an item's result sees what it cost. Times are in nanoseconds.
    """

    ITEMS, COMPUTE, COPY, WAIT_IN, WAIT_OUT, ITEM, DOING, SINCE = range(8)

    def __init__(self, memory: Memory, layout: Layout, stage: int, replica: int) -> None:
        start = layout.counters(stage, replica) // 8
        self.words = memory.words[start : start + 8]
        self._totals = (0, 0, 0, 0, 0)

    def read(self) -> list[int]:
        """All of them, in the order of the constants."""
        return self.words.tolist()

    def doing(self, what: Doing, item: int, now_ns: int) -> None:
        """Notes what the worker is at since `now_ns`."""
        _DOING.pack_into(self.words, 8 * self.ITEM, item, what, now_ns)

    def add(self, *, wait_in: int, compute: int, wait_out: int, copy: int) -> None:
        """Counts one item. The sums are the worker's own: nobody else counts for it."""
        items, computed, copied, waited_in, waited_out = self._totals
        self._totals = items + 1, computed + compute, copied + copy, waited_in + wait_in, waited_out + wait_out
        _TOTALS.pack_into(self.words, 0, *self._totals)


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
    replica = _Replica(job, memory, loaded)
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
    artefact = Path(job.artefact) if job.artefact else None
    if artefact is not None:
        hold(artefact)  # never let go: while this process lives, the cache keeps what its library may have mapped
    return backend.load(job.program, weights, job.threads, artefact)


class _Replica:
    def __init__(self, job: Job, memory: Memory, loaded: Loaded) -> None:
        self.job, self.memory, self.compute, self.into = job, memory, loaded.compute, loaded.into
        self.first, self.step = job.replica, job.layout.replicas[job.stage]
        self.counters = Counters(memory, job.layout, job.stage, job.replica)
        self.trace = Trace(memory, job.layout, job.stage, job.replica) if job.layout.traced else None
        self.inputs = [
            Consumer(memory, channels, job.stage, job.replica, self._wait) for channels in job.layout.read_by(job.stage)
        ]
        self.output = Producer(memory, job.layout.written_by(job.stage, job.replica), self._wait)
        self.kinds = [(f.name, f.type.shape, getattr(torch, f.type.dtype)) for f in self.output.channel.fields]
        names = [name for consumer in self.inputs for name in consumer.names]
        self.order = [names.index(given.name) for given in job.program.inputs]
        loaded.prepare([*self.output.tensors, *(tensor for consumer in self.inputs for tensor in consumer.tensors)])

    def warm_up(self) -> None:
        """Computes once on zeros, so that the first item finds threads started and memory in place."""
        given = [zeros(given.type) for given in self.job.program.inputs]
        try:
            results = self._computed(self.first, given)
        except Exception:  # zeros may not suit the model; a real failure shows with the first item
            traceback.print_exc(file=sys.stderr)
            return
        self._check(self.first, results)
        self.output.touch(results)

    def serve(self) -> None:
        """Items first, first + step, ...: blocks where there is nothing to do; raises when the run is over.

        A back end that writes results in place needs the slot before it computes, others when they have computed.
        """
        now, counters, output, ahead = time.monotonic_ns, self.counters, self.output, self.into is not None
        number, begun = self.first, now()
        while True:
            counters.doing(Doing.WAITING, number, begun)
            given = [tensor for consumer in self.inputs for tensor in consumer.take(number)]
            taken = now()
            room = self._room(number, taken) if ahead else taken
            counters.doing(Doing.COMPUTING, number, room)
            results = self._results(number, [given[i] for i in self.order])
            computed = now()
            acquired = computed if ahead else self._room(number, computed)
            copied = output.write(number, results, taken)
            for consumer in self.inputs:  # results may be views of what came in: only now is that no longer read
                consumer.release(number)
            end = now()
            counters.add(
                wait_in=taken - begun, compute=computed - room, wait_out=room - taken + acquired - computed,
                copy=end - acquired if copied else 0,
            )  # fmt: skip
            if self.trace is not None:
                self.trace.add(number, begun, taken, room, computed, acquired, end)
            output.publish(number)
            number, begun = number + self.step, end

    def _room(self, number: int, now_ns: int) -> int:
        """Waits for the slot of item `number`; the time when it is there."""
        self.counters.doing(Doing.BLOCKED, number, now_ns)
        self.output.acquire(number)
        return time.monotonic_ns()

    def _computed(self, number: int, given: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
        """The stage's results, in the slot of item `number` if they can be written there."""
        return self.compute(*given) if self.into is None else self.into(given, self.output.targets(number))

    def _results(self, number: int, given: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
        try:
            results = self._computed(number, given)
            self._check(number, results)
        except Exception as error:
            ops = self.job.program.ops
            shown = ", ".join(op.name for op in ops[:40]) + (f", ... ({len(ops)} ops)" if len(ops) > 40 else "")
            raise StageFailed(f"{type(error).__name__}: {error}\nThe ops of the stage: {shown}") from error
        return results

    def _check(self, number: int, results: Sequence[torch.Tensor]) -> None:
        """What is copied to a slot must have the stated shape: copying would stretch it silently."""
        for (name, shape, dtype), target, tensor in zip(self.kinds, self.output.targets(number), results, strict=True):
            if tensor is not target and (tensor.shape != shape or tensor.dtype != dtype):
                raise BadInput(name, f"it came out as {tensor.dtype}{list(tensor.shape)}, not {dtype}{list(shape)}")

    def _wait(self, semaphore: Semaphore) -> None:
        semaphore.wait(self.job.spin_ns)
        if self.memory.stopped:
            raise _RunOver
