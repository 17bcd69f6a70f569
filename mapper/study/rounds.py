"""Measuring several set-ups fairly: all are up before the first round, rounds are interleaved with the order turned by
one each time (A B C, B C A, ...), so that a machine that drifts drifts for all of them.

Before rounds count, all are warmed up until their rates are steady. A round during which others computed on the same
cores is done again, and where that does not help it is marked, never averaged in silently.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, TypeVar

from mapper.host.load import Others, Taken

T = TypeVar("T")
Say = Callable[[str], None]
Watch = Callable[[Sequence[int]], Callable[[], Taken]]
"""Begins to watch what others take, given the processes that are ours; what it returns tells it at the end."""
BUSY = 0.05
"""Share of the cores that others may take during a round that counts."""
REPEATS = 2
"""How often a round that others disturbed is done again."""
PATIENCE = 0.5
"""Repeats in all, as a part of the rounds that count: where others never stop, marking has to do."""
LEAST_ROUNDS = 6
"""The fewest rounds that give an interval of 95 %."""
STEADY = 0.03
"""Rates that are this close, relative to their median, are steady."""
LEAST_WARM, MOST_WARM = 3, 8
"""Rounds to warm up: at least so many, and at most so many where rates do not become steady."""


@dataclass(frozen=True)
class Timed:
    """Items a second, and the seconds that single items took: from being handed in (closed loop), or from when they
    were due (open loop), to their outputs."""

    rate_per_s: float
    latencies_s: tuple[float, ...]


class Contender(Protocol):
    """A set-up that is up and waits between its rounds."""

    @property
    def name(self) -> str:
        """What tables call it."""

    @property
    def pids(self) -> Sequence[int]:
        """The processes that compute for it, besides this one."""

    def sized(self, count: int) -> int:
        """The number of items of a round that is at least `count` and that it can time: full pipelines, and as many
        for each replica."""

    def closed(self, count: int) -> Timed:
        """A round of `count` items one right behind the other: timed when all its parts are busy, with more behind."""

    def open(self, due_s: Sequence[float]) -> Timed:
        """A round of one item at each of `due_s`, seconds from its start, ascending. Latencies are from when an item
        was due, also where it had to wait to be handed in."""


@dataclass(frozen=True)
class Round:
    """A round that counts. `others_busy` is the share of the cores that others took during it; `disturbed`, that it
    was too much, after `repeats` more attempts."""

    timed: Timed
    others_busy: float
    disturbed: bool
    repeats: int


@dataclass
class Series:
    """All rounds of a contender: items a round, rates of its warm-up and whether they became steady, what counts."""

    contender: Contender
    items: int = 0
    warm: list[float] = field(default_factory=list)
    rounds: list[Round] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The contender's."""
        return self.contender.name

    @property
    def steady(self) -> bool:
        """Whether its rates had become steady when the rounds began."""
        return steady(self.warm)

    @property
    def clean(self) -> list[Round]:
        """Rounds that others did not disturb; all, marked as they are, where there are none."""
        return [r for r in self.rounds if not r.disturbed] or self.rounds

    @property
    def rates(self) -> list[float]:
        """Of the clean rounds, items a second."""
        return [r.timed.rate_per_s for r in self.clean]

    @property
    def latencies_s(self) -> list[float]:
        """Of all items of the clean rounds."""
        return [latency for r in self.clean for latency in r.timed.latencies_s]


def watched(pus: Sequence[int]) -> Watch:
    """Watches what others take of `pus` (OS numbers)."""

    def begin(pids: Sequence[int]) -> Callable[[], Taken]:
        return Others(pus, pids).taken

    return begin


def interleaved(
    contenders: Sequence[Contender], rounds: int, seconds: float, watch: Watch, say: Say = lambda message: None
) -> list[Series]:
    """`rounds` rounds of about `seconds` each of every contender, after a warm-up, in turn: round i of one belongs to
    round i of any other. Only the contender whose round it is, and this process, count as ours: what another one of
    them takes while it should wait counts as others'."""
    series = [Series(contender) for contender in contenders]
    for one in series:
        one.items = _items(one.contender, seconds)
    _warm_up(series, say)
    left = _Patience(math.ceil(PATIENCE * rounds * len(series)))
    for number in range(rounds):
        say(f"Round {number + 1} of {rounds}")
        for one in turned(series, number):
            one.rounds.append(_round(one.contender, partial(one.contender.closed, one.items), watch, left))
    return series


