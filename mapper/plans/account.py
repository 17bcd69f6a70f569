"""Where a plan's time goes: the parts of each stage's load, what memory serves, and what cores wait for.

Derived from a mapping as `evaluate` gives it (a plan has the same parts) and from the costs. Everything is of one item.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

from mapper.cost.configurations import Config
from mapper.cost.forms import form
from mapper.cost.residency import DRAM
from mapper.cost.roofline import Roofline
from mapper.cost.table import CostTable
from mapper.cost.transfer import transfer_s
from mapper.graph.model import Graph
from mapper.machine.model import Machine
from mapper.machine.parts import DISTANCES, Distance, Path
from mapper.plans.dram import DRAM_OF_NODE, dram_of_hosts, dram_of_nodes, host_dram_bytes_per_s, is_spread
from mapper.plans.evaluate import Evaluation
from mapper.plans.hosts import LINK, traffic
from mapper.plans.model import FEEDER, Stage

ARITHMETIC, WEIGHTS, ACTIVATIONS = "arithmetic", "weights", "activations"
OPS = "ops"
"""Where costs do not say what an op waits for: the whole of it."""
DISPATCH, FORK_JOIN, TRANSFERS = "dispatch", "fork_join", "transfers"
WAITING, UNUSED = "waiting", "unused"
"""Of cores: for the slowest stage or for memory, and those that hold no stage."""
BINDS_WITHIN = 1e-3
"""What is this near the period, relative to it, binds."""


@dataclass(frozen=True)
class OpLoad:
    """Seconds of one op in its stage, by part; dispatch and fork-join included."""

    name: str
    kind: str
    parts: Mapping[str, float]

    @property
    def seconds(self) -> float:
        """All of it."""
        return sum(self.parts.values())

    @property
    def mostly(self) -> str:
        """The largest part."""
        return max(self.parts, key=lambda part: self.parts[part])


@dataclass(frozen=True)
class Handover:
    """One tensor that crosses a border of a stage: `into` it or out of it, from or to `stages`."""

    tensor: str
    into: bool
    stages: tuple[int, ...]
    bytes: int
    seconds: float


@dataclass(frozen=True)
class StageLoad:
    """The load of a stage taken apart: `parts` add up to `seconds`; `cores` are those of one of its `replicas`;
    `dram_bytes` it draws for an item."""

    id: int
    replicas: int
    cores: int
    residency: str
    dram_bytes: float
    parts: Mapping[str, float]
    ops: tuple[OpLoad, ...]
    tensors: tuple[Handover, ...]

    @property
    def name(self) -> str:
        """Such as `stage 2`."""
        return f"stage {self.id}"

    @property
    def seconds(self) -> float:
        """The load."""
        return sum(self.parts.values())

    @property
    def period_s(self) -> float:
        """What the stage adds to the period: the load, shared by the replicas."""
        return self.seconds / self.replicas


@dataclass(frozen=True)
class MemoryLoad:
    """DRAM of the package (`node` None), of one node, or of one of several hosts: bytes of an item, and what it serves
    a second."""

    node: int | None
    bytes: float
    bytes_per_s: float
    host: int | None = None

    @property
    def period_s(self) -> float:
        """Seconds that it serves an item."""
        return self.bytes / self.bytes_per_s

    @property
    def name(self) -> str:
        """Such as `DRAM of node 2`."""
        if self.host is not None:
            return f"DRAM of host {self.host}"
        return "DRAM of the package" if self.node is None else f"{DRAM_OF_NODE} {self.node}"


@dataclass(frozen=True)
class LinkLoad:
    """The network of a host in one direction: bytes of an item, and what it carries a second."""

    host: int
    into: bool
    bytes: float
    bytes_per_s: float

    @property
    def period_s(self) -> float:
        """Seconds that it carries an item."""
        return self.bytes / self.bytes_per_s

    @property
    def name(self) -> str:
        """Such as `link into host 1`."""
        return f"{LINK} {'into' if self.into else 'out of'} host {self.host}"


def stage_loads(made: Evaluation, graph: Graph, machine: Machine, table: CostTable) -> tuple[StageLoad, ...]:
    """The load of every stage, taken apart. Ops come costliest first, tensors too."""
    split = _splitter(graph, machine, table)
    return tuple(_stage_load(stage, made, graph, machine, table, split) for stage in made.stages)


Split = Callable[[int, Config, int, bool], dict[str, float]]
"""From op, configuration, residency and whether weights in DRAM lie on all nodes to the parts of the op's seconds."""


