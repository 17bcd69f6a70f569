"""Contenders that take no time: their rates come from a list."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

from mapper.host.load import Taken
from mapper.study.rounds import Timed


class Fake:
    """Gives the rates of `rates` in turn, for ever, and writes down in `log` whose round it was."""

    def __init__(self, name: str, rates: Sequence[float], log: list[str] | None = None) -> None:
        self.name, self.pids = name, [len(name)]
        self.rates: Iterator[float] = itertools.cycle(rates)
        self.log = log if log is not None else []

    def sized(self, count: int) -> int:
        """Even numbers from 4."""
        return max(4, count + count % 2)

    def closed(self, count: int) -> Timed:
        """The next rate."""
        self.log.append(self.name)
        rate = next(self.rates)
        return Timed(rate, (1 / rate,) * count)

    def open(self, due_s: Sequence[float]) -> Timed:
        """Each item takes the time of its rate."""
        self.log.append(f"{self.name} open")
        return Timed(len(due_s) / due_s[-1], tuple(1 / next(self.rates) for _ in due_s))


def quiet(pids: Sequence[int]) -> Callable[[], Taken]:
    """Nobody else computes."""
    return lambda: Taken(0.0, 0.01)


class Noise:
    """Others take these shares, one after the other; then nothing."""

    def __init__(self, shares: Sequence[float]) -> None:
        self.shares = iter(shares)

    def __call__(self, pids: Sequence[int]) -> Callable[[], Taken]:
        """Begins to watch."""
        return lambda: Taken(next(self.shares, 0.0), 0.01)