def interleaved_open(
    contenders: Sequence[Contender], schedules: Sequence[Sequence[float]], watch: Watch,
    say: Say = lambda message: None,
) -> list[list[Round]]:  # fmt: skip
    """One open-loop round of every contender for each of `schedules` (when items are due), interleaved likewise: the
    rounds of each, in the order of `contenders`."""
    found: dict[int, list[Round]] = {i: [] for i in range(len(contenders))}
    left = _Patience(math.ceil(PATIENCE * len(schedules) * len(contenders)))
    for number, due_s in enumerate(schedules):
        say(f"Arrivals, round {number + 1} of {len(schedules)}")
        for i in turned(range(len(contenders)), number):
            found[i].append(_round(contenders[i], partial(contenders[i].open, due_s), watch, left))
    return list(found.values())


def turned(values: Sequence[T], turn: int) -> list[T]:
    """`values` from another one on, the first ones at the end: a b c, b c a, c a b, a b c, ..."""
    start = turn % len(values) if values else 0
    return [*values[start:], *values[:start]]


def steady(rates: Sequence[float]) -> bool:
    """Whether the last three of `rates` show no drift: they agree within `STEADY`, or they go up and down (of noise
    alone, one in three goes one way throughout)."""
    if len(rates) < LEAST_WARM:
        return False
    a, b, c = rates[-3:]
    close = max(a, b, c) - min(a, b, c) <= STEADY * statistics.median((a, b, c))
    return close or not (a < b < c or a > b > c)


def paired(a: Series, b: Series, *, disturbed: bool = False) -> list[float]:
    """The rates of `a` over those of `b`, round by round, of the rounds in which others disturbed neither; of all
    rounds with `disturbed`."""
    every = zip(a.rounds, b.rounds, strict=True)
    pairs = [(x, y) for x, y in every if disturbed or not (x.disturbed or y.disturbed)]
    return [x.timed.rate_per_s / y.timed.rate_per_s for x, y in pairs]


def fair(a: Series, b: Series) -> tuple[list[float], bool]:
    """The rates of `a` over those of `b` in rounds that others left alone; of all rounds, and marked, where these are
    too few."""
    found = paired(a, b)
    if len(found) >= min(LEAST_ROUNDS, len(a.rounds)):
        return found, False
    return paired(a, b, disturbed=True), True


def _items(contender: Contender, seconds: float) -> int:
    """How many items make about `seconds`: rounds grow until one is long enough to go by; the first ones are slow."""
    count = contender.sized(1)
    for _ in range(MOST_WARM):
        rate = contender.closed(count).rate_per_s
        wanted = contender.sized(math.ceil(seconds * rate))
        if count / rate >= seconds / 2 or wanted <= count:
            return wanted
        count = min(wanted, contender.sized(16 * count))
    return count


def _warm_up(series: Sequence[Series], say: Say) -> None:
    """Rounds that do not count, of all until all are steady: who is steady goes on as the others' neighbour."""
    for number in range(MOST_WARM):
        if all(one.steady for one in series):
            return
        say(f"Warming up, round {number + 1} (at most {MOST_WARM})")
        for one in turned(series, number):
            one.warm.append(one.contender.closed(one.items).rate_per_s)


@dataclass
class _Patience:
    """How many repeats are left."""

    repeats: int


def _round(contender: Contender, measure: Callable[[], Timed], watch: Watch, left: _Patience) -> Round:
    """A round, done again while others disturb it; the least disturbed one where they do not stop."""
    tried: list[Round] = []
    while True:
        taken = watch(contender.pids)
        timed = measure()
        seen = taken()
        tried.append(Round(timed, seen.share, seen.over(BUSY), len(tried)))
        if not tried[-1].disturbed:
            return tried[-1]
        if len(tried) > REPEATS or left.repeats == 0:
            break
        left.repeats -= 1
    least = min(tried, key=lambda r: r.others_busy)
    return Round(least.timed, least.others_busy, True, len(tried) - 1)
