"""Cuts a plan over several hosts into parts, each of which a host runs as a plan of its own.

Call n of the program goes to replica n mod r of a stage with r replicas, so everybody knows on which host a call is in
which stage, without asking. Consecutive stages whose calls are always on one host make a *part*. A host that has
replicas of a part gets a plan for it: the sub-program between the tensors that enter and leave, and its own replicas.
The k-th call that comes to the host goes to its k-th replica of each stage, modulo their number: the one that the whole
plan says.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mapper.machine.hosts import cores_of, on_host
from mapper.machine.model import Machine
from mapper.machine.parts import Node, PartOf
from mapper.plans.hosts import hosts_used
from mapper.plans.model import FEEDER, Edge, Plan, Replica, Ring, Stage, TensorSpec
from mapper.program.model import Program, TensorType
from mapper.program.split import split
from mapper.sources.stages import output_homes, stage_programs

FRONT = -1
"""What feeds items and collects outputs, as the source or target of a lane. It is on the first host."""


@dataclass(frozen=True)
class Part:
    """Consecutive stages, by their numbers in the plan, as one program. Call n is on host `hosts[n mod len(hosts)]`."""

    number: int
    stages: tuple[int, ...]
    program: Program
    hosts: tuple[int, ...]


@dataclass(frozen=True)
class Lane:
    """Tensors that one part (or the front) hands to another. `positions` are theirs among the outputs of the source,
    of the front: among the inputs of the model. `names` are those by which a target part knows them."""

    number: int
    source: int
    target: int
    positions: tuple[int, ...]
    names: tuple[str, ...]
    types: tuple[TensorType, ...]

    @property
    def bytes(self) -> int:
        """Bytes of one call."""
        return sum(kind.bytes for kind in self.types)


@dataclass(frozen=True)
class Cut:
    """A plan over hosts, cut. `results` says for each output of the model which lane to the front has it, and where
    in that."""

    plan: Plan
    program: Program
    parts: tuple[Part, ...]
    lanes: tuple[Lane, ...]
    results: tuple[tuple[int, int], ...]

    @cached_property
    def hosts(self) -> tuple[int, ...]:
        """The hosts that take part, ascending. The first has the front."""
        return hosts_used(self.plan)

    @property
    def front(self) -> int:
        """The host that feeds and collects."""
        return self.hosts[0]

    def host(self, part: int, call: int) -> int:
        """The host of a call in a part, or at the front."""
        if part == FRONT:
            return self.front
        hosts = self.parts[part].hosts
        return hosts[call % len(hosts)]

    def calls(self, part: int, host: int, count: int) -> Iterator[int]:
        """Which of the first `count` calls are on `host` in a part (or at the front), ascending."""
        return (call for call in range(count) if self.host(part, call) == host)

    def between(self, lane: Lane, source: int, target: int, count: int) -> Iterator[int]:
        """Which of the first `count` calls a lane takes from the host `source` to the host `target`, ascending."""
        return (call for call in self.calls(lane.source, source, count) if self.host(lane.target, call) == target)

    def hosts_at(self, part: int) -> tuple[int, ...]:
        """The hosts that a part (or the front) is on, ascending."""
        return (self.front,) if part == FRONT else tuple(sorted(set(self.parts[part].hosts)))

    def parts_on(self, host: int) -> tuple[Part, ...]:
        """The parts that `host` has replicas of."""
        return tuple(part for part in self.parts if host in part.hosts)

    def links(self) -> Iterator[tuple[Lane, int, int]]:
        """Every lane with two different hosts that tensors of it go between."""
        for lane in self.lanes:
            for source in self.hosts_at(lane.source):
                for target in self.hosts_at(lane.target):
                    if source != target and any(True for _ in self.between(lane, source, target, self._round(lane))):
                        yield lane, source, target

    def _round(self, lane: Lane) -> int:
        """Calls until the hosts at both ends of a lane are as at the first one."""
        lengths = [1 if end == FRONT else len(self.parts[end].hosts) for end in (lane.source, lane.target)]
        return math.lcm(*lengths)

    @property
    def link_bytes_per_call(self) -> float:
        """Bytes that a call takes between hosts, in the mean."""
        total = 0.0
        for lane in self.lanes:
            calls = self._round(lane)
            apart = sum(self.host(lane.source, n) != self.host(lane.target, n) for n in range(calls))
            total += lane.bytes * apart / calls
        return total


def cut(plan: Plan, program: Program) -> Cut:
    """`plan` cut into parts. A plan on one host is one part.

    Raises: BadInput when `program` is not the one that was planned, or the stages are no partition of it in order.
    """
    stage_programs(plan, program)  # refuses what is no partition, with the place in the plan
    runs = _runs(plan)
    programs = split(program, [[op for s in run for op in plan.stages[s].ops] for run in runs])
    parts = tuple(
        Part(number, run, made, _hosts(plan.stages[run[0]]))
        for number, (run, made) in enumerate(zip(runs, programs, strict=True))
    )
    homes = output_homes(program, programs)
    lanes = tuple(_lanes(program, parts, homes))
    to_front = {lane.source: lane for lane in lanes if lane.target == FRONT}
    results = tuple((to_front[part].number, to_front[part].positions.index(i)) for part, i in homes)
    return Cut(plan, program, parts, lanes, results)


def _runs(plan: Plan) -> list[tuple[int, ...]]:
    """The stages of each part: maximal runs whose calls stay on one host."""
    runs: list[list[int]] = []
    for stage in plan.stages:
        if runs and _hosts(plan.stages[runs[-1][0]]) == _hosts(stage):
            runs[-1].append(stage.id)
        else:
            runs.append([stage.id])
    return [tuple(run) for run in runs]


def _hosts(stage: Stage) -> tuple[int, ...]:
    """The hosts of the calls of a stage, one after the other, until they begin again: equal for two stages if and only
    if every call is on one host in both."""
    hosts = tuple(replica.host for replica in stage.replicas)
    for length in range(1, len(hosts) + 1):
        if len(hosts) % length == 0 and hosts == hosts[:length] * (len(hosts) // length):
            return hosts[:length]
    raise AssertionError("a sequence is once itself")


def _lanes(program: Program, parts: Sequence[Part], homes: Sequence[tuple[int, int]]) -> Iterator[Lane]:
    """What each part takes from the front and from the parts before it, then what the front takes from each."""
    number = 0
    for part in parts:
        wanted = part.program.input
        given = [(FRONT, tuple(x.name for x in program.inputs))]
        given += [(before.number, before.program.output_names) for before in parts[: part.number]]
        for source, names in given:
            positions = [i for i, name in enumerate(names) if name in wanted and _gives(program, source, name)]
            if positions:
                taken = tuple(names[i] for i in positions)
                types = tuple(wanted[name].type for name in taken)
                yield Lane(number, source, part.number, tuple(positions), taken, types)
                number += 1
    for part in parts:
        collected = sorted({i for at, i in homes if at == part.number})
        if collected:
            made = part.program
            types = tuple(made.type_of(made.outputs[i]) for i in collected)
            names = tuple(made.output_names[i] for i in collected)
            yield Lane(number, part.number, FRONT, tuple(collected), names, types)
            number += 1


def _gives(program: Program, source: int, name: str) -> bool:
    """Whether `source` is where the tensor called `name` is from: a model input that the first part hands out as an
    output of the model is the front's."""
    return (name in program.input) == (source == FRONT)


