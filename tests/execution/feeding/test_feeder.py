"""Streams and submitted items through one pair of ends: order, and what is nobody's. The ends only echo."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any, cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mapper.errors import ExecutionFailed, UsageError
from mapper.execution.feeding.ends import Call, Ends, calls_of
from mapper.execution.feeding.feeder import Feeder


class Echo:
    """Ends whose calls come out as they went in; with `fails_at`, the output of that call never comes."""

    def __init__(self, fails_at: int | None = None, ahead: int = 0) -> None:
        self.fails_at, self.ahead = fails_at, ahead
        self.next_in = self.next_out = 0
        self._inside: deque[Call] = deque()
        self._staged: Call | None = None
        self.most = self.done = 0

    @property
    def in_flight(self) -> int:
        return self.next_in - self.next_out

    def inside(self) -> list[Call]:
        return list(self._inside)

    def ready(self) -> bool:
        return False

    @property
    def staged(self) -> bool:
        return self._staged is not None

    def put(self, call: Call) -> None:
        self.stage(call)
        self.hand_on()

    def stage(self, call: Call) -> None:
        assert self._staged is None
        self._staged = call

    def hand_on(self) -> None:
        if self._staged is not None:
            self._inside.append(self._staged)
            self._staged = None
            self.next_in += 1
            self.most = max(self.most, self.in_flight - self.done)

    def unstage(self) -> None:
        self._staged = None

    def wait(self) -> None:
        if self.next_out == self.fails_at:
            raise ExecutionFailed("a worker died")
        self.done = 1

    def get(self, *, dropped: bool = False) -> Any:
        self.wait()
        self.done = 0
        call = self._inside.popleft()
        self.next_out += 1
        return call.tensors


WINDOW, LIMIT = 3, 5


def feeder(ends: Echo) -> tuple[Feeder, list[str]]:
    told: list[str] = []
    return Feeder(cast(Ends, ends), WINDOW, LIMIT, lambda: told.append("broken")), told


def item(number: int) -> list[torch.Tensor]:
    return [torch.tensor([number])]


def numbered(count: int, first: int) -> Iterator[Call]:
    for number in range(first, first + count):
        yield from calls_of(item(number), 1)


def noted(taken: list[Call]) -> Iterator[Call]:
    """Twenty calls; those that were asked for are in `taken`."""
    for call in numbered(20, 0):
        taken.append(call)
        yield call


def value(outputs: Any) -> int:
    return int(outputs[0])


ACTIONS = st.lists(st.sampled_from(["map", "next", "next", "next", "submit", "result"]), max_size=40)


@settings(max_examples=300, deadline=None)
@given(ACTIONS, st.integers(0, 4))
def test_whatever_comes_in_between_each_gets_its_own_in_order(actions: list[str], ahead: int) -> None:
    ends = Echo(ahead=ahead)
    feeding, _ = feeder(ends)
    count, stream, at, submitted = 0, None, 0, deque[tuple[int, Future[Any]]]()
    for action in actions:
        if action == "map":
            count += 100
            stream, at = feeding.results(numbered(7, count), feeding.begin()), count
        elif action == "next" and stream is not None:
            found = next(stream, None)
            assert found is None if at % 100 == 7 else value(found) == at
            at += found is not None
        elif action == "submit" and len(submitted) < LIMIT:
            count += 100
            calls = calls_of(item(count), 1)
            submitted.append((count, feeding.service().submit(calls, lambda outputs: outputs[0])))
        elif action == "result" and submitted:
            number, future = submitted.popleft()
            assert value(future.result(5)) == number
    feeding.end(kill=False)
    assert all(value(future.result(0)) == number for number, future in submitted)
    staged = 0 if ahead else 1
    assert ends.most <= WINDOW + ahead + staged, "what was staged is more, where submitted items take the rings over"


def test_a_stream_has_one_call_ready_beside_the_window_and_takes_no_more() -> None:
    ends, taken = Echo(), list[Call]()
    feeding, _ = feeder(ends)
    for count, outputs in enumerate(feeding.results(noted(taken), feeding.begin()), 1):
        assert value(outputs) == count - 1
        assert len(taken) == min(20, count + WINDOW) and ends.in_flight == min(20, count + WINDOW) - count
    assert count == 20 and ends.most == WINDOW


@pytest.mark.parametrize("ahead", [1, 3])
def test_a_stream_has_calls_ahead_and_stages_none(ahead: int) -> None:
    ends, taken = Echo(ahead=ahead), list[Call]()
    feeding, _ = feeder(ends)
    for count, outputs in enumerate(feeding.results(noted(taken), feeding.begin()), 1):
        assert value(outputs) == count - 1 and not ends.staged
        assert len(taken) == min(20, count - 1 + WINDOW + ahead) and ends.in_flight == len(taken) - count
    assert count == 20


def test_what_is_staged_belongs_to_its_stream() -> None:
    ends = Echo()
    feeding, _ = feeder(ends)
    first = feeding.results(numbered(20, 0), feeding.begin())
    assert value(next(first)) == 0
    ends.stage(calls_of(item(5), 1)[0])
    assert [value(outputs) for outputs in feeding.results(numbered(3, 100), feeding.begin())] == [100, 101, 102]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 12), st.integers(0, 6), st.booleans())
def test_a_failure_reaches_the_stream_and_all_futures(fails_at: int, before: int, streamed: bool) -> None:
    feeding, told = feeder(Echo(fails_at))
    stream = feeding.results(numbered(30, 0), feeding.begin())
    seen = 0
    try:
        for _ in range(before if streamed else 0):
            assert value(next(stream)) == seen
            seen += 1
        futures = [feeding.service().submit(calls_of(item(i), 1), lambda o: o[0], bounded=False) for i in range(20)]
    except (ExecutionFailed, UsageError):
        assert told == ["broken"]
        return
    errors = [future.exception(5) for future in futures]
    assert [error for error in errors if error is not None], "the first of them at the latest"
    assert all(isinstance(error, ExecutionFailed) for error in errors if error is not None)
    assert told == ["broken"]
    with pytest.raises(ExecutionFailed):
        for output in stream:
            assert value(output) == seen
            seen += 1
    with pytest.raises(ExecutionFailed):
        feeding.service().submit(calls_of(item(0), 1), lambda o: o[0])
    feeding.end(kill=False)


def test_outputs_that_cannot_be_made_are_the_error_of_one_item() -> None:
    feeding, told = feeder(Echo())

    def fails(outputs: Any) -> Any:
        raise MemoryError("too large")

    bad = feeding.service().submit(calls_of(item(1), 1), fails)
    good = feeding.service().submit(calls_of(item(2), 1), lambda outputs: outputs[0])
    with pytest.raises(MemoryError):
        bad.result(5)
    assert value(good.result(5)) == 2 and not told
    feeding.end(kill=False)
    with pytest.raises(UsageError, match="is closed"):
        feeding.service()
