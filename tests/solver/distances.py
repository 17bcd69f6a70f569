"""Machines whose groups are far from each other, and every placed plan on them, by `plans.evaluate`."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from hypothesis import strategies as st

from mapper.cost.configurations import Config, configurations
from mapper.cost.table import CostTable
from mapper.graph.model import Graph
from mapper.machine.hosts import host_of
from mapper.machine.model import Machine
from mapper.plans.evaluate import Placed, evaluate
from mapper.plans.model import Predicted
from mapper.solver.problem import Limits, problem_of
from tests.planning.graphs import graphs
from tests.solver.brute import partitions

SHAPES = ((1, 2, 2), (2, 1, 2), (1, 3, 2), (1, 2, 4))
"""(nodes, groups a node, cores a group)."""


@st.composite
def apart_machines(draw: st.DrawFn, shapes: Sequence[tuple[int, int, int]] = SHAPES) -> Machine:
    """A few small groups, near inside and far outside, with or without a cache and limits on DRAM."""
    nodes, groups, size = draw(st.sampled_from(shapes))
    return apart(nodes, groups, size, cache=draw(st.sampled_from([0.0, 2e3, 1e6])),
                 dram=draw(st.sampled_from([2e9, 4e11])), far=draw(st.sampled_from([2e8, 1e9])))  # fmt: skip


def apart(nodes: int, groups: int, size: int, *, cache: float = 0.0, dram: float = 4e11, far: float = 2e8) -> Machine:
    """So many nodes of groups of `size` cores, with `far` bytes per second between groups."""
    number = iter(range(nodes * groups * size))
    described = [
        {"groups": [",".join(str(next(number)) for _ in range(size)) for _ in range(groups)]} for _ in range(nodes)
    ]
    caches = [{"name": "L2", "level": 2, "shared_by": "group", "bytes": cache}] if cache else []
    return Machine.model_validate({
        "name": "apart", "nodes": described, "caches": caches,
        "distances": [[10 if a == b else 20 for b in range(nodes)] for a in range(nodes)],
        "memory": {"package_bandwidth_bytes_per_s": dram, "core_bandwidth_bytes_per_s": 5e9},
        "compute": {"peak_flop_per_s": 1.6e10, "efficiency": dict.fromkeys(("matmul", "conv", "attention"), 0.25),
                    "seconds_per_element": {"elementwise": 1e-9, "normalization": 4e-9}, "busy_slowdown": 1.25,
                    "imbalance": 0.12},
        "overheads": {"dispatch_s": 1e-5, "fork_join_base_s": 2e-6, "fork_join_factor": 2.5, "fork_join_jitter_s": 5e-6,
                      "grain_elements": 32768, "handoff_s": 3e-6, "process_bytes": 1e8},
        "links": {"group": {"line_s": 5e-8, "bandwidth_bytes_per_s": 1.4e10},
                  "node": {"line_s": 1.5e-7, "bandwidth_bytes_per_s": far},
                  "package": {"line_s": 1.8e-7, "bandwidth_bytes_per_s": far / 2}},
    })  # fmt: skip


def small_graphs() -> st.SearchStrategy[Graph]:
    """Three ops at most."""
    return graphs(most_ops=3)


def placed_plans(graph: Graph, machine: Machine, table: CostTable, limits: Limits) -> Iterator[Predicted]:
    """What every placed plan comes to (`placed_mappings`)."""
    for mapping in placed_mappings(graph, machine, table, limits):
        yield evaluate(graph, machine, table, mapping).predicted


def placed_mappings(graph: Graph, machine: Machine, table: CostTable, limits: Limits) -> Iterator[list[Placed]]:
    """Every placed plan within the limits on replicas, stages and cores; groups that hold nothing yet are taken
    in their order within a node, as they are alike."""
    problem = problem_of(graph, machine, table)
    most = limits.max_cores or problem.cores
    for stages in partitions(problem):
        if len(stages) > (limits.max_stages or len(stages)) or len(stages) != (limits.stages or len(stages)):
            continue
        ways = [(config, r) for config in limits.configurations or configurations(machine)
                for r in range(1, (limits.max_replicas or most) + 1) if config.cores * r <= most]  # fmt: skip
        for chosen in itertools.product(ways, repeat=len(stages)):
            if sum(config.cores * r for config, r in chosen) > most:
                continue
            for seats in _seats([config for config, r in chosen for _ in range(r)], machine, [0] * len(machine.groups)):
                left = iter(seats)
                mapping = [
                    Placed(tuple(graph.ops[v].name for v in stage), config, tuple(next(left) for _ in range(r)))
                    for stage, (config, r) in zip(stages, chosen, strict=True)
                ]
                if all(len({host_of(machine, core) for core in cores}) == 1 for p in mapping for cores in p.replicas):
                    yield mapping


def _seats(replicas: Sequence[Config], machine: Machine, used: list[int]) -> Iterator[tuple[tuple[int, ...], ...]]:
    """The cores of each replica, in every way that differs."""
    if not replicas:
        yield ()
        return
    first, homes = replicas[0], machine.node_of_group
    size = machine.cores_per_group
    for groups in itertools.combinations(range(len(used)), first.groups):
        fresh = [g for g in groups if not used[g]]
        if any(used[h] == 0 and homes[h] == homes[g] and h < g and h not in groups for g in fresh for h in range(g)):
            continue
        if any(used[g] + first.cores_per_group > size for g in groups):
            continue
        cores = tuple(c for g in groups for c in machine.groups[g][used[g] : used[g] + first.cores_per_group])
        after = [n + first.cores_per_group * (g in groups) for g, n in enumerate(used)]
        for rest in _seats(replicas[1:], machine, after):
            yield (cores, *rest)