def part_plan(cut: Cut, part: Part, host: int, here: Machine | None = None) -> Plan:
    """The plan of `part` on `host`: for a machine that is this host alone (see `host_machine`), over `part.program`."""
    plan, machine = cut.plan, host_machine(cut.plan.machine, host, here)
    cores = {core: i for i, core in enumerate(cores_of(plan.machine, host))}
    nodes = {n: i for i, n in enumerate(n for n, node in enumerate(plan.machine.nodes) if node.host == host)}
    stages = tuple(_stage(plan.stages[s], i, host, cores, nodes) for i, s in enumerate(part.stages))
    item = tuple(TensorSpec(name=x.name, shape=x.type.shape, dtype=x.type.dtype) for x in part.program.inputs)
    model = plan.model.model_copy(update={"graph_sha256": part.program.sha256, "item": item})
    return plan.model_copy(
        update={
            "model": model, "machine": machine, "fingerprint": machine.fingerprint, "stages": stages,
            "request": plan.request.model_copy(update={"micro_batches": 1}), "alternatives": (),
            "predicted": plan.predicted.model_copy(update={"window": _window(plan, part, host)}),
            "edges": tuple(_edges(plan, part, host, nodes)),
        }
    )  # fmt: skip


def replicas_on(stage: Stage, host: int) -> tuple[int, ...]:
    """The numbers of the replicas of a stage that are on `host`."""
    return tuple(r for r, replica in enumerate(stage.replicas) if replica.host == host)


