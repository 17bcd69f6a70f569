"""One sentence on why another plan is slower than the chosen one, with the figures that say so."""

from __future__ import annotations

from mapper.plans.account import (
    ACTIVATIONS,
    ARITHMETIC,
    DISPATCH,
    FORK_JOIN,
    OPS,
    TRANSFERS,
    UNUSED,
    WAITING,
    WEIGHTS,
    Binding,
    MemoryLoad,
    StageLoad,
)
from mapper.plans.evaluate import Evaluation
from mapper.plans.model import Plan
from mapper.units import format_bytes, format_seconds

EQUAL = 2e-3
"""Relative difference of two periods below which plans are equally fast."""


def reason(plan: Plan, mine: Binding, other: Evaluation, account: Binding) -> str:
    """Why `other`, taken apart in `account`, is not chosen instead of `plan`, taken apart in `mine`."""
    ratio = other.predicted.period_s / plan.predicted.period_s
    if ratio <= 1 + EQUAL:
        broken = broken_limits(plan, other)
        faster = f"{1 / ratio - 1:.1%} faster" if ratio < 1 - EQUAL else "as fast"
        if broken:
            return f"{faster}, but {' and '.join(broken)}"
        allowed = ratio * (1 + plan.solver.near_optimal) >= 1 - EQUAL
        if ratio < 1 - EQUAL and not allowed and plan.request.objective == "throughput":
            return f"{faster} within the limits: the plan is not the best there is"
        return f"{faster}, but {_trade(plan, other)}"
    bound = next((m for m in account.memory if m.name in account.names), None)
    if bound is not None:
        return _memory(bound, account)
    link = next((x for x in account.links if x.name in account.names), None)
    if link is not None:
        return (
            f"{link.name} binds: it carries {format_bytes(link.bytes)} an item at {format_bytes(link.bytes_per_s)}/s, "
            f"which takes {format_seconds(link.period_s)}"
        )
    return _largest(mine, account)


def broken_limits(plan: Plan, other: Evaluation) -> list[str]:
    """What limits of the plan's request `other` does not keep, in words."""
    limits, promised, found = plan.request.limits, other.predicted, []
    replicas = max(len(stage.replicas) for stage in other.stages)
    if promised.latency_s > limits.get("max_latency_s", promised.latency_s) * (1 + 1e-6):
        limit = format_seconds(limits["max_latency_s"])
        found.append(f"its latency is {format_seconds(promised.latency_s)}, the limit {limit}")
    for name, value, noun in (
        ("max_stages", len(other.stages), "stages"),
        ("max_replicas", replicas, "replicas of a stage"),
        ("max_cores", promised.cores_used, "cores"),
    ):
        if value > limits.get(name, value):
            found.append(f"it has {value} {noun}, the limit is {limits[name]}")
    if len(other.stages) != limits.get("stages", len(other.stages)):
        found.append(f"it has {_stages(len(other.stages))}, not {limits['stages']}")
    allowed = str(limits.get("configurations", "")).split(",")
    used = {stage.replicas[0].configuration.name for stage in other.stages}
    if "configurations" in limits and not used <= set(allowed):
        found.append(f"the request allows {', '.join(allowed)} only")
    return found


def _trade(plan: Plan, other: Evaluation) -> str:
    """What an equally fast plan that keeps the limits has more of."""
    mine, its, more = plan.predicted, other.predicted, []
    if its.latency_s > mine.latency_s * (1 + EQUAL):
        more.append(f"its latency is {format_seconds(its.latency_s)}, not {format_seconds(mine.latency_s)}")
    if its.cores_used > mine.cores_used:
        more.append(f"it takes {its.cores_used} cores, not {mine.cores_used}")
    if len(other.stages) > len(plan.stages):
        more.append(f"it has {_stages(len(other.stages))}, not {len(plan.stages)}")
    return " and ".join(more) or "no better in anything else"


def _memory(bound: MemoryLoad, account: Binding) -> str:
    """That memory binds, and what it serves most."""
    parts = {WEIGHTS: 0.0, ACTIVATIONS: 0.0}
    for stage in account.stages:
        for part in parts:
            parts[part] += stage.parts.get(part, 0.0)
    most = "weights" if parts[WEIGHTS] >= parts[ACTIVATIONS] else "activations"
    return (
        f"{bound.name} binds: it serves {format_bytes(bound.bytes)} an item ({most} most of all) at "
        f"{format_bytes(bound.bytes_per_s)}/s, which takes {format_seconds(bound.period_s)}"
    )


def _largest(mine: Binding, account: Binding) -> str:
    """The part of the cores' time that grows most against the chosen plan, in a sentence.

    Core-seconds of one item are compared, by part: their differences add up to that of the periods.
    """
    whole, own = sum(account.core_seconds.values()), sum(mine.core_seconds.values())
    here = {part: mine.core_seconds.get(part, 0.0) for part in account.core_seconds}
    part = max(here, key=lambda name: account.core_seconds[name] - here[name])
    widest = max(account.stages, key=lambda stage: stage.cores)
    slowest = max(account.stages, key=lambda stage: stage.period_s)
    return _SENTENCES[part].format(
        share=f"{account.core_seconds[part] / whole:.0%} of the machine's time", here=f"here {here[part] / own:.0%}",
        threads=_threads(widest), stage=slowest.id, op=slowest.ops[0].name, residency=widest.residency,
        unused=f"{account.core_seconds[UNUSED] / whole:.0%}", now=f"{account.core_seconds[part]:.3g}",
        before=f"{here[part]:.3g}",
    )  # fmt: skip


def _threads(stage: StageLoad) -> str:
    return "one thread" if stage.cores == 1 else f"{stage.cores} threads"


def _stages(count: int) -> str:
    return "1 stage" if count == 1 else f"{count} stages"


_SENTENCES = {
    ARITHMETIC: "arithmetic takes {now} core-seconds an item, not {before}: {threads} do not share ops without loss",
    WEIGHTS: "cores spend {share} reading weights from {residency} ({here})",
    ACTIVATIONS: "cores spend {share} reading and writing activations ({here})",
    OPS: "its ops take {now} unit-seconds an item, not {before}",
    DISPATCH: "{threads} wait while one of them dispatches, {share} ({here})",
    FORK_JOIN: "fork and join of {threads} takes {share} ({here})",
    TRANSFERS: "tensors handed from stage to stage take {share} ({here})",
    WAITING: "its stages are uneven: cores wait {share} for stage {stage}, whose costliest op is {op} ({here})",
    UNUSED: "{unused} of the cores hold no stage ({here})",
}
"""For each part: why a plan that spends more on it is slower."""
