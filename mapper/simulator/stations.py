"""What a plan comes to for the simulation: stations, one a replica, and the resources that they share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mapper.backends.registry import backend_called
from mapper.cost.transfer import transfer_s
from mapper.machine.hosts import feeder_host, host_numbers
from mapper.machine.model import Machine
from mapper.machine.parts import DISTANCES
from mapper.plans.dram import dram_of_replica, host_dram_bytes_per_s
from mapper.plans.model import FEEDER, Plan, Stage
from mapper.simulator.contention import Draws

CHIP = -1
"""The DRAM of all packages together as a resource; nodes have their numbers."""
OUTSIDE = -1
"""The feeder, as a stage."""


@dataclass(frozen=True)
class HostResources:
    """The numbers of what the stations of a host share: its DRAM, and its network in either direction."""

    dram: int
    into: int
    out: int


def host_resources(machine: Machine) -> dict[int, HostResources]:
    """Of each host, behind the numbers of nodes; nothing where there is one host."""
    hosts, first = host_numbers(machine), len(machine.nodes)
    if len(hosts) == 1:
        return {}
    return {host: HostResources(*range(first + 3 * i, first + 3 * i + 3)) for i, host in enumerate(hosts)}


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
    A call is over when all stages are through with it, whoever reads what they make. With a single stage, `ahead` calls
    lie ready for its replicas beside those of the window."""

    stations: tuple[tuple[Station, ...], ...]
    sources: tuple[tuple[int, ...], ...]
    readers: tuple[tuple[int, ...], ...]
    window: int
    calls: int
    capacity: dict[int, float]
    ahead: int = 0


def system_of(plan: Plan) -> System:
    """The stations of `plan` on its machine."""
    stages = range(len(plan.stages))
    ends = [tuple(OUTSIDE if end == FEEDER else int(end) for end in (edge.source, edge.target)) for edge in plan.edges]
    sources = tuple(tuple(sorted(a for a, b in ends if b == s)) or (OUTSIDE,) for s in stages)
    readers = tuple(tuple(sorted(b for a, b in ends if a == s)) or (OUTSIDE,) for s in stages)
    return System(
        stations=tuple(_stations(plan, stage) for stage in plan.stages), sources=sources, readers=readers,
        window=plan.predicted.window, calls=plan.request.micro_batches, capacity=_capacity(plan.machine),
        ahead=plan.ahead,
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
        shared = {CHIP: sum(drawn.values()), **drawn}
        for resource, size in _of_hosts(plan, stage.id, r, shared[CHIP]):
            shared[resource] = shared.get(resource, 0.0) + size
        draws = tuple((resource, size / work_s) for resource, size in sorted(shared.items()) if size and work_s)
        out.append(Station(
            stage=stage.id, replica=r, step=len(stage.replicas), in_s=stage.load.in_s * near, work_s=work_s,
            out_s=stage.load.out_s * near, draws=draws, slots=slots + backend_called(plan.request.backend).in_place,
        ))  # fmt: skip
    return tuple(out)


def _of_hosts(plan: Plan, stage: int, replica: int, dram_bytes: float) -> Iterator[tuple[int, float]]:
    """What a replica draws for a call from its host's DRAM and from the networks: of what comes from other hosts, and
    of outputs that go to the feeder on another. It is under way while the replica computes."""
    resources = host_resources(plan.machine)
    if not resources:
        return
    home, feeder = plan.stages[stage].replicas[replica].host, feeder_host(plan.machine)
    yield resources[home].dram, dram_bytes
    for edge in plan.edges:
        if edge.target == stage:
            met = [ring.from_replica for ring in edge.rings if ring.to_replica == replica]
            for other in met:
                there = feeder if edge.source == FEEDER else plan.stages[int(edge.source)].replicas[other].host
                if there != home:
                    yield resources[there].out, edge.bytes / len(met)
                    yield resources[home].into, edge.bytes / len(met)
        elif edge.source == stage and edge.target == FEEDER and home != feeder:
            yield resources[home].out, edge.bytes
            yield resources[feeder].into, edge.bytes


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
    """Bytes per second that the DRAM of each node, and of all packages together, can serve; of several hosts also that
    of each, and its network in either direction."""
    rate = machine.memory.node_bandwidth_bytes_per_s
    nodes = {} if rate is None else dict.fromkeys(range(len(machine.nodes)), rate.value)
    hosts: dict[int, float] = {}
    for host, resources in host_resources(machine).items():
        network = machine.link_bytes_per_s("cluster")
        hosts[resources.dram] = host_dram_bytes_per_s(machine, host)
        hosts |= {resources.into: network, resources.out: network}
    return {CHIP: machine.dram_bytes_per_s, **nodes, **hosts}
