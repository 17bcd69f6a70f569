"""From the cores of a plan to the PUs of this machine, and taking hold of them.

Plans name cores by logical number; what the OS calls their PUs is looked up here, when a run starts.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Collection, Sequence
from types import TracebackType
from typing import Self

from mapper.errors import MachineMismatch
from mapper.host.affinity import allowed_pus
from mapper.machine.model import Machine
from mapper.machine.pus import format_pus
from mapper.plans.model import Plan

Places = tuple[tuple[tuple[int, ...], ...], ...]
"""The PUs of each replica of each stage."""


def resolve_pus(plan: Plan, here: Machine, *, remap: bool = False, oversubscribe: bool = False) -> Places:
    """The PUs of each replica on the machine `here`, one a core: `places[stage][replica]`.

    The shape of the machine must be the one planned for; where the plan or this process is restricted to a part of
    it, the plan's own cores are taken if they may be used. With `remap` it is enough that every replica finds groups
    with as many free cores; with `oversubscribe` cores wrap around the PUs that this process may use: results are
    right, their speed means nothing.

    Raises: MachineMismatch saying what differs.
    """
    if plan.machine.counts["hosts"] > 1 or any(r.host != 0 for stage in plan.stages for r in stage.replicas):
        raise MachineMismatch(
            "the plan is for several hosts; a run is on one",
            advice="Make a bundle of it, and run mapper host on each of them (docs/clusters.md).",
        )
    cores = _same_cores(plan, here)
    if cores is None and here.fingerprint == plan.machine.fingerprint:
        cores = {core: core for core in plan.cores}
    if cores is not None:
        return _looked_up(plan, here, cores)
    if remap and (found := _packed(plan, here)) is not None:
        return found
    if oversubscribe:
        return _wrapped(plan, allowed_pus())
    raise MachineMismatch(
        f"the plan is for {plan.machine.name} ({_shape(plan.machine)}), this machine is {here.name} ({_shape(here)})"
        + (", and its replicas do not fit into the groups here" if remap else "")
        + _absent(plan, here),
        advice="Plan again with --topo host"
        + ("" if remap else ", use --remap to place it where there is room")
        + ", or --oversubscribe to run it for its results only.",
    )


def _looked_up(plan: Plan, here: Machine, cores: dict[int, int]) -> Places:
    return tuple(
        tuple(tuple(here.cores[cores[core]].pus[0] for core in replica.cores) for replica in stage.replicas)
        for stage in plan.stages
    )


def _same_cores(plan: Plan, here: Machine) -> dict[int, int] | None:
    """The cores of the plan by their numbers here, where both are parts of one shape and these cores are in both."""
    planned, numbers = _whole(plan.machine)
    shape, present = _whole(here)
    position = {number: i for i, number in enumerate(present)}
    if planned != shape or any(numbers[core] not in position for core in plan.cores):
        return None
    return {core: position[numbers[core]] for core in plan.cores}


def _whole(machine: Machine) -> tuple[str, Sequence[int]]:
    """The fingerprint of the whole machine that `machine` is (a part of), and its cores by their numbers there."""
    if machine.part_of is None:
        return machine.fingerprint, range(len(machine.cores))
    return machine.part_of.fingerprint, machine.part_of.cores


def _absent(plan: Plan, here: Machine) -> str:
    """Which cores of the plan this process may not use, where the machine itself is the right one."""
    planned, numbers = _whole(plan.machine)
    shape, present = _whole(here)
    absent = sorted({numbers[core] for core in plan.cores}.difference(present)) if planned == shape else []
    return f"; this process may not use cores {format_pus(absent)}" if absent else ""


def _packed(plan: Plan, here: Machine) -> Places | None:
    """Cores for every replica in groups that have as many free, the widest replicas first into the tightest groups.

    Exact where the sizes divide each other, as those that plans choose from do.
    """
    free = [list(cores) for cores in here.groups]
    wanted = [
        (replica.configuration.cores_per_group, replica.configuration.groups, s, r)
        for s, stage in enumerate(plan.stages)
        for r, replica in enumerate(stage.replicas)
    ]
    found: dict[tuple[int, int], list[int]] = {}
    for cores, groups, s, r in sorted(wanted, key=lambda w: (-w[0], -w[1], w[2], w[3])):
        room = sorted((group for group in free if len(group) >= cores), key=len)[:groups]
        if len(room) < groups:
            return None
        found[s, r] = [group.pop(0) for group in room for _ in range(cores)]
    return tuple(
        tuple(tuple(here.cores[core].pus[0] for core in found[s, r]) for r in range(len(stage.replicas)))
        for s, stage in enumerate(plan.stages)
    )


def _wrapped(plan: Plan, pus: Sequence[int]) -> Places:
    def wrap(cores: Sequence[int]) -> tuple[int, ...]:
        return tuple(sorted({pus[core % len(pus)] for core in cores}))

    return tuple(tuple(wrap(replica.cores) for replica in stage.replicas) for stage in plan.stages)


def _shape(machine: Machine) -> str:
    counts = machine.counts
    sizes = sorted({len(group) for group in machine.groups})
    cores = " or ".join(str(size) for size in sizes)
    return f"{counts['packages']} package(s), {counts['groups']} groups of {cores} cores"


class Claim:
    """Holds PUs for one run, so that a second run on them is told instead of disturbing the first.

    Each PU is an abstract socket: one process at a time can have its name, it vanishes with the process, and no file
    is involved. Advisory: only runs of mapper ask.
    """

    def __init__(self, pus: Collection[int]) -> None:
        self.pus = sorted(set(pus))
        self._held: list[socket.socket] = []

    def __enter__(self) -> Self:
        taken: dict[int, list[int]] = {}
        for pu in self.pus:
            held = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                held.bind(_name(pu))
                held.listen()
                self._held.append(held)
            except OSError as error:
                held.close()
                if error.errno != errno.EADDRINUSE:
                    self.release()
                    raise
                taken.setdefault(_holder(pu), []).append(pu)
        if taken:
            self.release()
            whose = "; ".join(
                f"PU {format_pus(pus)} by {f'process {pid}' if pid else 'another process'}"
                + (" (this one)" if pid == os.getpid() else "")
                for pid, pus in sorted(taken.items())
            )
            raise MachineMismatch(f"cores of the plan are taken by another run of mapper: {whose}",
                                  advice="Wait for it to end, or plan for fewer cores (--max-cores).")  # fmt: skip
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.release()

    def release(self) -> None:
        """Gives the PUs back."""
        for held in self._held:
            held.close()
        self._held.clear()


def _name(pu: int) -> str:
    return f"\0mapper-pu-{pu}"


def _holder(pu: int) -> int:
    """The process that holds `pu`, 0 where it cannot be found out."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.setblocking(False)
        try:
            asking.connect(_name(pu))
            credentials = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        except OSError:
            return 0
    return int(struct.unpack("3i", credentials)[0])
