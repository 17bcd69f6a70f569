"""What a plan comes to for the simulation: stations, one a replica, and the resources that they share."""

from __future__ import annotations

from dataclasses import dataclass

from mapper.backends.registry import backend_called
from mapper.cost.transfer import transfer_s
from mapper.machine.model import Machine
from mapper.machine.parts import DISTANCES
from mapper.plans.dram import dram_of_replica
from mapper.plans.model import FEEDER, Plan, Stage
from mapper.simulator.contention import Draws

CHIP = -1
"""The DRAM of all packages together as a resource; nodes have their numbers."""
OUTSIDE = -1
"""The feeder, as a stage."""


@dataclass(frozen=True)
class Station:
    """A replica: it takes items `replica`, `replica` + `step`, ..., one at a time, and for each it is busy `in_s` with
    tensors that come, `work_s` with computing (longer where others draw on the same DRAM), and `out_s` with tensors
    that go. It holds at most `slots` results that not all of its readers have finished with."""

    stage: int
    replica: int
    step: int
    in_s: float
    work_s: float
    out_s: float
    draws: Draws
    slots: int


@dataclass(frozen=True)
class System:
    """All stations by stage and replica; which stages each stage reads from and is read by (`OUTSIDE`: the feeder), the
    calls in flight under steady load, and how many make an item; bytes per second of each node and of all together.
    A call is over when all stages are through with it, whoever reads what they make."""

    stations: tuple[tuple[Station, ...], ...]
    sources: tuple[tuple[int, ...], ...]
    readers: tuple[tuple[int, ...], ...]
    window: int
    calls: int
    capacity: dict[int, float]


def system_of(plan: Plan) -> System:
    """The stations of `plan` on its machine."""
    stages = range(len(plan.stages))
    ends = [tuple(OUTSIDE if end == FEEDER else int(end) for end in (edge.source, edge.target)) for edge in plan.edges]
    sources = tuple(tuple(sorted(a for a, b in ends if b == s)) or (OUTSIDE,) for s in stages)
    readers = tuple(tuple(sorted(b for a, b in ends if a == s)) or (OUTSIDE,) for s in stages)
    return System(
        stations=tuple(_stations(plan, stage) for stage in plan.stages), sources=sources, readers=readers,
        window=plan.predicted.window, calls=plan.request.micro_batches, capacity=_capacity(plan.machine),
    )  # fmt: skip


def _stations(plan: Plan, stage: Stage) -> tuple[Station, ...]:
    """The replicas of `stage`: the one whose partners are farthest takes the plan's load, others less to hand over."""
    crossing = [_crossing_s(plan, stage.id, r) for r in range(len(stage.replicas))]
    farthest = max(crossing)
    work_s = stage.load.total_s - stage.load.in_s - stage.load.out_s
    slots = max([edge.slots for edge in plan.edges if edge.source == stage.id], default=1)
    out = []
    for r, replica in enumerate(stage.replicas):
        near = crossing[r] / farthest if farthest else 1.0
        drawn = dram_of_replica(stage, replica, plan.machine)
        drawn[CHIP] = sum(drawn.values())
        draws = tuple((node, size / work_s) for node, size in sorted(drawn.items()) if size and work_s)
        out.append(Station(
            stage=stage.id, replica=r, step=len(stage.replicas), in_s=stage.load.in_s * near, work_s=work_s,
            out_s=stage.load.out_s * near, draws=draws, slots=slots + backend_called(plan.request.backend).in_place,
        ))  # fmt: skip
    return tuple(out)


def _crossing_s(plan: Plan, stage: int, replica: int) -> float:
    """What tensors take that a replica gets from other stages and hands to them, each edge at the distance of the
    farthest of those that it meets; the feeder's edges cost stages nothing."""
    total = 0.0
    for edge in plan.edges:
        if FEEDER in (edge.source, edge.target) or stage not in (edge.source, edge.target):
            continue
        mine = "from_replica" if edge.source == stage else "to_replica"
        met = [ring.distance for ring in edge.rings if getattr(ring, mine) == replica]
        if met:
            distance = max(met, key=DISTANCES.index)
            each = edge.bytes / len(edge.tensors)
            total += len(edge.tensors) * transfer_s(plan.machine, each, distance)
    return total


def _capacity(machine: Machine) -> dict[int, float]:
    """Bytes per second that the DRAM of each node, and of all packages together, can serve."""
    rate = machine.memory.node_bandwidth_bytes_per_s
    nodes = {} if rate is None else dict.fromkeys(range(len(machine.nodes)), rate.value)
    return {CHIP: machine.dram_bytes_per_s, **nodes}
