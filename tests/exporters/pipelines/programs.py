"""Builds the C++ program of an export, and runs exports with it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mapper.execution.run import sampled
from mapper.exporters.export import export
from mapper.plans.model import Plan
from mapper.sources.backend import with_backend
from mapper.sources.source import source_of
from tests.execution import models
from tests.program.modules import case
from tests.tracing import Traced, cuts, plan_for, traced


class Constant(torch.nn.Module):
    """Outputs that are constants, an input handed through, and one result twice."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.arange(6.0))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y = x + 1
        return self.weight * 2, x, torch.relu(y * self.weight), self.weight, y, y


class Shared(torch.nn.Module):
    """The same computed from a weight in two places of a stage: one tensor under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.linspace(-1, 1, 16).reshape(4, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(x @ (self.weight * 2))
        return torch.relu(x @ (self.weight * 2)) + x


def model_called(name: str) -> Traced:
    """The small model called `name`."""
    if name in ("mlp", "skip", "strides"):
        found: Traced = getattr(models, name)()
        return found
    if name == "constant":
        return traced(Constant(), torch.ones(6), name=name)
    if name == "shared":
        return traced(Shared(), torch.ones(3, 4), name=name)
    known = case(name)
    return Traced(known.module, known.program, known.weights, known.graph)


PLANS: dict[str, tuple[list[int], list[int], list[int]]] = {
    "skip": ([2, 2, 2], [2, 1, 3], [1, 2, 1]),
    "attention": ([3, 2, 3], [1, 2, 1], [2, 1, 1]),
    "strides": ([2, 2, 3], [3, 2, 1], [1, 1, 1]),
    "tied": ([2, 3], [1, 2], [1, 1]),
    "constant": ([1, 2], [1, 2], [1, 1]),
    "mlp": ([3, 3, 2], [1, 1, 1], [1, 1, 1]),
    "shared": ([4, 1], [1, 1], [1, 1]),
}
"""For each model the ops of its stages (the last has the rest), their replicas and threads: skips over stages, outputs
that are inputs, constants, views and integers, replicas between replicas, and teams."""


def planned(name: str, **changes: Any) -> tuple[Traced, Plan]:
    """The model called `name`, and a plan of it."""
    model = model_called(name)
    sizes, replicas, threads = PLANS[name]
    return model, plan_for(model, cuts(model.graph, sizes), replicas=replicas, threads=threads, **changes)


def exported(plan: Plan, model: Traced, target: str, folder: Path, backend: str = "eager", **changes: Any) -> Path:
    """An export of `plan` in `folder`, with a random item. `changes` are of the source."""
    plan = with_backend(plan, backend)
    source = source_of(plan, model.module)
    return export(plan, target, folder, replace(source, **changes), sampled(plan, source))


def built(folder: Path, *defines: str) -> Path:
    """The program of the export in `folder`, built there as its README says; a skip where nothing can build it."""
    missing = [name for name in ("cmake",) if shutil.which(name) is None]
    if shutil.which(os.environ.get("CXX", "c++")) is None:
        missing.append("a C++ compiler")
    if missing:
        pytest.skip(f"{' and '.join(missing)} missing: the C++ exports are untested here")
    prefix = f"-DCMAKE_PREFIX_PATH={torch.utils.cmake_prefix_path}"
    done = _called(["cmake", "-S", ".", "-B", "build", prefix, *defines], folder)
    assert done.returncode == 0, done.stdout[-5000:]
    done = _called(["cmake", "--build", "build", "-j", "2"], folder)
    assert done.returncode == 0 and "warning:" not in done.stdout, done.stdout[-5000:]
    return folder / "build" / "pipeline"


def _called(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@dataclass(frozen=True)
class Ran:
    """How a run ended, and the document that it printed."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.out)
        return found


def ran(program: Path, folder: Path, *options: object, **environment: str) -> Ran:
    """`pipeline FOLDER OPTIONS`."""
    words = [str(program), str(folder), *map(str, options)]
    binding = ("OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY")
    clean = {name: value for name, value in os.environ.items() if name not in binding}
    done = subprocess.run(words, env=clean | environment, capture_output=True, text=True, timeout=120)
    return Ran(done.returncode, done.stdout, done.stderr)


def require_right(found: Ran, plan: Plan, *, identical: bool = True) -> None:
    """The run is over without an error, and outputs are those of the sample."""
    assert found.code == 0, found.err
    assert found.document["within_tolerance"] is True
    assert (found.document["outputs"] == "identical") or not identical
    workers = [(w["stage"], w["replica"], w["threads"]) for w in found.document["workers"]]
    assert workers == [
        (stage.id, r, replica.configuration.threads)
        for stage in plan.stages
        for r, replica in enumerate(stage.replicas)
    ]