def _stage(stage: Stage, number: int, host: int, cores: Mapping[int, int], nodes: Mapping[int, int]) -> Stage:
    def moved(replica: Replica) -> Replica:
        held = tuple(nodes[node] for node in replica.weights.nodes if node in nodes)
        return replica.model_copy(
            update={
                "host": 0, "cores": tuple(cores[core] for core in replica.cores),
                "weights": replica.weights.model_copy(update={"nodes": held}),
            }
        )  # fmt: skip

    kept = tuple(moved(stage.replicas[r]) for r in replicas_on(stage, host))
    return stage.model_copy(update={"id": number, "replicas": kept})


def _window(plan: Plan, part: Part, host: int) -> int:
    """How many calls are in a part on a host under steady load, and one that waits for the first of its replicas."""
    pace_s = max(stage.load.total_s / len(stage.replicas) for stage in plan.stages)
    stages = [plan.stages[s] for s in part.stages]
    share = len(replicas_on(stages[0], host)) / len(stages[0].replicas)
    inside = sum(stage.load.total_s for stage in stages) * share / pace_s if pace_s else len(stages)
    return max(1, math.ceil(inside * (1 - 1e-9))) + 1


def _edges(plan: Plan, part: Part, host: int, nodes: Mapping[int, int]) -> Iterator[Edge]:
    """The edges within a part, with the rings on `host`; those to and from outside are the feeder's."""
    place = {s: i for i, s in enumerate(part.stages)}
    for edge in plan.edges:
        ends = [place.get(int(end)) if end != FEEDER else None for end in (edge.source, edge.target)]
        if ends == [None, None]:
            continue
        source, target = (FEEDER if end is None else end for end in ends)
        inside = None not in ends
        rings = tuple(_rings(plan, edge, host, nodes)) if inside else ()
        yield edge.model_copy(update={"source": source, "target": target, "rings": rings})


def _rings(plan: Plan, edge: Edge, host: int, nodes: Mapping[int, int]) -> Iterator[Ring]:
    here = [
        {r: i for i, r in enumerate(replicas_on(plan.stages[int(end)], host))} for end in (edge.source, edge.target)
    ]
    for ring in edge.rings:
        if ring.from_replica in here[0] and ring.to_replica in here[1] and ring.node in nodes:
            ends: dict[str, Any] = {"from_replica": here[0][ring.from_replica], "to_replica": here[1][ring.to_replica]}
            yield ring.model_copy(update={**ends, "node": nodes[ring.node]})


def host_machine(machine: Machine, host: int, here: Machine | None = None) -> Machine:
    """`host` of `machine` as a machine of its own: its nodes, cores and packages numbered from 0.

    Where `machine` is a part of a cluster whose hosts are all like `here`, it is that part of `here`.
    """
    alone = on_host(machine, host)
    packages = {p: i for i, p in enumerate(dict.fromkeys(node.package for node in alone.nodes))}
    nodes = tuple(_alone(node, packages) for node in alone.nodes)
    return alone.model_copy(
        update={"nodes": nodes, "part_of": _part_of(machine, host, here), "layout": None, "hosts": None}
    )


def _part_of(machine: Machine, host: int, here: Machine | None) -> PartOf | None:
    """Which part of `here` the cores of `host` are, where `machine` is a part of a cluster of such hosts."""
    if machine.part_of is None or here is None or here.part_of is not None:
        return None
    size = len(here.cores)
    count = len(machine.hosts or ()) or max(node.host for node in machine.nodes) + 1
    nodes = tuple(
        node.model_copy(update={"host": h, "package": h * len(here.nodes) + node.package})
        for h in range(count)
        for node in here.nodes
    )
    cores = tuple(machine.part_of.cores[core] - host * size for core in cores_of(machine, host))
    alike = here.model_copy(update={"nodes": nodes}).fingerprint == machine.part_of.fingerprint
    return PartOf(fingerprint=here.fingerprint, cores=cores) if alike and set(cores) <= set(range(size)) else None


def _alone(node: Node, packages: Mapping[int, int]) -> Node:
    return node.model_copy(update={"host": 0, "package": packages[node.package]})
