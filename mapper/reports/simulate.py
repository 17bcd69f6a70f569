"""A simulation in words: the rate against the plan's, what every stage did, who waited for whom, and DRAM."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mapper.reports.table import table
from mapper.units import format_rate, format_seconds

if TYPE_CHECKING:
    from mapper.simulator.result import Simulated

MOST_WAITS = 5


def simulated_text(found: Simulated) -> list[str]:
    """Lines for people."""
    latency, ratio = found.latency_s, found.predicted_period_s / found.period_s
    head = [
        f"{format_rate(found.throughput_per_s)} items/s, {format_seconds(latency.p50)} an item: {found.model} on "
        f"{found.machine}, simulated",
        f"{found.items} items after {found.warmup} to warm up, {found.window} in flight, {found.arrivals}; latency p90 "
        f"{format_seconds(latency.p90)}, p99 {format_seconds(latency.p99)}",
        f"the plan: {format_rate(1 / found.predicted_period_s)} items/s, "
        f"{format_seconds(found.predicted_latency_s)} an item" + (
            f"; {1 - ratio:.1%} of that rate are lost{_to_what(found)}"
            if found.arrivals == "closed loop" and ratio < 0.999 else ""
        ),
    ]  # fmt: skip
    return [*head, "", *_stages(found), "", *_memory(found), *_waits(found)]


def _to_what(found: Simulated) -> str:
    """What slows a closed loop down."""
    reasons = []
    if any(stage.slowed > 1.001 for stage in found.stages):
        reasons.append("shared DRAM bandwidth")
    if found.spread:
        reasons.append("items that take unequal times")
    return " to " + " and ".join(reasons) if reasons else ""


def _stages(found: Simulated) -> list[str]:
    rows = [
        [str(s.id), str(s.replicas), format_seconds(s.load_s), format_seconds(s.predicted_load_s),
         f"{s.slowed:.2f}" if s.slowed > 1.001 else "", f"{s.busy:.0%}", format_seconds(s.wait_in_s),
         format_seconds(s.wait_out_s)]
        for s in found.stages
    ]  # fmt: skip
    head = ["stage", "copies", "load", "planned", "slowed", "busy", "waits for items", "waits for room"]
    roles = {i: f"stage {stage.id}" for i, stage in enumerate(found.stages)}
    bars = [stage.busy for stage in found.stages]
    return table(head, rows, right="01234567", indent="", fold="376", roles=roles, bars=bars)


def _memory(found: Simulated) -> list[str]:
    """Use of cores, of DRAM, and of the network between hosts."""
    use = found.utilisation
    busy = sum(use.cores) / len(use.cores)
    lines = [f"Cores at work: {busy:.0%} of all {len(use.cores)}; by node {_shares(use.nodes)}"]
    if use.dram is not None:
        controllers = f"; by node {_shares(use.controllers)}" if use.controllers else ""
        lines.append(f"DRAM bandwidth in use: {use.dram:.0%}{controllers}")
    if use.links:
        each = ", ".join(f"host {link.host} {link.into:.0%} in and {link.out:.0%} out" for link in use.links)
        lines.append(f"Network in use: {each}")
    return lines


def _shares(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:.0%}" for value in values)


def _waits(found: Simulated) -> list[str]:
    if not found.waits:
        return ["No stage waits for another."]
    told = [
        f"stage {w.stage} for {'the feeder' if w.whom is None else f'stage {w.whom}'} {format_seconds(w.wait_s)}"
        for w in found.waits[:MOST_WAITS]
    ]
    more = f", and {len(found.waits) - MOST_WAITS} more" if len(found.waits) > MOST_WAITS else ""
    return [f"Waiting, a call: {'; '.join(told)}{more}"]
