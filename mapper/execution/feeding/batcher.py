"""`mapper.Batcher`: single requests joined to items of the plan's size, within a time limit."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Any, Self

import torch

from mapper.errors import BadInput, UsageError
from mapper.execution.executor import Executor, Output
from mapper.execution.feeding.ends import KEPT_LATENCIES
from mapper.jsonio import Record
from mapper.plans.model import Plan
from mapper.program.model import Program
from mapper.sources.source import Item, tensors_of

WAIT_S = 0.005
QUEUED_ITEMS = 2
"""How many items' rows may wait before `submit` does."""


class BatcherStatistics(Record):
    """What a batcher has joined. `fill` is the part of the rows of the items sent that were of requests, the rest was
    padding; `rows_per_item` how many that are in the mean. Of the last requests, oldest first: `waits_s` from when one
    was submitted to when its last row was sent, `latencies_s` to when its output was there."""

    requests: int
    rows: int
    items: int
    rows_per_item: float
    fill: float
    waits_s: tuple[float, ...]
    latencies_s: tuple[float, ...]


@dataclass(eq=False)
class _Request:
    tensors: list[torch.Tensor]
    rows: int
    since_ns: int = field(default_factory=time.monotonic_ns)
    future: Future[Output] = field(default_factory=Future)
    sent: int = 0
    done: int = 0
    outputs: list[tuple[torch.Tensor, ...]] = field(default_factory=list)


@dataclass(frozen=True)
class _Part:
    """Rows of a request that go into one item."""

    request: _Request
    first: int
    rows: int


