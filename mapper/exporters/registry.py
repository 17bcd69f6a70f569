"""The targets by name: what each is for, what it needs, and who writes it. Nothing is imported before it is used."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mapper.errors import UnknownName, UsageError

if TYPE_CHECKING:
    from mapper.plans.model import Plan
    from mapper.sources.bundle import Sample
    from mapper.sources.source import Source

Say = Callable[[str], None]


@dataclass(frozen=True)
class Export:
    """What is exported: a plan and, for targets that compute, its model with a sample item."""

    plan: Plan
    source: Source | None = None
    sample: Sample | None = None
    say: Say = lambda message: None

    @property
    def model(self) -> tuple[Source, Sample]:
        """Model and sample of a target that computes."""
        assert self.source is not None and self.sample is not None, "export() demands them of targets that compute"
        return self.source, self.sample


@dataclass(frozen=True)
class Target:
    """A runtime that plans can be exported to. `write(export, path)` is in the module called `module`, room and name.

    `path` is a new folder, or for targets with a `suffix` a new file. `computes`: it takes the model along, and
    computes with one of `backends`, the first where the plan's own is none of them.
    """

    name: str
    title: str
    module: str
    computes: bool = False
    backends: tuple[str, ...] = ()
    suffix: str = ""

    @property
    def write(self) -> Callable[[Export, Path], None]:
        """Writes an export. Its module is imported now. Raises: MissingFeature when the target's library is absent."""
        found: Callable[[Export, Path], None] = importlib.import_module(f"mapper.exporters.{self.module}").write
        return found

    def backend_for(self, asked: str | None, planned: str) -> str:
        """The back end to compute with. Raises: UsageError when the one that was `asked` for is not one of them."""
        if asked is not None and asked not in self.backends:
            raise UsageError(f"{self.name} takes no stages of the back end {asked}",
                             advice=f"--backend {' or '.join(self.backends)}.")  # fmt: skip
        return asked or (planned if planned in self.backends else self.backends[0])


ONNX = frozenset({"onnxruntime", "openvino"})
"""The back ends that compute ONNX ops."""
TARGETS = {
    target.name: target
    for target in (
        Target("json", "stages, ops and workers as one JSON document", "files.json_file", suffix=".json"),
        Target("csv", "a row an op: its stage, and cores and threads of each worker", "files.csv_file", suffix=".csv"),
        Target("dot", "the stages and what flows between them, for Graphviz", "files.dot_file", suffix=".dot"),
        Target("run-cpu", "the pinning, for torch.backends.xeon.run_cpu", "pinning.run_cpu"),
        Target("numactl", "the pinning and the memory policy, for numactl", "pinning.numactl"),
        Target("openmpi-rankfile", "the pinning, as a rankfile of Open MPI", "pinning.openmpi"),
        Target("omp-places", "the pinning of OpenMP threads, as environment variables", "pinning.omp_places"),
        Target("slurm", "the pinning, as a batch script of Slurm", "pinning.slurm"),
        Target("kubernetes", "exclusive CPUs on one NUMA node, as Pods of Kubernetes", "pinning.kubernetes"),
        Target("cpp", "a CMake project: C++ threads and libtorch", "pipelines.cpp", True, ("eager", "inductor")),
        Target("fastflow", "a CMake project: FastFlow and libtorch", "pipelines.fastflow", True, ("eager", "inductor")),
        Target("onnxruntime", "stages as ONNX models, and a launcher for ONNX Runtime", "pipelines.onnxruntime", True,
               ("onnxruntime", "onnxruntime:int8")),
        Target("openvino", "stages as OpenVINO models (IR), and a launcher for OpenVINO", "pipelines.openvino", True,
               ("openvino", "openvino:bfloat16")),
        Target("torch-pipelining", "stages for torch.distributed.pipelining, started by torchrun",
               "pipelines.torch_pipelining", True, ("eager",)),
    )
}  # fmt: skip
"""All targets, in the order in which they are listed."""


def target_called(name: str) -> Target:
    """The target called `name`. Raises: UnknownName with near ones."""
    if name not in TARGETS:
        raise UnknownName("export target", name, TARGETS)
    return TARGETS[name]
