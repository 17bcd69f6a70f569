"""A plan as a pipeline that needs no mapper to run: numbered tensors, a file a stage, workers, a sample to check by.

The folder of an export that computes has `pipeline.json` (this record), a file for each stage in `stages/`, and the raw
bytes of tensors in `tensors/NUMBER.bin`: inputs of a sample item, what the outputs have to be, and constants. Files are
called by numbers only: names from the model are nowhere but in `pipeline.json`, as JSON strings.

Items go through the stages in order. An item holds its tensors by number: each stage takes some, adds some, and lets go
of those that nobody reads later (`drops`). Item n goes to replica n mod r of a stage with r replicas.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from mapper import jsonio
from mapper.errors import BadInput
from mapper.exporters.registry import Export
from mapper.exporters.workers import Worker, workers_of
from mapper.jsonio import Record
from mapper.plans.model import Plan, Stage
from mapper.program.model import Program, TensorType

if TYPE_CHECKING:
    import torch

    from mapper.backends.artefacts import Artefacts
    from mapper.backends.core import Core
    from mapper.sources.bundle import Sample
    from mapper.sources.source import Source

SCHEMA = "mapper-pipeline/1"
FILE, STAGES, TENSORS = "pipeline.json", "stages", "tensors"


class Tensor(Record):
    """A tensor that crosses a border. `name` is for people; `dtype` is torch's name for it; `strides`, in elements, say
    where its elements lie when stages are compiled. Files have them in order, without gaps."""

    name: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str


class PipelineStage(Record):
    """A stage: which tensors it takes and gives, in the order of its file's inputs and outputs, which of the item's
    tensors nobody reads after it, and how many items may wait for each of its workers."""

    id: int
    ops: tuple[str, ...]
    file: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    drops: tuple[int, ...]
    slots: int
    workers: tuple[Worker, ...]


class Pipeline(Record):
    """The whole. `tolerance` says for each output how far it may be from the sample's, relative to the largest
    magnitude of that; 0 where bits must be equal. `window` is how many items in flight keep it busy."""

    schema_: Literal["mapper-pipeline/1"] = Field(default="mapper-pipeline/1", alias="schema")
    model: str
    backend: str
    window: int
    tensors: tuple[Tensor, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    constants: tuple[int, ...]
    tolerance: tuple[float, ...]
    stages: tuple[PipelineStage, ...]


@dataclass
class Numbered:
    """Tensors numbered in the order in which they come to be; `of` finds the number of an op's or input's tensor."""

    tensors: list[Tensor] = field(default_factory=list)
    of: dict[str, int] = field(default_factory=dict)

    def add(self, name: str, kind: TensorType) -> int:
        """The number of a new tensor."""
        self.tensors.append(Tensor(name=name, shape=kind.shape, strides=kind.strides, dtype=kind.dtype))
        return len(self.tensors) - 1


@dataclass(frozen=True)
class Cut:
    """A stage whose borders are numbered: `core` is what computes, `constants` are tensors of it by number."""

    core: Core
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    handed_out: tuple[int, ...]
    constants: Mapping[int, torch.Tensor]


Write = Callable[["Core", int, Path], None]
"""Writes the file of a stage: what computes, with how many threads, where. torch has so many meanwhile: what depends on
weights alone is computed now, and with other threads sums may round differently."""


def write_pipeline(
    plan: Plan, source: Source, sample: Sample, folder: Path, suffix: str, write: Write,
    tolerance: Sequence[float] | None = None, say: Callable[[str], None] = lambda message: None,
) -> Pipeline:  # fmt: skip
    """Writes `plan` into `folder` as a pipeline: `write` makes `stages/NUMBER` + `suffix` for each stage.

    `tolerance` is for each output of the model; without it, what the back end of the plan states.

    Raises: BadInput when `source` is not what was planned, or replicas of one stage have different numbers of threads.
    """
    from mapper.backends.threads import torch_threads
    from mapper.sources.stages import output_homes, stage_programs

    programs = stage_programs(plan, source.program)
    teams = [_threads(stage) for stage in plan.stages]
    numbered = Numbered()
    inputs = tuple(numbered.add(given.name, given.type) for given in source.program.inputs)
    numbered.of = {given.name: i for i, given in zip(inputs, source.program.inputs, strict=True)}
    cuts = []
    for program, threads in zip(programs, teams, strict=True):
        with torch_threads(threads):
            cuts.append(_cut(program, source, numbered))
    outputs = tuple(cuts[s].handed_out[i] for s, i in output_homes(source.program, programs))
    constants = {number: value for cut in cuts for number, value in cut.constants.items()}
    made = Pipeline(
        model=plan.model.name, backend=plan.request.backend, window=plan.predicted.window,
        tensors=tuple(numbered.tensors), inputs=inputs, outputs=outputs, constants=tuple(constants),
        tolerance=tuple(tolerance if tolerance is not None else _tolerance(plan, source, sample)),
        stages=_stages(plan, cuts, suffix, inputs, outputs, constants),
    )  # fmt: skip
    (folder / STAGES).mkdir()
    for stage, cut, threads in zip(made.stages, cuts, teams, strict=True):
        if cut.outputs:
            say(f"Writing stage {stage.id + 1} of {len(cuts)} ...")
            with torch_threads(threads):
                write(cut.core, threads, folder / stage.file)
    _write_tensors(folder, inputs, (sample.inputs[given.name] for given in source.program.inputs))
    _write_tensors(folder, outputs, sample.outputs)
    _write_tensors(folder, tuple(constants), constants.values())
    jsonio.write_text(folder / FILE, jsonio.dumps(jsonio.plain(made)))
    return made


def _cut(program: Program, source: Source, numbered: Numbered) -> Cut:
    """A stage's `program` with its borders numbered. An output that is an input handed through has that number."""
    from mapper.backends.core import core_of

    core = core_of(program)
    entering = [numbered.of[given.name] for given in program.inputs]
    computed = tuple(
        numbered.add(reference["op"], core.program.type_of(reference)) for reference in core.program.outputs
    )
    values = core.constant_results(source.weights)
    constant = {
        numbered.add(next(iter(reference.values())), core.constants.type_of(reference)): value
        for reference, value in zip(core.constants.outputs, values, strict=True)
    }
    places = {"input": entering, "core": computed, "constant": list(constant)}
    handed_out = tuple(places[kind][i] for kind, i in core.sources)
    for reference, number in zip(program.outputs, handed_out, strict=True):
        if "op" in reference:
            numbered.of[reference["op"]] = number
    return Cut(core, tuple(entering[i] for i in core.inputs), computed, handed_out, constant)


