"""Submitted items: what any thread hands in waits here for room, and its outputs come as futures."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from mapper.errors import UsageError
from mapper.execution.feeding.ends import KEPT_LATENCIES, Call, Ends
from mapper.execution.feeding.micro_batches import Tensors

CLOSED = "the executor was closed before this result was there"
ENDED = "the executor is closed, or about to be"
Make = Callable[[list[Tensors]], Any]
"""What a future gives, from the outputs of the calls of its item."""


class _Entry:
    """An item: its calls, `put` of which are in the rings or through them, and the outputs that are there."""

    __slots__ = ("calls", "counted", "future", "make", "outputs", "put", "since_ns")

    def __init__(self, calls: Sequence[Call], make: Make, counted: bool) -> None:
        self.calls, self.make, self.counted = calls, make, counted
        self.future: Future[Any] = Future()
        self.outputs: list[Tensors] = []
        self.put, self.since_ns = 0, time.monotonic_ns()


class Service:
    """Owns the rings from when the first item is submitted. What fits is put in by the thread that submits it; the rest
    waits, and is put in by the thread that takes outputs out. That thread sleeps while there is nothing in flight.

    At most `window` calls are in flight, besides those that the ends have `ahead`. `limit` is how many items may be
    there before `submit` waits. `broken` is called when the rings are in no known state, before the futures hear of
    it. `waits_s` are how long the last items waited, from when they were submitted to when they were begun (`Clock`).
    """

    def __init__(self, ends: Ends, window: int, limit: int, broken: Callable[[], None]) -> None:
        self._ends, self._window, self._limit, self._broken = ends, window, limit, broken
        self._lock = threading.Lock()  # taken by itself: a signal cannot come between taking it and the block
        self._work, self._room = threading.Condition(self._lock), threading.Condition(self._lock)
        self._waiting: deque[_Entry] = deque()
        self._inside: deque[_Entry] = deque()
        self._counted = 0
        self._ending = False
        self._failure: BaseException | None = None
        self.waits_s: deque[float] = deque(maxlen=KEPT_LATENCIES)
        self._thread = threading.Thread(target=self._serve, name="mapper-executor", daemon=True)
        self._left = (
            threading.Event()
        )  # an interrupted join of CPython 3.11 takes a thread that runs for one that ended

    @property
    def in_callback(self) -> bool:
        """Whether this is called in a callback of a future, which must not wait for room: it would for itself."""
        return threading.current_thread() is self._thread

    def start(self, calls: Sequence[Call], make: Make) -> list[Future[Any]]:
        """Begins, with `calls` in flight already; a future for each of them."""
        for call in calls:
            entry = _Entry([call], make, False)
            entry.put, entry.since_ns = 1, 0  # they were not submitted: their waiting does not count
            entry.future.set_running_or_notify_cancel()
            self._inside.append(entry)
        futures = [entry.future for entry in self._inside]
        self._thread.start()
        return futures

    def submit(
        self, calls: Sequence[Call], make: Make, *, bounded: bool = True, timeout_s: float | None = None
    ) -> Future[Any]:
        """The future of an item. `bounded`: waits while as many items are there as may be, but for callbacks of
        futures, on whose end that depends. Raises: TimeoutError; UsageError when closed; what ended the run."""
        entry = _Entry(calls, make, bounded)
        with self._lock:
            if bounded and not self.in_callback:
                self._wait_for(lambda: self._counted < self._limit, timeout_s)
            self._require()
            try:
                self._counted += entry.counted
                self._waiting.append(entry)
                self._fill()
            except BaseException as error:
                self._end(error)
                raise
        return entry.future

    def wait_for_room(self) -> None:
        """Waits until an item would find a worker free. Raises: what `submit` does."""
        with self._lock:
            self._wait_for(lambda: not self._waiting and self._ends.in_flight < self._window, None)
            self._require()

    def _wait_for(self, there: Callable[[], bool], timeout_s: float | None) -> None:
        until = None if timeout_s is None else time.monotonic() + timeout_s
        while not there() and not self._ending and self._failure is None:
            left = None if until is None else until - time.monotonic()
            if left is not None and left <= 0:
                raise TimeoutError(f"no room for the item within {timeout_s:g} s: {self._counted} items are there")
            self._room.wait(left)

    def _require(self) -> None:
        if self._failure is not None:
            raise self._failure if isinstance(self._failure, Exception) else UsageError("the executor was interrupted")
        if self._ending:
            raise UsageError(ENDED)

    def _fill(self) -> None:
        """Puts in what waits while there is room; the lock is held."""
        while self._waiting and self._ends.in_flight < self._window + self._ends.ahead:
            entry = self._waiting[0]
            if entry.put == 0 and not entry.future.set_running_or_notify_cancel():
                self._waiting.popleft()
                self._leave(entry)
                continue
            self._ends.put(entry.calls[entry.put])
            entry.put += 1
            self._inside.append(entry)
            if entry.put == len(entry.calls):
                self._waiting.popleft()
        if self._inside:
            self._work.notify()

    def _leave(self, entry: _Entry) -> None:
        self._counted -= entry.counted
        self._room.notify_all()

    def _serve(self) -> None:
        """The thread: takes outputs out, in order, until the end."""
        try:
            while self._next():
                outputs = self._ends.get()
                with self._lock:
                    entry = self._inside.popleft()
                    entry.outputs.append(outputs)
                    if entry.since_ns and len(entry.outputs) == 1:
                        self.waits_s.append((entry.calls[0].clock.begun_ns - entry.since_ns) / 1e9)
                    self._fill()
                    done = len(entry.outputs) == len(entry.calls)
                    if done:
                        self._leave(entry)
                if done:
                    _deliver(entry)
        except BaseException as error:
            with self._lock:
                self._end(error)
        finally:
            self._left.set()

    def _next(self) -> bool:
        """Waits until a call is in flight; False when it ends instead."""
        with self._lock:
            while not self._inside and not self._ending and self._failure is None:
                self._work.wait()
            return bool(self._inside) and self._failure is None

    def _end(self, error: BaseException) -> None:
        """Nothing comes any more: all futures that are left get `error`. The lock is held, and is given back while
        they do, since their callbacks may come here again."""
        self._failure = self._failure or error
        left = list(dict.fromkeys([*self._inside, *self._waiting]))
        self._inside.clear()
        self._waiting.clear()
        self._work.notify_all()
        self._room.notify_all()
        self._lock.release()
        try:
            self._broken()
            shown = error if isinstance(error, Exception) else UsageError(CLOSED)
            for entry in left:
                if entry.put or entry.future.set_running_or_notify_cancel():
                    entry.future.set_exception(shown)
        finally:
            self._lock.acquire()

    def end(self) -> None:
        """Takes no more, and waits until all that is there is done. Raises: UsageError in a future's callback."""
        if self.in_callback:
            raise UsageError("a callback of a future cannot close its executor: it would wait for itself")
        with self._lock:
            self._ending = True
            self._work.notify_all()
            self._room.notify_all()
        self._left.wait()


def _deliver(entry: _Entry) -> None:
    """Gives the future its result; what cannot be made of the outputs is the error of this one item."""
    try:
        result = entry.make(entry.outputs)
    except Exception as error:
        entry.future.set_exception(error)
    else:
        entry.future.set_result(result)
