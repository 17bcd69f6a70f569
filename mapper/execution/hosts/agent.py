"""A host at work: its parts of the plan in executors, and threads that carry tensors between them and other hosts.

    receive ─▶ inbox ─▶ feed ─▶ executor ─▶ deliver ─▶ outbox ─▶ send      (or inbox, where both parts are here)

Every box and every executor holds a few calls and takes more only when there is room, and a host sends only what its
receiver has made room for: a slow part holds up those before it, back to the front. All of them go through the calls in
ascending order, so the oldest call that is not done can always go on.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from functools import partial

import torch

from mapper.errors import BadInput, ExecutionFailed
from mapper.execution.executor import Executor, Output
from mapper.execution.feeding.ends import KEPT_LATENCIES, Call, calls_of
from mapper.execution.hosts.meeting import Links, Posted
from mapper.execution.hosts.parts import FRONT, Cut, Lane, Part, replicas_on
from mapper.execution.hosts.passage import Passage, Threads
from mapper.execution.hosts.wire import message_bytes, pack, unpack
from mapper.execution.statistics import WorkerStatistics

AHEAD = 2
"""Calls that a box between neighbours holds, and messages for which a receiver has made room."""

Tensors = Sequence[torch.Tensor]


class Agent:
    """What `host` does for the first `calls` calls of a cut plan. `executors` run its parts, by their numbers. Counts
    of workers begin anew with call `warmup`."""

    def __init__(
        self, cut: Cut, host: int, executors: Mapping[int, Executor], links: Links, threads: Threads, calls: int,
        warmup: int,
    ) -> None:  # fmt: skip
        self.cut, self.host, self.executors, self.links, self.threads = cut, host, executors, links, threads
        self.calls, self.warmup = calls, warmup
        self._own: list[threading.Thread] = []
        self._inboxes: dict[tuple[int, int], Passage[Tensors]] = {}
        self._outboxes: dict[tuple[int, int], Passage[Tensors]] = {}
        for lane in cut.lanes:
            if host in cut.hosts_at(lane.target):
                for source in cut.hosts_at(lane.source):
                    self._inboxes[lane.number, source] = threads.passage(_room(cut, lane))
            if host in cut.hosts_at(lane.source):
                for target in cut.hosts_at(lane.target):
                    own = self._inboxes.get((lane.number, host))
                    self._outboxes[lane.number, target] = (
                        own if target == host and own is not None else threads.passage(_room(cut, lane))
                    )

    def start(self) -> None:
        """Starts all threads."""
        for lane, source, target in self.cut.links():
            if target == self.host:
                self._start(f"receive {lane.number}.{source}", partial(self._receive, lane, source))
            if source == self.host:
                self._start(f"send {lane.number}.{target}", partial(self._send, lane, target))
        for part in self.cut.parts_on(self.host):
            inside: Passage[Future[Output]] = self.threads.passage(self.executors[part.number].plan.predicted.window)
            self._start(f"feed {part.number}", partial(self._feed, part, inside))
            self._start(f"deliver {part.number}", partial(self._deliver, part, inside))

    def _start(self, name: str, work: Callable[[], None]) -> None:
        self._own.append(self.threads.start(name, work))

    def join(self) -> None:
        """Waits until all calls are done here. Raises: what ended the run."""
        self.threads.join(self._own)

    def _receive(self, lane: Lane, source: int) -> None:
        """Takes what `source` sends, and makes room for the next messages meanwhile."""
        posted: deque[Posted] = deque()
        inbox = self._inboxes[lane.number, source]
        for _ in self.cut.between(lane, source, self.host, self.calls):
            room = torch.empty(message_bytes(lane.types), dtype=torch.uint8)
            posted.append(self.links.post(source, lane.number, room))
            if len(posted) == AHEAD:
                inbox.put(unpack(posted.popleft().wait(), lane.types))
        while posted:
            inbox.put(unpack(posted.popleft().wait(), lane.types))

    def _send(self, lane: Lane, target: int) -> None:
        outbox = self._outboxes[lane.number, target]
        for _ in self.cut.between(lane, self.host, target, self.calls):
            self.links.send(target, lane.number, pack(outbox.get(), lane.types))

    def _feed(self, part: Part, inside: Passage[Future[Output]]) -> None:
        """Hands the calls of a part to its executor as soon as all that they read is there."""
        executor = self.executors[part.number]
        entering = [lane for lane in self.cut.lanes if lane.target == part.number]
        warming = True
        for call in self.cut.calls(part.number, self.host, self.calls):
            if warming and call >= self.warmup:
                warming = False
                executor.reset_statistics()
            given: dict[str, torch.Tensor] = {}
            for lane in entering:
                given.update(zip(lane.names, self.take(lane, call), strict=True))
            with _in_words(part):
                future = executor.submit(given)
            inside.put(future)

    def _deliver(self, part: Part, inside: Passage[Future[Output]]) -> None:
        """Hands on what the executor of a part gives."""
        leaving = [lane for lane in self.cut.lanes if lane.source == part.number]
        for call in self.cut.calls(part.number, self.host, self.calls):
            future = inside.get()
            with _in_words(part):
                output = future.result()
            outputs = output if isinstance(output, tuple) else (output,)
            for lane in leaving:
                self.hand(lane, call, outputs)

    def take(self, lane: Lane, call: int) -> Tensors:
        """The tensors of a lane for a call, when they are there."""
        return self._inboxes[lane.number, self.cut.host(lane.source, call)].get()

    def hand(self, lane: Lane, call: int, outputs: Tensors) -> None:
        """Puts what a lane takes of the outputs of its source on its way."""
        target = self.cut.host(lane.target, call)
        self._outboxes[lane.number, target].put([outputs[i] for i in lane.positions])

    def workers(self) -> list[WorkerStatistics]:
        """What its workers did since the warm-up, by their stages and replicas in the whole plan."""
        found = []
        for part in self.cut.parts_on(self.host):
            for seen in self.executors[part.number].statistics().workers:
                stage = part.stages[seen.stage]
                replica = replicas_on(self.cut.plan.stages[stage], self.host)[seen.replica]
                found.append(seen.model_copy(update={"host": self.host, "stage": stage, "replica": replica}))
        return found


@contextlib.contextmanager
def _in_words(part: Part) -> Iterator[None]:
    """An executor counts the stages and replicas of its own plan: says which they are in the whole one."""
    try:
        yield
    except ExecutionFailed as error:
        first = part.stages[0]
        which = f"its stage 0 is stage {first} of the plan, its replicas are those on this host"
        raise ExecutionFailed(f"in part {part.number} ({which}): {error.what}", advice=error.advice) from error


def _room(cut: Cut, lane: Lane) -> int:
    """How many calls a box of `lane` holds: where parts lie between its ends, as many as may be in these."""
    first = 0 if lane.source == FRONT else lane.source + 1
    last = len(cut.parts) if lane.target == FRONT else lane.target
    return AHEAD if first == last else most_inside(cut)


def most_inside(cut: Cut) -> int:
    """How many calls may be under way: what the plan says keeps it busy, and one for each link."""
    return cut.plan.predicted.window + len(list(cut.links()))


class Front:
    """The front's side of an agent: feeds items and collects their outputs, with a bounded number of calls between."""

    def __init__(self, agent: Agent) -> None:
        self.agent, cut = agent, agent.cut
        self._feeding = [lane for lane in cut.lanes if lane.source == FRONT]
        self._collecting = [lane for lane in cut.lanes if lane.target == FRONT]
        self._inside: Passage[Call] = agent.threads.passage(most_inside(cut))
        self.latencies_s: deque[float] = deque(maxlen=KEPT_LATENCIES)
        self.done = False

    def outputs(self, items: Iterable[Tensors]) -> Iterator[tuple[torch.Tensor, ...]]:
        """The outputs of the program for each call of `items`, in order; how long an item took goes to `latencies_s`.

        Items are taken in a thread, as there is room. Raises: what ended the run."""
        micro_batches = self.agent.cut.plan.request.micro_batches
        self.agent.threads.start("front", partial(self._hand_in, items, micro_batches))
        for call in range(self.agent.calls):
            taken = {lane.number: self.agent.take(lane, call) for lane in self._collecting}
            done = self._inside.get()
            if done.last:
                self.latencies_s.append((time.monotonic_ns() - done.clock.begun_ns) / 1e9)
            self.done = call == self.agent.calls - 1
            yield tuple(taken[lane][i] for lane, i in self.agent.cut.results)

    def _hand_in(self, items: Iterable[Tensors], micro_batches: int) -> None:
        numbers = iter(range(self.agent.calls))
        for item in items:
            for call in calls_of(item, micro_batches):
                number = next(numbers, None)
                if number is None:
                    return
                self._inside.put(call)
                call.clock.begun_ns = call.clock.begun_ns or time.monotonic_ns()
                for lane in self._feeding:
                    self.agent.hand(lane, number, call.tensors)
        if next(numbers, None) is not None:
            raise BadInput("items", f"there are fewer than the {self.agent.calls // micro_batches} that were announced")
