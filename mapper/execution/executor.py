"""`mapper.Executor`: a plan at work, as a context manager."""

from __future__ import annotations

import itertools
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from types import TracebackType
from typing import Self

import torch

from mapper.errors import UsageError
from mapper.execution.backend import compiled, with_backend
from mapper.execution.layout import lay_out, output_homes, stage_programs
from mapper.execution.memory import Memory, Semaphore
from mapper.execution.micro_batches import Tensors, joined, split
from mapper.execution.place import Claim, Places, resolve_pus
from mapper.execution.replica import Counters
from mapper.execution.ring import FEEDER_ID, Consumer, Producer
from mapper.execution.runner import Workers
from mapper.execution.source import Item, Runnable, Source, source_of, tensors_of
from mapper.jsonio import Record
from mapper.machine.model import Machine
from mapper.plans.model import Plan

Output = torch.Tensor | tuple[torch.Tensor, ...]

TIMEOUT_S = 600.0
KEPT_LATENCIES = 100_000
_SLICE_S = 0.05


class WorkerStatistics(Record):
    """One worker: what it is bound to, and where its time went, in seconds over all items."""

    stage: int
    replica: int
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
    """What an executor has seen since it started or was reset. `latencies_s` are the last ones, oldest first."""

    stages: tuple[StageStatistics, ...]
    workers: tuple[WorkerStatistics, ...]
    latencies_s: tuple[float, ...]