def _stages(
    plan: Plan,
    cuts: Sequence[Cut],
    suffix: str,
    inputs: Sequence[int],
    outputs: Sequence[int],
    constants: Mapping[int, object],
) -> tuple[PipelineStage, ...]:
    last = dict.fromkeys(inputs, 0)  # of an input that nobody reads, the first stage lets go
    last |= {number: s for s, cut in enumerate(cuts) for number in (*cut.inputs, *cut.outputs)}
    kept = {*outputs, *constants}
    slots = [max([1, *(edge.slots for edge in plan.edges if edge.target == s)]) for s in range(len(cuts))]
    workers = workers_of(plan)
    return tuple(
        PipelineStage(
            id=s, ops=plan.stages[s].ops, file=f"{STAGES}/{s}{suffix}" if cut.outputs else "", inputs=cut.inputs,
            outputs=cut.outputs, drops=tuple(sorted(n for n, at in last.items() if at == s and n not in kept)),
            slots=slots[s], workers=tuple(worker for worker in workers if worker.stage == s),
        )
        for s, cut in enumerate(cuts)
    )  # fmt: skip


def _threads(stage: Stage) -> int:
    """How many threads each replica of `stage` has. Raises: BadInput where they differ."""
    found = {replica.configuration.threads for replica in stage.replicas}
    if len(found) > 1:
        raise BadInput("plan", "its replicas have different numbers of threads; an exported stage has one",
                       place=f"/stages/{stage.id}/replicas")  # fmt: skip
    return found.pop()


def compiled_stages(export: Export) -> Artefacts:
    """What the plan's back end compiles for each stage and its number of threads, from the cache where it is there; its
    folders are there as long as this is. Raises: what `compiled` does."""
    from mapper.sources.backend import compiled
    from mapper.sources.stages import stage_programs

    plan, (source, _) = export.plan, export.model
    weights = source.weights_fd()
    try:
        programs = stage_programs(plan, source.program)
        return compiled(plan, programs, source.weights, weights, export.say, export.say)
    finally:
        os.close(weights)


def _tolerance(plan: Plan, source: Source, sample: Sample) -> list[float]:
    """What the back end of `plan` states for each output, for this model where it computes with fewer bits."""
    from mapper.sources.backend import allowed, rounding
    from mapper.sources.difference import noise_of

    noise = [0.0] * len(sample.outputs)
    if rounding(plan) and not source.program.is_onnx:
        noise = list(noise_of(source, [[sample.inputs[given.name] for given in source.program.inputs]]))
    return [allowed(plan, tensor, None, own) for tensor, own in zip(sample.outputs, noise, strict=True)]


def _write_tensors(folder: Path, numbers: Sequence[int], tensors: Iterable[torch.Tensor]) -> None:
    """The elements of each tensor in order, as `tensors/NUMBER.bin`."""
    import torch

    (folder / TENSORS).mkdir(exist_ok=True)
    for number, tensor in zip(numbers, tensors, strict=True):
        flat = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
        (folder / TENSORS / f"{number}.bin").write_bytes(flat.numpy().tobytes())
