"""Rings alone: threads or forked processes in the place of workers, and plain sums in the place of stages."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mapper.execution.rings.layout import Layout
from mapper.execution.rings.memory import LINE_BYTES, PAGE_BYTES, Memory, Semaphore
from mapper.execution.rings.ring import FEEDER_ID, Channel, Consumer, Producer, Reader, slot_fields
from mapper.program.model import TensorType

PAIR = TensorType(shape=(2,), strides=(1,), dtype="int64")


class _Over(Exception):
    pass


@contextmanager
def memory_for(size: int) -> Iterator[Memory]:
    memory = Memory.create(size)
    try:
        yield memory
    finally:
        os.close(memory.fd)


def layout_of(replicas: Sequence[int], reads: Sequence[Sequence[int]], slots: Sequence[int], window: int) -> Layout:
    """Stage s reads the stages `reads[s]` (-1: the feeder) before it; the feeder reads the last stage."""
    place = LINE_BYTES
    drafts = []
    fields, slot_bytes = slot_fields([("x", PAIR)])
    for producer in range(-1, len(replicas)):
        readers = [Reader(stage=s, replicas=replicas[s], fields=(0,)) for s, r in enumerate(reads) if producer in r]
        if producer == len(replicas) - 1:
            readers.append(Reader(stage=FEEDER_ID, replicas=1, fields=(0,)))
        for replica in range(1 if producer < 0 else replicas[producer]):
            channel = Channel(
                stage=producer, replica=replica, replicas=1 if producer < 0 else replicas[producer], fields=fields,
                readers=tuple(readers), slots=window if producer < 0 else slots[producer], slot_bytes=slot_bytes,
                base=0, semaphores=place,
            )  # fmt: skip
            place += channel.semaphore_count * LINE_BYTES
            drafts.append(channel)
    channels = []
    for channel in drafts:
        place += -place % PAGE_BYTES
        channels.append(channel.model_copy(update={"base": place}))
        place += channel.slots * slot_bytes
    return Layout(replicas=tuple(replicas), channels=tuple(channels), bytes=place)


def serve(memory: Memory, layout: Layout, stage: int, replica: int, in_place: bool, spin_ns: int) -> None:
    """A worker whose computation adds what it reads, and its own number; with `in_place` straight into the slot."""

    def wait(semaphore: Semaphore) -> None:
        semaphore.wait(spin_ns)
        if memory.stopped:
            raise _Over

    inputs = [Consumer(memory, channels, stage, replica, wait) for channels in layout.read_by(stage)]
    output = Producer(memory, layout.written_by(stage, replica), wait)
    number = replica
    try:
        while True:
            given = [consumer.take(number)[0] for consumer in inputs]
            if in_place:
                output.acquire(number)
                (result,) = output.targets(number)
                assert result is not None
                torch.sum(torch.stack([*given, torch.full((2,), stage)]), 0, out=result)
            else:
                result = torch.as_tensor(sum(given) + stage)
                output.acquire(number)
            assert output.write(number, [result]) is not in_place
            for consumer in inputs:
                consumer.release(number)
            output.publish(number)
            number += layout.replicas[stage]
    except _Over:
        pass


def expected(stages: Sequence[Sequence[int]], value: int) -> int:
    seen = {FEEDER_ID: value}
    for s, reads in enumerate(stages):
        seen[s] = sum(seen[r] for r in reads) + s
    return seen[len(stages) - 1]


Pipeline = tuple[list[int], list[list[int]], list[int], int]
"""Replicas, what each stage reads, slots, and the window."""


@st.composite
def pipelines(draw: st.DrawFn) -> Pipeline:
    count = draw(st.integers(1, 4))
    replicas = draw(st.lists(st.integers(1, 3), min_size=count, max_size=count))
    reads = [sorted(draw(st.sets(st.integers(-1, s - 1), min_size=1))) for s in range(count)]
    for s in range(count - 1):  # what nobody reads would run ahead for ever
        if not any(s in later for later in reads[s + 1 :]):
            reads[-1] = sorted({*reads[-1], s})
    slots = draw(st.lists(st.integers(1, 3), min_size=count, max_size=count))
    return replicas, reads, slots, draw(st.integers(1, 6))


@settings(max_examples=40, deadline=None)
@given(pipelines(), st.integers(0, 40), st.booleans(), st.sampled_from([0, 20_000]))
def test_every_pipeline_keeps_order_and_values(pipeline: Pipeline, items: int, in_place: bool, spin_ns: int) -> None:
    replicas, reads, slots, window = pipeline
    layout = layout_of(replicas, reads, slots, window)
    with memory_for(layout.bytes) as memory:
        for channel in layout.channels:
            channel.initialise(memory)
        workers = [
            threading.Thread(target=serve, args=(memory, layout, s, r, in_place, spin_ns), daemon=True)
            for s, count in enumerate(replicas)
            for r in range(count)
        ]
        for worker in workers:
            worker.start()
        assert through(memory, layout, window, items) == [expected(reads, 1000 * n) for n in range(items)]
        stop(memory, layout)
        for worker in workers:
            worker.join(20)
            assert not worker.is_alive()


@settings(max_examples=8, deadline=None)
@given(pipelines(), st.integers(0, 60), st.booleans(), st.sampled_from([0, 20_000]))
def test_every_pipeline_of_processes_does_too(pipeline: Pipeline, items: int, in_place: bool, spin_ns: int) -> None:
    replicas, reads, slots, window = pipeline
    layout = layout_of(replicas, reads, slots, window)
    pids = []
    with memory_for(layout.bytes) as memory:
        for channel in layout.channels:
            channel.initialise(memory)
        try:
            for s, count in enumerate(replicas):
                for r in range(count):
                    pids.append(os.fork())
                    if pids[-1] == 0:
                        leave(lambda s=s, r=r: serve(memory, layout, s, r, in_place, spin_ns))  # type: ignore[misc]
            assert through(memory, layout, window, items) == [expected(reads, 1000 * n) for n in range(items)]
            stop(memory, layout)
            for pid in list(pids):
                assert os.waitpid(pid, 0)[1] == 0
                pids.remove(pid)
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)


def leave(work: Callable[[], None]) -> NoReturn:
    """A forked process: works and ends, and runs nothing of the tests."""
    try:
        work()
    except BaseException:
        os._exit(1)
    os._exit(0)


def through(memory: Memory, layout: Layout, window: int, items: int) -> list[int]:
    """What comes out for the items 0, 1000, 2000, ..., with at most `window` in flight."""

    def wait(semaphore: Semaphore) -> None:
        assert semaphore.wait_for(20), "stuck"

    feed = Producer(memory, layout.written_by(FEEDER_ID, 0), wait)
    (collect,) = (Consumer(memory, channels, FEEDER_ID, 0, wait) for channels in layout.read_by(FEEDER_ID))
    results: list[int] = []
    put = 0
    while len(results) < items:
        if put < items and put - len(results) < window:
            feed.acquire(put)
            feed.write(put, [torch.full((2,), 1000 * put)])
            feed.publish(put)
            put += 1
        else:
            collect.ready(len(results))  # looking first must change nothing
            results.append(int(collect.take(len(results))[0][0]))
            collect.release(len(results) - 1)
    return results


def stop(memory: Memory, layout: Layout) -> None:
    memory.stop()
    for channel in layout.channels:
        channel.wake(memory)


def kind_of(tensor: torch.Tensor) -> TensorType:
    return TensorType(
        shape=tuple(tensor.shape), strides=tensor.stride(), dtype=str(tensor.dtype).removeprefix("torch.")
    )


def test_tensors_keep_their_strides_and_are_sent_once() -> None:
    base = torch.randn(4, 6)
    tensors = [
        base.t(), base[:, ::2], base[:1].expand(5, 6), base[1:2, :1].expand(3, 7), torch.tensor(3), torch.empty(0, 3),
        base.to(torch.bfloat16), base > 0, base.unfold(1, 3, 1), base[:1].expand(0, 6), base.to(torch.complex64),
    ]  # fmt: skip
    fields, slot_bytes = slot_fields([(str(i), kind_of(t)) for i, t in enumerate(tensors)])
    assert slot_bytes % 64 == 0 and all(field.offset % 64 == 0 for field in fields)
    reader = Reader(stage=0, replicas=1, fields=tuple(range(len(tensors))))
    channel = Channel(
        stage=FEEDER_ID, replica=0, replicas=1, fields=fields, readers=(reader,), slots=2, slot_bytes=slot_bytes,
        base=PAGE_BYTES, semaphores=64,
    )  # fmt: skip
    with memory_for(PAGE_BYTES + 2 * slot_bytes) as memory:
        channel.initialise(memory)
        producer = Producer(memory, channel, Semaphore.wait)
        consumer = Consumer(memory, [channel], 0, 0, Semaphore.wait)
        for number in range(5):
            producer.acquire(number)
            producer.write(number, tensors)
            producer.publish(number)
            assert consumer.ready(number)
            for sent, got in zip(tensors, consumer.take(number), strict=True):
                assert torch.equal(sent, got) and (sent.stride() == got.stride() or not sent.numel())
                assert got.data_ptr() % 64 == 0 or not got.numel()
            consumer.release(number)


def test_a_wait_with_a_limit_ends() -> None:
    with memory_for(64) as memory:
        semaphore = memory.semaphore(0)
        semaphore.initialise(1)
        assert semaphore.wait_for(0.01)
        assert not semaphore.wait_for(0.01)
        assert not semaphore.try_wait()
        semaphore.post()
        assert semaphore.try_wait()


def test_only_what_lies_in_one_piece_may_be_written_in_place() -> None:
    base = torch.randn(4, 6)
    tensors = [base, base.t(), base[:1].expand(5, 6), torch.tensor(3), torch.empty(0, 3), base[:, ::2], base > 0]
    fields, slot_bytes = slot_fields([(str(i), kind_of(t)) for i, t in enumerate(tensors)])
    channel = Channel(
        stage=FEEDER_ID, replica=0, replicas=1, fields=fields, slots=2, slot_bytes=slot_bytes, base=PAGE_BYTES,
        readers=(Reader(stage=0, replicas=1, fields=tuple(range(len(tensors)))),), semaphores=64,
    )  # fmt: skip
    with memory_for(PAGE_BYTES + 2 * slot_bytes) as memory:
        channel.initialise(memory)
        producer = Producer(memory, channel, Semaphore.wait)
        consumer = Consumer(memory, [channel], 0, 0, Semaphore.wait)
        for number in range(4):
            producer.acquire(number)
            targets = producer.targets(number)
            assert [target is not None for target in targets] == [True, False, False, True, False, False, True]
            results = [tensor if target is None else target for target, tensor in zip(targets, tensors, strict=True)]
            for target, tensor in zip(targets, tensors, strict=True):
                if target is not None:
                    target.copy_(tensor)
            assert producer.write(number, results), "the others are copied"
            producer.publish(number)
            for sent, got in zip(tensors, consumer.take(number), strict=True):
                assert torch.equal(sent, got)
            consumer.release(number)
        assert all(a is b for a, b in zip(producer.targets(0), producer.targets(2), strict=True)), "the same each time"


def test_a_slot_with_another_item_is_noticed() -> None:
    layout = layout_of([1], [[-1]], [1], 2)
    with memory_for(layout.bytes) as memory:
        for channel in layout.channels:
            channel.initialise(memory)
        feed = Producer(memory, layout.written_by(FEEDER_ID, 0), Semaphore.wait)
        consumer = Consumer(memory, layout.read_by(0)[0], 0, 0, Semaphore.wait)
        feed.write(2, [torch.zeros(2, dtype=torch.int64)])
        feed.publish(2)
        with pytest.raises(RuntimeError, match="slot 0 holds item 2 where 0 was expected"):
            consumer.take(0)


def test_spinning_ends_with_a_post_or_after_its_time_and_never_takes_two() -> None:
    with memory_for(64) as memory:
        semaphore = memory.semaphore(0)
        semaphore.initialise(2)
        semaphore.wait(10**9)
        assert semaphore.wait_for(0.01, 10**9)
        assert not semaphore.wait_for(0.01, 1000)
        thread = threading.Timer(0.02, semaphore.post)
        thread.start()
        semaphore.wait(1000)  # it blocks when it has spun enough
        thread.join()
        assert not semaphore.try_wait()
