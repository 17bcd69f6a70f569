"""The target `torch-pipelining`: stages for torch.distributed.pipelining, a process each, started by torchrun."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from mapper.backends.registry import ATEN, backend_called
from mapper.errors import UsageError
from mapper.exporters.pipelines.pipeline import write_pipeline
from mapper.exporters.pipelines.python_launcher import EXIT_CODES, OPTIONS, SHARED, write_launcher
from mapper.exporters.readme import write_readme
from mapper.exporters.registry import Export
from mapper.exporters.workers import workers_of
from mapper.plans.model import Plan
from mapper.program.model import ITEM_BYTES, TensorType
from mapper.program.rebuild import rebuild
from mapper.program.weights import laid_out
from mapper.units import format_bytes

if TYPE_CHECKING:
    from mapper.backends.core import Core
    from mapper.exporters.pipelines.pipeline import Pipeline

LAUNCHER = SHARED | {"seats.py": "seats.py", "stages.py": "stages.py", "run.py": "torch_run.py"}


def write(export: Export, path: Path) -> None:
    """Writes the export into the folder `path`.

    Raises: UsageError where stages have different numbers of replicas; BadInput as `write_pipeline`.
    """
    plan, (source, sample) = export.plan, export.model
    replicas = _replicas(plan)

    def stage(core: Core, threads: int, path: Path) -> None:
        _write_stage(core, source.weights, path)

    # eager itself has to be bit-equal, but on another processor or with another torch sums are taken in another order
    allowed = [backend_called(ATEN).allowed(str(tensor.dtype).removeprefix("torch.")) for tensor in sample.outputs]
    made = write_pipeline(plan, source, sample, path, ".pt2", stage, allowed, export.say)
    write_launcher(path, LAUNCHER)
    write_readme(path, plan, "a pipeline of torch.distributed.pipelining", _commands(plan), _notes(made, replicas))


def _replicas(plan: Plan) -> int:
    """How many replicas each stage has. Raises: UsageError where they differ."""
    counts = [len(stage.replicas) for stage in plan.stages]
    if len(set(counts)) > 1:
        raise UsageError(
            f"the stages have {', '.join(map(str, counts))} replicas, and torch.distributed.pipelining has one process "
            "a stage: only whole pipelines can stand side by side",
            advice="Plan with --replicas 1, or for one stage (--stages 1), or export it --to onnxruntime or openvino.",
        )
    return counts[0]


class _Bordered(torch.nn.Module):
    """`inner`, a stage, with tensors at its borders as torch sends them: elements in order, without gaps."""

    def __init__(self, inner: torch.nn.Module, kinds: Sequence[TensorType]) -> None:
        super().__init__()
        self.inner, self.kinds = inner, kinds

    def forward(self, *given: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Contiguous outputs, for contiguous inputs."""
        laid = [_laid(tensor, kind) for tensor, kind in zip(given, self.kinds, strict=True)]
        return tuple(tensor.contiguous() for tensor in self.inner(*laid))


def _laid(tensor: torch.Tensor, kind: TensorType) -> torch.Tensor:
    """The contiguous `tensor` with its dimensions in memory as `kind` has them: views of it need that, and kernels
    sum in another order where it is another. Gaps in memory are not made again."""
    order = sorted(range(len(kind.shape)), key=lambda dimension: -kind.strides[dimension])
    back = sorted(range(len(order)), key=order.__getitem__)
    for dimension, (length, once) in enumerate(zip(kind.shape, kind.distinct_shape, strict=True)):
        if length > once:
            tensor = tensor.narrow(dimension, 0, 1)
    if order != sorted(order):
        tensor = tensor.permute(order).contiguous().permute(back)
    return tensor.expand(kind.shape)


def _write_stage(core: Core, weights: Mapping[str, torch.Tensor], path: Path) -> None:
    """Writes what `core` computes as a program of torch.export."""
    program = core.program
    inner = rebuild(program, laid_out(program, weights))
    for name, held in list(inner.named_buffers()):
        if held.untyped_storage().nbytes() != held.numel() * held.element_size():
            setattr(inner, name, held.clone())  # a view of something larger: the file would hold all of that
    kinds = [given.type for given in program.inputs]
    given = tuple(torch.zeros(kind.shape, dtype=getattr(torch, kind.dtype)) for kind in kinds)
    with torch.no_grad():
        torch.export.save(torch.export.export(_Bordered(inner, kinds), given, strict=False), path)


def _commands(plan: Plan) -> list[str]:
    """What starts the pipeline."""
    hosts = sorted({worker.host for worker in workers_of(plan)})
    counts = [sum(worker.host == host for worker in workers_of(plan)) for host in hosts]
    if len(hosts) == 1:
        return ["python -m pip install torch", f"torchrun --standalone --nproc-per-node {counts[0]} run.py {OPTIONS}"]
    return [
        "# the same on each host, with its own numbers; ADDRESS is host "
        f"{hosts[0]}'s, GLOO_SOCKET_IFNAME names the network interface to use",
        *(
            f"torchrun --nnodes {len(hosts)} --node-rank {node} --nproc-per-node {count} --master-addr ADDRESS "
            f"--master-port 29500 run.py {OPTIONS}    # host {host}"
            for node, (host, count) in enumerate(zip(hosts, counts, strict=True))
        ),
    ]


def _notes(made: Pipeline, replicas: int) -> list[str]:
    """The paragraphs of the README."""
    sent, passed = _sent_bytes(made)
    return [
        "Needs torch on Linux, and nothing else. Stages are `stages/NUMBER.pt2`, written by torch.export with torch "
        f"{torch.__version__}: this or a newer one loads them. Loading such a file can run code that is in it, as "
        "with all files of torch.export: take it from whom you trust.",
        EXIT_CODES + " They are those of `python run.py`, which starts the processes itself, on one machine; torchrun "
        "ends with 1 whatever fails, and says which process ended with which code.",
        "In a program of your own, started by torchrun in the same way: `from run import opened`, then `with opened() "
        "as pipeline: for outputs in pipeline.map(items): ...`, in all processes alike. Outputs come out where the "
        "last stage is.",
        "Each process is bound to its PUs before torch is imported. Items go through in steps of at most 16, the "
        "schedule is GPipe's without a backward pass; a stage waits for each item before it computes it, so that "
        "sending and computing do not overlap within a stage.",
        "torch's pipeline passes tensors only from a stage to the next one: what a later stage reads, or is an output "
        f"of the model, is handed through the stages between. Of the {format_bytes(sent)} of an item that stages send, "
        f"{format_bytes(passed)} is handed through. Processes send through sockets (gloo), also on one machine, which "
        "costs more than the shared memory of our own executor.",
        *([f"Each stage has {replicas} replicas: {replicas} pipelines stand side by side, and item n goes through "
           f"pipeline n mod {replicas}."] if replicas > 1 else []),
    ]  # fmt: skip


def _sent_bytes(made: Pipeline) -> tuple[int, int]:
    """The bytes of an item that stages send to the next one, and how many of them that one only hands on."""
    sizes = [math.prod(tensor.shape) * ITEM_BYTES[tensor.dtype] for tensor in made.tensors]
    sent = passed = 0
    known = set(made.inputs)
    for s, stage in enumerate(made.stages):
        if s > 0:
            wanted = set(made.outputs).union(*(later.inputs for later in made.stages[s:]))
            sent += sum(sizes[number] for number in known & wanted)
            passed += sum(sizes[number] for number in (known & wanted) - set(stage.inputs))
        known |= set(stage.outputs)
    return sent, passed
