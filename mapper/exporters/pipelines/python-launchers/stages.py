"""The stages at work: torch.distributed.pipelining over gloo. Imported when the process is bound to its PUs."""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice, repeat
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from command import Asked, Description, Difference, Report, pus_of, threads_here
from seats import Seat, seats_of
from torch.distributed.pipelining import PipelineStage, ScheduleGPipe

Item = Sequence[torch.Tensor] | Mapping[str, torch.Tensor]
"""Tensors in the order of the model's inputs, or by their names."""
MICROBATCHES = 16
"""So many items are a step of the schedule, at most."""
LINE_BYTES = 64


class Stage(torch.nn.Module):
    """A stage as torch's pipeline wants it: it gets what the stage before it gave, and gives what the next one gets.

    So it also hands through what only later stages read. Items come in with a first dimension of length 1, along which
    torch takes a step apart, and go out of the last stage with one, along which it puts a step together again.
    """

    def __init__(self, description: Description, stage: int) -> None:
        super().__init__()
        self.description, self.own = description, description.stages[stage]
        self.first, self.last = stage == 0, stage == len(description.stages) - 1
        self.entering = list(description.inputs) if self.first else description.entering(stage)
        self.leaving = description.computed if self.last else description.entering(stage + 1)
        self.compute = loaded(description.folder / self.own.file) if self.own.file else None

    def forward(self, *given: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """What leaves, for what enters."""
        entering = [_aligned(tensor.squeeze(0)) for tensor in given] if self.first else given
        held = dict(zip(self.entering, entering, strict=True))
        if self.compute is not None:
            held.update(zip(self.own.outputs, self.compute(*(held[n] for n in self.own.inputs)), strict=True))
        return tuple(held[n].unsqueeze(0) if self.last else held[n] for n in self.leaving)


def _aligned(tensor: torch.Tensor) -> torch.Tensor:
    """`tensor` where a line of the cache begins: kernels may sum in another order where none does."""
    return tensor.clone() if tensor.data_ptr() % LINE_BYTES else tensor


def loaded(path: Path) -> Any:
    """The exported program in `path` as what computes it, without the checks of its inputs' shapes at each call."""
    program = torch.export.load(path)
    unchecked = "check_guards" in inspect.signature(program.module).parameters
    return (program.module(check_guards=False) if unchecked else program.module()).forward


class Pipeline:
    """The stage of this process, joined to those of the others. A context manager, in all processes at once.

    Where stages have r replicas, r pipelines stand side by side, and item n goes through pipeline n mod r.
    """

    def __init__(self, description: Description, seat: Seat, microbatches: int = MICROBATCHES) -> None:
        self.description, self.seat, self.microbatches = description, seat, microbatches
        self.pipelines = len(description.stages[0].workers)
        torch.set_num_threads(seat.worker.threads)
        self._stage = Stage(description, seat.stage).eval()
        if os.environ["LOCAL_WORLD_SIZE"] == os.environ["WORLD_SIZE"]:
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # on one machine, nothing has to be open to others
        dist.init_process_group("gloo")
        self._joined = _joined(self._stage, seat)
        self._schedules: dict[int, ScheduleGPipe] = {}

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(self, kind: object, *error: object) -> None:
        if kind is None:
            dist.destroy_process_group()

    def map(self, items: Iterable[Item]) -> Iterator[tuple[torch.Tensor, ...]]:
        """The outputs for those of `items` that go through this process's pipeline, in their order, where it has the
        last stage; nothing elsewhere. All processes give the same number of items; only first stages look at them.

        Items go through in steps, and none comes out before its step has gone in: `items` may not wait for outputs.
        """
        mine = islice(items, self.seat.pipeline, None, self.pipelines)
        while step := list(islice(mine, self.microbatches)):
            with torch.inference_mode():
                outputs = self._outputs(self._schedule(len(step)).step(*self._stacked(step)), len(step))
            yield from outputs

    def _schedule(self, count: int) -> ScheduleGPipe:
        """The schedule of steps of `count` items. Its stage has room for the items of one step: a shorter one at the
        end gets a stage of its own."""
        if count not in self._schedules:
            self._schedules[count] = ScheduleGPipe(self._joined(), count)
        return self._schedules[count]

    def _stacked(self, step: Sequence[Item]) -> list[torch.Tensor]:
        """The items of a step as the first stage's arguments."""
        if self.seat.stage > 0:
            return []
        rows = [self._tensors(item) for item in step]
        return [torch.stack(column) for column in zip(*rows, strict=True)]

    def _tensors(self, item: Item) -> list[torch.Tensor]:
        """The tensors of `item` in the order of the inputs, each checked."""
        wanted = [self.description.tensors[number] for number in self.description.inputs]
        given = [item[kind.name] for kind in wanted] if isinstance(item, Mapping) else list(item)
        if len(given) != len(wanted):
            raise ValueError(f"an item has {len(wanted)} tensor(s), {len(given)} were given")
        for found, kind in zip(given, wanted, strict=True):
            dtype = str(found.dtype).removeprefix("torch.")
            if found.shape != kind.shape or dtype != kind.dtype:
                raise ValueError(
                    f"{kind.name} is {dtype}{list(found.shape)}, {kind.dtype}{list(kind.shape)} was expected"
                )
        return given

    def _outputs(self, merged: Any, count: int) -> list[tuple[torch.Tensor, ...]]:
        """The outputs of each item of a step."""
        if self.seat.stage < len(self.description.stages) - 1:
            return []
        found = dict(zip(self._stage.leaving, merged, strict=True))
        constants = {number: tensor(self.description, number) for number in self.description.constants}
        numbers = self.description.outputs
        return [tuple(found[n][i] if n in found else constants[n] for n in numbers) for i in range(count)]


def _joined(stage: Stage, seat: Seat) -> Callable[[], PipelineStage]:
    """What makes a stage of torch's pipeline of `stage`, with the processes of its own pipeline. In all processes, as
    a group is made by all, also by those that are not in it."""
    description, seats, groups = stage.description, seats_of(stage.description), {}
    for pipeline in sorted({other.pipeline for other in seats}):
        ranks = [rank for rank, other in enumerate(seats) if other.pipeline == pipeline]
        groups[pipeline] = (ranks, dist.new_group(ranks))
    ranks, group = groups[seat.pipeline]
    place = {seats[rank].stage: position for position, rank in enumerate(ranks)}

    def make() -> PipelineStage:
        made = PipelineStage(
            stage, seat.stage, len(description.stages), torch.device("cpu"),
            input_args=_like(description, stage.entering, stage.first),
            output_args=_like(description, stage.leaving, stage.last), group=group,
        )  # fmt: skip
        made.stage_index_to_group_rank = place
        return made

    return make


def _like(description: Description, numbers: Sequence[int], outer: bool) -> tuple[torch.Tensor, ...]:
    """Tensors without memory, shaped as these are between stages, or at an end of the pipeline."""
    kinds = [description.tensors[number] for number in numbers]
    return tuple(
        torch.empty((1, *kind.shape) if outer else kind.shape, dtype=getattr(torch, kind.dtype), device="meta")
        for kind in kinds
    )


def tensor(description: Description, number: int) -> torch.Tensor:
    """A tensor of the sample, or a constant."""
    kind, data = description.tensors[number], bytearray(description.file(number).read_bytes())
    dtype = getattr(torch, kind.dtype)
    return (torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)).reshape(kind.shape)


