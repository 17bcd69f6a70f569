"""What a bundle's plan says of its workers, in terms of the planned machine's CPUs; standard library only."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kernel
from workers import Place


@dataclass(frozen=True)
class Worker:
    """A worker as planned: the groups that it has cores in, with how many cores in each, the node of each group, the
    nodes that its weights are on, and those of the memory that it hands on and takes items in."""

    cores: tuple[int, ...]
    groups: dict[int, int]
    nodes: frozenset[int]
    weights: frozenset[int]
    rings: frozenset[int]
    threads: int


def planned(bundle: Path) -> dict[Place, Worker]:
    """The workers of a bundle's plan. Cores are numbered as the plan's machine lists them: node by node, group by
    group."""
    plan = json.loads((bundle / "plan.json").read_text())
    group_of: list[tuple[int, int]] = []
    groups = 0
    for number, node in enumerate(plan["machine"]["nodes"]):
        for cpus in node["groups"]:
            group_of += [(groups, number)] * len(kernel.numbers(cpus))
            groups += 1
    found = {}
    for stage in plan["stages"]:
        for number, replica in enumerate(stage["replicas"]):
            at, cores = (stage["id"], number), replica["cores"]
            in_groups = [group_of[core][0] for core in cores]
            found[at] = Worker(
                tuple(cores), {group: in_groups.count(group) for group in in_groups},
                frozenset(group_of[core][1] for core in cores), frozenset(replica["weights"]["nodes"]),
                frozenset(_rings(plan["edges"], at)), replica["configuration"]["cores_per_group"] * len(set(in_groups)),
            )  # fmt: skip
    return found


def _rings(edges: list[dict[str, Any]], at: Place) -> list[int]:
    """The nodes of the memory that a worker writes to or reads from. What one worker, or the feeder, hands on lies in
    one ring for all who read it, page by page over their nodes where the plan names several."""
    producers = {at}
    for edge in edges:
        producers |= {
            (edge["from"], ring["from_replica"])
            for ring in edge["rings"]
            if (edge["to"], ring["to_replica"]) == at
        }  # fmt: skip
    return [
        ring["node"]
        for edge in edges
        for ring in edge["rings"]
        if (edge["from"], ring["from_replica"]) in producers
    ]  # fmt: skip
