"""`mapper run`: a plan at work over a stream of items, measured, and every output compared with the unsplit model."""

from __future__ import annotations

import itertools
import math
import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from mapper.backends.registry import EAGER, backend_called
from mapper.errors import PromiseBroken, UsageError
from mapper.execution.backend import allowed, bits_equal, with_backend
from mapper.execution.bundle import Sample
from mapper.execution.executor import TIMEOUT_S, Executor, Output
from mapper.execution.micro_batches import Tensors, joined, split
from mapper.execution.reference import Difference, Outputs, Reference, difference_of, reference_of, torch_threads
from mapper.execution.source import Item, Runnable, Source, realised_source, source_of, tensors_of
from mapper.host.load import busy_between, snapshot
from mapper.jsonio import Record
from mapper.machine.cgroup import cpu_quota
from mapper.machine.model import Machine
from mapper.plans.model import Plan

DISTINCT_ITEMS = 4
NOTICED = 0.05
"""The part of the plan's PUs that others may take without being mentioned."""
Progress = Callable[[int, int], None]
"""Told how many outputs of how many have come."""


class Latency(Record):
    """Seconds from when an item is handed in to when its output is collected."""

    p50: float
    p90: float
    p99: float


class MeasuredStage(Record):
    """A stage at work: seconds an item. `load_s` is computing and copying, what the plan predicts; the rest waiting."""

    id: int
    replicas: int
    load_s: float
    predicted_load_s: float
    compute_s: float
    copy_s: float
    wait_in_s: float
    wait_out_s: float


class MeasuredWorker(Record):
    """A worker: what it was bound to, as it read back, and seconds of work an item."""

    pid: int
    stage: int
    replica: int
    pus: tuple[int, ...]
    threads: int
    items: int
    load_s: float


class Measurement(Record):
    """What a run gave. `throughput_per_s` is items (calls of the model) a second in the steady state.

    `max_abs_difference` is null where an output is no number and the reference is, or the other way round;
    `max_relative_difference`, against the largest magnitude of the reference's tensor, also where that is all zeros.
    `tolerance` is what was allowed of it, 0 where bits must be equal; the largest where outputs have several dtypes.
    `others_busy` is the part of the plan's PUs that other processes took meanwhile.
    """

    model: str
    items: int
    warmup: int
    window: int
    throughput_per_s: float
    predicted_throughput_per_s: float
    latency_s: Latency
    predicted_latency_s: float
    outputs_identical: bool
    outputs_within_tolerance: bool
    max_abs_difference: float | None
    max_relative_difference: float | None
    tolerance: float
    compared_with: str
    backend: str
    torch: str
    others_busy: float
    stages: tuple[MeasuredStage, ...]
    workers: tuple[MeasuredWorker, ...]
    notes: tuple[str, ...] = ()


class OutputsDiffer(PromiseBroken):
    """Outputs are not those of the unsplit model. `measurement` is what was measured nevertheless."""

    def __init__(self, what: str, measurement: Measurement) -> None:
        self.measurement = measurement
        who = "torch" if measurement.backend == EAGER else measurement.backend
        super().__init__(what, advice=f"This is a bug in mapper or in {who}, unless the plan or the bundle was edited.")


