"""comm(t, d) of problem.md: what handing a tensor to another worker costs each side."""

from __future__ import annotations

from mapper.machine.model import Machine
from mapper.machine.parts import DISTANCES, Distance

RING_SLOTS = 2
"""Items of a ring that count towards a stage's working set: the one that is read and the one that is written."""


def transfer_s(machine: Machine, size: float, distance: Distance) -> float:
    """Seconds for one side to hand over a tensor of `size` bytes at `distance`."""
    if distance == "core":
        distance = "group"
    link = machine.links.get(distance) or machine.links[nearest(machine)]
    return machine.overheads.handoff_s.value + link.seconds(size)


def nearest(machine: Machine, *, outside_group: bool = False) -> Distance:
    """The least distance between two workers on different cores of `machine`, or in different groups."""
    usable = DISTANCES[2:] if outside_group else DISTANCES[1:]
    return next((distance for distance in usable if distance in machine.links), "group")