class Batcher:
    """Joins requests of one or more rows to items of the plan's batch, and hands each its own outputs.

        with mapper.Executor(plan, model) as executor, mapper.Batcher(executor) as batcher:
            output = batcher.submit(request).result()

    A request is what an item is, but with any number of rows from 1 to the plan's batch; its rows stay together in
    order, though not always in one item. An item is sent when it is full; with rows missing once its oldest row has
    waited `wait_s` seconds and the pipeline has room. Missing rows are filled with copies of the last row, whose
    outputs are dropped. Rows must not depend on each other, as in every model in evaluation mode; in the last bits, an
    output may depend on where in an item its row was.

    Raises: UsageError where an input or output of the model does not begin with the plan's batch.
    """

    def __init__(self, executor: Executor, *, wait_s: float = WAIT_S) -> None:
        if not wait_s >= 0:
            raise UsageError(f"requests cannot wait {wait_s:g} s for others")
        _require_batched(executor.plan, executor.program)
        self.executor, self.wait_s = executor, wait_s
        self.size = executor.plan.request.batch
        self._programs: dict[int, Program] = {}
        self._lock = threading.Lock()
        self._more, self._room = threading.Condition(self._lock), threading.Condition(self._lock)
        self._queue: deque[_Request] = deque()
        self._queued_rows = 0
        self._ending = False
        self._failure: Exception | None = None
        self._sent_items = self._sent_rows = self._sent_requests = 0
        self._waits_s: deque[float] = deque(maxlen=KEPT_LATENCIES)
        self._latencies_s: deque[float] = deque(maxlen=KEPT_LATENCIES)
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="mapper-batcher", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None:
            self.close()
        else:
            self._end(UsageError("the batcher was closed before this result was there"))

    def close(self) -> None:
        """Takes no more requests, sends at once what waits, and returns when all of it has been sent.

        Raises: UsageError in a future's callback.
        """
        if self._in_callback():
            raise UsageError("a callback of a future cannot close its batcher: it would wait for itself")
        self._end(None)
        self._left.wait()

    def _end(self, error: Exception | None) -> None:
        """Takes no more requests; with an `error`, those that have not been sent get it."""
        with self._lock:
            self._ending = True
            dropped = list(self._queue) if error is not None else []
            if error is not None:
                self._queue.clear()
                self._queued_rows = 0
            self._more.notify_all()
            self._room.notify_all()
        for request in dropped:
            _fail(request, error or UsageError("closed"))

    def submit(self, request: Item, *, timeout_s: float | None = None) -> Future[Output]:
        """The future of the outputs for `request`, whose tensors must stay as they are until it is done. From any
        thread. Waits, at most `timeout_s`, while the rows of two items wait, but not in callbacks of futures; a request
        none of whose rows has been sent can be cancelled.

        Raises: BadInput for a request of another shape, which no other request notices; TimeoutError; UsageError.
        """
        return self._submit(request, True, timeout_s)

    async def infer(self, request: Item) -> Output:
        """The outputs for `request`, awaited: what `submit` gives, without a bound. Who awaits keeps it."""
        return await asyncio.wrap_future(self._submit(request, False, None))

    def _submit(self, given: Item, bounded: bool, timeout_s: float | None) -> Future[Output]:
        request = self._checked(given)
        until = None if timeout_s is None else time.monotonic() + timeout_s
        with self._lock:
            bounded &= not self._in_callback()
            while bounded and self._queued_rows >= QUEUED_ITEMS * self.size and not self._ending:
                left = None if until is None else until - time.monotonic()
                if left is not None and left <= 0:
                    raise TimeoutError(f"no room for the request within {timeout_s:g} s: {self._queued_rows} rows wait")
                self._room.wait(left)
            if self._ending:
                raise self._failure or UsageError("the batcher is closed")
            self._queue.append(request)
            self._queued_rows += request.rows
            if len(self._queue) == 1 or self._queued_rows >= self.size:
                self._more.notify()
        return request.future

    def _in_callback(self) -> bool:
        """Whether the caller is a callback of a future: it would wait for itself. Of an item that is done at once,
        they run in this batcher's own thread."""
        return threading.current_thread() is self._thread or self.executor.in_callback

    def _checked(self, given: Any) -> _Request:
        """`given` as a request: its tensors in the order of the inputs, each with as many rows as the first."""
        inputs = self.executor.program.inputs
        tensors = list(given.values()) if isinstance(given, Mapping) else given
        first = tensors[0] if isinstance(tensors, Sequence) and tensors else tensors
        rows = first.shape[0] if isinstance(first, torch.Tensor) and first.dim() else 0
        if isinstance(first, torch.Tensor) and not 1 <= rows <= self.size:
            raise BadInput("request", f"1 to {self.size} rows were expected, its shape is {list(first.shape)}",
                           advice="The first dimension is the rows; more of them are several requests.")  # fmt: skip
        rows = rows or self.size
        if rows not in self._programs:
            shapes = [(given, (rows, *given.type.shape[1:])) for given in inputs]
            changed = [
                given.model_copy(update={"type": given.type.model_copy(update={"shape": shape})})
                for given, shape in shapes
            ]
            self._programs[rows] = self.executor.program.model_copy(update={"inputs": tuple(changed)})
        return _Request(tensors_of(self._programs[rows], given), rows)

    def _serve(self) -> None:
        """The thread: makes items of what waits, until the end."""
        try:
            while self._due():
                self.executor.wait_for_room()
                with self._lock:
                    parts = self._taken()
                    self._room.notify_all()
                if parts:
                    self._send(parts)
        except Exception as error:
            self._failure = error
            self._end(error)
        finally:
            self._left.set()

    def _due(self) -> bool:
        """Waits until an item is full, or its oldest row has waited long enough; False when it ends instead."""
        with self._lock:
            while self._queued_rows < self.size and not self._ending:
                left = None
                if self._queue:
                    left = self.wait_s - (time.monotonic_ns() - self._queue[0].since_ns) / 1e9
                    if left <= 0:
                        break
                self._more.wait(left)
            return bool(self._queue) or not self._ending

    def _taken(self) -> list[_Part]:
        """The rows of the next item, at most its size; the lock is held."""
        parts, room = [], self.size
        while self._queue and room:
            request = self._queue[0]
            if request.sent == 0 and not request.future.set_running_or_notify_cancel():
                self._queue.popleft()
                self._queued_rows -= request.rows
                continue
            rows = min(room, request.rows - request.sent)
            parts.append(_Part(request, request.sent, rows))
            request.sent += rows
            self._queued_rows -= rows
            room -= rows
            if request.sent == request.rows:
                self._queue.popleft()
                self._waits_s.append((time.monotonic_ns() - request.since_ns) / 1e9)
                self._sent_requests += 1
        if parts:
            self._sent_items += 1
            self._sent_rows += self.size - room
        return parts

    def _send(self, parts: Sequence[_Part]) -> None:
        try:
            future = self.executor.submit(_joined(parts, self.size))
        except Exception as error:
            for part in parts:
                _fail(part.request, error)
        else:
            future.add_done_callback(partial(self._deliver, parts))

    def _deliver(self, parts: Sequence[_Part], item: Future[Output]) -> None:
        """Splits the outputs of an item; called where they are there."""
        error = item.exception()
        output = None if error is not None else item.result()
        first = 0
        for part in parts:
            request = part.request
            if error is not None or output is None:
                _fail(request, error)
                continue
            whole = output if isinstance(output, tuple) else (output,)
            request.outputs.append(tuple(tensor[first : first + part.rows] for tensor in whole))
            request.done += part.rows
            first += part.rows
            if request.done == request.rows and not request.future.done():
                self._latencies_s.append((time.monotonic_ns() - request.since_ns) / 1e9)
                request.future.set_result(_output(request.outputs))

    def statistics(self) -> BatcherStatistics:
        """What has been sent so far."""
        with self._lock:
            items, rows = self._sent_items, self._sent_rows
            return BatcherStatistics(
                requests=self._sent_requests, rows=rows, items=items, rows_per_item=rows / max(items, 1),
                fill=rows / max(items * self.size, 1), waits_s=tuple(self._waits_s),
                latencies_s=tuple(self._latencies_s),
            )  # fmt: skip


