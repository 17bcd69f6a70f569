"""What carries out measurements: the probe for memory and links, torch's process for software."""

from __future__ import annotations

import os
import statistics
from types import TracebackType
from typing import Self

from mapper.measure import probe
from mapper.measure.software import Software, cpu_seconds
from mapper.measure.wanted import Busy, Chase, Dispatch, Exchange, ForkJoin, Measurement, Read, Timed

TIMED_S = 0.08
"""Longest time that one size of one sort of op takes in a round: there are some hundred of them."""


class Instruments:
    """Everything that measuring needs; nothing of it is left when the block ends."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._software = Software()
        self._round = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._software.__exit__(kind, error, at)

    def own_s(self) -> float:
        """CPU seconds that measuring has used so far, in this process and its children."""
        return sum(os.times()[:4]) + cpu_seconds(self._software.pid)

    def measure(self, measurement: Measurement, number: int) -> float:
        """Round `number` of a measurement, in its unit. It takes about `seconds` and what preparing it takes.

        Memory is made anew and torch's process started anew in each round: where they happen to lie makes a
        difference that belongs to the spread.

        Raises: SystemRefused where the system does not allow it; ExecutionFailed where torch's process cannot do it.
        """
        seconds, software = self.seconds, self._software
        if number != self._round:
            software.let_go()
            self._round = number
        match measurement.task:
            case Read(size, teams):
                return probe.read_rate(size, teams[number % len(teams)], seconds)
            case Chase(size, pus):
                return probe.load_latency(size, pus[number % len(pus)], seconds, number)
            case Exchange() as task:
                pairs = task.drawn(number)
                return statistics.median(probe.message_latency(a, b, seconds / len(pairs)) for a, b in pairs)
            case ForkJoin(pus):
                return software.ask("fork_join", seconds, pus=pus)
            case Dispatch(pus):
                return software.ask("dispatch", seconds, pus=[pus[number % len(pus)]])
            case Timed(case, pus):
                part = min(seconds, TIMED_S)
                return software.ask("timed", part, pus=pus, sort=case.sort, sizes=list(case.sizes))
            case Busy(pus):
                return software.ask("busy", seconds, pus=pus, alone=pus[number % len(pus)])
