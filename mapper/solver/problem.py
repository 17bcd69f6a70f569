"""The mapping problem as the search sees it: arrays, no names, no machine file (problem.md, *Given*)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from mapper.cost.configurations import Config
from mapper.cost.residency import Caches
from mapper.cost.table import CostTable
from mapper.cost.transfer import RING_SLOTS, nearest
from mapper.errors import UsageError, one_of
from mapper.graph.model import Graph
from mapper.machine.model import Machine

Array = NDArray[np.float64]
Objective = Literal["throughput", "latency", "cores"]
OBJECTIVES: tuple[Objective, ...] = get_args(Objective)


@dataclass(frozen=True)
class TensorArc:
    """One distinct tensor: the op that produces it, the ops that read it, its bytes, and what it costs besides.

    comm(t, c) = handoff_s + seconds + bytes / link_bytes_per_s[c]
    """

    producer: int
    readers: tuple[int, ...]
    bytes: float
    seconds: float = 0.0


@dataclass(frozen=True)
class WeightArc:
    """One distinct weight: the ops that touch it, and the bytes of it that an item touches."""

    users: tuple[int, ...]
    bytes: float


@dataclass(frozen=True)
class NodeMemory:
    """What NUMA nodes hold: whole weights, what each op writes, what it takes by itself, and what a process takes.

    `nodes`: cores of each node, most first.
    """

    weights: tuple[WeightArc, ...]
    write_bytes: Array
    own_bytes: Array
    process_bytes: float
    nodes: tuple[int, ...]

    def span(self, cores: int) -> int:
        """The least number of nodes that have so many cores."""
        for count, have in enumerate(itertools.accumulate(self.nodes), 1):
            if cores <= have:
                return count
        return len(self.nodes)


@dataclass(frozen=True)
class Problem:
    """One instance. Axes of `seconds`: op (in an order in which they can run), configuration, residency.

    `cache_shares[c]` is how many group caches one replica of configuration c may add up. `link_bytes_per_s[c]` is what
    it hands over at to the nearest other replica that there can be. `cores` counts those of smaller groups too. No two
    ops of a set in `apart` may share a stage.
    """

    configs: tuple[Config, ...]
    cache_shares: tuple[int, ...]
    seconds: Array
    dram_bytes: Array
    footprint: Array
    tensors: tuple[TensorArc, ...]
    weights: tuple[WeightArc, ...]
    groups: int
    cores_per_group: int
    cores: int
    caches: Caches
    dram_bytes_per_s: float
    handoff_s: float
    link_bytes_per_s: tuple[float, ...]
    ring_slots: int = RING_SLOTS
    together: tuple[tuple[int, ...], ...] = ()
    apart: tuple[tuple[int, ...], ...] = ()
    memory: NodeMemory | None = None

    @property
    def ops(self) -> int:
        """Number of ops."""
        return len(self.footprint)

    def transfer_s(self, tensor: TensorArc, config: int) -> float:
        """comm(t, c): seconds for one side to hand over `tensor` at configuration `config`."""
        return self.handoff_s + tensor.seconds + tensor.bytes / self.link_bytes_per_s[config]

    @property
    def weight_bytes(self) -> float:
        """Weight bytes that an item touches in the whole model."""
        return sum(weight.bytes for weight in self.weights)


@dataclass(frozen=True)
class Limits:
    """What a plan must keep. None is no limit. `stages` is an exact number; `together` and `apart` name ops.

    >>> Limits(max_latency_s=0.05, max_cores=8).as_options()
    {'max_latency_s': 0.05, 'max_cores': 8}
    """

    max_latency_s: float | None = None
    min_throughput_per_s: float | None = None
    stages: int | None = None
    max_stages: int | None = None
    max_replicas: int | None = None
    max_cores: int | None = None
    node_memory_bytes: float | None = None
    configurations: tuple[Config, ...] | None = None
    together: tuple[tuple[str, ...], ...] = ()
    apart: tuple[tuple[str, ...], ...] = ()

    @property
    def max_period_s(self) -> float:
        """The longest period that the limits allow, infinite where none is."""
        return 1 / self.min_throughput_per_s if self.min_throughput_per_s else math.inf

    def as_options(self) -> dict[str, Any]:
        """The limits that are set, in plain values, for the plan file."""
        given = {name: getattr(self, name) for name in self.__dataclass_fields__}
        if self.configurations is not None:
            given["configurations"] = ",".join(config.name for config in self.configurations)
        for name in ("together", "apart"):
            given[name] = [list(ops) for ops in given[name]] or None
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True)
class StageChoice:
    """A stage as the search chose it: ops by index, configuration by index, how many replicas, and its load.

    `exclusive`: its groups hold no other stage. Where memory is limited: the whole weights, and what a
    replica holds besides.
    """

    ops: tuple[int, ...]
    config: int
    replicas: int
    exclusive: bool
    load_s: float
    dram_bytes: float
    weight_bytes: float = 0.0
    memory_bytes: float = 0.0


@dataclass(frozen=True)
class Solution:
    """Stages in order, with the best period found and the proved bound.

    `best_period_s` is the strict optimum's; `stages` may have a slightly longer period for fewer stages, and then
    `strict` is the optimum itself. `whole_space`: every plan was searched. `bound_s` holds for every plan anyway.
    `stopped`: the time was up, or the user interrupted.
    """

    stages: tuple[StageChoice, ...]
    period_s: float
    best_period_s: float
    bound_s: float
    whole_space: bool
    passes: int = 0
    strict: Solution | None = None
    stopped: bool = False

    @property
    def latency_s(self) -> float:
        """Sum of the loads."""
        return sum(stage.load_s for stage in self.stages)


def _dram_bytes_per_s(machine: Machine) -> float:
    """What DRAM can serve a plan at most: no more than its packages give, nor all its nodes together."""
    node = machine.memory.node_bandwidth_bytes_per_s
    nodes = math.inf if node is None else node.value * len(machine.nodes)
    return min(machine.dram_bytes_per_s, nodes)


def problem_of(graph: Graph, machine: Machine, table: CostTable, limits: Limits | None = None) -> Problem:
    """The instance for `graph` on `machine`: distances are taken at their least, so that its optimum is a bound.

    Of `limits` those count that name ops. Raises: UsageError for an op that the graph does not have.
    """
    position, limits = graph.position, limits or Limits()
    users: dict[tuple[str, int], list[int]] = {}
    for v, op in enumerate(graph.ops):
        for use in op.weights:
            users.setdefault((use.name, use.touched_bytes), []).append(v)
    counts = machine.counts
    size = machine.cores_per_group
    nearest_of = [nearest(machine, outside_group=config.cores >= size) for config in table.configs]
    return Problem(
        configs=table.configs,
        cache_shares=(1,) * len(table.configs),
        seconds=table.seconds,
        dram_bytes=table.dram_bytes,
        footprint=np.array([op.footprint_bytes for op in graph.ops], dtype=float),
        tensors=tuple(
            TensorArc(
                position[t.producer], tuple(position[r] for r in t.readers), t.bytes, table.comm_s.get(t.name, 0.0)
            )
            for t in graph.tensors
        ),
        weights=tuple(WeightArc(tuple(ops), touched) for (_, touched), ops in users.items()),
        groups=len(machine.whole_groups),
        cores_per_group=size,
        cores=counts["cores"] if size > 1 else counts["groups"],
        caches=table.caches,
        dram_bytes_per_s=_dram_bytes_per_s(machine),
        handoff_s=machine.overheads.handoff_s.value,
        link_bytes_per_s=tuple(map(machine.link_bytes_per_s, nearest_of)),
        together=(*_together(graph), *(_positions(graph, ops) for ops in limits.together)),
        apart=tuple(_positions(graph, ops) for ops in limits.apart),
        memory=_memory(graph, machine),
    )


def _memory(graph: Graph, machine: Machine) -> NodeMemory:
    users: dict[tuple[str, int], list[int]] = {}
    for v, op in enumerate(graph.ops):
        for use in op.weights:
            users.setdefault((use.name, use.bytes), []).append(v)
    return NodeMemory(
        weights=tuple(WeightArc(tuple(ops), size) for (_, size), ops in users.items()),
        write_bytes=np.array([op.write_bytes for op in graph.ops], dtype=float),
        own_bytes=np.array([op.memory_bytes or 0 for op in graph.ops], dtype=float),
        process_bytes=machine.overheads.process_bytes.value,
        nodes=_sizes_of_nodes(machine),
    )


def _positions(graph: Graph, names: Sequence[str]) -> tuple[int, ...]:
    """Where the ops called `names` are. Raises: UsageError for an op that the graph does not have."""
    for name in names:
        if name not in graph.position:
            raise UsageError(f"{graph.name} has no op {name!r}", advice=one_of(name, graph.position))
    return tuple(graph.position[name] for name in names)


def _together(graph: Graph) -> tuple[tuple[int, ...], ...]:
    """The ops of each colocation class that has more than one."""
    classes: dict[str, list[int]] = {}
    for v, op in enumerate(graph.ops):
        if op.together is not None:
            classes.setdefault(op.together, []).append(v)
    return tuple(tuple(ops) for ops in classes.values() if len(ops) > 1)


def merged(values: Array, members: Sequence[Sequence[int]]) -> Array:
    """The sum of `values` (first axis: ops) over each of `members`."""
    return np.array([values[list(ops)].sum(axis=0) for ops in members])


def shared(problem: Problem, parts: int) -> Problem:
    """`problem` on one of `parts` equal parts of its machine."""
    memory = problem.memory and replace(
        problem.memory, nodes=problem.memory.nodes[: len(problem.memory.nodes) // parts]
    )
    return replace(
        problem, groups=problem.groups // parts, cores=problem.cores // parts,
        dram_bytes_per_s=problem.dram_bytes_per_s / parts, memory=memory,
    )  # fmt: skip


def sized(problem: Problem, part: Machine) -> Problem:
    """`problem` with the cores, the memory and the DRAM of `part`, a part of its machine with groups of its size."""
    memory, level = problem.memory, "cores" if problem.cores_per_group > 1 else "groups"
    return replace(
        problem, groups=len(part.whole_groups), cores=part.counts[level],
        dram_bytes_per_s=_dram_bytes_per_s(part), memory=memory and replace(memory, nodes=_sizes_of_nodes(part)),
    )  # fmt: skip


def _sizes_of_nodes(machine: Machine) -> tuple[int, ...]:
    """Cores of each node, most first."""
    return tuple(sorted((sum(map(len, node.groups)) for node in machine.nodes), reverse=True))


def multiplied(solution: Solution, parts: int) -> Solution:
    """`solution` of one part of a machine on all of its `parts` equal parts."""
    return replace(
        solution,
        stages=tuple(replace(stage, replicas=stage.replicas * parts) for stage in solution.stages),
        period_s=solution.period_s / parts,
        best_period_s=solution.best_period_s / parts,
        bound_s=solution.bound_s / parts,
        strict=solution.strict and multiplied(solution.strict, parts),
    )


def renamed(solution: Solution, ops_of: Callable[[tuple[int, ...]], tuple[int, ...]]) -> Solution:
    """`solution` with the ops of each stage mapped: from a reduced problem to the original, or back."""
    stages = tuple(replace(stage, ops=ops_of(stage.ops)) for stage in solution.stages)
    return replace(solution, stages=stages, strict=solution.strict and renamed(solution.strict, ops_of))