class Executor:
    """Runs `plan` for `model` in worker processes, one a replica, each bound to its cores.

        with Executor(plan, model) as executor:
            for output in executor.map(items): ...

    `model` is the torch module that was planned, a program with its weights, a bundle, or a bundle's folder.
    `machine` is the machine at hand, read from it if absent. `timeout_s` limits the start, and then the time without
    any result (None: no limit). See `place.resolve_pus` for `remap` and `oversubscribe`. Without `claim` the caller has
    seen to it that the cores are free. `backend` computes instead of the plan's; its stages are compiled when the
    executor starts, unless they are in the cache, and `say` is told so. `notes` are what was amiss and was mended.
    One thread uses an executor.

    Raises: BadInput when plan and model do not belong together, or the back end cannot compile a stage; UsageError
    when there is no such back end, MissingFeature when it is not installed; MachineMismatch when the plan does not fit
    here or its cores are taken; ExecutionFailed when a worker dies, raises or hangs; SystemRefused.
    """

    def __init__(
        self,
        plan: Plan,
        model: Runnable | Source,
        *,
        machine: Machine | None = None,
        remap: bool = False,
        oversubscribe: bool = False,
        timeout_s: float | None = TIMEOUT_S,
        claim: bool = True,
        backend: str | None = None,
        say: Callable[[str], None] = lambda message: None,
    ) -> None:
        self.plan = plan = with_backend(plan, backend)
        self.notes: list[str] = []
        self._say = say
        self.timeout_s = timeout_s
        self._source: Source | None = model if isinstance(model, Source) else source_of(plan, model)
        self._program = self._source.program
        self._places = _places(plan, machine, remap, oversubscribe)
        self._claims = claim and not oversubscribe
        self._stack = ExitStack()
        self._running = False
        self._stream: object | None = None
        self._calls = plan.request.micro_batches
        self._next_in = self._next_out = self._first = 0
        self._put_ns: deque[int] = deque()
        self._item_ns = 0
        self._latencies: deque[float] = deque(maxlen=KEPT_LATENCIES)

    def __enter__(self) -> Self:
        source, self._source = self._source, None  # the workers have the weights from here on
        if source is None:
            raise UsageError("an executor runs once; make another one")
        programs = stage_programs(self.plan, self._program)
        self._layout = lay_out(self.plan, self._program, programs)
        with ExitStack() as stack:
            weights = source.weights_fd()
            stack.callback(os.close, weights)
            artefacts = compiled(self.plan, programs, source.weights, weights, self._say, self.notes.append)
            if self._claims:
                stack.enter_context(Claim([pu for stage in self._places for pus in stage for pu in pus]))
            self._memory = Memory.create(self._layout.bytes)
            stack.callback(os.close, self._memory.fd)
            for channel in self._layout.channels:
                channel.initialise(self._memory)
            self._workers = Workers(self._layout, self._memory)
            stack.callback(self._workers.close)
            threads = [[r.configuration.threads for r in stage.replicas] for stage in self.plan.stages]
            self._workers.start(programs, self._places, threads, self.plan.request.backend, artefacts, weights)
            del source
            self._connect(output_homes(self._program, programs))
            self._workers.wait_ready(self.timeout_s)
            self._stack = stack.pop_all()
        self._base = self._counters()
        self._running = True
        return self

    def _connect(self, homes: list[tuple[int, int]]) -> None:
        """The parent's ends of the rings. An output is the tensor at a place among those of a stage's channel."""
        self._feed = Producer(self._memory, self._layout.written_by(FEEDER_ID, 0), self._wait)
        producers = self._layout.read_by(FEEDER_ID)
        self._collect = [Consumer(self._memory, channels, FEEDER_ID, 0, self._wait) for channels in producers]
        flat = [
            (channels[0].stage, field)
            for channels, consumer in zip(producers, self._collect, strict=True)
            for field in consumer.fields
        ]
        self._order = [flat.index(home) for home in homes]

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close(kill=kind is not None)

    def close(self, *, kill: bool = False) -> None:
        """Ends the workers (with `kill`, at once); all of them are gone afterwards. Items in flight are dropped."""
        running, self._running = self._running, False
        if not running:
            return
        with self._stack:
            if not kill:
                self._workers.stop()
        del self._feed, self._collect, self._memory, self._workers  # nothing else keeps the shared memory

    def map(self, items: Iterable[Item]) -> Iterator[Output]:
        """The model's outputs for `items`, in order: a tensor each if the model returns one, else a tuple. Where the
        plan has items in micro-batches, an item is that many batches of the program's inputs, one behind the other.

        Lazy: an item is taken only when there is room for it, so that `items` may be endless. Outputs are the
        caller's own. Another call of `map` ends this stream; so does leaving it, and what is in flight is dropped.
        """
        if not self._running:
            raise UsageError(
                "the executor is not running", advice="Use it as: with mapper.Executor(plan, model) as ..."
            )
        self._stream = token = object()
        taken = (tensors_of(self._program, item, self._calls) for item in items)
        if self._calls == 1:
            return map(_single, self._results(taken, token))
        parts = (part for item in taken for part in split(item, self._calls))
        return self._joined(self._results(parts, token))

    def _joined(self, results: Iterator[Tensors]) -> Iterator[Output]:
        """The outputs of items from those of their micro-batches."""
        while parts := list(itertools.islice(results, self._calls)):
            yield _single(joined(parts))

    def _results(self, items: Iterator[list[torch.Tensor]], token: object) -> Iterator[Tensors]:
        self._drop_leftovers(token)
        exhausted = False
        while True:
            self._require(token)
            room = self._next_in - self._next_out < self.plan.predicted.window
            if not exhausted and room and not self._ready():
                try:
                    tensors = next(items)
                except StopIteration:
                    exhausted = True
                    continue
                self._require(token)
                self._put(tensors)
            elif self._next_in > self._next_out:
                yield self._get()
            else:
                return

    def _require(self, token: object) -> None:
        if not self._running:
            raise UsageError("the executor was closed while results were taken from it")
        if self._stream is not token:
            raise UsageError("another map of this executor has begun; results of this one are gone")

    def _drop_leftovers(self, token: object) -> None:
        """Waits for what an earlier stream left in flight, so that this one's first output is its own."""
        while self._next_in > self._next_out:
            self._require(token)
            self._get(dropped=True)
        self._first = self._next_out

    def _ready(self) -> bool:
        """Whether the oldest item in flight is done."""
        if self._next_in == self._next_out:
            return False
        return all(consumer.ready(self._next_out) for consumer in self._collect)

    def _put(self, tensors: list[torch.Tensor]) -> None:
        number, now = self._next_in, time.monotonic_ns()
        try:
            self._feed.acquire(number)
            self._feed.write(number, tensors, now)
            self._feed.publish(number)
        except BaseException:
            self.close(kill=True)  # the rings are in no known state
            raise
        self._put_ns.append(now)
        self._next_in += 1

    def _get(self, *, dropped: bool = False) -> Tensors:
        number = self._next_out
        try:
            views = [view for consumer in self._collect for view in consumer.take(number)]
            outputs = tuple(views[i].clone() for i in self._order)
            for consumer in self._collect:
                consumer.release(number)
        except BaseException:
            self.close(kill=True)  # the rings are in no known state
            raise
        put_ns = self._put_ns.popleft()
        if not dropped:
            self._note_latency((number - self._first) % self._calls, put_ns)
        self._next_out += 1
        return outputs

    def _note_latency(self, place: int, put_ns: int) -> None:
        """Notes how long an item took, when the last of its micro-batches is there: the one at `place` is."""
        self._item_ns = put_ns if place == 0 else self._item_ns
        if place == self._calls - 1:
            self._latencies.append((time.monotonic_ns() - self._item_ns) / 1e9)

    def _wait(self, semaphore: Semaphore) -> None:
        """Waits in slices, and looks after the workers between them."""
        until = None if self.timeout_s is None else time.monotonic() + self.timeout_s
        while not semaphore.wait_for(_SLICE_S):
            self._workers.check()
            if until is not None and self.timeout_s is not None and time.monotonic() > until:
                self._workers.hung(self.timeout_s, self._next_out)

    def _counters(self) -> list[list[int]]:
        return [Counters(self._memory, self._layout, w.stage, w.replica).read() for w in self._workers.all]

    def reset_statistics(self) -> None:
        """Statistics count from here on; at best between two items."""
        self._base = self._counters()
        self._latencies.clear()

    def statistics(self) -> Statistics:
        """What was seen since the start or the last reset. Items in flight are counted where they are done."""
        if not self._running:
            raise UsageError("the executor is not running; ask for statistics before it is closed")
        workers = []
        for worker, now, base in zip(self._workers.all, self._counters(), self._base, strict=True):
            items, compute, copy, wait_in, wait_out = (a - b for a, b in zip(now[:5], base[:5], strict=True))
            workers.append(WorkerStatistics(
                stage=worker.stage, replica=worker.replica, pid=worker.process.pid, pus=worker.pus,
                threads=worker.threads, items=items, compute_s=compute / 1e9, copy_s=copy / 1e9,
                wait_in_s=wait_in / 1e9, wait_out_s=wait_out / 1e9,
            ))  # fmt: skip
        stages = tuple(_stage(s, [w for w in workers if w.stage == s]) for s in range(len(self.plan.stages)))
        return Statistics(stages=stages, workers=tuple(workers), latencies_s=tuple(self._latencies))


def _single(outputs: Tensors) -> Output:
    """The only output, or all of several."""
    return tuple(outputs) if len(outputs) > 1 else outputs[0]


def _places(plan: Plan, machine: Machine | None, remap: bool, oversubscribe: bool) -> Places:
    if machine is None:
        from mapper.machine.discover import discover

        machine = discover()
    return resolve_pus(plan, machine, remap=remap, oversubscribe=oversubscribe)


def _stage(number: int, workers: list[WorkerStatistics]) -> StageStatistics:
    """The means over the items of all replicas of a stage."""
    items = sum(w.items for w in workers)

    def mean(*seconds: float) -> float:
        return sum(seconds) / max(items, 1)

    compute, copy = mean(*(w.compute_s for w in workers)), mean(*(w.copy_s for w in workers))
    return StageStatistics(
        id=number, items=items, load_s=compute + copy, compute_s=compute, copy_s=copy,
        wait_in_s=mean(*(w.wait_in_s for w in workers)), wait_out_s=mean(*(w.wait_out_s for w in workers)),
    )  # fmt: skip
