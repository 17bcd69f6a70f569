"""The pipeline at work: a thread for each worker, bound to its PUs, and bounded queues between them.

Needs numpy. What computes a stage is in run.py, and lets go of Python's lock while it does, so that threads work side
by side.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
from command import (
    Asked,
    Description,
    Difference,
    Report,
    Stage,
    Worker,
    bind,
    oversubscribed,
    pus_of,
    read,
    require_pus,
    threads_here,
)

Array = np.ndarray[Any, np.dtype[Any]]
Item = Sequence[Array] | Mapping[str, Array]
"""Arrays in the order of the model's inputs, or by their names."""
Compute = Callable[[Sequence[Array]], Sequence[Array]]
"""A stage: arrays in the order of its inputs, arrays in the order of its outputs, good for ever."""


class _Failed:
    """Takes the place of an item whose computation raised `error`."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


class _Channel:
    """Items from one worker to another, at most `slots` of them waiting."""

    def __init__(self, slots: int) -> None:
        self.items: SimpleQueue[Any] = SimpleQueue()
        self._room: SimpleQueue[None] = SimpleQueue()
        for _ in range(slots):
            self._room.put(None)

    def put(self, item: Any) -> None:
        """Hands `item` on as soon as there is room."""
        self._room.get()
        self.items.put(item)

    def take(self) -> Any:
        """The next item, as soon as there is one."""
        item = self.items.get()
        self._room.put(None)
        return item


class Pipeline(ABC):
    """The pipeline in a folder, ready for items. A context manager; closed, it computes no more. `oversubscribe`: on
    the PUs that are there, where those of the plan are not.

    An item is arrays by number: each stage takes some and adds some, and lets go of what nobody reads later. Item n
    goes to replica n mod r of a stage with r replicas, so each worker knows whose result it takes next, and the order
    is kept.
    """

    one_by_one = True
    """Whether a worker starts when the one before it is ready: then the threads that come meanwhile are its own."""

    def __init__(self, folder: str | Path, oversubscribe: bool = False) -> None:
        self.description = oversubscribed(read(Path(folder))) if oversubscribe else read(Path(folder))
        require_pus(self.description.workers)
        stages = self.description.stages
        before = [1, *(len(stage.workers) for stage in stages[:-1])]
        self._inboxes = [
            [[_Channel(stage.slots) for _ in range(producers)] for _ in stage.workers]
            for stage, producers in zip(stages, before, strict=True)
        ]
        self._outboxes: list[SimpleQueue[Any]] = [SimpleQueue() for _ in stages[-1].workers]
        self._constants = {number: tensor(self.description, number) for number in self.description.constants}
        self._fed = self._given = 0
        self._threads: list[threading.Thread] = []
        self.workers: list[dict[str, Any]] = []
        """Of each worker its rank, stage and replica, and what it really has: PUs and threads."""
        self._start()

    @abstractmethod
    def load(self, stage: Stage, worker: Worker) -> tuple[Compute, Mapping[str, Any]]:
        """Makes a stage with a file ready in the calling thread, which is bound to the PUs of `worker`; and what is to
        be told of it: `threads`, and `pus_of` these where they are not the calling one and those started here."""

    def map(self, items: Iterable[Item]) -> Iterator[tuple[Array, ...]]:
        """The outputs of each of `items`, in their order. So many are under way at a time as keep all workers busy.

        Raises: ValueError for an item that is not what the model takes, and what a stage raises.
        """
        if self._given < self._fed:
            raise RuntimeError("another stream of items is under way")
        window = max(1, self.description.window)
        try:
            for item in items:
                if self._fed - self._given >= window:
                    yield self._result()
                self._feed(self._arrays(item))
            while self._given < self._fed:
                yield self._result()
        finally:
            while self._given < self._fed:  # nobody asks for these any more
                self._take()

    def close(self) -> None:
        """Ends the workers. Items that are under way are lost."""
        while self._given < self._fed:
            self._take()
        for inbox in (inbox for inboxes in self._inboxes for inbox in inboxes):
            for channel in inbox:
                channel.items.put(None)
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _start(self) -> None:
        """Starts the workers, and waits until all are ready."""
        begun: Iterable[SimpleQueue[Any]] = (
            self._begin(stage, worker) for stage in self.description.stages for worker in stage.workers
        )
        for ready in begun if self.one_by_one else list(begun):
            told = ready.get()
            if isinstance(told, _Failed):
                self.close()
                raise told.error
            self.workers.append(told)

    def _begin(self, stage: Stage, worker: Worker) -> SimpleQueue[Any]:
        """Starts a worker. It puts into the queue what is to be told of it as soon as it is ready, or how it failed."""
        ready: SimpleQueue[Any] = SimpleQueue()
        name = f"stage {stage.id}.{worker.replica}"
        thread = threading.Thread(target=self._work, args=(stage, worker, ready), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()
        return ready

    def _work(self, stage: Stage, worker: Worker, ready: SimpleQueue[Any]) -> None:
        """The life of a worker."""
        try:
            bind(worker.pus)
            before = threads_here() - {threading.get_native_id()}
            compute, told = self.load(stage, worker) if stage.file else (None, {"threads": worker.threads})
            own = {"rank": worker.rank, "stage": worker.stage, "replica": worker.replica}
            ready.put({**own, **pus_of(threads_here() - before), **told})
        except BaseException as error:
            ready.put(_Failed(error))
            return
        self._serve(stage, worker.replica, compute)

    def _serve(self, stage: Stage, number: int, compute: Compute | None) -> None:
        """Items `number`, and every one that many replicas later, until the pipeline is closed."""
        inbox, step = self._inboxes[stage.id][number], len(stage.workers)
        last = stage.id == len(self._inboxes) - 1
        while True:
            item = inbox[number % len(inbox)].take()
            if item is None:
                return
            if compute is not None and not isinstance(item, _Failed):
                item = _computed(stage, compute, item)
            if last:
                self._outboxes[number % step].put(item)
            else:
                following = self._inboxes[stage.id + 1]
                following[number % len(following)][number % step].put(item)
            number += step

    def _feed(self, arrays: Sequence[Array]) -> None:
        if not self._threads:
            raise RuntimeError("the pipeline is closed")
        item = dict(zip(self.description.inputs, arrays, strict=True))
        first = self._inboxes[0]
        first[self._fed % len(first)][0].put(item)
        self._fed += 1

    def _take(self) -> Any:
        item = self._outboxes[self._given % len(self._outboxes)].get()
        self._given += 1
        return item

    def _result(self) -> tuple[Array, ...]:
        item = self._take()
        if isinstance(item, _Failed):
            raise item.error
        return tuple(item[n] if n in item else self._constants[n] for n in self.description.outputs)

    def _arrays(self, item: Item) -> list[Array]:
        """The arrays of `item` in the order of the inputs, each checked."""
        wanted = [self.description.tensors[number] for number in self.description.inputs]
        given = [item[tensor.name] for tensor in wanted] if isinstance(item, Mapping) else list(item)
        if len(given) != len(wanted):
            raise ValueError(f"an item has {len(wanted)} array(s), {len(given)} were given")
        for array, tensor in zip(given, wanted, strict=True):
            if array.shape != tensor.shape or array.dtype.name != tensor.dtype:
                raise ValueError(f"{tensor.name} is {array.dtype.name}{list(array.shape)}, "
                                 f"{tensor.dtype}{list(tensor.shape)} was expected")  # fmt: skip
        return given


def _computed(stage: Stage, compute: Compute, item: dict[int, Array]) -> dict[int, Array] | _Failed:
    """`item` with what `stage` adds, and without what nobody reads later."""
    try:
        results = compute([item[number] for number in stage.inputs])
        added = dict(zip(stage.outputs, results, strict=True))
    except BaseException as error:
        return _Failed(error)
    return {number: array for number, array in (item | added).items() if number not in stage.drops}


def tensor(description: Description, number: int) -> Array:
    """A tensor of the sample, or a constant."""
    kind = description.tensors[number]
    return np.frombuffer(description.file(number).read_bytes(), np.dtype(kind.dtype)).reshape(kind.shape)


def compare(found: Array, expected: Array) -> float | None:
    """None where all bits are equal, else how far `found` is off, relative to the largest magnitude of `expected`; NaN
    equals NaN."""
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return float("inf")
    if np.ascontiguousarray(found).tobytes() == expected.tobytes():
        return None
    a, b = found.astype(np.float64), expected.astype(np.float64)
    with np.errstate(invalid="ignore"):
        gap = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.abs(a - b))
    largest = float(np.nan_to_num(gap, nan=np.inf, posinf=np.inf).max())
    scale = float(np.where(np.isfinite(b), np.abs(b), 0.0).max())
    return largest / scale if scale else float("inf") if largest else 0.0


def measure(pipeline: Pipeline, asked: Asked) -> Report:
    """Sends the sample through `pipeline` as often as is `asked`, and compares what comes out every time. The clock
    runs from the last output of the warm-up, so that it sees a full pipeline."""
    description = pipeline.description
    item = [tensor(description, number) for number in description.inputs]
    expected = [tensor(description, number) for number in description.outputs]
    difference = Difference()
    begun = time.perf_counter()
    for count, outputs in enumerate(pipeline.map(repeat(item, asked.warmup + asked.items)), start=1):
        for i, pair in enumerate(zip(outputs, expected, strict=True)):
            relative = compare(*pair)
            if relative is not None:
                difference.add(i, relative, description.tolerance[i])
        if count == asked.warmup:
            begun = time.perf_counter()
    return Report(asked.items, time.perf_counter() - begun, difference, pipeline.workers)
