"""Open-loop load: arrivals, and latencies that begin when an item was due."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import Future

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapper.errors import UsageError
from mapper.study import executed, outside
from mapper.study.arrivals import LEAST_ITEMS, SHARES, arrivals_of, schedule
from mapper.study.bench import overloaded
from mapper.study.executed import ExecutedPlan, from_schedule
from mapper.study.rounds import Timed

pytestmark = pytest.mark.machine


@given(st.floats(0.5, 5000), st.integers(0, 2**40))
def test_the_same_seed_gives_the_same_arrivals(rate: float, seed: int) -> None:
    due = schedule(rate, 0.5, seed)
    assert due == schedule(rate, 0.5, seed) != schedule(rate, 0.5, seed + 1)
    assert len(due) == max(LEAST_ITEMS, round(rate * 0.5)) and due == sorted(due) and due[0] > 0


def test_gaps_are_exponential_with_the_mean_of_the_rate() -> None:
    due = schedule(100.0, 100.0, 7)
    gaps = [b - a for a, b in itertools.pairwise(due)]
    mean = sum(gaps) / len(gaps)
    assert mean == pytest.approx(0.01, rel=0.05)
    variance = sum((gap - mean) ** 2 for gap in gaps) / len(gaps)
    assert variance**0.5 == pytest.approx(mean, rel=0.05)
    assert sum(gap > 0.01 for gap in gaps) / len(gaps) == pytest.approx(0.368, abs=0.02)


def test_rates_are_given_or_shares_of_what_the_chosen_plan_manages() -> None:
    assert arrivals_of("auto").of(100.0) == tuple(share * 100 for share in SHARES)
    assert arrivals_of("20").of(100.0) == (20.0,) and arrivals_of("10,20/s", 3).rates_per_s == (10.0, 20.0)
    for text in ("", "fast", "0", "-1", "1,,2", "nan", "inf"):
        with pytest.raises(UsageError, match="--arrivals"):
            arrivals_of(text)


class Clock:
    """Time that passes only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        """Now."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Lets it pass."""
        self.now += seconds


class Slow:
    """An engine that takes a second an item, one at a time."""

    width, threads = 1, 1

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def run(self, numbers: Iterator[int], done: Callable[[int], None]) -> None:
        """Item after item."""
        for number in numbers:
            self.clock.sleep(1.0)
            done(number)

    def outputs(self, number: int) -> tuple[()]:
        """None."""
        return ()


def test_items_that_wait_for_a_slow_set_up_count_their_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(outside, "time", clock)
    due = [0.5, 1.0, 1.5, 10.0]
    reply = outside.opened(Slow(clock), {"start_s": clock.now, "due_s": due})
    assert reply["done_s"] == [1.5, 2.5, 3.5, 11.0]
    timed = from_schedule(reply["done_s"], due)
    assert timed.latencies_s == (1.0, 1.5, 2.0, 1.0) and timed.rate_per_s == pytest.approx(4 / 11)
    closed = outside.closed(Slow(clock), 5)
    assert closed["rate_per_s"] == pytest.approx(1.0) and closed["latencies_s"] == [1.0] * 5


class Blocking:
    """An executor whose submit waits for a second, and whose item is done then."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def submit(self, item: object) -> Future[object]:
        """Done when it returns."""
        self.clock.sleep(1.0)
        future: Future[object] = Future()
        future.set_result(item)
        return future


def test_a_submit_that_blocks_delays_no_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(executed, "time", clock)
    plan = ExecutedPlan(["x"], None, Blocking(clock), [[]])  # type: ignore[arg-type]
    assert plan.open([0.5, 1.0, 5.0]).latencies_s == (1.0, 1.5, 1.0)


def test_a_queue_that_only_grows_is_overloaded() -> None:
    assert overloaded(Timed(1.0, tuple(0.1 * i for i in range(1, 31))))
    assert overloaded(Timed(1.0, (40.0,) * 30)), "most waited for longer than the round"
    assert not overloaded(Timed(1.0, (0.5, 0.9, 0.4) * 10))
