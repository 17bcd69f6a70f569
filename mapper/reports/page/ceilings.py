"""The roofline of a plan: what a core reaches at most, and where its ops and stages are under that."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from mapper.graph.model import Graph, touched_by
from mapper.machine.model import Machine
from mapper.plans.account import StageLoad
from mapper.plans.model import Plan
from mapper.reports.page.charts import Ceiling, Dot, Missing, Roof
from mapper.units import format_count, format_seconds

MOST_OPS = 600
"""Ops that are shown, the longest."""


def roof_of(plan: Plan, graph: Graph, loads: tuple[StageLoad, ...]) -> Roof | Missing:
    """The ops and stages of `plan`, whose loads are `loads`, under the ceilings of one core of its machine."""
    if graph.costed or not graph.flop:
        return Missing("The graph brings times of its own and says nothing of FLOP, so there is no roofline.")
    ceilings = tuple(_ceilings(plan.machine))
    of_stage = {load.id: load for load in loads}
    seconds = {op.name: op.seconds for load in loads for op in load.ops}
    ops = sorted(_ops(plan, graph, of_stage, seconds), key=lambda pair: -pair[0])
    return Roof(ceilings, tuple(dot for _, dot in ops[:MOST_OPS]), tuple(_stages(plan, graph, of_stage)))


def _ceilings(machine: Machine) -> Iterator[Ceiling]:
    """Arithmetic, caches and memory, each as one core has it; of memory also its share where all cores draw."""
    compute = machine.compute
    peak = compute.peak_flop_per_s.value * machine.slowest
    yield Ceiling(f"peak of a core, {format_count(peak)}FLOP/s", flop_per_s=peak)
    if "matmul" in compute.efficiency and compute.efficiency["matmul"].value < 0.99:
        reached = peak * compute.efficiency["matmul"].value
        yield Ceiling(f"in matmul, {format_count(reached)}FLOP/s", flop_per_s=reached)
    for cache in (machine.group_cache, machine.package_cache):
        if cache is not None and cache.core_bandwidth_bytes_per_s is not None:
            rate = cache.core_bandwidth_bytes_per_s.value
            yield Ceiling(f"{cache.name}, {format_count(rate)}B/s", bytes_per_s=rate)
    if math.isfinite(machine.core_dram_bytes_per_s):
        rate = machine.core_dram_bytes_per_s
        yield Ceiling(f"DRAM for a core, {format_count(rate)}B/s", bytes_per_s=rate)
    if math.isfinite(machine.dram_bytes_per_s):
        rate = machine.dram_bytes_per_s / len(machine.cores)
        if rate < 0.9 * machine.core_dram_bytes_per_s:
            yield Ceiling(f"DRAM, all cores drawing, {format_count(rate)}B/s", bytes_per_s=rate)


def _ops(
    plan: Plan, graph: Graph, loads: Mapping[int, StageLoad], seconds: Mapping[str, float]
) -> Iterator[tuple[float, Dot]]:
    """Ops with arithmetic, each with its seconds."""
    for name, stage in plan.stage_of.items():
        op = graph.ops[graph.position[name]]
        moved, taken = op.touched_bytes + op.footprint_bytes, seconds.get(name, 0.0)
        if op.flop > 0 and moved and taken > 0:
            cores = loads[stage].cores
            reached = op.flop / taken / cores
            tip = (f"{name} ({op.kind}), stage {stage}: {_told(op.flop, moved, reached)}; {format_seconds(taken)} on "
                   f"{cores} core{'s' * (cores != 1)}")  # fmt: skip
            yield taken, Dot(op.flop / moved, reached, stage, tip)


def _stages(plan: Plan, graph: Graph, loads: Mapping[int, StageLoad]) -> Iterator[Dot]:
    for stage in plan.stages:
        ops = [graph.ops[graph.position[name]] for name in stage.ops]
        moved, load = touched_by(ops) + sum(op.footprint_bytes for op in ops), loads[stage.id]
        flop = sum(op.flop for op in ops)
        if flop and moved and load.seconds:
            reached = flop / load.seconds / load.cores
            tip = f"stage {stage.id}: {_told(flop, moved, reached)}; {format_seconds(load.seconds)} an item"
            yield Dot(flop / moved, reached, stage.id, tip)


def _told(flop: float, moved: float, reached: float) -> str:
    return f"{flop / moved:.3g} FLOP a byte, {format_count(reached)}FLOP/s a core"
