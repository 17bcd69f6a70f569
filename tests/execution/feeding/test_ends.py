"""The parent's ends of the rings, with this thread as the worker."""

from __future__ import annotations

import os
import time

import pytest
import torch

from mapper.execution.feeding.ends import Call, Ends, calls_of
from mapper.execution.rings.layout import Layout, lay_out
from mapper.execution.rings.memory import Memory, Semaphore
from mapper.execution.rings.ring import Consumer, Producer
from mapper.sources.stages import output_homes, stage_programs
from tests.execution import models
from tests.tracing import cuts, plan_for

MLP = models.mlp()


class Worker:
    """The only replica of a single stage; it hands zeros on."""

    def __init__(self, layout: Layout, memory: Memory) -> None:
        (channels,) = layout.read_by(0)
        self.given = Consumer(memory, channels, 0, 0, Semaphore.wait)
        self.output = Producer(memory, layout.written_by(0, 0), Semaphore.wait)
        self.number = 0

    def work(self) -> int:
        """One call; when it was taken."""
        self.given.take(self.number)
        taken = time.monotonic_ns()
        self.output.acquire(self.number)
        self.output.write(self.number, [torch.zeros(f.type.shape) for f in self.output.channel.fields], taken)
        self.given.release(self.number)
        self.output.publish(self.number)
        self.number += 1
        return taken


@pytest.fixture
def ends() -> tuple[Ends, Worker]:
    plan = plan_for(MLP, cuts(MLP.graph, [99]), window=1)
    programs = stage_programs(plan, MLP.program)
    layout = lay_out(plan, MLP.program, programs)
    memory = Memory.create(layout.bytes)
    os.close(memory.fd)
    for channel in layout.channels:
        channel.initialise(memory)
    return Ends(memory, layout, output_homes(MLP.program, programs), Semaphore.wait), Worker(layout, memory)


def calls(count: int) -> list[Call]:
    return calls_of([torch.zeros(8 * count, 64)], count)


def test_a_call_ahead_is_there_for_the_worker_and_its_latency_begins_when_that_takes_it(
    ends: tuple[Ends, Worker],
) -> None:
    own, worker = ends
    assert own.ahead == 1
    for call in (*calls(1), *calls(1)):  # the window, and one ahead: neither waits
        own.put(call)
    assert own.in_flight == 2
    worker.work()
    between = time.monotonic_ns()
    taken = worker.work()  # nobody has taken the first one's outputs out
    own.get()
    own.get()
    assert taken >= between and own.in_flight == 0
    first, second = own.latencies_s
    assert second < first and second <= (time.monotonic_ns() - taken) / 1e9


def test_the_latency_of_an_item_in_micro_batches_begins_with_its_first_call(ends: tuple[Ends, Worker]) -> None:
    own, worker = ends
    for call in (item := calls(2)):
        own.put(call)
    taken = worker.work()
    worker.work()
    own.get()
    assert not own.latencies_s and item[0].clock is item[1].clock and item[1].clock.begun_ns == taken
    own.get()
    (latency,) = own.latencies_s
    assert 0 < latency <= (time.monotonic_ns() - taken) / 1e9 and item[1].clock.begun_ns == taken


def test_with_several_stages_none_is_ahead() -> None:
    plan = plan_for(MLP, cuts(MLP.graph, [4, 4]), replicas=[1, 2], window=5)
    assert lay_out(plan, MLP.program, stage_programs(plan, MLP.program)).ahead == 0
