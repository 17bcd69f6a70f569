"""One stream through an executor, measured: its rate, its latencies, what others took, and whether it is right."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import torch

from mapper.execution.executor import Output
from mapper.execution.items_file import ItemsFile
from mapper.execution.measurement import Accuracy, Measurement, measured_stage, measured_worker
from mapper.execution.reference import Outputs, Reference, accuracy_of, limits_of
from mapper.execution.statistics import Statistics
from mapper.host.load import Others
from mapper.machine.cgroup import cpu_quota
from mapper.plans.latency import percentiles
from mapper.plans.model import Plan
from mapper.sources.backend import bits_equal, rounding
from mapper.sources.difference import Difference, difference_of

NOTICED = 0.05
"""The part of the plan's PUs that others may take without being mentioned."""
Progress = Callable[[int, int], None]
"""Told how many outputs of how many have come."""


class Streaming(Protocol):
    """What a stream of items is run through: an executor, or hosts."""

    plan: Plan
    notes: list[str]

    def map(self, items: Iterable[Sequence[torch.Tensor]]) -> Iterator[Output]:
        """The outputs of items, in order."""

    def reset_statistics(self) -> None:
        """Statistics count from here on."""

    def statistics(self) -> Statistics:
        """What was seen since."""


class MeasuredStream:
    """`items` (begun anew as often as needed) through `executor`: `warmup` first, then as many as
    are measured, from item number `first` on. Outputs of the first items are compared with `reference`, which may have
    fewer than there are items. With `endless`, more items follow, so that the last ones meet full stages."""

    def __init__(
        self, executor: Streaming, items: ItemsFile | Sequence[Sequence[torch.Tensor]], reference: Reference,
        tolerance: float | None, *, endless: bool, first: int = 0,
    ) -> None:  # fmt: skip
        self.executor, self.items, self.distinct, self.reference = executor, items, len(items), reference
        self.endless, self.first = endless, first
        self.identical, self.largest, self.relative = True, 0.0, 0.0
        self.limits = limits_of(executor.plan, reference, tolerance)
        self.rounded: dict[int, Outputs] = {}
        self.wrong: str | None = None
        self.compared = self.without_number = 0

    def run(self, warmup: int, items: int, progress: Progress, put: Callable[[Outputs], None]) -> MeasuredStream:
        """Streams `warmup` and then `items` items; `put` takes the outputs of the latter."""
        self.warmup, self.count = warmup, items
        outputs = self.executor.map(self._given())
        began, first, others = time.monotonic(), 0, self._others()
        for number, output in enumerate(itertools.islice(outputs, warmup + items)):
            now = time.monotonic()
            if number == warmup - 1 or (warmup == 0 and number == 0 and items > 1):
                self.executor.reset_statistics()
                began, first, others = now, number + 1, self._others()
            found = output if isinstance(output, tuple) else (output,)
            self.compare(number - warmup + (self.first if number >= warmup else 0), found)
            if number >= warmup:
                put(found)
            progress(number + 1, warmup + items)
        self.throughput_per_s = (warmup + items - first) / (now - began)
        self.others_busy = others.taken().share
        self.statistics = self.executor.statistics()
        return self

    def _others(self) -> Others:
        """What others take of the plan's PUs from here on."""
        workers = self.executor.statistics().workers
        return Others({pu for worker in workers for pu in worker.pus}, [worker.pid for worker in workers])

    def _given(self) -> Iterator[Sequence[torch.Tensor]]:
        again = itertools.chain.from_iterable(itertools.repeat(self.items))
        yield from itertools.islice(again, self.warmup)
        measured = itertools.chain.from_iterable(itertools.repeat(self.items))
        yield from itertools.islice(measured, self.first, None if self.endless else self.first + self.count)

    def compare(self, number: int, found: Outputs) -> None:
        """Compares the outputs of measured item `number`, or of one of the warm-up if it is negative."""
        place = (number if number >= 0 else self.warmup + number) % self.distinct
        if place >= len(self.reference.outputs):
            self.without_number += any(bool(t.isnan().any()) for t in found if t.is_floating_point())
            return
        self.compared += number >= 0
        if rounding(self.executor.plan):
            self.rounded.setdefault(place, found)
        for i, (tensor, wanted) in enumerate(zip(found, self.reference.outputs[place], strict=True)):
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
        item = f"item {number}" if number >= 0 else f"item {self.warmup + number} of the warm-up"
        which = f"output {i} of {item}" if len(found) > 1 else f"the output of {item}"
        return (
            f"{which} is not that of {self.reference.origin}: the largest difference is {difference.largest:g} "
            f"({difference.relative:.1e} relative{f', {self.limits[i]:g} is allowed' if self.limits[i] else ''})"
        )

    def _accuracy(self) -> Accuracy | None:
        """How near the outputs of each compared item are, for a back end that computes with fewer bits."""
        if not self.rounded:
            return None
        return accuracy_of(list(self.rounded.values()), [self.reference.outputs[place] for place in self.rounded])

    def measurement(self, plan: Plan, remap: bool, oversubscribe: bool, notes: Sequence[str] = ()) -> Measurement:
        """What was measured, beside what the plan predicts."""
        seen = self.statistics
        return Measurement(
            model=plan.model.name, items=self.first + self.count, items_compared=self.compared, warmup=self.warmup,
            window=plan.predicted.window, throughput_per_s=self.throughput_per_s,
            predicted_throughput_per_s=plan.predicted.throughput_per_s,
            latency_s=percentiles(seen.latencies_s), predicted_latency_s=plan.predicted.latency_s,
            outputs_identical=self.identical, tolerance=max(self.limits, default=0.0),
            outputs_within_tolerance=self.wrong is None,
            max_relative_difference=self.relative if math.isfinite(self.relative) else None,
            max_abs_difference=self.largest if math.isfinite(self.largest) else None,
            compared_with=self.reference.origin, others_busy=self.others_busy, backend=plan.request.backend,
            torch=torch.__version__, stages=tuple(measured_stage(plan, stage) for stage in seen.stages),
            workers=tuple(map(measured_worker, seen.workers)), accuracy=self._accuracy(),
            notes=(*self.executor.notes, *notes, *self._notes(plan, remap, oversubscribe)),
        )  # fmt: skip

    def _notes(self, plan: Plan, remap: bool, oversubscribe: bool) -> Iterator[str]:
        """What a reader of the figures must know."""
        if not bits_equal(plan):
            yield f"what is predicted is predicted for eager, not for {plan.request.backend}"
        if self.without_number:
            yield f"{self.without_number} outputs that were not compared hold NaN"
        if oversubscribe:
            yield "cores may be shared (--oversubscribe): results are right, times mean nothing"
        if self.others_busy > NOTICED:
            yield f"other processes took {self.others_busy:.0%} of the plan's cores meanwhile"
        quota = cpu_quota(Path("/"))
        if quota is not None and quota < len(plan.cores):
            yield f"the system grants the time of {quota:.3g} PUs, the plan has {len(plan.cores)}: workers wait"
        if remap:
            yield "cores were chosen anew where the machine differs from the planned one (--remap)"
