"""Who has the rings: the thread that iterates a stream; or, once something was submitted, a thread of the executor."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

from mapper.errors import UsageError
from mapper.execution.feeding.ends import Call, Ends
from mapper.execution.feeding.futures import ENDED, Service
from mapper.execution.feeding.micro_batches import Tensors


class Stream:
    """A stream of calls; of those that the service has, the futures of their outputs."""

    def __init__(self) -> None:
        self.handed: deque[Future[Tensors]] = deque()


class Feeder:
    """Streams and submitted items, through one pair of ends.

    A stream alone is served by the thread that iterates it: no other thread, and no futures. With the first submitted
    item a `Service` takes the rings over, with what the stream has in flight; from then on the calls of streams and
    submitted items go through it in the order in which they come, and each gets its own outputs in its own order.
    At most `window` calls are in flight, besides those that the ends have `ahead`, and `limit` submitted items are
    there. `broken` ends the run.
    """

    def __init__(self, ends: Ends, window: int, limit: int, broken: Callable[[], None]) -> None:
        self._ends, self._window, self._limit, self._broken = ends, window, limit, broken
        self._most = window + ends.ahead
        self._rings = threading.RLock()  # held for one step of a stream
        self._service: Service | None = None
        self._stream: Stream | None = None
        self._leftovers = 0  # of earlier streams: calls below this number
        self.closed = False

    @property
    def waits_s(self) -> deque[float]:
        """How long the last submitted items waited before they were put in."""
        return deque() if self._service is None else self._service.waits_s

    @property
    def in_callback(self) -> bool:
        """Whether the caller is a callback of a future."""
        return self._service is not None and self._service.in_callback

    def begin(self) -> Stream:
        """A new stream, which ends the one before it."""
        with self._rings:
            before, self._stream = self._stream, Stream()
            self._ends.unstage()
            self._leftovers = self._ends.next_in
            for future in before.handed if before is not None else ():
                future.cancel()
            return self._stream

    def service(self) -> Service:
        """What takes submitted items; with its first use it takes the rings over."""
        with self._rings:
            if self.closed:
                raise UsageError(ENDED)
            if self._service is None:
                self._ends.hand_on()
                self._service = service = Service(self._ends, self._window, self._limit, self._broken)
                first, handed = self._ends.next_out, service.start(self._ends.inside(), _first)
                if self._stream is not None:
                    self._stream.handed.extend(handed[max(0, self._leftovers - first) :])
            return self._service

    def results(self, calls: Iterator[Call], stream: Stream) -> Iterator[Tensors]:
        """The outputs of `calls`, in order; a call is taken only when there is room for it, in the window or, ahead or
        staged, in the ring."""
        self._drop_leftovers(stream)
        exhausted = False
        while True:
            with self._rings:
                self._require(stream)
                if self._service is not None:
                    break
                wanted = not exhausted and self._room() and not self._ends.ready()
                if not wanted and not self._ends.in_flight:
                    return
                outputs = None if wanted else self._guarded(self._exchanged)
            if outputs is not None:
                yield outputs
            elif (call := next(calls, None)) is None:  # not with the rings held: this is the caller's code
                exhausted = True
            else:
                self._put(call, stream)
        yield from self._served(calls, stream, exhausted)

    def _room(self) -> bool:
        """Whether a call can be put in, or staged, without waiting."""
        return self._ends.in_flight < self._most if self._ends.ahead else not self._ends.staged

    def _exchanged(self) -> Tensors:
        """The outputs of the oldest call in flight; what is staged is on its way before they are copied."""
        self._ends.wait()
        self._ends.hand_on()
        return self._ends.get()

    def _put(self, call: Call, stream: Stream) -> None:
        with self._rings:
            self._require(stream)
            if self._service is None:
                step = self._ends.put if self._ends.in_flight < self._most else self._ends.stage
                self._guarded(lambda: step(call))
            else:
                stream.handed.append(self._service.submit([call], _first, bounded=False))

    def _served(self, calls: Iterator[Call], stream: Stream, exhausted: bool) -> Iterator[Tensors]:
        """The same, where the service has the rings."""
        handed = stream.handed
        while True:
            self._require(stream)
            if not exhausted and len(handed) < self._most and not (handed and handed[0].done()):
                if (call := next(calls, None)) is None:
                    exhausted = True
                else:
                    self._put(call, stream)
            elif handed:
                outputs = handed[0].result()
                self._require(stream)
                handed.popleft()
                yield outputs
            else:
                return

    def _require(self, stream: Stream) -> None:
        if self.closed:
            raise UsageError("the executor was closed while results were taken from it")
        if self._stream is not stream:
            raise UsageError("another map of this executor has begun; results of this one are gone")

    def _drop_leftovers(self, stream: Stream) -> None:
        """Waits for what an earlier stream left in flight, so that this one's first output is its own."""
        while True:
            with self._rings:
                self._require(stream)
                if self._service is not None or not self._ends.in_flight:
                    return
                self._guarded(lambda: self._ends.get(dropped=True))

    def _guarded(self, step: Callable[[], Any]) -> Any:
        """`step`; if it fails the rings are in no known state, and the run is over."""
        try:
            return step()
        except BaseException:
            self.closed = True
            self._broken()
            raise

    def end(self, *, kill: bool) -> None:
        """Takes nothing more. What was submitted is waited for, unless the run is being killed: then whoever waits for
        the rings must find that out by himself. What a stream has in flight is dropped."""
        if self._service is not None and not kill:
            self._service.end()
        with self._rings:
            self.closed = True
        if self._service is not None:
            self._service.end()


def _first(outputs: list[Tensors]) -> Tensors:
    return outputs[0]
