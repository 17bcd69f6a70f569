"""Passages and threads: bounded, in order, and an end reaches everybody."""

from __future__ import annotations

import threading
from collections import deque

import pytest

from mapper.execution.hosts.passage import Passage, Stopped, Threads


def test_a_passage_keeps_order_and_never_holds_more_than_it_has_room_for() -> None:
    passage: Passage[int] = Passage(2)
    inside: deque[int] = deque()
    seen: list[int] = []

    def put() -> None:
        for number in range(200):
            passage.put(number)
            inside.append(number)

    thread = threading.Thread(target=put)
    thread.start()
    for taken in range(200):
        seen.append(passage.get())
        assert len(inside) <= taken + 3
    thread.join()
    assert seen == list(range(200))


def test_the_first_error_of_a_thread_ends_all_others() -> None:
    told: list[Exception] = []
    threads = Threads(told.append)
    full, empty = threads.passage(1), threads.passage(1)
    full.put(1)
    first = ValueError("first")

    def fail() -> None:
        raise first

    waiting = [threads.start("put", lambda: full.put(2)), threads.start("get", empty.get)]
    threads.start("fail", fail)
    with pytest.raises(ValueError, match="first"):
        threads.join(waiting)
    for thread in waiting:
        thread.join(10)
        assert not thread.is_alive()
    threads.fail(KeyError("second"))
    assert threads.error is first and told == [first]
    with pytest.raises(Stopped):
        threads.passage(1).get()


def test_threads_that_end_well_are_joined() -> None:
    threads = Threads()
    passage = threads.passage(1)
    both = [threads.start("put", lambda: [passage.put(n) for n in range(5)] and None)]
    both.append(threads.start("get", lambda: [passage.get() for _ in range(5)] and None))
    threads.join(both)
    threads.require()
