"""Submitted items: order, back-pressure, cancelling, threads, asyncio, and streams beside them; with real workers."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import CancelledError, Future, wait

import pytest
import torch

from mapper.errors import BadInput, UsageError
from mapper.execution.executor import Executor, Output
from tests.execution import models
from tests.execution.feeding.test_micro_batches import CALLS, expected, of_calls
from tests.execution.feeding.test_micro_batches import items as large_items
from tests.execution.test_executor import items, reference
from tests.tracing import cuts, plan_for

MLP = models.mlp()
WINDOW, WAITING = 5, 3


@pytest.fixture(scope="module")
def executor() -> Iterator[Executor]:
    """Two stages, two copies of the second, five items in flight, three may wait."""
    plan = plan_for(MLP, cuts(MLP.graph, [4, 4]), replicas=[1, 2], window=WINDOW)
    with Executor(plan, MLP.module, oversubscribe=True, timeout_s=60, waiting=WAITING) as running:
        yield running


class Stopped:
    """The workers of the last stage, stopped: nothing comes out meanwhile."""

    def __init__(self, executor: Executor) -> None:
        self.pids = [worker.pid for worker in executor.statistics().workers if worker.stage == 1]

    def __enter__(self) -> None:
        for pid in self.pids:
            os.kill(pid, signal.SIGSTOP)

    def __exit__(self, *_: object) -> None:
        for pid in self.pids:
            os.kill(pid, signal.SIGCONT)


def right(item: torch.Tensor, output: object) -> bool:
    return isinstance(output, torch.Tensor) and torch.equal(output, reference(MLP, item))


def test_futures_have_the_outputs_of_their_items(executor: Executor) -> None:
    given = items(40)
    futures = [executor.submit(item) for item in given]
    assert all(right(item, future.result(10)) for item, future in zip(given, futures, strict=True))


def test_submit_waits_for_room_or_says_that_there_is_none(executor: Executor) -> None:
    given = items(WINDOW + WAITING + 2)
    with Stopped(executor):
        futures = [executor.submit(item, timeout_s=5) for item in given[: WINDOW + WAITING]]
        with pytest.raises(TimeoutError, match=r"no room for the item within 0.01 s: 8 items are there"):
            executor.submit(given[0], timeout_s=0.01)
        with pytest.raises(TimeoutError):
            executor.submit(given[0], timeout_s=0)
        late: list[Future[Output]] = []
        blocked = threading.Thread(target=lambda: late.extend(map(executor.submit, given[-2:])))
        blocked.start()
        blocked.join(0.1)
        assert blocked.is_alive() and not late
    blocked.join(10)
    futures += late
    assert all(right(item, future.result(10)) for item, future in zip(given, futures, strict=True))


def test_what_waits_can_be_cancelled_and_what_is_in_flight_cannot(executor: Executor) -> None:
    given = items(WINDOW + WAITING)
    with Stopped(executor):
        futures = [executor.submit(item) for item in given]
        cancelled = [future.cancel() for future in futures]
        assert cancelled == [False] * WINDOW + [True] * WAITING
    for item, future in zip(given[:WINDOW], futures, strict=False):
        assert right(item, future.result(10))
    with pytest.raises(CancelledError):
        futures[-1].result(10)
    assert right(given[0], executor.submit(given[0], timeout_s=10).result(10)), "what was cancelled holds no room"


def test_many_threads_get_each_their_own(executor: Executor) -> None:
    wrong: list[int] = []

    def client(number: int) -> None:
        given = items(30 + number)
        futures = [executor.submit(item) for item in given]
        for item, future in zip(given, futures, strict=True):
            if not right(item, future.result(30)):
                wrong.append(number)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong and not any(thread.is_alive() for thread in threads)


def test_a_wrong_item_reaches_its_caller_only(executor: Executor) -> None:
    good = executor.submit(items(1)[0])
    with pytest.raises(BadInput, match=r"float32\[7, 64\]"):
        executor.submit(torch.zeros(7, 64))
    assert right(items(1)[0], good.result(10))


def test_callbacks_may_submit_and_fail_without_harm(executor: Executor) -> None:
    given, done = items(4), threading.Event()
    results: list[object] = []

    def next_one(future: Future[Output]) -> None:
        results.append(future.result())
        if len(results) < 3 * (WINDOW + WAITING):
            executor.submit(given[len(results) % 4]).add_done_callback(next_one)
        else:
            done.set()
        raise ZeroDivisionError("a callback's own")

    executor.submit(given[0]).add_done_callback(next_one)
    assert done.wait(20)
    assert all(right(given[i % 4], output) for i, output in enumerate(results))
    refused: list[BaseException] = []

    def close(future: Future[Output]) -> None:
        try:
            executor.close()
        except UsageError as error:
            refused.append(error)

    executor.submit(given[0]).add_done_callback(close)
    assert right(given[0], executor.submit(given[0]).result(10)) and "callback" in str(refused[0])


def test_streams_and_submitted_items_each_keep_their_order(executor: Executor) -> None:
    """A stream that has begun goes on where items are submitted between its own, from its iterator and outside."""
    plan = executor.plan
    with Executor(plan, (MLP.program, MLP.weights), oversubscribe=True, timeout_s=60) as fresh:
        given, others = items(40), items(41)
        futures: list[Future[Output]] = []

        def source() -> Iterator[torch.Tensor]:
            for number, item in enumerate(given):
                if number == 12:
                    futures.append(fresh.submit(others[len(futures)]))
                    assert futures[-1].result(10) is not None, "the iterator may wait for it"
                yield item

        stream = fresh.map(source())
        for number, item in enumerate(given):
            assert right(item, next(stream))
            if number % 3 == 1:
                futures.append(fresh.submit(others[len(futures)]))
        assert next(stream, None) is None
        assert all(right(item, future.result(10)) for item, future in zip(others, futures, strict=False))
        assert len(fresh.statistics().latencies_s) == len(given) + len(futures)


def test_what_an_ended_stream_left_goes_to_nobody_when_items_are_submitted(executor: Executor) -> None:
    with Executor(executor.plan, (MLP.program, MLP.weights), oversubscribe=True, timeout_s=60) as fresh:
        given = items(9)
        old = fresh.map(given)
        next(old)
        new = fresh.map(given[4:])
        future = fresh.submit(given[7])
        assert all(right(item, output) for item, output in zip(given[4:], new, strict=True))
        assert right(given[7], future.result(10))
        with pytest.raises(UsageError, match="another map"):
            next(old)


def test_random_mixtures_corrupt_nothing(executor: Executor) -> None:
    draw, given = random.Random(0), items(20)
    pending: list[tuple[torch.Tensor, Future[Output]]] = []
    stream, at = executor.map(given), 0
    for _ in range(300):
        action = draw.random()
        if action < 0.5:
            output = next(stream, None)
            assert output is None or right(given[at], output)
            at += 1
            if output is None:
                assert at == len(given) + 1
        elif action < 0.9 and len(pending) < WINDOW:
            item = draw.choice(given)
            pending.append((item, executor.submit(item)))
        elif pending:
            item, future = pending.pop(draw.randrange(len(pending)))
            assert right(item, future.result(10))
        if action > 0.97 or at > len(given):
            stream, at = executor.map(given), 0
    assert all(right(item, future.result(10)) for item, future in pending)


def test_items_in_micro_batches(executor: Executor) -> None:
    with Executor(of_calls(CALLS), MLP.module, oversubscribe=True, timeout_s=60) as running:
        given = large_items(12)
        stream = running.map(given)
        first = next(stream)
        futures = [running.submit(item) for item in given]
        outputs = [first, *stream]
        for item, output, future in zip(given, outputs, futures, strict=True):
            wanted, got = expected(item), future.result(10)
            assert isinstance(output, torch.Tensor) and torch.equal(output, wanted)
            assert isinstance(got, torch.Tensor) and torch.equal(got, wanted)
        assert len(running.statistics().latencies_s) == 24
        assert running._limit == 2 * -(-running.plan.predicted.window // CALLS)


def test_statistics_tell_waiting_apart(executor: Executor) -> None:
    executor.reset_statistics()
    with Stopped(executor):
        futures = [executor.submit(item) for item in items(WINDOW + 2)]
        time.sleep(0.2)
    wait(futures, 10)
    seen = executor.statistics()
    assert len(seen.waits_s) == len(seen.latencies_s) == WINDOW + 2
    assert max(seen.waits_s[:WINDOW]) < 0.15 < min(seen.waits_s[WINDOW:])
    assert min(seen.latencies_s[:2]) > 0.15
    executor.reset_statistics()
    assert executor.statistics().waits_s == ()


def test_an_idle_executor_uses_no_processor_time(executor: Executor) -> None:
    executor.submit(items(1)[0]).result(10)
    time.sleep(0.05)
    before = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - before < 0.05, "nothing asks again and again"


def test_asyncio_awaits_single_items_and_streams(executor: Executor) -> None:
    given = items(30)

    async def late() -> AsyncIterator[torch.Tensor]:
        for number, item in enumerate(given):
            await asyncio.sleep(0.002 if number % 5 == 0 else 0)
            yield item

    async def streamed(source: Callable[[], object]) -> list[Output]:
        return [output async for output in executor.stream(source())]  # type: ignore[arg-type]

    async def main() -> None:
        outputs = await asyncio.gather(*(executor.infer(item) for item in given))
        assert all(map(right, given, outputs))
        assert right(given[0], await asyncio.wrap_future(executor.submit(given[0])))
        both = await asyncio.gather(streamed(late), streamed(lambda: given))
        assert all(len(outputs) == len(given) and all(map(right, given, outputs)) for outputs in both)
        assert await streamed(list) == []

    asyncio.run(main())


def test_an_asynchronous_stream_is_lazy_and_hands_on_what_is_there(executor: Executor) -> None:
    given, taken = items(3), 0

    def endless() -> Iterator[torch.Tensor]:
        nonlocal taken
        for item in itertools.cycle(given):
            taken += 1
            yield item

    async def main() -> None:
        count = 0
        async for output in executor.stream(endless()):
            assert right(given[count % 3], output)
            count += 1
            assert taken <= count + WINDOW + 1
            if count == 25:
                break
        asked = asyncio.Event()

        async def slow() -> AsyncIterator[torch.Tensor]:
            yield given[0]
            asked.set()
            await asyncio.sleep(60)
            yield given[1]

        stream = executor.stream(slow())
        assert right(given[0], await asyncio.wait_for(anext(stream), 10)), "though the next item is not there"
        await asyncio.wait_for(asked.wait(), 10)
        await stream.aclose()  # type: ignore[attr-defined]

        def broken() -> Iterator[torch.Tensor]:
            yield given[0]
            raise KeyError("mine")

        with pytest.raises(KeyError, match="mine"):
            async for _ in executor.stream(broken()):
                pass

    asyncio.run(main())


def test_the_event_loop_is_never_held_up(executor: Executor) -> None:
    """More requests than there is room for, with the workers stopped: the loop goes on turning."""
    given = items(WINDOW + WAITING + 10)

    async def main() -> None:
        with Stopped(executor):
            tasks = [asyncio.create_task(executor.infer(item)) for item in given]
            for _ in range(50):
                await asyncio.wait_for(asyncio.sleep(0.001), 5)
            assert not any(task.done() for task in tasks)
            tasks[-1].cancel()
            with pytest.raises(asyncio.CancelledError):
                await tasks[-1]
        outputs = await asyncio.gather(*tasks[:-1])
        assert all(map(right, given, outputs))

    asyncio.run(main())


def test_leaving_the_block_finishes_what_was_submitted(executor: Executor) -> None:
    with Executor(executor.plan, (MLP.program, MLP.weights), oversubscribe=True, timeout_s=60) as fresh:
        futures = [fresh.submit(item) for item in items(9)]
    assert all(right(item, future.result(0)) for item, future in zip(items(9), futures, strict=True))
    with pytest.raises(UsageError, match="is closed"):
        fresh.submit(items(1)[0])
    with pytest.raises(UsageError, match="fewer than none"):
        Executor(executor.plan, (MLP.program, MLP.weights), oversubscribe=True, waiting=-1)
