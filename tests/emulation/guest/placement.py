"""Compares where workers were with where their plan wants them; standard library only.

A plan's cores are logical: which of the machine's nodes is the plan's node 0 is for mapper to choose. So what is
compared is the shape: workers that share a node in the plan share one here, and distances between nodes are the same.
"""

from __future__ import annotations

from collections.abc import Mapping

import kernel
from planned import Worker
from report import Told
from workers import RINGS, WEIGHTS, Place, Seen

SHARED_PAGES = 4
"""Pages of what all workers share (counters, semaphores) that may be on any node."""


def check_cpus(
    told: Told, plan: Mapping[Place, Worker], pus: Mapping[Place, list[int]], seen: Mapping[Place, Seen]
) -> None:
    """Requires that every worker is on whole clusters of its own, as it read back (`pus`) and as the kernel says."""
    clusters = kernel.clusters()
    taken: set[int] = set()
    for at, worker in plan.items():
        own = set(pus[at])
        told.require(len(own) == len(worker.cores), f"worker {at} has CPUs {sorted(own)} for cores {worker.cores}")
        told.require(not own & taken, f"worker {at} shares CPUs {sorted(own & taken)}")
        taken |= own
        shares = sorted(len(cluster & own) for cluster in clusters if cluster & own)
        told.require(shares == sorted(worker.groups.values()), f"worker {at}: {sorted(own)} are not {worker.groups}")
        masks = seen[at].cpus
        told.require(len(masks) >= worker.threads, f"worker {at} was seen with {len(masks)} threads")
        others = {tid: sorted(mask) for tid, mask in masks.items() if mask != own}
        told.require(not others, f"worker {at} has CPUs {sorted(own)}, but its threads may use {others}")


def node_map(told: Told, plan: Mapping[Place, Worker], pus: Mapping[Place, list[int]]) -> dict[int, int]:
    """Which node here each of the plan's nodes is. Requires that it is one each, and another for another."""
    node_of = {cpu: node for node, cpus in kernel.nodes().items() for cpu in cpus}
    found: dict[int, int] = {}
    for at, worker in plan.items():
        here = {node_of[pu] for pu in pus[at]}
        told.require(len(here) == len(worker.nodes), f"worker {at}: nodes {here} for the plan's {set(worker.nodes)}")
        if len(worker.nodes) == 1:
            (number,), (node,) = worker.nodes, here
            told.require(
                found.setdefault(number, node) == node, f"the plan's node {number} is {found[number]} and {node}"
            )
    told.require(len(set(found.values())) == len(found), f"the plan's nodes are {found} here")
    return found


def check_distances(told: Told, distances: list[list[float]], nodes: Mapping[int, int]) -> None:
    """Requires that the plan's nodes are as far from each other here as planned."""
    here = kernel.distances()
    for a in nodes:
        for b in nodes:
            found = here[nodes[a]][nodes[b]]
            told.require(
                found == distances[a][b], f"nodes {a} and {b} of the plan are {found} apart, not {distances[a][b]}"
            )


def check_memory(told: Told, plan: Mapping[Place, Worker], nodes: Mapping[int, int], seen: Mapping[Place, Seen]) -> str:
    """Requires that weights and rings are on the planned nodes, as far as each worker has touched them."""
    weights = rings = 0
    for at, worker in plan.items():
        for name, wanted, spare in ((WEIGHTS, worker.weights, 0), (RINGS, worker.rings, SHARED_PAGES)):
            pages = seen[at].pages.get(name, {})
            right = {nodes[number] for number in wanted}
            told.require(pages, f"worker {at} has touched nothing of {name}")
            wrong = sum(count for node, count in pages.items() if node not in right)
            told.require(wrong <= spare, f"worker {at}: {name} is on {pages}, not on nodes {right}")
            if name == RINGS:
                rings += sum(pages.values()) - wrong
            else:
                weights += sum(pages.values())
    return f"{weights} pages of weights and {rings} of rings on the planned nodes"
