"""What tests of exports share: models, plans on the PUs that are here, and launchers run where there is no mapper."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from mapper.execution.run import sampled
from mapper.exporters.export import export
from mapper.plans.model import Plan
from mapper.sources.source import Source
from tests.execution.models import skip, strides
from tests.exporters.plans import at_home, nodes_of
from tests.program.modules import NAMES, module_of
from tests.tracing import Traced, cuts, machine_here, plan_for, traced

TIMEOUT_S = 240.0
ABSENT = ("mapper", "onnx", "transformers", "pydantic", "networkx")
"""Packages that no launcher may need."""


class Ends(torch.nn.Module):
    """Outputs of all kinds: constant, computed, an input handed through, a weight, the same twice; and an input that
    nobody reads."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.arange(6.0))
        self.linear = torch.nn.Linear(6, 6)

    def forward(self, x: torch.Tensor, given: torch.Tensor, unused: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y = torch.relu(self.linear(x))
        z = self.linear(y + 1) * x
        return self.weight * 2, given, z, self.weight, y, z


class Unlike(torch.nn.Module):
    """Tensors at the borders that lie otherwise than in order (channels last, transposed, expanded), one without
    dimensions, and one without elements."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 8, 3, padding=1).to(memory_format=torch.channels_last)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        last = self.conv(x.to(memory_format=torch.channels_last)) * 2
        flat = last.permute(0, 2, 3, 1).reshape(-1, 8) + 1
        scalar = flat.sum()
        wide = (flat.mean(0, keepdim=True) * 2).expand(4, 8) * scalar
        return flat.t().contiguous() @ flat, wide + scalar, flat[:0] + 1


@cache
def model(name: str) -> Traced:
    """A small model by name."""
    torch.manual_seed(3)
    if name == "ends":
        return traced(Ends(), torch.randn(2, 6), torch.randn(3), torch.randn(4), name=name)
    if name == "unlike":
        return traced(Unlike(), torch.randn(2, 3, 6, 6), name=name)
    if name in ("cnn", "strides"):
        return {"cnn": skip, "strides": strides}[name]()
    example = torch.randint(0, 50, (2, 6)) if name == "tied" else torch.randn(SHAPES[name])
    return traced(module_of(name), example, name=name)


SHAPES = {"mlp": (4, 8), "skip": (2, 3, 8, 8), "attention": (2, 5, 16), "views": (5, 6)}
MODELS = [*NAMES, "cnn", "strides", "ends", "unlike"]


def source_of(name: str) -> Source:
    """A small model as what exports take along."""
    found = model(name)
    return Source(found.program, found.weights, found.module)


def plan_of(name: str, sizes: Sequence[int], **changes: Any) -> Plan:
    """A plan of the model `name` in stages of `sizes` ops."""
    found = model(name)
    return on_these_pus(plan_for(found, cuts(found.graph, sizes), **changes))


def on_these_pus(plan: Plan) -> Plan:
    """`plan` on the machine at hand; where that has too few cores, workers share them."""
    machine = machine_here()
    count = len(machine.cores)

    def moved(cores: Sequence[int]) -> tuple[int, ...]:
        return tuple(sorted({core % count for core in cores}))

    stages = tuple(
        stage.model_copy(update={
            "replicas": tuple(r.model_copy(update={"cores": moved(r.cores)}) for r in stage.replicas)
        })
        for stage in plan.stages
    )  # fmt: skip
    return plan.model_copy(update={"machine": machine, "fingerprint": machine.fingerprint, "stages": stages})


def on_hosts(plan: Plan, hosts: Sequence[int]) -> Plan:
    """`plan` with each stage on the host that is named for it; all hosts have the PUs of the machine at hand."""
    pus, known = sorted(os.sched_getaffinity(0)), sorted(set(hosts))
    machine = nodes_of([[pus] for _ in known], hosts=known)
    document = plan.model_dump(mode="json", by_alias=True)
    for stage, host in zip(document["stages"], hosts, strict=True):
        for replica in stage["replicas"]:
            first = known.index(host) * len(pus)
            replica["cores"] = sorted({first + core % len(pus) for core in replica["cores"]})
    described = {"machine": machine.model_dump(mode="json", by_alias=True), "fingerprint": machine.fingerprint}
    return at_home(Plan.model_validate(document | described))


def with_backend(plan: Plan, name: str) -> Plan:
    """`plan`, computed by the back end `name`."""
    return plan.model_copy(update={"request": plan.request.model_copy(update={"backend": name})})


def exported(name: str, plan: Plan, target: str, path: Path) -> Path:
    """The folder `path` with `plan` of the model `name` exported to `target`."""
    source = source_of(name)
    return export(plan, target, path, source, sampled(plan, source))


def cnn_in_two_stages(backend: str, first: int, path: Path) -> Path:
    """A CNN with a skip over all of it, exported to `backend` in two stages, the `first` ops on two threads, the rest
    by two replicas of one."""
    plan = plan_of("cnn", [first, 99], replicas=[1, 2], threads=[2, 1])
    return exported("cnn", with_backend(plan, backend), backend, path)


@dataclass(frozen=True)
class Ran:
    """How a launcher ended, and the document that it printed."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """What `--json` gave."""
        assert self.out, self.err
        found: dict[str, Any] = json.loads(self.out)
        return found

    @property
    def pus(self) -> list[list[int]]:
        """The PUs of each worker, as they were read back."""
        return [worker["pus"] for worker in self.document["workers"]]


def environment(folder: Path, absent: Sequence[str] = ABSENT) -> dict[str, str]:
    """An environment for Python in which the packages `absent` cannot be imported; `folder` is for what stops it."""
    for name in absent:
        (folder / f"{name}.py").write_text(f"raise ModuleNotFoundError('No module named {name!r}', name={name!r})\n")
    return {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"PYTHONPATH": str(folder)}


def run(words: Sequence[str | Path], cwd: Path, environ: dict[str, str]) -> Ran:
    """Runs a command to its end."""
    done = subprocess.run(words, capture_output=True, text=True, cwd=cwd, env=environ, timeout=TIMEOUT_S)
    return Ran(done.returncode, done.stdout, done.stderr)


def launched(folder: Path, stop: Path, *arguments: str, absent: Sequence[str] = ABSENT) -> Ran:
    """Runs the launcher in `folder` from another folder, `stop`, without the packages `absent`."""
    stop.mkdir(exist_ok=True)
    return run([sys.executable, folder / "run.py", "--json", *arguments], stop, environment(stop, absent))


def own_program(folder: Path, stop: Path, code: str, absent: Sequence[str] = ABSENT) -> Ran:
    """Runs `code`, which may import from the launcher in `folder`."""
    stop.mkdir(exist_ok=True)
    environ = environment(stop, absent)
    environ["PYTHONPATH"] += os.pathsep + str(folder)
    return run([sys.executable, "-c", code], stop, environ)


def change_byte(path: Path) -> None:
    """Turns the highest bits of the last element in `path`, whatever it is."""
    data = bytearray(path.read_bytes())
    data[-1] ^= 0x7F
    path.write_bytes(data)


def planned_pus(plan: Plan) -> list[list[int]]:
    """The PUs of each worker as the plan has them."""
    cores = plan.machine.cores
    return [sorted(cores[c].pus[0] for c in replica.cores) for stage in plan.stages for replica in stage.replicas]
