"""What the DRAM of each node serves of a plan."""

from __future__ import annotations

from collections.abc import Sequence

from mapper.cost.residency import DRAM_NAME
from mapper.machine.model import Machine
from mapper.plans.model import Replica, Stage

DRAM_OF_NODE = "DRAM of node"
"""How single nodes' DRAM is called as what limits a plan, before the number."""


def is_spread(stage: Stage, machine: Machine) -> bool:
    """Whether the weights of `stage` lie on other nodes than those of its cores: on all nodes of the machine."""
    own = [{machine.cores[core].node for core in replica.cores} for replica in stage.replicas]
    return any(set(r.weights.nodes) != nodes for r, nodes in zip(stage.replicas, own, strict=True))


def dram_of_nodes(stages: Sequence[Stage], machine: Machine) -> dict[int, float]:
    """DRAM bytes per item that each node serves: every replica draws for its share of items."""
    drawn: dict[int, float] = {}
    for stage in stages:
        for replica in stage.replicas:
            for node, size in dram_of_replica(stage, replica, machine).items():
                drawn[node] = drawn.get(node, 0.0) + size / len(stage.replicas)
    return drawn


def dram_of_replica(stage: Stage, replica: Replica, machine: Machine) -> dict[int, float]:
    """DRAM bytes that `replica` draws from each node for an item: weights from where they lie, and activations from
    its own nodes."""
    weights = stage.touched_bytes if stage.residency == DRAM_NAME else 0
    own = sorted({machine.cores[core].node for core in replica.cores})
    drawn: dict[int, float] = {}
    for size, nodes in ((weights, replica.weights.nodes), (stage.dram_bytes - weights, own)):
        for node in nodes:
            drawn[node] = drawn.get(node, 0.0) + size / len(nodes)
    return drawn


def dram_of_hosts(stages: Sequence[Stage], machine: Machine) -> dict[int, float]:
    """DRAM bytes per item that the nodes of each host serve together; nothing where there is one host."""
    if machine.counts["hosts"] == 1:
        return {}
    drawn: dict[int, float] = {}
    for node, size in dram_of_nodes(stages, machine).items():
        host = machine.nodes[node].host
        drawn[host] = drawn.get(host, 0.0) + size
    return drawn


def host_dram_bytes_per_s(machine: Machine, host: int) -> float:
    """DRAM bandwidth of all packages of a host."""
    packages = {node.package for node in machine.nodes if node.host == host}
    return machine.dram_bytes_per_s / machine.counts["packages"] * len(packages)


def dram_causes(stages: Sequence[Stage], machine: Machine) -> list[tuple[float, str]]:
    """Seconds that the DRAM of all packages, of each host and of each node takes for an item, each with its name."""
    whole = sum(stage.dram_bytes for stage in stages)
    causes = [(whole / machine.dram_bytes_per_s, "DRAM of the package")]
    for host, drawn in dram_of_hosts(stages, machine).items():
        causes.append((drawn / host_dram_bytes_per_s(machine, host), f"DRAM of host {host}"))
    figure = machine.memory.node_bandwidth_bytes_per_s
    if figure is not None:
        for node, drawn in dram_of_nodes(stages, machine).items():
            causes.append((drawn / figure.value, f"{DRAM_OF_NODE} {node}"))
    return causes