def _joined(parts: Sequence[_Part], size: int) -> list[torch.Tensor]:
    """The item of `parts`, with copies of the last row where rows are missing."""
    missing = size - sum(part.rows for part in parts)
    item = []
    for i in range(len(parts[0].request.tensors)):
        rows = [part.request.tensors[i][part.first : part.first + part.rows] for part in parts]
        last = rows[-1][-1:]
        item.append(torch.cat([*rows, last.expand(missing, *last.shape[1:])]) if missing or len(rows) > 1 else rows[0])
    return item


def _output(parts: Sequence[tuple[torch.Tensor, ...]]) -> Output:
    """The outputs of a request, its own: not a piece of an item that would keep all of that."""
    own = tuple(torch.cat(tensors) if len(tensors) > 1 else tensors[0].clone() for tensors in zip(*parts, strict=True))
    return own if len(own) > 1 else own[0]


def _fail(request: _Request, error: BaseException | None) -> None:
    """Gives the error to a request that has none yet."""
    future = request.future
    with contextlib.suppress(InvalidStateError):  # another of its items may fail at the same time
        if not future.done() and (request.sent or future.set_running_or_notify_cancel()):
            future.set_exception(error)


def _require_batched(plan: Plan, program: Program) -> None:
    """Refuses a model whose rows cannot be told apart: every input and output must begin with the plan's batch."""
    rows = plan.request.batch // plan.request.micro_batches
    named = [(given.name, given.type) for given in program.inputs]
    outputs = zip(program.output_names, program.outputs, strict=True)
    named += [(name, program.type_of(reference)) for name, reference in outputs]
    for name, kind in named:
        if not kind.shape or kind.shape[0] != rows:
            raise UsageError(
                f"requests to {program.name} cannot be joined: {name} is {kind.dtype}{list(kind.shape)}, whose first "
                f"dimension is not the batch of {rows}",
                advice="The plan says what its batch is (mapper plan --batch, or plan(..., batch=)).",
            )
