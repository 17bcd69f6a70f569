"""Passages between the threads of an agent: bounded, in order, and nobody waits at one when the run has failed."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Stopped(Exception):
    """The run is over: whoever waits leaves. Why is known to who ended it."""


class Passage(Generic[T]):
    """At most `room` things on their way from one thread to another."""

    def __init__(self, room: int) -> None:
        self._room, self._things = room, deque[T]()
        self._changed = threading.Condition()
        self._over = False

    def put(self, thing: T) -> None:
        """Waits for room. Raises: Stopped."""
        with self._changed:
            while len(self._things) >= self._room and not self._over:
                self._changed.wait()
            self._require()
            self._things.append(thing)
            self._changed.notify_all()

    def get(self) -> T:
        """Waits for the next thing. Raises: Stopped."""
        with self._changed:
            while not self._things and not self._over:
                self._changed.wait()
            self._require()
            thing = self._things.popleft()
            self._changed.notify_all()
            return thing

    def _require(self) -> None:
        if self._over:
            raise Stopped

    def end(self) -> None:
        """Nothing comes through any more; whoever waits raises Stopped."""
        with self._changed:
            self._over = True
            self._changed.notify_all()


class Threads:
    """The threads of an agent. The first error in any of them is kept, told to `failed`, and ends all passages."""

    def __init__(self, failed: Callable[[Exception], None] = lambda error: None) -> None:
        self._passages: list[Passage[Any]] = []
        self._lock = threading.Lock()
        self._failed = failed
        self.error: Exception | None = None

    def passage(self, room: int) -> Passage[Any]:
        """A new passage."""
        made: Passage[Any] = Passage(room)
        with self._lock:
            self._passages.append(made)
            if self.error is not None:
                made.end()
        return made

    def start(self, name: str, work: Callable[[], None]) -> threading.Thread:
        """Runs `work` in a thread that the process does not wait for: it may hang in a call of the network."""
        thread = threading.Thread(target=self._guarded, args=(work,), name=f"mapper-{name}", daemon=True)
        thread.start()
        return thread

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Stopped:
            pass
        except Exception as error:
            self.fail(error)

    def fail(self, error: Exception) -> None:
        """Ends all passages, for this reason if it is the first."""
        with self._lock:
            first, self.error = self.error is None, self.error or error
            passages = list(self._passages)
        for passage in passages:
            passage.end()
        if first:
            self._failed(error)

    def join(self, threads: Iterable[threading.Thread]) -> None:
        """Waits for `threads`. Raises: the error that ended the run."""
        for thread in threads:
            while thread.is_alive():
                thread.join(0.2)
                self.require()
        self.require()

    def require(self) -> None:
        """Raises: the error that ended the run, if one did."""
        if self.error is not None:
            raise self.error
