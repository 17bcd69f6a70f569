"""A worker's loop in a thread, with computations of the test: results in place, copies, and what is counted of them."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import pytest
import torch

from mapper.backends.registry import Loaded
from mapper.errors import BadInput
from mapper.execution.rings.layout import Layout, lay_out
from mapper.execution.rings.memory import Memory, Semaphore
from mapper.execution.rings.ring import FEEDER_ID, Consumer, Producer
from mapper.execution.workers.replica import Counters, Job, StageFailed, _Replica, _RunOver
from mapper.plans.timeline import Doing
from mapper.sources.stages import stage_programs
from tests.execution import models
from tests.tracing import cuts, plan_for

MLP = models.mlp()
PLAN = plan_for(MLP, cuts(MLP.graph, [8]), window=3, slots=1)
PROGRAMS = stage_programs(PLAN, MLP.program)
SHAPE = (8, 64)
Tensors = Sequence[torch.Tensor]


class Stage:
    """One worker in a thread of this process, and both ends of its rings."""

    def __init__(self, loaded: Loaded) -> None:
        self.layout: Layout = lay_out(PLAN, MLP.program, PROGRAMS)
        self.memory = Memory.create(self.layout.bytes)
        os.close(self.memory.fd)  # it is mapped
        for channel in self.layout.channels:
            channel.initialise(self.memory)
        job = Job(stage=0, replica=0, threads=1, backend="eager", program=PROGRAMS[0], layout=self.layout)
        self.replica = _Replica(job, self.memory, loaded)
        self.feed = Producer(self.memory, self.layout.written_by(FEEDER_ID, 0), wait)
        ((channels),) = self.layout.read_by(FEEDER_ID)
        self.collect = Consumer(self.memory, channels, FEEDER_ID, 0, wait)
        self.counters = Counters(self.memory, self.layout, 0, 0)
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._serve, daemon=True)

    def _serve(self) -> None:
        try:
            with torch.inference_mode():
                self.replica.warm_up()
                self.replica.serve()
        except _RunOver:
            pass
        except BaseException as error:
            self.error = error

    def put(self, number: int, value: float) -> None:
        self.feed.acquire(number)
        self.feed.write(number, [torch.full(SHAPE, value)])
        self.feed.publish(number)

    def get(self, number: int) -> torch.Tensor:
        found = self.collect.take(number)[0].clone()
        self.collect.release(number)
        return found

    def counted(self, items: int) -> list[int]:
        """The counters, once so many items are counted."""
        return eventually(self.counters.read, lambda words: words[Counters.ITEMS] >= items)

    def stop(self) -> None:
        self.memory.stop()
        for channel in self.layout.channels:
            channel.wake(self.memory)
        self.thread.join(20)
        assert not self.thread.is_alive()


def wait(semaphore: Semaphore) -> None:
    assert semaphore.wait_for(20), "stuck"


def eventually(look: Callable[[], list[int]], there: Callable[[list[int]], bool]) -> list[int]:
    until = time.monotonic() + 20
    while not there(found := look()):
        assert time.monotonic() < until, "it never came"
        time.sleep(0.001)
    return found


@pytest.fixture
def serving() -> Iterator[Callable[[Loaded], Stage]]:
    stages: list[Stage] = []

    def start(loaded: Loaded) -> Stage:
        stages.append(Stage(loaded))
        stages[-1].thread.start()
        return stages[-1]

    yield start
    for stage in stages:
        stage.stop()


def doubled(given: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return (given * 2,)


def in_place(seen: list[torch.Tensor | None]) -> Loaded:
    """Doubles its input where the result belongs."""

    def into(given: Tensors, targets: Sequence[torch.Tensor | None]) -> Tensors:
        seen.extend(targets)
        (target,) = targets
        assert target is not None
        torch.mul(given[0], 2, out=target)
        return [target]

    return Loaded(doubled, 1, into=into)


def declining(given: Tensors, targets: Sequence[torch.Tensor | None]) -> Tensors:
    """Could write in place, and does not."""
    return doubled(*given)


@pytest.mark.parametrize("loaded", [Loaded(doubled, 1), in_place([]), Loaded(doubled, 1, into=declining)])
def test_items_keep_order_and_bits(serving: Callable[[Loaded], Stage], loaded: Loaded) -> None:
    stage = serving(loaded)
    values = [1.5, float("nan"), float("-inf"), -0.0, 1e-45, 3.0, 4.0]
    for number, value in enumerate(values):
        stage.put(number, value)
        expected = torch.full(SHAPE, value) * 2
        assert torch.equal(stage.get(number).view(torch.int32), expected.view(torch.int32))
    words = stage.counted(len(values))
    assert words[Counters.ITEMS] == len(values) and words[Counters.COMPUTE] > 0


def test_what_is_computed_in_place_is_not_copied(serving: Callable[[Loaded], Stage]) -> None:
    seen: list[torch.Tensor | None] = []
    stage = serving(in_place(seen))
    for number in range(4):
        stage.put(number, number)
        stage.get(number)
    words = stage.counted(4)
    assert words[Counters.COPY] == 0
    assert seen and all(target is not None and target.shape == SHAPE for target in seen)
    start, end = (stage.memory.address(offset) for offset in (0, stage.layout.bytes))
    assert all(target is not None and start <= target.data_ptr() < end for target in seen), "in the ring itself"


@pytest.mark.parametrize("loaded", [Loaded(doubled, 1), Loaded(doubled, 1, into=declining)])
def test_what_is_copied_is_counted(serving: Callable[[Loaded], Stage], loaded: Loaded) -> None:
    stage = serving(loaded)
    for number in range(4):
        stage.put(number, number)
        stage.get(number)
    assert stage.counted(4)[Counters.COPY] > 0


@pytest.mark.parametrize(("loaded", "computed"), [(Loaded(doubled, 1), 2), (in_place([]), 1)])
def test_waiting_for_room_is_counted_before_or_after_computing(
    serving: Callable[[Loaded], Stage], loaded: Loaded, computed: int
) -> None:
    """With one slot and nobody who takes: in place only the first item is computed, else one more."""
    calls: list[float] = []

    def counting(*given: torch.Tensor) -> tuple[torch.Tensor, ...]:
        calls.append(float(given[0][0, 0]))
        return loaded.compute(*given)

    def into(given: Tensors, targets: Sequence[torch.Tensor | None]) -> Tensors:
        calls.append(float(given[0][0, 0]))
        assert loaded.into is not None
        return loaded.into(given, targets)

    stage = serving(Loaded(counting, 1, into=None if loaded.into is None else into))
    for number in range(3):
        stage.put(number, number + 1)
    words = eventually(stage.counters.read, lambda w: w[Counters.DOING] == Doing.BLOCKED and w[Counters.ITEM] == 1)
    assert words[Counters.ITEMS] == 1
    time.sleep(0.05)
    assert [call for call in calls if call] == [1.0, 2.0][:computed], "zeros are the warm-up"
    assert [float(stage.get(number)[0, 0]) for number in range(3)] == [2.0, 4.0, 6.0]
    assert stage.counted(3)[Counters.WAIT_OUT] > 40_000_000


@pytest.mark.parametrize("loaded", [Loaded(doubled, 1), in_place([])])
def test_a_worker_that_waits_for_room_hears_the_end(serving: Callable[[Loaded], Stage], loaded: Loaded) -> None:
    stage = serving(loaded)
    for number in range(3):
        stage.put(number, number)
    eventually(stage.counters.read, lambda words: words[Counters.DOING] == Doing.BLOCKED and words[Counters.ITEM] == 1)
    stage.stop()
    assert stage.error is None


def test_a_result_of_another_shape_is_refused_in_place_too(serving: Callable[[Loaded], Stage]) -> None:
    def broken(given: Tensors, targets: Sequence[torch.Tensor | None]) -> Tensors:
        return [given[0][:1]] if given[0].any() else declining(given, targets)

    stage = serving(Loaded(doubled, 1, into=broken))
    stage.put(0, 1.0)
    stage.thread.join(20)
    assert isinstance(stage.error, StageFailed) and isinstance(stage.error.__cause__, BadInput)
    assert "came out as torch.float32[1, 64], not torch.float32[8, 64]" in str(stage.error)


def test_a_back_end_is_told_of_every_slot_before_it_computes() -> None:
    told: list[torch.Tensor] = []
    stage = Stage(Loaded(doubled, 1, prepare=told.extend))
    ends = {tensor.data_ptr() for tensor in told}
    assert len(ends) == len(told) == sum(channel.slots for channel in stage.layout.channels)
    stage.feed.write(0, [torch.ones(SHAPE)])
    assert any(tensor.sum() == 8 * 64 for tensor in told), "among them the slot of an item"
