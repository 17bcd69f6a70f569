"""comm(t, d) of problem.md: what handing a tensor to another worker costs each side.

Between hosts it is what handing it over inside a host costs at most, and the network on top: `message_s` for
what the cores do for a message, its latency, and the bytes at the link's bandwidth. No worker on another host is ever
nearer than one on the same.
"""

from __future__ import annotations

from mapper.machine.defaults import MESSAGE_S
from mapper.machine.model import Machine
from mapper.machine.parts import DISTANCES, Distance

RING_SLOTS = 2
"""Items of a ring that count towards a stage's working set: the one that is read and the one that is written."""


def transfer_s(machine: Machine, size: float, distance: Distance) -> float:
    """Seconds for one side to hand over a tensor of `size` bytes at `distance`."""
    if distance == "core":
        distance = "group"
    if distance == "cluster" and "cluster" in machine.links:
        return _between_hosts_s(machine, size)
    link = machine.links.get(distance) or machine.links[nearest(machine)]
    return machine.overheads.handoff_s.value + link.seconds(size)


def _between_hosts_s(machine: Machine, size: float) -> float:
    """Seconds of either side for a message to another host, and for handing it to what sends it, in the same host."""
    link = machine.links["cluster"]
    inside_s = max((machine.links[d].seconds(size) for d in DISTANCES[1:-1] if d in machine.links), default=0.0)
    return (
        machine.overheads.handoff_s.value
        + inside_s
        + (link.message_s or MESSAGE_S).value
        + link.line_s.value
        + link.seconds(size)
    )


def nearest(machine: Machine, *, outside_group: bool = False) -> Distance:
    """The least distance between two workers on different cores of `machine`, or in different groups."""
    usable = DISTANCES[2:] if outside_group else DISTANCES[1:]
    return next((distance for distance in usable if distance in machine.links), "group")
