"""`mapper.Executor`: a plan at work, as a context manager."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import threading
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import torch

from mapper.backends.artefacts import Artefacts
from mapper.errors import UsageError
from mapper.execution.feeding.awaiting import streamed
from mapper.execution.feeding.ends import Call, Ends, calls_of
from mapper.execution.feeding.feeder import Feeder, Stream
from mapper.execution.feeding.futures import CLOSED, ENDED, Service
from mapper.execution.feeding.micro_batches import Tensors, joined
from mapper.execution.feeding.seat import bound, feeder_pus
from mapper.execution.place import Claim, Places, resolve_pus
from mapper.execution.rings.layout import lay_out
from mapper.execution.rings.memory import Memory, Semaphore
from mapper.execution.rings.nodes import place_rings
from mapper.execution.rings.ring import FEEDER_ID
from mapper.execution.rings.spin import spins
from mapper.execution.statistics import Statistics, stage_statistics, worker_statistics
from mapper.execution.workers.replica import Counters, Job
from mapper.execution.workers.runner import Replica, Workers
from mapper.execution.workers.trace import Trace
from mapper.execution.workers.weights import Files, placed_weights
from mapper.host.affinity import allowed_pus
from mapper.machine.model import Machine
from mapper.plans.model import Plan
from mapper.plans.timeline import Span, Timeline
from mapper.program.model import Program
from mapper.sources.backend import compiled, with_backend
from mapper.sources.source import Item, Runnable, Source, source_of, tensors_of
from mapper.sources.stages import output_homes, stage_programs

Output = torch.Tensor | tuple[torch.Tensor, ...]

TIMEOUT_S = 600.0
_SLICE_S = 0.05


class Executor:
    """Runs `plan` for `model` in worker processes, one a replica, each bound to its cores.

        with Executor(plan, model) as executor:
            for output in executor.map(items): ...

    `model` is the torch module that was planned, a program with its weights, a bundle, or a bundle's folder.
    `machine` is the machine at hand, read from it if absent. `timeout_s` limits the start, and then the time without
    any result (None: no limit). See `place.resolve_pus` for `remap` and `oversubscribe`. Without `claim` the caller has
    seen to it that the cores are free. `backend` computes instead of the plan's; its stages are compiled when the
    executor starts, unless they are in the cache, and `say` is told so. `notes` are what was amiss and was mended.
    What workers print is kept where one fails, and with `logs` in that folder in any case. Of its last `traced` calls
    each worker notes when it did what, for `timeline`.

    Items come from a stream (`map`), or one by one from any thread (`submit`) and from asyncio (`infer`, `stream`), and
    all of these at once. `waiting` is how many submitted items may wait beside those in flight (None: as many again).

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
        waiting: int | None = None,
        logs: Path | None = None,
        traced: int = 0,
        say: Callable[[str], None] = lambda message: None,
    ) -> None:
        self.plan = plan = with_backend(plan, backend)
        self.notes: list[str] = []
        self._say = say
        self.timeout_s = timeout_s
        self._calls = plan.request.micro_batches
        self._in_flight = -(-plan.predicted.window // self._calls)
        if waiting is not None and waiting < 0:
            raise UsageError("no item or more may wait for room; fewer than none cannot")
        self._limit = self._in_flight + (self._in_flight if waiting is None else waiting)
        self._source: Source | None = model if isinstance(model, Source) else source_of(plan, model)
        self.program = self._source.program
        self._places = _places(plan, machine, remap, oversubscribe)
        self._oversubscribed, self._logs, self._traced = oversubscribe, logs, traced
        self._spins = spins(self._places, allowed_pus())
        self._claims = claim and not oversubscribe
        self._stack = ExitStack()
        self._watch = threading.Lock()
        self._running = self._killing = False

    def __enter__(self) -> Self:
        source, self._source = self._source, None  # the workers have the weights from here on
        if source is None:
            raise UsageError("an executor runs once; make another one")
        programs = stage_programs(self.plan, self.program)
        self._layout = lay_out(self.plan, self.program, programs, self._traced)
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
            if note := place_rings(self._memory, self.plan, self._layout, self._places):
                self.notes.append(note)
            files, note = placed_weights(self.plan, programs, source, weights, self._places, stack)
            if note is not None:
                self.notes.append(note)
            self._workers = Workers(self._layout, self._memory, self._logs)
            stack.callback(self._workers.close)
            self._workers.start(self._replicas(programs, artefacts, files))
            del source
            homes = output_homes(self.program, programs)
            self._ends = Ends(self._memory, self._layout, homes, self._wait)
            self._feeder = Feeder(self._ends, self.plan.predicted.window, self._limit, self._kill)
            self._workers.wait_ready(self.timeout_s)
            self._stack = stack.pop_all()
        self._base = self._counters()
        self._running = True
        return self

    def _replicas(self, programs: Sequence[Program], artefacts: Artefacts, weights: Files) -> Iterator[Replica]:
        """What the workers are to be, in the order of stages and replicas."""
        for s, (program, stage) in enumerate(zip(programs, self.plan.stages, strict=True)):
            for r, replica in enumerate(stage.replicas):
                threads = replica.configuration.threads
                job = Job(
                    stage=s, replica=r, threads=threads, backend=self.plan.request.backend, program=program,
                    artefact=str(artefacts.get((s, threads), "")), spin_ns=self._spins[s, r], layout=self._layout,
                )  # fmt: skip
                yield Replica(job, self._places[s][r], weights[s, r])

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close(kill=kind is not None)

    def close(self, *, kill: bool = False) -> None:
        """Ends the workers; all of them are gone afterwards. What was submitted is finished before; what a stream has
        in flight is dropped. With `kill`, or where it is interrupted, all ends at once, and the futures that are left
        raise UsageError. A callback of a future must not call it."""
        if not self._running:
            return
        self._killing = kill
        try:
            self._feeder.end(kill=kill)
        except UsageError:
            raise
        except BaseException:
            self.close(kill=True)
            raise
        self._running = False
        with self._stack:
            if not kill:
                self._workers.stop()
        del self._ends, self._feeder, self._memory, self._workers  # nothing else keeps the shared memory

    def map(self, items: Iterable[Item]) -> Iterator[Output]:
        """The model's outputs for `items`, in order: a tensor each if the model returns one, else a tuple. Where the
        plan has items in micro-batches, an item is that many batches of the program's inputs, one behind the other.

        Lazy: an item is taken only when there is room for it, so that `items` may be endless. Outputs are the
        caller's own. Another call of `map` ends this stream; so does leaving it, and what is in flight is dropped.
        Submitted items do not end it: its outputs are its own, in order, whatever comes between.
        """
        stream = self._fed().begin()
        taken = (call for item in items for call in self._taken(item))
        return self._outputs(taken, stream)

    def _outputs(self, taken: Iterator[Call], stream: Stream) -> Iterator[Output]:
        """The outputs of items from those of their calls."""
        results = self._feeder.results(taken, stream)
        if self._calls == 1:
            return map(_single, results)
        parts = iter(lambda: list(itertools.islice(results, self._calls)), [])
        return (_single(joined(outputs)) for outputs in parts)

    def submit(self, item: Item, *, timeout_s: float | None = None) -> Future[Output]:
        """The future of the model's output for `item`, whose tensors must stay as they are until it is done. From any
        thread; items are computed in the order of the calls.

        Waits while as many submitted items are there as the plan has in flight and `waiting` besides, at most
        `timeout_s` (None: no limit); in callbacks of futures it never waits. An item that has not been put in can be
        cancelled. When a worker fails, all futures raise that error. Await it as `asyncio.wrap_future(submit(item))`,
        or use `infer`, which does not wait here.

        Raises: BadInput for an item of another shape; TimeoutError when there is no room in time; UsageError.
        """
        return self._service().submit(self._taken(item), self._item_output, timeout_s=timeout_s)

    def _submit_at_once(self, item: Item) -> Future[Output]:
        return self._service().submit(self._taken(item), self._item_output, bounded=False)

    async def infer(self, item: Item) -> Output:
        """The model's output for `item`, awaited: what `submit` gives, without a bound. Who awaits keeps it."""
        return await asyncio.wrap_future(self._submit_at_once(item))

    def stream(self, items: Iterable[Item] | AsyncIterable[Item]) -> AsyncIterator[Output]:
        """The model's outputs for `items`, for `async for`: in order and lazy like `map`, without ever holding up the
        event loop; an asynchronous source is asked for its next item while results are awaited. Any number of such
        streams may run beside each other. What is left when it is left is cancelled, or dropped."""
        self._fed()
        return streamed(self._submit_at_once, items, self._in_flight + -(-self.plan.ahead // self._calls))

    def _taken(self, item: Item) -> list[Call]:
        """The calls that `item` comes to, checked."""
        return calls_of(tensors_of(self.program, item, self._calls), self._calls)

    def _item_output(self, outputs: list[Tensors]) -> Output:
        return _single(outputs[0] if self._calls == 1 else joined(outputs))

    @property
    def in_callback(self) -> bool:
        """Whether the caller is a callback of a future, in which nothing here waits."""
        return self._running and self._feeder.in_callback

    def wait_for_room(self) -> None:
        """Waits until a submitted item would find a worker free. Raises: what `submit` does."""
        self._service().wait_for_room()

    def beside(self) -> contextlib.AbstractContextManager[None]:
        """Runs a block with the calling thread on the PUs that are best for feeding and collecting (`seat`), where
        workers have cores of their own. For who has a process to himself: `mapper run` and `mapper bench` do it."""
        if self._oversubscribed:
            return contextlib.nullcontext()
        return bound(feeder_pus(self.plan, self._places, allowed_pus()))

    def _fed(self) -> Feeder:
        if self._source is not None:
            raise UsageError(
                "the executor is not running", advice="Use it as: with mapper.Executor(plan, model) as ..."
            )
        if not self._running or self._feeder.closed:
            raise UsageError(ENDED)
        return self._feeder

    def _service(self) -> Service:
        return self._fed().service()

    def _wait(self, semaphore: Semaphore) -> None:
        """Waits in slices, and looks after the workers between them. A time in which this process itself was stopped
        counts as one slice."""
        waited_s, before = 0.0, time.monotonic()
        while not semaphore.wait_for(_SLICE_S, self._spins[FEEDER_ID, 0]):
            if self._killing:
                raise UsageError(CLOSED)
            now = time.monotonic()
            waited_s, before = waited_s + min(now - before, 2 * _SLICE_S), now
            with self._watch:
                self._workers.check()
                if self.timeout_s is not None and waited_s > self.timeout_s:
                    self._workers.hung(self.timeout_s, self._ends.next_out)

    def _kill(self) -> None:
        with self._watch:
            self._workers.kill()

    def _counters(self) -> list[list[int]]:
        return [Counters(self._memory, self._layout, w.stage, w.replica).read() for w in self._workers.all]

    def reset_statistics(self) -> None:
        """Statistics count from here on; at best between two items."""
        self._base = self._counters()
        self._ends.latencies_s.clear()
        self._feeder.waits_s.clear()

    def statistics(self) -> Statistics:
        """What was seen since the start or the last reset. Items in flight are counted where they are done."""
        if not self._running:
            raise UsageError("the executor is not running; ask for statistics before it is closed")
        readings = zip(self._workers.all, self._counters(), self._base, strict=True)
        workers = [worker_statistics(worker, now, base) for worker, now, base in readings]
        stages = range(len(self.plan.stages))
        return Statistics(
            stages=tuple(stage_statistics(s, [w for w in workers if w.stage == s]) for s in stages),
            workers=tuple(workers), latencies_s=tuple(self._ends.latencies_s), waits_s=tuple(self._feeder.waits_s),
        )  # fmt: skip

    def timeline(self) -> Timeline:
        """What every worker did with its last calls, as many as are `traced`, and when.

        Raises: UsageError when the executor is not running."""
        if not self._running:
            raise UsageError("the executor is not running; ask for its timeline before it is closed")
        spans: list[Span] = []
        for worker, counted in zip(self._workers.all, self._counters(), strict=True):
            trace = Trace(self._memory, self._layout, worker.stage, worker.replica)
            spans += trace.spans(counted[Counters.ITEMS])
        return Timeline.of(self.plan, spans, "measured")


def _single(outputs: Tensors) -> Output:
    """The only output, or all of several."""
    return tuple(outputs) if len(outputs) > 1 else outputs[0]


def _places(plan: Plan, machine: Machine | None, remap: bool, oversubscribe: bool) -> Places:
    if machine is None:
        from mapper.machine.discover import discover

        machine = discover()
    return resolve_pus(plan, machine, remap=remap, oversubscribe=oversubscribe)
