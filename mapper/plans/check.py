"""Whether a plan keeps its promises: everything that can be derived again is, and compared.

Uses `evaluate`, which shares nothing with the search.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from mapper import __version__
from mapper.cost.configurations import Config
from mapper.cost.profile import PROFILE
from mapper.cost.table import GIVEN, CostTable
from mapper.graph.model import Graph
from mapper.jsonio import plain, sha256
from mapper.machine.hosts import host_of
from mapper.machine.model import Machine
from mapper.plans.dram import is_spread
from mapper.plans.evaluate import Placed, evaluate
from mapper.plans.hosts import link_causes, traffic
from mapper.plans.micro_batches import in_items
from mapper.plans.model import Plan, Predicted, Stage

RELATIVE = 1e-9
OPTIMAL_GAP, OPTIMAL_GAP_GIVEN = 1e-4, 1e-6
"""Gap up to which a plan may call itself optimal; where costs came with the graph."""
ALONE = (
    "cores exist, are used once and have the shape of their configuration",
    "limits of the request are kept",
    "bound, gap and status agree",
    "predicted values agree with the loads, and with what crosses the network between hosts",
)


LIMITS = frozenset((
    "max_latency_s", "min_throughput_per_s", "stages", "max_stages", "max_replicas", "max_cores", "node_memory_bytes",
    "configurations", "together", "apart",
))  # fmt: skip
"""Limits that are checked; a newer version may know more."""


@dataclass(frozen=True)
class Report:
    """What `check` found: broken promises, those that hold, and those that could not be derived again, with why."""

    violations: tuple[str, ...]
    verified: tuple[str, ...]
    not_verified: tuple[str, ...]


def optimal_gap(source: str) -> float:
    """The gap up to which a plan with costs from `source` may call itself optimal."""
    return OPTIMAL_GAP_GIVEN if source == GIVEN else OPTIMAL_GAP


def value_of(objective: str, predicted: Predicted) -> float:
    """What a plan is to have little of: its period, its latency (seconds), or its cores."""
    values = {"throughput": predicted.period_s, "latency": predicted.latency_s, "cores": float(predicted.cores_used)}
    return values[objective]


def check(plan: Plan, graph: Graph | None = None, table: CostTable | None = None) -> Report:
    """Derives every promise of `plan` again: some from the plan alone, the rest from `graph` and `table`.

    `table` must be for the plan's machine and costs.
    """
    found = _of_the_plan_alone(plan)
    verified = list(ALONE)
    missing = [f"the limit {name}" for name in plan.request.limits if name not in LIMITS]
    if graph is None:
        missing.append("that the stages cover the model: its graph is not at hand (--model or --graph)")
    if graph is not None and graph.sha256 != plan.model.graph_sha256:
        found.append(f"the graph's hash is {graph.sha256[:12]}…, the plan was made for {plan.model.graph_sha256[:12]}…")
        graph = None
    if graph is None or table is None:
        file = " (--costs: the profile)" if plan.request.costs.get("source") == PROFILE else ""
        missing.append(f"stage loads, residencies, edges: they need graph and costs{file}")
        missing.append("that the bound is one: planning again is the only proof of it (mapper plan)")
    else:
        found += violations(plan, graph, table)
        verified.append(
            "stages cover the graph, tensors flow forward only, and every load, byte and edge comes out the same"
        )
    return Report(tuple(dict.fromkeys(found)), tuple(verified), tuple(missing))


def violations(plan: Plan, graph: Graph, table: CostTable) -> list[str]:
    """Every promise of `plan` that a fresh evaluation contradicts."""
    found = _of_the_plan_alone(plan)
    if graph.sha256 != plan.model.graph_sha256:
        found.append("the plan was made for another graph")
    if graph.dtype != plan.model.dtype:
        found.append(f"/model/dtype: {plan.model.dtype}, but the graph's is {graph.dtype}")
    if plan.request.costs != {"source": table.source, **table.options}:
        found.append(f"/request/costs: {_options(plan.request.costs)}; those at hand are "
                     f"{_options({'source': table.source, **table.options})}")  # fmt: skip
    if any(core not in range(len(plan.machine.cores)) for core in plan.cores):
        return found
    mapping = mapping_of(plan)
    known = {config.name for config in table.configs}
    if any(placed.config.name not in known for placed in mapping):
        return [*found, "a stage has a configuration that the costs do not know"]
    found += [*_torn(plan, graph), *_disordered(plan, graph), *_unknown(plan, graph)]
    try:
        fresh = evaluate(graph, plan.machine, table, mapping)
    except ValueError as error:
        return [*found, str(error)]
    for promised, derived in zip(plan.stages, fresh.stages, strict=True):
        found += _differences(promised, derived, f"/stages/{promised.id}")
    if len(plan.edges) != len(fresh.edges):
        found.append(f"/edges: {len(plan.edges)}, but the mapping has {len(fresh.edges)}")
    else:
        for i, (edge, other) in enumerate(zip(plan.edges, fresh.edges, strict=True)):
            found += _differences(edge, other, f"/edges/{i}")
    predicted = in_items(fresh.predicted, plan.request.micro_batches)
    return found + _differences(plan.predicted, predicted, "/predicted")


def _options(costs: dict[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in costs.items())


def _disordered(plan: Plan, graph: Graph) -> list[str]:
    """Stages whose ops do not stand in the order of the graph, in which they run."""
    found = []
    for stage in plan.stages:
        places = [graph.position[op] for op in stage.ops if op in graph.position]
        if places != sorted(places):
            found.append(f"/stages/{stage.id}/ops: not in the order of the graph")
    return found


def _unknown(plan: Plan, graph: Graph) -> list[str]:
    """Limits on ops that the graph does not have, or on fewer than two."""
    found = []
    for name in ("together", "apart"):
        for i, ops in enumerate(plan.request.limits.get(name, ())):
            lacking = [op for op in ops if op not in graph.position]
            if lacking or len(set(ops)) < 2:
                what = f"there is no op {lacking[0]!r}" if lacking else "two ops or more were expected"
                found.append(f"/request/limits/{name}/{i}: {what}")
    return found


def _torn(plan: Plan, graph: Graph) -> list[str]:
    """Ops that the graph wants in one stage, but are not."""
    stages: dict[str, set[int]] = {}
    for op in graph.ops:
        if op.together is not None and op.name in plan.stage_of:
            stages.setdefault(op.together, set()).add(plan.stage_of[op.name])
    return [f"/stages: ops of class {name!r} must share a stage, but are in {sorted(found)}"
            for name, found in stages.items() if len(found) > 1]  # fmt: skip


def mapping_of(plan: Plan) -> list[Placed]:
    """The stages of `plan` as `evaluate` takes them; its cores must be there."""
    return [placed_of(stage, plan.machine) for stage in plan.stages]


def placed_of(stage: Stage, machine: Machine) -> Placed:
    """A stage of a plan as `evaluate` takes it."""
    shape = stage.replicas[0].configuration
    replicas = tuple(r.cores for r in stage.replicas)
    return Placed(stage.ops, Config(shape.groups, shape.cores_per_group), replicas, is_spread(stage, machine))


def _of_the_plan_alone(plan: Plan) -> list[str]:
    return [*_cores(plan), *_limits(plan), *_solver(plan), *_totals(plan), *_network(plan)]


def _cores(plan: Plan) -> list[str]:
    machine, found, taken = plan.machine, [], set[int]()
    if plan.fingerprint != machine.fingerprint:
        found.append(f"/fingerprint: {plan.fingerprint}, but the machine's is {machine.fingerprint}")
    made_by, hashed = plan.provenance.get("mapper"), plan.provenance.get("topology_sha256")
    if made_by == __version__ and hashed != sha256(plain(machine)):  # another version may know other fields
        found.append("/provenance/topology_sha256: the machine is another one than the plan was made for")
    for stage in plan.stages:
        for i, replica in enumerate(stage.replicas):
            place = f"/stages/{stage.id}/replicas/{i}"
            if any(core not in range(len(machine.cores)) for core in replica.cores):
                found.append(f"{place}: a core that the machine does not have")
                continue
            if taken & set(replica.cores) or len(set(replica.cores)) < len(replica.cores):
                found.append(f"{place}: a core is used twice")
            taken |= set(replica.cores)
            if replica.configuration != stage.replicas[0].configuration:
                found.append(f"{place}: replicas of one stage must have one configuration")
            if not _has_shape(
                machine, replica.cores, replica.configuration.groups, replica.configuration.cores_per_group
            ):
                found.append(f"{place}: cores {list(replica.cores)} are not {replica.configuration.name}")
            hosts = {host_of(machine, core) for core in replica.cores}
            if hosts != {replica.host}:
                found.append(f"{place}: cores of host {', '.join(map(str, sorted(hosts)))}, but it says {replica.host}")
    return found


def _has_shape(machine: Machine, cores: tuple[int, ...], groups: int, each: int) -> bool:
    counts: dict[int, int] = {}
    for core in cores:
        counts[machine.cores[core].group] = counts.get(machine.cores[core].group, 0) + 1
    return len(counts) == groups and set(counts.values()) == {each}


def _limits(plan: Plan) -> list[str]:
    limits, predicted, found = plan.request.limits, plan.predicted, []
    replicas = max(len(stage.replicas) for stage in plan.stages)
    slack = 1 + 1e-6
    for name, value, text in (
        ("max_latency_s", predicted.latency_s, "latency"),
        ("max_stages", len(plan.stages), "number of stages"),
        ("max_replicas", replicas, "number of replicas"),
        ("max_cores", predicted.cores_used, "number of cores"),
        ("node_memory_bytes", max(predicted.node_memory_bytes, default=0.0), "memory of a node"),
    ):
        if name in limits and value > limits[name] * slack:
            found.append(f"/request/limits/{name}: the {text} is {value:.6g}, more than {limits[name]:.6g}")
    least = limits.get("min_throughput_per_s", 0.0)
    if predicted.throughput_per_s * slack < least:
        found.append(f"/request/limits/min_throughput_per_s: {predicted.throughput_per_s:.6g}, less than {least:.6g}")
    for name in limits.get("together", ()):
        if len({plan.stage_of.get(op) for op in name}) > 1:
            found.append(f"/request/limits/together: {', '.join(name)} are in several stages")
    for name in limits.get("apart", ()):
        if len({plan.stage_of.get(op) for op in name}) < len(name):
            found.append(f"/request/limits/apart: two of {', '.join(name)} share a stage")
    if limits.get("stages", len(plan.stages)) != len(plan.stages):
        found.append(f"/request/limits/stages: {len(plan.stages)} stages, not {limits['stages']}")
    names = str(limits.get("configurations", "")).split(",")
    if "configurations" in limits and any(s.replicas[0].configuration.name not in names for s in plan.stages):
        found.append("/request/limits/configurations: a stage has another configuration")
    return found


def _solver(plan: Plan) -> list[str]:
    solver, found = plan.solver, []
    enough = optimal_gap(plan.request.costs.get("source", ""))
    value = value_of(plan.request.objective, plan.predicted)
    if not _near(solver.objective, value):
        found.append(f"/solver/objective: {solver.objective:.9g}, but it comes out as {value:.9g}")
    if solver.bound > solver.best_objective * (1 + RELATIVE) or solver.best_objective > solver.objective * (
        1 + RELATIVE
    ):
        found.append("/solver: bound ≤ best_objective ≤ objective does not hold")
    if not math.isclose(solver.gap, (solver.best_objective - solver.bound) / solver.best_objective, abs_tol=1e-9):
        found.append(f"/solver/gap: {solver.gap:.6g} is not (best_objective - bound) / best_objective")
    if solver.objective > solver.best_objective * (1 + solver.near_optimal) * (1 + enough):
        found.append("/solver/objective: further from the best than near_optimal allows")
    proved = solver.gap <= enough * (1 + 1e-6) and "planner" not in (plan.request.model_extra or {})
    if solver.status == "optimal" and not proved:
        found.append(f"/solver/status: optimal, but the gap is {solver.gap:.3g}")
    if solver.status != "optimal" and (proved or solver.status != "feasible"):
        found.append(f"/solver/status: {solver.status}, but there is a plan, and the gap is {solver.gap:.3g}")
    return found


def _totals(plan: Plan) -> list[str]:
    predicted, calls, found = plan.predicted, plan.request.micro_batches, []
    latency = sum(stage.load.total_s for stage in plan.stages) + (calls - 1) * predicted.period_s / calls
    if not _near(latency, predicted.latency_s):
        found.append(f"/predicted/latency_s: {predicted.latency_s:.9g}, but the loads add up to {latency:.9g}")
    if not _near(1 / predicted.period_s, predicted.throughput_per_s):
        found.append("/predicted/throughput_per_s: not 1 / period_s")
    if plan.request.batch % calls:
        found.append(f"/request/micro_batches: {calls}, but an item has {plan.request.batch} elements")
    slowest = calls * max(stage.load.total_s / len(stage.replicas) for stage in plan.stages)
    if predicted.period_s < slowest * (1 - RELATIVE):
        found.append(f"/predicted/period_s: {predicted.period_s:.9g}, but a stage needs {slowest:.9g}")
    if predicted.cores_used != len(plan.cores):
        found.append(f"/predicted/cores_used: {predicted.cores_used}, but the stages use {len(plan.cores)}")
    return found


def _network(plan: Plan) -> list[str]:
    """Where a host's network has more to carry than the period has time for."""
    calls, found = plan.request.micro_batches, []
    try:
        moved = traffic(plan.stages, plan.edges, plan.machine)
    except (IndexError, KeyError):
        return ["/edges: a ring of a stage, a replica or a host that is not there"]
    for seconds, name in link_causes(moved, plan.machine):
        if plan.predicted.period_s < calls * seconds * (1 - RELATIVE):
            found.append(
                f"/predicted/period_s: {plan.predicted.period_s:.9g}, but the {name} needs {calls * seconds:.9g}"
            )
    return found


def _differences(promised: Any, derived: Any, place: str) -> list[str]:
    """Where two values of plan records differ, numbers to a relative 1e-9."""
    if isinstance(promised, BaseModel) and isinstance(derived, BaseModel):
        names = type(derived).model_fields
        return [x for n in names for x in _differences(getattr(promised, n), getattr(derived, n), f"{place}/{n}")]
    if isinstance(promised, tuple) and isinstance(derived, tuple) and len(promised) == len(derived):
        return [
            x
            for i, (a, b) in enumerate(zip(promised, derived, strict=True))
            for x in _differences(a, b, f"{place}/{i}")
        ]
    if isinstance(promised, float) and isinstance(derived, float):
        return [] if _near(promised, derived) else [f"{place}: {promised:.9g}, but it comes out as {derived:.9g}"]
    return [] if promised == derived else [f"{place}: {promised!r}, but it comes out as {derived!r}"]


def _near(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=RELATIVE, abs_tol=1e-15)
