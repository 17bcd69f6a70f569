"""What torch's launcher for servers, `python -m torch.backends.xeon.run_cpu`, sets up on a machine.

It starts instances of a program, each bound to cores of its own by numactl or taskset, with OMP_NUM_THREADS set to
their number, and loads tcmalloc, jemalloc and Intel's OpenMP runtime before it where it finds them. Its modes (read in
its source, torch 2.6 to 2.13): one instance on all cores by default, one a NUMA node in throughput mode, one for each 4
cores in latency mode, which is none where there are fewer. Cores are the physical ones.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from importlib import util
from pathlib import Path

from mapper.machine.model import Machine
from mapper.machine.sysfs import online_pus
from mapper.study.engines import SERIAL
from mapper.study.vendors import SetUp

MODULE = "torch.backends.xeon.run_cpu"
LATENCY_CORES = 4
"""Cores of an instance in latency mode."""
FAMILIES = ("eager", "inductor")
"""The back ends that it is made for: torch's own."""


@dataclass(frozen=True)
class Mode:
    """One or more of its modes that set up the same: so many `instances` of `cores` cores each."""

    names: tuple[str, ...]
    instances: int
    cores: int

    @property
    def title(self) -> str:
        """Such as `default, throughput`."""
        return ", ".join(self.names)


def modes(machine: Machine) -> list[Mode]:
    """What its modes set up on the cores of `machine`; a mode without any instance is left out."""
    cores, nodes = len(machine.cores), len(machine.nodes)
    wanted = {"default": (1, cores), "throughput": (nodes, cores // nodes),
              "latency": (cores // LATENCY_CORES, LATENCY_CORES)}  # fmt: skip
    found: dict[tuple[int, int], list[str]] = {}
    for name, shape in wanted.items():
        if shape[0] > 0:
            found.setdefault(shape, []).append(name)
    return [Mode(tuple(names), instances, cores) for (instances, cores), names in found.items()]


def lacking() -> str | None:
    """Why the launcher itself cannot be run here; None if it can."""
    try:
        there = util.find_spec(MODULE) is not None
    except ModuleNotFoundError:
        there = False
    if not there:
        return f"this torch has no {MODULE}"
    if shutil.which("lscpu") is None:
        return "lscpu is not installed"
    if shutil.which("numactl") is None and shutil.which("taskset") is None:
        return "neither numactl nor taskset is installed"
    return None


def launcher(mode: Mode, machine: Machine, backend: str) -> SetUp:
    """The launcher itself, run in `mode` on the cores of `machine`: by its own flag where these are all that are
    online, else with the same instances on a list of cores."""
    pus = tuple(core.pus[0] for core in machine.cores)
    every = tuple(sorted(pu for core in machine.cores for pu in core.pus))
    if set(every) == set(online_pus(Path("/"))):
        flags = {"default": (), "throughput": ("--throughput-mode",), "latency": ("--latency-mode",)}[mode.names[-1]]
    else:
        listed = ",".join(map(str, pus[: mode.instances * mode.cores]))
        flags = ("--core-list", listed, "--ncores-per-instance", str(mode.cores))
    words = (sys.executable, "-P", "-m", MODULE, *flags, "--no-python")
    return SetUp(
        name=f"run_cpu ({mode.title})", engine=SERIAL, backend=backend, pus=every, threads=mode.cores,
        instances=mode.instances, launcher=words,
    )  # fmt: skip
