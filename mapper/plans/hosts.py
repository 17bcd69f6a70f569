"""A plan over several hosts: which host runs what, and what crosses the network between them.

Items are handed in and collected on the first host (`feeder_host`). Item n is at replica n mod r of every stage, so
that each pair of replicas that ever meet carries the same part of all items. What crosses counts once for each edge: a
tensor that two stages of another host read crosses for each of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mapper.machine.hosts import feeder_host, host_numbers
from mapper.machine.model import Machine
from mapper.plans.model import FEEDER, Edge, Plan, Predicted, Stage

LINK = "link"
"""How the names of hosts' networks begin, as what limits a plan."""
End = int | str
"""A stage by its number, or the feeder."""


@dataclass(frozen=True)
class Crossing:
    """What goes from one host to another: the tensors of an edge (`bytes` of a call, all together), from stage to
    stage or from or to the feeder, between these pairs of replicas; `share` of all items go this way."""

    source: End
    target: End
    from_host: int
    to_host: int
    tensors: tuple[str, ...]
    bytes: int
    pairs: tuple[tuple[int, int], ...]
    share: float


@dataclass(frozen=True)
class Traffic:
    """Bytes of a call that come into a host over the network, and that go out."""

    in_bytes: float = 0.0
    out_bytes: float = 0.0


def hosts_used(plan: Plan) -> tuple[int, ...]:
    """The hosts that have a replica, and that of the feeder; ascending."""
    used = {replica.host for stage in plan.stages for replica in stage.replicas}
    return tuple(sorted(used | {feeder_host(plan.machine)}))


def crossings(stages: Sequence[Stage], edges: Iterable[Edge], machine: Machine) -> tuple[Crossing, ...]:
    """What crosses the network, edge by edge, for each pair of hosts."""
    found = []
    for edge in edges:
        pairs: dict[tuple[int, int], list[tuple[int, int]]] = {}
        for ring in edge.rings:
            ends = (
                _host(stages, edge.source, ring.from_replica, machine),
                _host(stages, edge.target, ring.to_replica, machine),
            )
            if ends[0] != ends[1]:
                pairs.setdefault(ends, []).append((ring.from_replica, ring.to_replica))
        for (a, b), met in sorted(pairs.items()):
            found.append(Crossing(
                edge.source, edge.target, a, b, edge.tensors, edge.bytes, tuple(met), len(met) / len(edge.rings)
            ))  # fmt: skip
    return tuple(found)


def _host(stages: Sequence[Stage], end: End, replica: int, machine: Machine) -> int:
    """The host of one end of a ring."""
    return feeder_host(machine) if end == FEEDER else stages[int(end)].replicas[replica].host


def traffic(stages: Sequence[Stage], edges: Iterable[Edge], machine: Machine) -> dict[int, Traffic]:
    """What every host sends and receives for a call; nothing where there is one host."""
    numbers = host_numbers(machine)
    if len(numbers) == 1:
        return {}
    into, out = dict.fromkeys(numbers, 0.0), dict.fromkeys(numbers, 0.0)
    for x in crossings(stages, edges, machine):
        out[x.from_host] += x.bytes * x.share
        into[x.to_host] += x.bytes * x.share
    return {host: Traffic(into[host], out[host]) for host in numbers}


def link_causes(traffic_of: dict[int, Traffic], machine: Machine) -> list[tuple[float, str]]:
    """Seconds that the network of each host takes for a call, in and out, each with its name."""
    link = machine.links.get("cluster")
    if link is None:
        return []
    found = []
    for host, moved in traffic_of.items():
        found.append((link.seconds(moved.in_bytes), f"{LINK} into host {host}"))
        found.append((link.seconds(moved.out_bytes), f"{LINK} out of host {host}"))
    return found


def within_network(predicted: Predicted, stages: Sequence[Stage], edges: Iterable[Edge], machine: Machine) -> Predicted:
    """`predicted` with a period in which the network of every host has time for what crosses its border."""
    causes = link_causes(traffic(stages, edges, machine), machine)
    period_s, cause = max(causes, default=(0.0, ""), key=lambda both: both[0])
    if period_s <= predicted.period_s:
        return predicted
    return predicted.model_copy(update={"period_s": period_s, "throughput_per_s": 1 / period_s, "limited_by": cause})