def run(
    plan: Plan,
    model: Runnable | Source | None = None,
    *,
    items: int = 100,
    warmup: int | None = None,
    inputs: Sequence[Item] | None = None,
    seed: int = 0,
    tolerance: float | None = None,
    machine: Machine | None = None,
    remap: bool = False,
    oversubscribe: bool = False,
    timeout_s: float | None = TIMEOUT_S,
    progress: Progress = lambda done, total: None,
    backend: str | None = None,
    say: Callable[[str], None] = lambda message: None,
) -> Measurement:
    """Executes `plan` over `warmup` + `items` items and measures the latter.

    `model` is what `Executor` takes; without it, the plan's own model is built again. `inputs` are the items, taken in
    turn; without them, a few random ones (of `seed`). `backend` computes instead of the plan's; `say` is told what it
    compiles. Outputs must be those of the unsplit model bit by bit, for back ends other than eager within what the back
    end states; with `tolerance`, differences up to that part of a tensor's largest magnitude are allowed (see
    `reference_of` for what is compared with what).

    Raises: OutputsDiffer, with the measurement, when outputs are further off; what `Executor` raises.
    """
    if items < 1 or (warmup is not None and warmup < 0):
        raise UsageError("a run needs at least one item, and a warm-up of none or more")
    plan = with_backend(plan, backend)
    backend_called(plan.request.backend).require(compiling=False)
    source = _source(plan, model)
    del model
    calls = plan.request.micro_batches
    given = inputs or _items_of(drawn_items(plan, source, DISTINCT_ITEMS * calls, seed), calls)
    streamed = [tensors_of(source.program, item, calls) for item in given]
    reference = _reference(plan, source, streamed, tolerance)
    warmup = -(-plan.predicted.window // calls) + len(streamed) if warmup is None else warmup
    executor = Executor(
        plan, source, machine=machine, remap=remap, oversubscribe=oversubscribe, timeout_s=timeout_s, say=say
    )
    del source  # with it go the weights, once the executor has shared them
    with torch_threads(1), executor:  # feeding and comparing must not start threads on the workers' cores
        measured = _Stream(executor, streamed, reference, tolerance).run(warmup, items, progress)
    measurement = measured.measurement(plan, remap, oversubscribe)
    if measured.wrong is not None:
        raise OutputsDiffer(measured.wrong, measurement)
    return measurement


def _items_of(parts: list[list[torch.Tensor]], calls: int) -> list[Tensors]:
    """Items of `calls` micro-batches each."""
    return [joined(parts[i : i + calls]) if calls > 1 else parts[i] for i in range(0, len(parts), calls)]


def _reference(plan: Plan, source: Source, items: Sequence[Tensors], tolerance: float | None) -> Reference:
    """What the outputs of `items` have to be (`reference_of`)."""
    calls = plan.request.micro_batches
    if calls == 1:
        return reference_of(plan, source, items, tolerance)
    found = reference_of(plan, source, [part for item in items for part in split(item, calls)], tolerance)
    starts = range(0, len(found.outputs), calls)
    return Reference(tuple(joined(found.outputs[i : i + calls]) for i in starts), found.origin)


def _source(plan: Plan, model: Runnable | Source | None) -> Source:
    if model is None:
        return realised_source(plan)
    return model if isinstance(model, Source) else source_of(plan, model)


def drawn_items(plan: Plan, source: Source, count: int, seed: int = 0) -> list[list[torch.Tensor]]:
    """`count` random items as the plan describes them, in the order of the program's inputs."""
    from mapper.program.items import random_items

    names = [given.name for given in source.program.inputs]
    drawn = random_items(plan.model.item, count, seed)
    return [[item[name] for name in names] if set(names) == set(item) else list(item.values()) for item in drawn]


def sampled(plan: Plan, source: Source, seed: int = 0) -> Sample:
    """A random item of the model of `plan`, with the unsplit model's outputs for it: what a bundle carries along."""
    item = drawn_items(plan, source, 1, seed)[0]
    outputs = reference_of(plan, source, [item]).outputs[0]
    return Sample(dict(zip((given.name for given in source.program.inputs), item, strict=True)), outputs)


class _Stream:
    """One stream through an executor: what it measures, and what it finds different."""

    def __init__(
        self, executor: Executor, items: Sequence[Sequence[torch.Tensor]], reference: Reference, tolerance: float | None
    ) -> None:
        self.executor, self.items, self.reference = executor, items, reference
        self.identical, self.largest, self.relative = True, 0.0, 0.0
        self.limits = [allowed(executor.plan, tensor, tolerance) for tensor in reference.outputs[0]]
        self.wrong: str | None = None

    def run(self, warmup: int, items: int, progress: Progress) -> _Stream:
        """Streams `warmup` and then `items` items, with more behind them, so that the last ones meet full stages."""
        self.warmup, self.count = warmup, items
        outputs = self.executor.map(itertools.cycle(self.items))
        began, first, others = time.monotonic(), 0, _Others(self.executor)
        for number, output in enumerate(itertools.islice(outputs, warmup + items)):
            now = time.monotonic()
            if number == warmup - 1 or (warmup == 0 and number == 0 and items > 1):
                self.executor.reset_statistics()
                began, first, others = now, number + 1, _Others(self.executor)
            self._compare(number, output)
            progress(number + 1, warmup + items)
        self.throughput_per_s = (warmup + items - first) / (now - began)
        self.others_busy = others.busy()
        self.statistics = self.executor.statistics()
        return self

    def _compare(self, number: int, output: Output) -> None:
        found = output if isinstance(output, tuple) else (output,)
        expected = self.reference.outputs[number % len(self.items)]
        for i, (tensor, wanted) in enumerate(zip(found, expected, strict=True)):
            difference = difference_of(tensor, wanted)
            if difference.identical:
                continue
            self.identical = False
            self.largest = max(self.largest, difference.largest)
            self.relative = max(self.relative, difference.relative)
            exact = bits_equal(self.executor.plan) and self.limits[i] == 0
            if self.wrong is None and (exact or difference.relative > self.limits[i]):
                self.wrong = self._complaint(number, i, difference, found)

    def _complaint(self, number: int, i: int, difference: Difference, found: Outputs) -> str:
        which = f"output {i} of item {number}" if len(found) > 1 else f"the output of item {number}"
        return (
            f"{which} is not that of {self.reference.origin}: the largest difference is {difference.largest:g} "
            f"({difference.relative:.1e} relative{f', {self.limits[i]:g} is allowed' if self.limits[i] else ''})"
        )

    def measurement(self, plan: Plan, remap: bool, oversubscribe: bool) -> Measurement:
        """What was measured, beside what the plan predicts."""
        seen = self.statistics
        notes = list(self.executor.notes)
        if not bits_equal(plan):
            notes.append(f"what is predicted is predicted for eager, not for {plan.request.backend}")
        if oversubscribe:
            notes.append("cores may be shared (--oversubscribe): results are right, times mean nothing")
        if self.others_busy > NOTICED:
            notes.append(f"other processes took {self.others_busy:.0%} of the plan's cores meanwhile")
        quota = cpu_quota(Path("/"))
        if quota is not None and quota < len(plan.cores):
            notes.append(f"the system grants the time of {quota:.3g} PUs, the plan has {len(plan.cores)}: workers wait")
        if remap:
            notes.append("cores were chosen anew where the machine differs from the planned one (--remap)")
        return Measurement(
            model=plan.model.name, items=self.count, warmup=self.warmup, window=plan.predicted.window,
            throughput_per_s=self.throughput_per_s, predicted_throughput_per_s=plan.predicted.throughput_per_s,
            latency_s=_percentiles(seen.latencies_s), predicted_latency_s=plan.predicted.latency_s,
            outputs_identical=self.identical, tolerance=max(self.limits, default=0.0),
            outputs_within_tolerance=self.wrong is None,
            max_relative_difference=self.relative if math.isfinite(self.relative) else None,
            max_abs_difference=self.largest if math.isfinite(self.largest) else None,
            compared_with=self.reference.origin, others_busy=self.others_busy, backend=plan.request.backend,
            torch=torch.__version__,
            stages=tuple(
                MeasuredStage(
                    id=s.id, replicas=len(plan.stages[s.id].replicas), load_s=s.load_s,
                    predicted_load_s=plan.stages[s.id].load.total_s, compute_s=s.compute_s, copy_s=s.copy_s,
                    wait_in_s=s.wait_in_s, wait_out_s=s.wait_out_s,
                )
                for s in seen.stages
            ),
            workers=tuple(
                MeasuredWorker(
                    pid=w.pid, stage=w.stage, replica=w.replica, pus=w.pus, threads=w.threads, items=w.items,
                    load_s=(w.compute_s + w.copy_s) / max(w.items, 1),
                )
                for w in seen.workers
            ),
            notes=tuple(notes),
        )  # fmt: skip


class _Others:
    """What other processes take of the plan's PUs from here on. The parent counts as ours wherever it runs."""

    def __init__(self, executor: Executor) -> None:
        workers = executor.statistics().workers
        self.pus = {pu for worker in workers for pu in worker.pus}
        self.pids = [worker.pid for worker in workers]
        self.before, self.own_s = snapshot(), self._cpu_s()

    def busy(self) -> float:
        """The part of the time until now, 0 to 1."""
        return busy_between(self.before, snapshot(), self.pus, self._cpu_s() - self.own_s)

    def _cpu_s(self) -> float:
        return time.process_time() + sum(map(_cpu_s, self.pids))


def _cpu_s(pid: int) -> float:
    """CPU seconds that a process has used, 0 if it is gone: fields 14 and 15 of its `stat` (proc(5)), in ticks."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _percentiles(seconds: Sequence[float]) -> Latency:
    """The values that half, nine tenths and 99 of 100 of `seconds` do not exceed, interpolated."""
    if len(seconds) < 2:
        only = seconds[0] if seconds else 0.0
        return Latency(p50=only, p90=only, p99=only)
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return Latency(p50=cuts[49], p90=cuts[89], p99=cuts[98])
