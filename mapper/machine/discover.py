"""The machine at hand, or a captured one, from what Linux shows of it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Collection
from pathlib import Path

from mapper.errors import MachineMismatch
from mapper.machine import cgroup, cpuinfo, sysfs
from mapper.machine.assemble import assemble
from mapper.machine.figures import Figure
from mapper.machine.model import Machine
from mapper.machine.pus import format_pus
from mapper.machine.restrict import with_pus

NO_CACHES = "The system shows no caches: plans read all weights from memory until a known machine or a file adds some."
"""The note of a machine whose kernel or firmware is silent about caches."""


def discover(root: Path = Path("/"), allowed: Collection[int] | None = None) -> Machine:
    """The machine whose `sys` and `proc` are in `root`, restricted to the PUs in `allowed`.

    `allowed` defaults to what this process may use when `root` is `/`, and otherwise to the cpuset of the process
    that was captured, where there is one. Groups and cache sizes are those of the whole machine: a restriction takes
    cores away, not cache. A quota of PU time is kept as `cpu_quota`.

    Raises: BadInput when `root` shows no CPU; MachineMismatch when none of `allowed` is online.
    """
    seen = sysfs.read(root, cpuinfo.read(root))
    seen = dataclasses.replace(seen, kinds=cpuinfo.kinds(root, seen.pus), hart=cpuinfo.harts(root))
    if allowed is None:
        allowed = os.sched_getaffinity(0) if root == Path("/") else cgroup.cpuset(root)
    usable = seen.pus.keys() if allowed is None else seen.pus.keys() & set(allowed)
    if not usable:
        raise MachineMismatch(f"none of the allowed PUs {format_pus(sorted(allowed or ()))} is online",
                              advice=f"Online are {format_pus(sorted(seen.pus))}.")  # fmt: skip
    machine = with_pus(assemble(seen), usable)
    if not machine.caches:
        machine = machine.model_copy(update={"notes": (*machine.notes, NO_CACHES)})
    quota = cgroup.cpu_quota(root)
    if quota is None or quota >= len(machine.cores):
        return machine
    figure = Figure(value=quota, kind="specified", source="CPU quota of the control group")
    return machine.model_copy(update={"cpu_quota": figure})
