"""The discrete-event simulation: calls of the program pass through stations, ring slots and a window, as in the
executor; what happens next is always the earliest of what is under way."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from mapper.plans.timeline import Doing, Span
from mapper.simulator.contention import Flow
from mapper.simulator.stations import OUTSIDE, Station, System

Watch = Callable[[Span], None]
"""Is told of everything that a replica did, when it is over."""


def nothing_s() -> list[float]:
    """No seconds of each."""
    return [0.0] * len(Doing)


@dataclass
class Tally:
    """What a station did: the seconds spent on each; the calls that are through, and the seconds that were spent on
    them, and would have been spent on computing them with all bandwidth to itself (`alone_s`); the seconds that it
    waited for each stage."""

    calls: int = 0
    alone_s: float = 0.0
    seconds: list[float] = field(default_factory=nothing_s)
    through_s: list[float] = field(default_factory=nothing_s)
    waited_for: dict[int, float] = field(default_factory=dict)


class _Replica:
    """A station at work: the call that it is at, what it does with it and since when, and what it did before."""

    __slots__ = ("alone_s", "call", "doing", "number", "since_s", "spent_s", "station", "tally")

    def __init__(self, number: int, station: Station) -> None:
        self.number, self.station, self.call = number, station, station.replica
        self.doing, self.since_s, self.tally = Doing.WAITING, 0.0, Tally()
        self.spent_s, self.alone_s = nothing_s(), 0.0


class Simulation:
    """`calls` calls of a program through `system`.

    Closed loop: a call is put in as soon as there is room in the window, or ahead. With `due_s`, when each is due, not
    before.
    `spread` is the standard deviation of computing times over their mean (log-normal), drawn with `seed`. `watch` is
    told of everything that ends.
    """

    def __init__(
        self, system: System, calls: int, *, due_s: Sequence[float] | None = None, spread: float = 0.0, seed: int = 0,
        watch: Watch | None = None,
    ) -> None:  # fmt: skip
        self.system, self.calls, self.due_s, self.watch = system, calls, due_s, watch
        self.now_s = 0.0
        self.put_s: list[float] = []
        self.taken_s = [0.0] * calls  # by a replica of the first stage
        self.collected_s: list[float] = []
        self.flow = Flow(system.capacity)
        flat = [station for stage in system.stations for station in stage]
        self.replicas = [_Replica(i, station) for i, station in enumerate(flat)]
        self._draws = [self.flow.limited(station.draws) for station in flat]
        self._first = [0]
        for stage in system.stations:
            self._first.append(self._first[-1] + len(stage))
        stages = range(len(system.stations))
        self._there = {s: bytearray(calls) for s in (OUTSIDE, *stages)}
        self._unread = {s: bytearray([len(system.readers[s])]) * calls for s in stages}
        self._returning = [s for s in stages if OUTSIDE in system.readers[s]]
        self._first_stages = [s for s in stages if OUTSIDE in system.sources[s]]
        self._events: list[tuple[float, int, int]] = []  # time, order, replica; -1: a call is due
        self._order, self._awaited = 0, -1
        self._sigma = math.sqrt(math.log1p(spread * spread))
        self._random = random.Random(seed)

    def run(self, until: int | None = None) -> None:
        """Goes on until `until` calls (all of them) are collected."""
        until = self.calls if until is None else until
        if not self.put_s:
            for replica in self.replicas:
                self._look(replica)
            self._attend()
        while len(self.collected_s) < until:
            self._step()

    def tell_rest(self) -> None:
        """Tells the watch what is under way."""
        for replica in self.replicas:
            self._begin(replica, replica.doing)

    def _step(self) -> None:
        worked = self.flow.next_end()
        if worked is not None and (not self._events or worked[0] <= self._events[0][0]):
            self._to(worked[0])
            self.flow.end(worked[1])
            self._go_on(self.replicas[worked[1]])
            return
        if not self._events:  # a graph of rings that waits for itself would be a wrong plan: `check` refuses it
            raise AssertionError(f"nothing can happen any more, with {len(self.collected_s)} calls collected")
        at, _, number = heapq.heappop(self._events)
        self._to(at)
        if number < 0:
            self._attend()
        else:
            self._go_on(self.replicas[number])

    def _to(self, now_s: float) -> None:
        self.now_s = max(self.now_s, now_s)
        self.flow.advance(self.now_s)

    def _at(self, time_s: float, number: int) -> None:
        self._order += 1
        heapq.heappush(self._events, (time_s, self._order, number))

    # a replica

    def _go_on(self, replica: _Replica) -> None:
        """What `replica` was at is over."""
        if replica.doing is Doing.READING:
            self._begin(replica, Doing.COMPUTING)
            work_s = replica.alone_s = replica.station.work_s * self._factor()
            if draws := self._draws[replica.number]:
                self.flow.add(replica.number, draws, work_s)
            else:
                self._at(self.now_s + work_s, replica.number)
        elif replica.doing is Doing.COMPUTING:
            self._begin(replica, Doing.BLOCKED)
            self._write(replica)
        else:
            self._done(replica)

    def _look(self, replica: _Replica, whom: int | None = None) -> None:
        """Takes the next call, if it is all there. `whom`: the stage that it may have waited for."""
        call, station = replica.call, replica.station
        if replica.doing is not Doing.WAITING or call >= self.calls:
            return
        if all(self._there[s][call] for s in self.system.sources[station.stage]):
            if station.stage == 0:
                self.taken_s[call] = self.now_s
            self._begin(replica, Doing.READING, whom)
            self._at(self.now_s + station.in_s, replica.number)

    def _write(self, replica: _Replica, freed_by: int | None = None) -> None:
        """Begins to hand a result on, if its slot is free: all readers are done with what was in it before."""
        station = replica.station
        before = replica.call - station.slots * station.step
        if before < 0 or not self._unread[station.stage][before]:
            self._begin(replica, Doing.WRITING, freed_by)
            self._at(self.now_s + station.out_s, replica.number)

    def _done(self, replica: _Replica) -> None:
        """A call is through: its readers may take it, and the slots that it was read from are free."""
        stage, call = replica.station.stage, replica.call
        self._begin(replica, Doing.WAITING)
        replica.tally.calls += 1
        replica.tally.through_s = [a + b for a, b in zip(replica.tally.through_s, replica.spent_s, strict=True)]
        replica.tally.alone_s += replica.alone_s
        replica.spent_s = nothing_s()
        replica.call += replica.station.step
        self._there[stage][call] = 1
        for source in self.system.sources[stage]:
            if source != OUTSIDE:
                self._release(source, call, stage)
        for reader in self.system.readers[stage]:
            if reader == OUTSIDE:
                self._attend()
            else:
                self._tell(reader, call, stage)
        self._look(replica)

    def _tell(self, stage: int, call: int, whom: int) -> None:
        """`call` is there for `stage`, from `whom`."""
        replica = self._replica_of(stage, call)
        if replica.call == call:
            self._look(replica, whom)

    def _replica_of(self, stage: int, call: int) -> _Replica:
        return self.replicas[self._first[stage] + call % len(self.system.stations[stage])]

    def _release(self, stage: int, call: int, by: int) -> None:
        """One more reader of what `stage` made of `call` is done with it."""
        unread = self._unread[stage]
        unread[call] -= 1
        if unread[call] == 0:
            replica = self._replica_of(stage, call)
            if replica.doing is Doing.BLOCKED:
                self._write(replica, by)

    def _begin(self, replica: _Replica, doing: Doing, whom: int | None = None) -> None:
        """Ends what `replica` is at, and begins `doing`."""
        took = self.now_s - replica.since_s
        replica.tally.seconds[replica.doing] += took
        replica.spent_s[replica.doing] += took
        if whom is not None and took > 0:
            replica.tally.waited_for[whom] = replica.tally.waited_for.get(whom, 0.0) + took
        if self.watch is not None and took > 0:
            station, began = replica.station, replica.since_s
            self.watch(Span(station.stage, station.replica, replica.call, replica.doing, began, self.now_s, whom))
        replica.doing, replica.since_s = doing, self.now_s

    def _factor(self) -> float:
        """By how much longer or shorter a call takes: 1 in the mean."""
        return self._random.lognormvariate(-(self._sigma**2) / 2, self._sigma) if self._sigma else 1.0

    # the feeder

    def _attend(self) -> None:
        """The feeder takes out what is done and puts in what there is room for."""
        while self._collected() or self._fed():
            pass

    def _fed(self) -> bool:
        """Puts in a call, if one is due and there is room for it."""
        call = len(self.put_s)
        if call == self.calls or call - len(self.collected_s) == self.system.window + self.system.ahead:
            return False
        if self.due_s is not None and self.due_s[call] > self.now_s:
            if self._awaited < call:
                self._awaited = call
                self._at(self.due_s[call], -1)
            return False
        self.put_s.append(self.now_s)
        self._there[OUTSIDE][call] = 1
        for stage in self._first_stages:
            self._tell(stage, call, OUTSIDE)
        return True

    def _collected(self) -> bool:
        """Takes out the next call, if it is done: calls come out in order."""
        call = len(self.collected_s)
        if call == len(self.put_s) or not all(self._there[s][call] for s in self._returning):
            return False
        self.collected_s.append(self.now_s)
        for stage in self._returning:
            self._release(stage, call, OUTSIDE)
        return True
