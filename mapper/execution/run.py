"""`mapper run`: a plan at work over a stream of items, measured, and its outputs compared with the unsplit model."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from mapper.backends.registry import backend_called
from mapper.backends.threads import torch_threads
from mapper.errors import UsageError
from mapper.execution.executor import TIMEOUT_S, Executor
from mapper.execution.feeding.micro_batches import Tensors, joined, split
from mapper.execution.items_file import ItemsFile, open_items
from mapper.execution.measured import MeasuredStream, Progress
from mapper.execution.measurement import Measurement, OutputsDiffer
from mapper.execution.reference import Reference, reference_of
from mapper.execution.results_file import converted, results_file
from mapper.machine.model import Machine
from mapper.plans.model import Plan
from mapper.plans.timeline import Timeline
from mapper.sources.backend import with_backend
from mapper.sources.bundle import Sample
from mapper.sources.source import Item, Runnable, Source, realised_source, source_of, tensors_of

DISTINCT_ITEMS = 4
COMPARED_ITEMS = 4
"""How many items of a file are compared where nothing else is said."""
DEFAULT_ITEMS = 100
TRACED = 4096

__all__ = ["Measurement", "OutputsDiffer", "drawn_items", "reference_of_items", "run", "sampled", "whole_items"]


def run(
    plan: Plan,
    model: Runnable | Source | None = None,
    *,
    items: int | None = None,
    warmup: int | None = None,
    inputs: Sequence[Item] | Path | None = None,
    results: Path | None = None,
    compare: int | None = None,
    seed: int = 0,
    tolerance: float | None = None,
    machine: Machine | None = None,
    remap: bool = False,
    oversubscribe: bool = False,
    timeout_s: float | None = TIMEOUT_S,
    logs: Path | None = None,
    progress: Progress = lambda done, total: None,
    backend: str | None = None,
    timeline: Callable[[Timeline], None] | None = None,
    say: Callable[[str], None] = lambda message: None,
) -> Measurement:
    """Executes `plan` over `warmup` + `items` items and measures the latter. `model` is what `Executor` takes; without
    it, the plan's own model is built again.

    `inputs` are the items, taken in turn; without them, a few random ones (of `seed`). An `.npz` file of items (see
    `items_file`) is run once, without a warm-up, unless `items` and `warmup` say otherwise. `results` is an `.npz` file
    for the outputs of the measured items, written while they come, and there only if they are right. `backend` computes
    instead of the plan's; `say` is told what it compiles, and `timeline` what every worker did with its last `TRACED`
    calls, and when.

    Outputs must be those of the unsplit model bit by bit, for back ends other than eager within what the back end
    states; with `tolerance`, differences up to that part of a tensor's largest magnitude are allowed (see
    `reference_of`). That is computed before, for the first `compare` different items (None: 4 of a file, else all).

    Raises: OutputsDiffer, with the measurement; BadInput for files; SystemRefused for `results`; what `Executor` does.
    """
    require_counts(items, warmup, compare)
    plan = computed_by(plan, backend)
    source = _source(plan, model)
    del model
    given = given_items(plan, source, inputs, seed)
    compared = list(itertools.islice(given.items, compare or given.compared))
    executor = Executor(  # before the reference, which may take minutes: a plan that does not fit here is refused first
        plan, source, machine=machine, remap=remap, oversubscribe=oversubscribe, timeout_s=timeout_s, logs=logs,
        traced=0 if timeline is None else TRACED, say=say,
    )  # fmt: skip
    reference = reference_of_items(plan, source, compared, tolerance)
    count, warmup = given.counts(items, warmup)
    notes = [*given.notes, *(converted(source.program) if results is not None else [])]
    with torch_threads(1), _results(results, plan, source, count, given.rows) as put:  # no threads on workers' cores
        del source  # with it go the weights, once the executor has shared them
        with executor, executor.beside():
            stream = MeasuredStream(executor, given.items, reference, tolerance, endless=given.endless)
            stream.run(warmup, count, progress, put)
            if timeline is not None:
                timeline(executor.timeline())
        measurement = stream.measurement(plan, remap, oversubscribe, notes)
        if stream.wrong is not None:
            raise OutputsDiffer(stream.wrong, measurement)
    return measurement


def computed_by(plan: Plan, backend: str | None) -> Plan:
    """`plan` with its back end, or with `backend`, which must be there."""
    plan = with_backend(plan, backend)
    backend_called(plan.request.backend).require(compiling=False)
    return plan


def require_counts(items: int | None, warmup: int | None, compare: int | None) -> None:
    if (items is not None and items < 1) or (warmup is not None and warmup < 0):
        raise UsageError("a run needs at least one item, and a warm-up of none or more")
    if compare is not None and compare < 1:
        raise UsageError("at least one item is compared with the unsplit model")


@dataclass(frozen=True)
class GivenItems:
    """The items of a run, and what follows for it from where they are from."""

    items: ItemsFile | Sequence[Tensors]
    items_to_run: int
    warmup: int
    compared: int
    endless: bool
    rows: bool = False
    notes: Sequence[str] = ()

    def counts(self, items: int | None, warmup: int | None) -> tuple[int, int]:
        """How many items to measure and to warm up with, where nobody says."""
        return self.items_to_run if items is None else items, self.warmup if warmup is None else warmup


def given_items(plan: Plan, source: Source, inputs: Sequence[Item] | Path | None, seed: int) -> GivenItems:
    """The items that `inputs` stands for. Raises: BadInput."""
    if isinstance(inputs, Path):
        file = open_items(inputs, plan, source.program)
        return GivenItems(file, len(file), 0, min(COMPARED_ITEMS, len(file)), False, file.rows, file.notes)
    calls = plan.request.micro_batches
    items = inputs or whole_items(plan, source, DISTINCT_ITEMS, seed)
    tensors = [tensors_of(source.program, item, calls) for item in items]
    warmup = -(-plan.predicted.window // calls) + len(tensors)
    return GivenItems(tensors, DEFAULT_ITEMS, warmup, len(tensors), endless=True)


def _results(
    path: Path | None, plan: Plan, source: Source, count: int, rows: bool
) -> contextlib.AbstractContextManager[Callable[[Sequence[torch.Tensor]], None]]:
    """What takes the outputs, in a block: a file, or nothing."""
    if path is None:
        return contextlib.nullcontext(lambda outputs: None)
    return results_file(path, plan, source.program, count, rows)


def whole_items(plan: Plan, source: Source, count: int, seed: int = 0) -> list[Tensors]:
    """`count` random items of `plan`: of as many micro-batches as it says."""
    calls = plan.request.micro_batches
    parts = drawn_items(plan, source, count * calls, seed)
    return [joined(parts[i : i + calls]) if calls > 1 else parts[i] for i in range(0, len(parts), calls)]


def reference_of_items(
    plan: Plan, source: Source, items: Sequence[Tensors], tolerance: float | None = None
) -> Reference:
    """What the outputs of `items`, each of all its micro-batches, have to be (`reference_of`)."""
    calls = plan.request.micro_batches
    if calls == 1:
        return reference_of(plan, source, items, tolerance)
    found = reference_of(plan, source, [part for item in items for part in split(item, calls)], tolerance)
    starts = range(0, len(found.outputs), calls)
    return replace(found, outputs=tuple(joined(found.outputs[i : i + calls]) for i in starts))


def _source(plan: Plan, model: Runnable | Source | None) -> Source:
    if model is None:
        return realised_source(plan)
    return model if isinstance(model, Source) else source_of(plan, model)


def drawn_items(plan: Plan, source: Source, count: int, seed: int = 0) -> list[list[torch.Tensor]]:
    """`count` random items of one call as the plan describes them, in the order of the program's inputs."""
    from mapper.program.items import random_items

    names = [given.name for given in source.program.inputs]
    drawn = random_items(plan.model.item, count, seed)
    return [[item[name] for name in names] if set(names) == set(item) else list(item.values()) for item in drawn]


def sampled(plan: Plan, source: Source, seed: int = 0) -> Sample:
    """A random item of the model of `plan`, with the unsplit model's outputs for it: what a bundle carries along."""
    item = drawn_items(plan, source, 1, seed)[0]
    outputs = reference_of(plan, source, [item]).outputs[0]
    return Sample(dict(zip((given.name for given in source.program.inputs), item, strict=True)), outputs)