def compare(found: torch.Tensor, expected: torch.Tensor) -> float | None:
    """None where all bits are equal, else how far `found` is off, relative to the largest magnitude of `expected`; NaN
    equals NaN."""
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return float("inf")
    if found.numel() == 0 or torch.equal(*(t.contiguous().reshape(-1).view(torch.uint8) for t in (found, expected))):
        return None
    wide = torch.complex128 if expected.is_complex() else torch.float64
    a, b = found.to(wide), expected.to(wide)
    gap = torch.where((a == b) | (a.isnan() & b.isnan()), 0.0, (a - b).abs())
    largest = float(gap.nan_to_num(nan=float("inf"), posinf=float("inf")).max())
    scale = float(torch.where(b.isfinite(), b.abs(), 0.0).max())
    return largest / scale if scale else float("inf") if largest else 0.0


def measure(pipeline: Pipeline, asked: Asked) -> Report:
    """Sends the sample through `pipeline` as often as is `asked`, in all processes at once, and compares what comes out
    every time. The clock runs from when all are done with the warm-up until all are done."""
    description = pipeline.description
    item = [tensor(description, number) for number in description.inputs]
    expected = [tensor(description, number) for number in description.outputs]
    difference = Difference()

    def run(count: int) -> None:
        for outputs in pipeline.map(repeat(item, count)):
            for i, pair in enumerate(zip(outputs, expected, strict=True)):
                relative = compare(*pair)
                if relative is not None:
                    difference.add(i, relative, description.tolerance[i])

    run(asked.warmup)
    dist.barrier()
    begun = time.perf_counter()
    run(asked.items)
    dist.barrier()
    return _gathered(pipeline, asked.items, time.perf_counter() - begun, difference)


def _gathered(pipeline: Pipeline, items: int, seconds: float, difference: Difference) -> Report:
    """The report of all processes, in each of them."""
    worker = pipeline.seat.worker
    own = {"rank": worker.rank, "stage": worker.stage, "replica": worker.replica, **pus_of(threads_here()),
           "threads": torch.get_num_threads()}  # fmt: skip
    found: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(found, (own, difference))
    whole = Difference(
        all(each.identical for _, each in found), max(each.largest for _, each in found),
        {output: text for _, each in found for output, text in each.wrong.items()},
    )  # fmt: skip
    return Report(items, seconds, whole, sorted((told for told, _ in found), key=lambda told: int(told["rank"])))