def _splitter(graph: Graph, machine: Machine, table: CostTable) -> Split:
    """How to take an op's `compute_s` apart. The roofline's is the longer of arithmetic and memory, so all of it is one
    or the other; memory is weights and activations in proportion."""
    path = table.options.get("path")

    def seconds_of(v: int, config: Config, rho: int, spread: bool) -> float:
        column = table.index(config.name)
        if spread and rho == DRAM and table.spread_s is not None:
            return float(table.spread_s[v, column])
        return float(table.compute_s[v, column, rho])

    if table.source != "roofline" or path is None:
        return lambda v, config, rho, spread: {OPS: seconds_of(v, config, rho, spread)}
    model = Roofline(machine, cast(Path, path))

    def split(v: int, config: Config, rho: int, spread: bool) -> dict[str, float]:
        op = graph.ops[v]
        terms = model.terms(op, form(op, graph.program), config)
        seconds, read = seconds_of(v, config, rho, spread), terms.weights_s[rho]
        if spread and rho == DRAM:
            read = max(read, model.spread_s(op, config, terms))
        memory = read + terms.activations_s
        if terms.work_s >= memory:
            return {ARITHMETIC: seconds}
        return {WEIGHTS: seconds * read / memory, ACTIVATIONS: seconds * terms.activations_s / memory}

    return split


def _stage_load(
    stage: Stage, made: Evaluation, graph: Graph, machine: Machine, table: CostTable, split: Split
) -> StageLoad:
    shape = stage.replicas[0].configuration
    config, rho = Config(shape.groups, shape.cores_per_group), table.caches.names.index(stage.residency)
    column, spread = table.index(config.name), is_spread(stage, machine)
    ops = []
    for name in stage.ops:
        v = graph.position[name]
        more = {DISPATCH: float(table.dispatch_s[v]), FORK_JOIN: float(table.fork_join_s[v, column])}
        parts = split(v, config, rho, spread) | {part: x for part, x in more.items() if x}
        ops.append(OpLoad(name, graph.ops[v].kind, parts))
    tensors = _handovers(stage, made, graph, machine, table)
    total: dict[str, float] = {}
    for op in ops:
        for part, seconds in op.parts.items():
            total[part] = total.get(part, 0.0) + seconds
    handed = sum(t.seconds for t in tensors)
    if handed:
        total[TRANSFERS] = handed
    return StageLoad(
        stage.id, len(stage.replicas), len(stage.replicas[0].cores), stage.residency, stage.dram_bytes, total,
        tuple(sorted(ops, key=lambda op: -op.seconds)), tensors,
    )  # fmt: skip


def _handovers(
    stage: Stage, made: Evaluation, graph: Graph, machine: Machine, table: CostTable
) -> tuple[Handover, ...]:
    """What crosses the borders of `stage`, at the distances of its slowest replica."""
    home = {op: s.id for s in made.stages for op in s.ops}
    mine, crossing = set(stage.ops), []
    for tensor in graph.tensors:
        if tensor.producer in mine:
            others = tuple(sorted({home[r] for r in tensor.readers} - {stage.id}))
        else:
            others = (home[tensor.producer],) if mine & set(tensor.readers) else ()
        if others:
            crossing.append((tensor, tensor.producer not in mine, others))
    if not crossing:
        return ()
    found = []
    for replica in range(len(stage.replicas)):
        far = _distances(stage.id, replica, made)
        found.append(tuple(
            Handover(t.name, into, others, t.bytes, table.comm_s.get(t.name, 0.0) + transfer_s(
                machine, t.bytes, max((far[into, s] for s in others), key=DISTANCES.index)))
            for t, into, others in crossing
        ))  # fmt: skip
    slowest = max(found, key=lambda row: sum(h.seconds for h in row))
    return tuple(sorted(slowest, key=lambda h: -h.seconds))


