"""What a mapping costs: the composition of problem.md, written plainly. The search does not use this; it is checked
against it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import networkx as nx

from mapper.cost.configurations import Config
from mapper.cost.residency import DRAM, DRAM_NAME, GROUP, PACKAGE
from mapper.cost.table import GIVEN, CostTable
from mapper.cost.transfer import RING_SLOTS, transfer_s
from mapper.graph.model import Graph, Op, Tensor, touched_by
from mapper.machine.hosts import host_of
from mapper.machine.model import Machine
from mapper.machine.parts import DISTANCES, Distance
from mapper.plans.dram import dram_causes
from mapper.plans.hosts import within_network
from mapper.plans.model import (
    FEEDER,
    Configuration,
    Edge,
    Load,
    ModelRef,
    Plan,
    Predicted,
    Replica,
    Request,
    Ring,
    Solver,
    Stage,
    WeightPlace,
)


@dataclass(frozen=True)
class Placed:
    """A stage as it is to be evaluated: op names, configuration, and the cores of each replica by logical number.

    `spread`: its weights lie on all nodes of each replica's host, not on those of its cores (which may be all, too).
    """

    ops: tuple[str, ...]
    config: Config
    replicas: tuple[tuple[int, ...], ...]
    spread: bool = False


@dataclass(frozen=True)
class Evaluation:
    """The parts of a plan that follow from its mapping."""

    stages: tuple[Stage, ...]
    edges: tuple[Edge, ...]
    predicted: Predicted

    def in_plan(self, plan: Plan, **more: object) -> Plan:
        """`plan` with these parts in the place of its own, and with `more` of its fields changed."""
        parts = {"stages": self.stages, "edges": self.edges, "predicted": self.predicted}
        return plan.model_copy(update=parts | more)

    def as_plan(self, model: ModelRef, machine: Machine, request: Request, solver: Solver) -> Plan:
        """A plan of these parts for `machine`."""
        return Plan(
            model=model, machine=machine, fingerprint=machine.fingerprint, request=request, solver=solver,
            predicted=self.predicted, stages=self.stages, edges=self.edges,
        )  # fmt: skip


def evaluate(graph: Graph, machine: Machine, table: CostTable, mapping: Sequence[Placed]) -> Evaluation:
    """Loads, residencies, rings, period and latency of `mapping`.

    Raises: ValueError for what is no mapping: an op missing or twice, a tensor that flows back, a team on two hosts;
    BadInput where no op takes any time.
    """
    table.require_time(graph.name)
    return _Evaluator(graph, machine, table, tuple(mapping)).evaluation()


def meetings(producers: int, readers: int) -> list[tuple[int, int]]:
    """The pairs (producing replica, reading replica) that ever share an item: item n goes to n mod r on both sides."""
    step = math.gcd(producers, readers)
    return [(a, b) for a in range(producers) for b in range(a % step, readers, step)]


class _Evaluator:
    def __init__(self, graph: Graph, machine: Machine, table: CostTable, mapping: tuple[Placed, ...]) -> None:
        self.graph, self.machine, self.table, self.mapping = graph, machine, table, mapping
        self.home = {name: s for s, stage in enumerate(mapping) for name in stage.ops}
        if len(self.home) != sum(len(stage.ops) for stage in mapping) or set(self.home) != set(graph.position):
            raise ValueError("the stages are no partition of the graph's ops")
        for tensor in graph.tensors:
            if any(self.home[reader] < self.home[tensor.producer] for reader in tensor.readers):
                raise ValueError(f"the tensor {tensor.name} flows from a stage to an earlier one")
        if any(len({host_of(machine, core) for core in cores}) > 1 for stage in mapping for cores in stage.replicas):
            raise ValueError("a team spans hosts")
        self.touched_by_model = touched_by(graph.ops)
        self.entering: list[list[Tensor]] = [[] for _ in mapping]
        self.leaving: list[list[Tensor]] = [[] for _ in mapping]
        for tensor in graph.tensors:
            made, read = self.home[tensor.producer], {self.home[reader] for reader in tensor.readers}
            for s in sorted(read - {made}):
                self.entering[s].append(tensor)
            if read - {made}:
                self.leaving[made].append(tensor)

    def evaluation(self) -> Evaluation:
        stages = tuple(self._stage(s) for s in range(len(self.mapping)))
        predicted = self._predicted(stages)
        edges = self._edges(stages, predicted)
        return Evaluation(stages, edges, within_network(predicted, stages, edges, self.machine))

    # one stage

    def _stage(self, s: int) -> Stage:
        placed = self.mapping[s]
        ops = [self.graph.ops[self.graph.position[name]] for name in placed.ops]
        rows = [self.graph.position[name] for name in placed.ops]
        column = self.table.index(placed.config.name)
        entering, leaving = self.entering[s], self.leaving[s]
        touched = touched_by(ops)
        private = max(op.footprint_bytes for op in ops) + RING_SLOTS * sum(t.bytes for t in entering)
        residency = self._residency(s, touched, private)
        seconds = self.table.compute_s[:, column, residency]
        far = placed.spread and any(self._nodes(cores) != self._nodes_around(cores) for cores in placed.replicas)
        if far and residency == DRAM and self.table.spread_s is not None:
            seconds = self.table.spread_s[:, column]
        compute = float(sum(seconds[v] for v in rows))
        dispatch = float(sum(self.table.dispatch_s[v] for v in rows))
        fork_join = float(sum(self.table.fork_join_s[v, column] for v in rows))
        crossing = [self._crossing(s, replica, entering, leaving) for replica in range(len(placed.replicas))]
        in_s, out_s = max(crossing, key=lambda both: (both[0] + both[1], both))
        dram = (touched if residency == DRAM else 0) + float(sum(self.table.dram_bytes[v, column] for v in rows))
        inputs = [b.name for b in self.graph.inputs if any(self.home[op] == s for op in b.ops)]
        outputs = [b.name for b in self.graph.outputs if self._home_of_output(b.ops) == s]
        return Stage(
            id=s, ops=placed.ops,
            inputs=(*inputs, *(t.name for t in entering)),
            outputs=(*(t.name for t in leaving), *outputs),
            residency=self.table.caches.names[residency],
            weight_bytes=sum({w.name: w.bytes for op in ops for w in op.weights}.values()),
            touched_bytes=touched, activation_bytes=private,
            flop=sum(op.flop for op in ops), dram_bytes=dram,
            memory_bytes=self._held(s, ops, entering),
            load=Load(
                compute_s=compute, dispatch_s=dispatch, fork_join_s=fork_join, in_s=in_s, out_s=out_s,
                total_s=compute + dispatch + fork_join + in_s + out_s,
            ),
            replicas=tuple(self._replica(placed, cores) for cores in placed.replicas),
        )  # fmt: skip

    def _held(self, s: int, ops: Sequence[Op], entering: list[Tensor]) -> float:
        """What one replica holds besides weights: live activations, the slots of what enters, and its process."""
        slots = RING_SLOTS * sum(t.bytes for t in entering)
        return self._live(s, ops) + slots + self.machine.overheads.process_bytes.value

    def _live(self, s: int, ops: Sequence[Op]) -> float:
        """The most bytes of the stage's own tensors alive at once, its ops in order: what an op writes, and what was
        written before and is read by it or later, or by another stage."""
        position, most, alive = self.graph.position, 0.0, 0.0
        ends: dict[int, float] = {}
        for op in ops:
            most = max(most, alive + op.write_bytes)
            for tensor in self._made.get(op.name, ()):
                inside = [reader for reader in tensor.readers if self.home[reader] == s]
                if len(inside) < len(tensor.readers):
                    alive += tensor.bytes  # another stage waits for it
                elif inside:
                    alive += tensor.bytes
                    last = max(position[reader] for reader in inside)
                    ends[last] = ends.get(last, 0.0) + tensor.bytes
            alive -= ends.pop(position[op.name], 0.0)
        return most

    @cached_property
    def _made(self) -> dict[str, list[Tensor]]:
        """The tensors that each op produces."""
        out: dict[str, list[Tensor]] = {}
        for tensor in self.graph.tensors:
            out.setdefault(tensor.producer, []).append(tensor)
        return out

    def _home_of_output(self, producers: tuple[str, ...]) -> int:
        """The stage that returns an output; what depends on no op is the first stage's."""
        return self.home[producers[0]] if producers else 0

    def _residency(self, s: int, touched: float, private: float) -> int:
        """The nearest cache that holds the working set of every replica."""
        placed, caches, size = self.mapping[s], self.table.caches, self.machine.cores_per_group
        config = placed.config
        if config.cores >= size:
            near = touched + private <= caches.group_bytes
        else:
            near = caches.fits_share(touched, private, config.cores, size) or (
                self._alone(s) and caches.fits_exclusive(touched, private, config.cores, size)
            )
        if near:
            return GROUP
        return PACKAGE if caches.holds_model(self.touched_by_model) else DRAM

    def _alone(self, s: int) -> bool:
        """Whether no other stage has a core in the groups of stage `s`."""
        mine = self._groups(self.mapping[s])
        return not any(mine & self._groups(stage) for t, stage in enumerate(self.mapping) if t != s)

    def _groups(self, stage: Placed) -> set[int]:
        """The groups that `stage` has cores in."""
        return {self.machine.cores[core].group for cores in stage.replicas for core in cores}

    def _crossing(self, s: int, replica: int, entering: list[Tensor], leaving: list[Tensor]) -> tuple[float, float]:
        """Seconds in and out of one replica: each tensor once, at the distance of its farthest partner."""
        cost_in = sum(self._transfer_s(t, self._farthest(s, replica, {self.home[t.producer]})) for t in entering)
        cost_out = sum(
            self._transfer_s(t, self._farthest(s, replica, {self.home[r] for r in t.readers} - {s})) for t in leaving
        )
        return cost_in, cost_out

    def _transfer_s(self, tensor: Tensor, distance: Distance) -> float:
        """comm(t, d): what the machine's link takes, and what the graph says that it costs besides."""
        return transfer_s(self.machine, tensor.bytes, distance) + self.table.comm_s.get(tensor.name, 0.0)

    def _farthest(self, s: int, replica: int, stages: set[int]) -> Distance:
        """The largest distance between a replica and those of `stages` that it shares items with."""
        mine = self.mapping[s].replicas
        found: Distance = "core"
        for t in stages:
            theirs = self.mapping[t].replicas
            step = math.gcd(len(mine), len(theirs))
            for b in range(replica % step, len(theirs), step):
                found = max(found, self._distance(mine[replica], theirs[b]), key=DISTANCES.index)
        return found

    def _distance(self, a: Sequence[int], b: Sequence[int]) -> Distance:
        """Between the first cores of two replicas: where their workers copy."""
        return self.machine.distance(a[0], b[0])

    def _replica(self, placed: Placed, cores: tuple[int, ...]) -> Replica:
        config, own = placed.config, self._nodes(cores)
        nodes = self._nodes_around(cores) if placed.spread else own
        return Replica(
            host=self.machine.nodes[own[0]].host,
            configuration=Configuration(
                name=config.name, groups=config.groups, cores_per_group=config.cores_per_group, threads=config.cores
            ),
            cores=cores,
            weights=WeightPlace(policy="node" if len(nodes) == 1 else "interleave", nodes=nodes),
        )

    def _nodes(self, cores: Sequence[int]) -> tuple[int, ...]:
        """The nodes that have some of `cores`."""
        return tuple(sorted({self.machine.cores[core].node for core in cores}))

    def _nodes_around(self, cores: Sequence[int]) -> tuple[int, ...]:
        """All nodes of the host that has `cores`."""
        host = host_of(self.machine, cores[0])
        return tuple(n for n, node in enumerate(self.machine.nodes) if node.host == host)

    # the whole plan

    def _predicted(self, stages: tuple[Stage, ...]) -> Predicted:
        causes = [
            (stage.load.total_s / len(stage.replicas), f"stage {stage.id}: {self._cause(stage)}") for stage in stages
        ]
        causes += dram_causes(stages, self.machine)
        period, cause = max(causes, key=lambda both: both[0])
        latency = sum(stage.load.total_s for stage in stages)
        return Predicted(
            period_s=period, throughput_per_s=1 / period, latency_s=latency,
            critical_path_s=self._critical_path(stages),
            window=max(1, math.ceil(latency / (_pace(stages) or period) * (1 - 1e-9))),
            cores_used=sum(len(replica.cores) for stage in stages for replica in stage.replicas),
            dram_bytes_per_item=sum(stage.dram_bytes for stage in stages),
            node_memory_bytes=self._memory_of_nodes(stages), limited_by=cause,
        )  # fmt: skip

    def _cause(self, stage: Stage) -> str:
        """What most of the stage's time goes to, in words."""
        load, threads = stage.load, stage.replicas[0].configuration.threads
        reads = stage.touched_bytes if stage.residency == DRAM_NAME else 0
        from_dram = reads / (self.machine.core_dram_bytes_per_s * threads)
        work = "weights read from DRAM" if from_dram > load.compute_s / 2 else "arithmetic"
        parts = {
            "its ops" if self.table.source == GIVEN else work: load.compute_s,
            "dispatch": load.dispatch_s,
            "fork and join of threads": load.fork_join_s,
            "tensors handed over": load.in_s + load.out_s,
        }
        return max(parts, key=lambda name: parts[name])

    def _memory_of_nodes(self, stages: tuple[Stage, ...]) -> tuple[float, ...]:
        """Bytes that each node holds: weights of a stage once where a replica has all its cores there, their share once
        for all replicas that span the same nodes; and what each replica holds besides, spread over its nodes."""
        held = [0.0] * len(self.machine.nodes)
        for stage in stages:
            placed = {replica.weights.nodes for replica in stage.replicas}
            weights = self._whole_weights(stage)
            for nodes in placed:
                for node in nodes:
                    held[node] += weights / len(nodes)
            for replica in stage.replicas:
                own = self._nodes(replica.cores)
                for node in own:
                    held[node] += stage.memory_bytes / len(own)
        return tuple(held)

    def _whole_weights(self, stage: Stage) -> float:
        """The weights of a stage, and what a graph file says that its ops take."""
        own = sum(self.graph.ops[self.graph.position[name]].memory_bytes or 0.0 for name in stage.ops)
        return stage.weight_bytes + own

    def _critical_path(self, stages: tuple[Stage, ...]) -> float:
        longest = [0.0] * len(stages)
        before = self._stage_graph
        for s in range(len(stages)):
            longest[s] = stages[s].load.total_s + max((longest[p] for p in before.predecessors(s)), default=0.0)
        return max(longest)

    @cached_property
    def _stage_graph(self) -> nx.DiGraph:
        out = nx.DiGraph()
        out.add_nodes_from(range(len(self.mapping)))
        out.add_edges_from(
            (self.home[t.producer], self.home[r])
            for t in self.graph.tensors
            for r in t.readers
            if self.home[r] != self.home[t.producer]
        )
        return out

    # edges

    def _edges(self, stages: tuple[Stage, ...], predicted: Predicted) -> tuple[Edge, ...]:
        edges, window, pace = [], predicted.window, _pace(stages) or predicted.period_s
        for s in range(len(stages)):
            given = [b for b in self.graph.inputs if any(self.home[op] == s for op in b.ops)]
            if given:
                edges.append(self._feeder_edge(s, [b.name for b in given], sum(b.bytes for b in given), window, True))
        for s, t in sorted(self._stage_graph.edges):
            tensors = [x for x in self.leaving[s] if any(self.home[r] == t for r in x.readers)]
            names, size = [x.name for x in tensors], sum(x.bytes for x in tensors)
            edges.append(_edge(s, t, names, size, self._slots(stages, s, t, pace), self._rings(s, t)))
        for s in range(len(stages)):
            returned = [b for b in self.graph.outputs if self._home_of_output(b.ops) == s]
            if returned:
                edges.append(self._feeder_edge(s, [b.name for b in returned], sum(b.bytes for b in returned), 2, False))
        return tuple(edges)

    def _feeder_edge(self, s: int, tensors: list[str], size: int, slots: int, into: bool) -> Edge:
        rings = []
        for i, cores in enumerate(self.mapping[s].replicas):
            ends = (0, i) if into else (i, 0)
            rings.append(
                Ring(
                    from_replica=ends[0],
                    to_replica=ends[1],
                    node=self.machine.cores[cores[0]].node,
                    distance=self._distance(self.mapping[0].replicas[0], cores),
                )
            )
        source, target = (FEEDER, s) if into else (s, FEEDER)
        return _edge(source, target, tensors, size, slots, tuple(rings))

    def _rings(self, s: int, t: int) -> tuple[Ring, ...]:
        """Ring memory is the producer's: it writes an item once, whoever reads it."""
        from_, to = self.mapping[s].replicas, self.mapping[t].replicas
        return tuple(
            Ring(
                from_replica=a, to_replica=b, node=self.machine.cores[from_[a][0]].node,
                distance=self._distance(from_[a], to[b]),
            )
            for a, b in meetings(len(from_), len(to))
        )  # fmt: skip

    def _slots(self, stages: tuple[Stage, ...], s: int, t: int, pace: float) -> int:
        """One slot to write, and one for each item that is between the two stages in the steady state."""
        longest = {s: 0.0}
        graph = self._stage_graph
        for u in range(s + 1, t + 1):
            reach = [longest[p] for p in graph.predecessors(u) if p in longest]
            if reach:
                longest[u] = max(reach) + stages[u].load.total_s
        return max(RING_SLOTS, math.ceil(longest[t] / pace / len(stages[s].replicas) * (1 - 1e-9)) + 1)


def _pace(stages: tuple[Stage, ...]) -> float:
    """Seconds between two items at the slowest stage, whatever DRAM can do: contention stretches loads as it stretches
    the period, so that as many items as this asks for keep all replicas busy in either case."""
    return max(stage.load.total_s / len(stage.replicas) for stage in stages)


def _edge(
    source: int | str, target: int | str, tensors: list[str], size: int, slots: int, rings: tuple[Ring, ...]
) -> Edge:
    given = {"from": source, "to": target, "tensors": tensors, "bytes": size, "slots": slots, "rings": rings}
    return Edge.model_validate(given)
