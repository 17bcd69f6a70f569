"""Plans of others beside ours, as a table; and the replicas of a plan under PipeDream's objective."""

from __future__ import annotations

from collections.abc import Sequence

from mapper.cost.pipedream import exchange_s
from mapper.plans.model import Plan
from mapper.reports.plan import plan_text
from mapper.reports.table import table
from mapper.solver.peers.against import Rival
from mapper.units import format_bytes, format_rate, format_seconds


def report_text(plan: Plan, rivals: Sequence[Rival], width: int = 100) -> list[str]:
    """The plan as `plan_text` has it, under the name of its planner; below it its replicas under PipeDream's objective
    and `rivals`, where there are any."""
    lines = plan_text(plan, width)
    parts = [replicas_text(plan), against_text(plan, rivals) if rivals else []]
    return lines + [line for part in parts if part for line in ("", *part)]


def against_text(plan: Plan, rivals: Sequence[Rival]) -> list[str]:
    """Our plan and those of `rivals`, the fastest first; who says so stands below."""
    made = sorted((r for r in rivals if r.throughput_per_s), key=lambda r: (-r.throughput_per_s, r.planner))
    rows = [_ours(plan), *(_row(rival) for rival in made)]
    rates = [plan.predicted.throughput_per_s, *(rival.throughput_per_s for rival in made)]
    head = ["planner", "items/s", "of ours", "latency", "cores", "stages", "workers", ""]
    lines = [
        "Planned by others, on the same machine with the same costs",
        "",
        *table(head, rows, right="123456", fold="7", whole="07", bars=[rate / max(rates) for rate in rates]),
    ]
    lines += [f"  no plan by {r.planner}: {r.note}" for r in rivals if not r.throughput_per_s]
    return [*lines, "", *(f"  {r.planner}: {r.source}" for r in rivals)]


def _ours(plan: Plan) -> list[str]:
    predicted, workers = plan.predicted, sum(len(stage.replicas) for stage in plan.stages)
    return ["this plan", format_rate(predicted.throughput_per_s), "100 %", format_seconds(predicted.latency_s),
            str(predicted.cores_used), str(len(plan.stages)), str(workers), ""]  # fmt: skip


def _row(rival: Rival) -> list[str]:
    return [rival.planner, format_rate(rival.throughput_per_s), f"{100 * rival.of_ours:.1f} %",
            format_seconds(rival.latency_s), str(rival.cores_used), str(rival.stages), str(rival.workers),
            rival.note]  # fmt: skip


def replicas_text(plan: Plan) -> list[str]:
    """The stages of a plan under PipeDream's objective, where m units are m replicas. Nothing for other plans."""
    if plan.request.costs.get("objective_model") != "pipedream":
        return []
    bandwidth = float(plan.request.costs["bandwidth_bytes_per_s"])
    rows = []
    for stage in plan.stages:
        replicas = stage.replicas[0].configuration.groups
        exchange = exchange_s(stage.weight_bytes, replicas, bandwidth)
        rows.append([str(stage.id), str(replicas), format_bytes(stage.weight_bytes),
                     *(f"{s:.6f}" for s in (stage.load.total_s - exchange, exchange, stage.load.total_s))])  # fmt: skip
    head = ["stage", "replicas", "weights", "work s", "exchange s", "s a minibatch"]
    rate = format_bytes(bandwidth)
    return [
        f"PipeDream's objective: {sum(int(row[1]) for row in rows)} replicas in all, one a unit; those of a stage "
        f"exchange its weights at {rate}/s", "", *table(head, rows, right="012345"),
    ]  # fmt: skip
