"""Rings alone: threads in the place of worker processes, and plain sums in the place of stages."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mapper.execution.layout import Layout
from mapper.execution.memory import LINE_BYTES, PAGE_BYTES, Memory, Semaphore
from mapper.execution.ring import FEEDER_ID, Channel, Consumer, Producer, Reader, slot_fields
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


def serve(memory: Memory, layout: Layout, stage: int, replica: int) -> None:
    """A worker whose computation adds what it reads, and its own number."""

    def wait(semaphore: Semaphore) -> None:
        semaphore.wait()
        if memory.stopped:
            raise _Over

    inputs = [Consumer(memory, channels, stage, replica, wait) for channels in layout.read_by(stage)]
    output = Producer(memory, layout.written_by(stage, replica), wait)
    number = replica
    try:
        while True:
            total = sum(consumer.take(number)[0] for consumer in inputs) + stage
            output.acquire(number)
            output.write(number, [torch.as_tensor(total).expand(2)])
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


@st.composite
def pipelines(draw: st.DrawFn) -> tuple[list[int], list[list[int]], list[int], int]:
    count = draw(st.integers(1, 4))
    replicas = draw(st.lists(st.integers(1, 3), min_size=count, max_size=count))
    reads = [sorted(draw(st.sets(st.integers(-1, s - 1), min_size=1))) for s in range(count)]
    for s in range(count - 1):  # what nobody reads would run ahead for ever
        if not any(s in later for later in reads[s + 1 :]):
            reads[-1] = sorted({*reads[-1], s})
    slots = draw(st.lists(st.integers(1, 3), min_size=count, max_size=count))
    return replicas, reads, slots, draw(st.integers(1, 6))


@settings(max_examples=40, deadline=None)
@given(pipelines(), st.integers(0, 40))
def test_every_pipeline_keeps_order_and_values(
    pipeline: tuple[list[int], list[list[int]], list[int], int], items: int
) -> None:
    replicas, reads, slots, window = pipeline
    layout = layout_of(replicas, reads, slots, window)
    with memory_for(layout.bytes) as memory:
        for channel in layout.channels:
            channel.initialise(memory)
        workers = [
            threading.Thread(target=serve, args=(memory, layout, s, r), daemon=True)
            for s, count in enumerate(replicas)
            for r in range(count)
        ]
        for worker in workers:
            worker.start()

        def wait(semaphore: Semaphore) -> None:
            assert semaphore.wait_for(20), "stuck"

        feed = Producer(memory, layout.written_by(FEEDER_ID, 0), wait)
        (collect,) = (Consumer(memory, channels, FEEDER_ID, 0, wait) for channels in layout.read_by(FEEDER_ID))
        results, put = [], 0
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
        assert results == [expected(reads, 1000 * n) for n in range(items)]
        memory.stop()
        for channel in layout.channels:
            channel.wake(memory)
        for worker in workers:
            worker.join(20)
            assert not worker.is_alive()


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