def _distances(stage: int, replica: int, made: Evaluation) -> dict[tuple[bool, int], Distance]:
    """The farthest partner of a replica in each other stage, by direction: into it or out of it."""
    far: dict[tuple[bool, int], Distance] = {}
    for edge in made.edges:
        if FEEDER in (edge.source, edge.target) or stage not in (edge.source, edge.target):
            continue
        into = edge.target == stage
        other = edge.source if into else edge.target
        assert isinstance(other, int)
        for ring in edge.rings:
            if (ring.to_replica if into else ring.from_replica) == replica:
                known = far.get((into, other), "core")
                far[into, other] = max(known, ring.distance, key=DISTANCES.index)
    return far


def memory_loads(made: Evaluation, machine: Machine) -> tuple[MemoryLoad, ...]:
    """What the DRAM of the package and of each node serves; nothing where nothing limits it."""
    found = []
    if math.isfinite(machine.dram_bytes_per_s):
        found.append(MemoryLoad(None, sum(stage.dram_bytes for stage in made.stages), machine.dram_bytes_per_s))
    for host, size in dram_of_hosts(made.stages, machine).items() if math.isfinite(machine.dram_bytes_per_s) else ():
        found.append(MemoryLoad(None, size, host_dram_bytes_per_s(machine, host), host))
    figure = machine.memory.node_bandwidth_bytes_per_s
    if figure is not None:
        drawn = dict.fromkeys(range(len(machine.nodes)), 0.0) | dram_of_nodes(made.stages, machine)
        found += [MemoryLoad(node, size, figure.value) for node, size in drawn.items()]
    return tuple(found)


def link_loads(made: Evaluation, machine: Machine) -> tuple[LinkLoad, ...]:
    """What the network of each host carries; nothing for one host, or where nothing limits it."""
    rate = machine.link_bytes_per_s("cluster")
    if not math.isfinite(rate):
        return ()
    moved = traffic(made.stages, made.edges, machine)
    return tuple(
        LinkLoad(host, into, each.in_bytes if into else each.out_bytes, rate)
        for host, each in moved.items()
        for into in (True, False)
    )


def core_seconds(loads: tuple[StageLoad, ...], period_s: float, cores: int) -> dict[str, float]:
    """Core-seconds of one item by part; they add up to `period_s` times all `cores` of the machine.

    A stage holds the cores of one replica for its load; what is left of its cores' time is waiting.
    """
    out: dict[str, float] = {}
    used = 0
    for stage in loads:
        used += stage.replicas * stage.cores
        for part, seconds in stage.parts.items():
            out[part] = out.get(part, 0.0) + seconds * stage.cores
    out[WAITING] = max(0.0, period_s * used - sum(out.values()))
    out[UNUSED] = period_s * (cores - used)
    return out


@dataclass(frozen=True)
class Binding:
    """What a period consists of: the load of every stage, memory and network, of which those in `names` bind.

    `core_seconds` is where the time of the machine's cores goes, by part.
    """

    period_s: float
    names: tuple[str, ...]
    stages: tuple[StageLoad, ...]
    memory: tuple[MemoryLoad, ...]
    core_seconds: Mapping[str, float]
    links: tuple[LinkLoad, ...] = ()

    def slack(self, load: StageLoad | MemoryLoad | LinkLoad) -> float:
        """The part of the period that a stage, a memory or a network has nothing to do."""
        return max(0.0, 1 - load.period_s / self.period_s)


def binding_of(made: Evaluation, graph: Graph, machine: Machine, table: CostTable) -> Binding:
    """What the period of `made` consists of."""
    loads, memory = stage_loads(made, graph, machine, table), memory_loads(made, machine)
    period = made.predicted.period_s
    links = link_loads(made, machine)
    every: list[StageLoad | MemoryLoad | LinkLoad] = [*loads, *memory, *links]
    names = tuple(load.name for load in every if load.period_s >= period * (1 - BINDS_WITHIN))
    return Binding(period, names, loads, memory, core_seconds(loads, period, len(machine.cores)), links)
