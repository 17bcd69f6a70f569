"""What the period consists of: the load of every stage by cause, and what the DRAM of every node serves."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mapper.machine.model import Machine
from mapper.plans.dram import dram_of_nodes, dram_of_replica, host_dram_bytes_per_s
from mapper.plans.micro_batches import in_calls
from mapper.plans.model import Plan, Stage
from mapper.reports.page.charts import Bar, Bars, Mark, Missing, Segment, Table
from mapper.units import format_bytes, format_seconds

CAUSES = ("computing", "dispatch", "fork and join", "tensors in", "tensors out")
MOST_BARS = 64


def period_of_call(plan: Plan) -> float:
    """Seconds between two calls of the model: what loads are compared with."""
    return in_calls(plan.predicted, plan.request.micro_batches).period_s


def stage_loads(plan: Plan) -> Bars:
    """A bar a stage: its load shared by its replicas, by cause, with the period and the proved bound as lines."""
    period = period_of_call(plan)
    marks = [Mark(period, f"period {format_seconds(period)}")]
    if plan.request.objective == "throughput" and plan.solver.bound > 0:
        bound = plan.solver.bound / plan.request.micro_batches
        marks.append(Mark(bound, f"proved bound {format_seconds(bound)}", dashed=True))
    bars = tuple(_load(stage, period) for stage in plan.stages[:MOST_BARS])
    return Bars(
        "seconds that a stage adds to the period: its load over its copies", bars, format_seconds, tuple(marks),
        CAUSES, max(0, len(plan.stages) - MOST_BARS),
    )  # fmt: skip


def _load(stage: Stage, period: float) -> Bar:
    copies = len(stage.replicas)
    segments = []
    for shade, (cause, seconds) in enumerate(zip(CAUSES, _causes(stage), strict=True)):
        if seconds:
            share = f"{seconds / stage.load.total_s:.1%}" if stage.load.total_s else ""
            tip = f"stage {stage.id}, {cause}: {format_seconds(seconds)} an item, {share} of its load"
            segments.append(Segment(seconds / copies, tip, stage.id, shade))
    total = stage.load.total_s / copies
    name = f"stage {stage.id}" + (f" × {copies}" if copies > 1 else "")
    return Bar(name, tuple(segments), f"{format_seconds(total)}, {total / period:.0%}")


def _causes(stage: Stage) -> tuple[float, ...]:
    load = stage.load
    return load.compute_s, load.dispatch_s, load.fork_join_s, load.in_s, load.out_s


def load_table(plan: Plan) -> Table:
    """The same in figures, with what each stage holds."""
    rows = []
    for stage in plan.stages:
        config = stage.replicas[0].configuration
        rows.append((
            f"stage {stage.id}", f"{len(stage.ops)}", f"{len(stage.replicas)}", f"{config.cores}",
            format_bytes(stage.weight_bytes), stage.residency, format_bytes(stage.dram_bytes),
            *map(format_seconds, _causes(stage)), format_seconds(stage.load.total_s),
            format_seconds(stage.load.total_s / len(stage.replicas)),
        ))  # fmt: skip
    heads = ("stage", "ops", "copies", "cores a copy", "weights", "held in", "DRAM an item", *CAUSES, "load",
             "load over copies")  # fmt: skip
    return Table(heads, tuple(rows), tuple(i for i in range(1, len(heads)) if i != 5))


def traffic(plan: Plan) -> Bars | Missing:
    """A bar a memory controller: bytes that it serves for an item, by stage, and what it could serve in a period."""
    machine, period = plan.machine, period_of_call(plan)
    if not any(stage.dram_bytes for stage in plan.stages):
        return Missing("No stage draws anything from DRAM: all that it works on stays in caches, or the graph says "
                       "nothing of bytes.")  # fmt: skip
    drawn = dram_of_nodes(plan.stages, machine)
    node_rate = machine.memory.node_bandwidth_bytes_per_s
    rate = node_rate.value if node_rate else _share_of_package(machine)
    room = rate * period
    bars = tuple(
        _node(plan, node, drawn.get(node, 0.0), room) for node in range(len(machine.nodes)) if node < MOST_BARS
    )  # fmt: skip
    marks: tuple[Mark, ...] = ()
    if math.isfinite(room):
        whose = "a node's DRAM" if node_rate else "a node's share of the package's DRAM"
        text = f"{format_bytes(room)}: what {whose} serves in a period at {format_bytes(rate)}/s"
        marks = (Mark(room, text, dashed=True),)
    item = "an item" if plan.request.micro_batches == 1 else "a micro-batch"
    return Bars(f"bytes that are read and written for {item}", bars, format_bytes, marks,
                left_out=max(0, len(machine.nodes) - MOST_BARS))  # fmt: skip


def _share_of_package(machine: Machine) -> float:
    """DRAM bandwidth of a host, shared by its nodes; infinite where nothing limits it."""
    if not math.isfinite(machine.dram_bytes_per_s):
        return math.inf
    nodes = sum(node.host == machine.nodes[0].host for node in machine.nodes)
    return host_dram_bytes_per_s(machine, machine.nodes[0].host) / nodes


def _node(plan: Plan, node: int, drawn: float, room: float) -> Bar:
    segments = []
    for stage in plan.stages:
        part = sum(dram_of_replica(stage, r, plan.machine).get(node, 0.0) for r in stage.replicas) / len(stage.replicas)
        if part:
            tip = f"stage {stage.id} draws {format_bytes(part)} an item from node {node}, {part / drawn:.0%} of it"
            segments.append(Segment(part, tip, stage.id))
    use = f", {drawn / room:.0%} busy" if math.isfinite(room) else ""
    host = f"host {plan.machine.nodes[node].host}, " if plan.machine.counts["hosts"] > 1 else ""
    return Bar(f"{host}node {node}", tuple(segments), f"{format_bytes(drawn)}{use}")


def traffic_table(plan: Plan) -> Table:
    """The same in figures: a row a stage, a column a node."""
    nodes = range(min(len(plan.machine.nodes), 16))
    rows = [(f"stage {stage.id}", *_by_node(stage, plan.machine, nodes)) for stage in plan.stages]
    heads = ("stage", *(f"node {node}" for node in nodes))
    return Table(heads, tuple(rows), tuple(range(1, len(heads))), len(plan.machine.nodes) - len(nodes))


def _by_node(stage: Stage, machine: Machine, nodes: Sequence[int]) -> list[str]:
    drawn = dict.fromkeys(nodes, 0.0)
    for replica in stage.replicas:
        for node, size in dram_of_replica(stage, replica, machine).items():
            drawn[node] = drawn.get(node, 0.0) + size / len(stage.replicas)
    return [format_bytes(drawn[node]) for node in nodes]
