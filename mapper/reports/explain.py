"""Why a plan is as it is, as text and as JSON: what binds first, then what would change it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mapper.plans.account import Binding, LinkLoad, MemoryLoad, StageLoad
from mapper.plans.check import value_of
from mapper.reports.plan import items_name
from mapper.reports.table import table
from mapper.solver.explanation.explain import ALL, Comparison, Explanation, LimitEffect, Trial
from mapper.solver.explanation.resolve import NOTICED
from mapper.solver.search.infeasible import OPTIONS
from mapper.units import format_bytes, format_rate, format_seconds

MOST_OPS, MOST_TENSORS = 8, 6
"""Of the binding stages that are shown in full."""
MOST_STAGES = 3
"""Binding stages that are shown in full."""
WORDS = {"fork_join": "fork and join", "transfers": "tensors handed over"}
VALUES = {"throughput": "period", "latency": "latency", "cores": "cores"}
"""What each objective makes small."""


def explanation_text(e: Explanation) -> list[str]:
    """Lines for people: the answer in sentences, then a table for each section that was asked for."""
    lines = [*_answer(e), "", *_stages(e.binding)]
    binding = [stage for stage in e.binding.stages if stage.name in e.binding.names]
    for stage in binding[:MOST_STAGES]:
        lines += ["", *_ops(stage), *_tensors(stage)]
    if len(binding) > MOST_STAGES:
        lines += ["", f"  {len(binding) - MOST_STAGES} more stages bind."]
    if e.binding.memory:
        lines += ["", *_memory(e.binding)]
    if e.binding.links:
        lines += ["", *_links(e.binding)]
    for part in (_limits(e), _marginal(e), _alternatives(e)):
        lines += ["", *part] if part else []
    if not e.complete:
        lines += ["", "Interrupted: what was found until then."]
    return lines


# the answer


def _answer(e: Explanation) -> list[str]:
    """What binds, which limits do, and what would help most, each in a sentence."""
    value = VALUES[e.plan.request.objective]
    lines = [_bound(e.binding), *_why(e.binding)]
    if e.plan.request.objective != "throughput":
        lines.append(f"What was asked for is the least {value}; changes below are of that.")
    if e.limits:
        lines.append(_binding_limits(e.limits))
    if e.best is not None and e.best.value < value_of(e.plan.request.objective, e.plan.predicted) * (1 - NOTICED):
        lines.append(f"At least distances, before cores are chosen, the best plan of this request has a {value} of "
                     f"{_told(e.best.value, value)}.")  # fmt: skip
    return lines + _best_levers(e.marginal, value)


def _binding_limits(limits: Sequence[LimitEffect]) -> str:
    """Which limits bind alone, or together with others."""
    held = [_option(x) for x in limits if x.binds and x.name != ALL]
    if held:
        each = "each of them" if len(held) > 1 else "it"
        return f"Of the limits {_listed(held)} bind{'s' * (len(held) == 1)}: without {each} there is a better plan."
    if any(x.binds for x in limits):
        return "No limit binds alone, but without all of them there is a better plan."
    return "None of the limits binds."


def _best_levers(trials: Iterable[Trial], value: str) -> list[str]:
    """What helps most, and what does of the changes that add no cores."""
    tried = [(t.change.change, t) for t in trials if t.change is not None]
    gains = sorted(((c, t) for c, t in tried if t.change and t.change.certain and c < 0), key=lambda pair: pair[0])
    if not gains:
        return ["Nothing of what was tried is proved to help."] if tried else []
    text = [f"{t.what} ({value} {_percent(change)})" for change, t in gains]
    same = [x for x, (_, t) in zip(text, gains, strict=True) if not t.adds_cores]
    also = f", and of what adds no cores {same[0]}" if same and same[0] != text[0] else ""
    return [f"Of what was tried {text[0]} helps most{also}."]


def _bound(binding: Binding) -> str:
    names = binding.names
    noun = "binds" if len(names) == 1 else "bind"
    shown = _listed(names if len(names) <= 6 else [*names[:5], f"{len(names) - 5} more"])
    return f"{shown[0].upper()}{shown[1:]} {noun}: period {format_seconds(binding.period_s)}."


def _why(binding: Binding) -> list[str]:
    """What the load of the first binding stage, or the traffic of a binding memory, consists of; who waits."""
    lines = []
    memory = next((m for m in binding.memory if m.name in binding.names), None)
    if memory is not None:
        lines.append(f"{_capital(memory.name)} serves {format_bytes(memory.bytes)} an item at "
                     f"{format_bytes(memory.bytes_per_s)}/s.")  # fmt: skip
        most = sorted(binding.stages, key=lambda s: -s.dram_bytes)[:MOST_STAGES]
        drawn = [f"stage {s.id} draws {format_bytes(s.dram_bytes)}" for s in most if s.dram_bytes]
        lines.append(f"Of all DRAM, {_listed(drawn)} an item.")
    link = next((x for x in binding.links if x.name in binding.names), None)
    if link is not None:
        lines.append(f"{_capital(link.name)} carries {format_bytes(link.bytes)} an item at "
                     f"{format_bytes(link.bytes_per_s)}/s.")  # fmt: skip
    stage = next((s for s in binding.stages if s.name in binding.names), None)
    if stage is not None:
        each = "" if stage.replicas == 1 else f", shared by {stage.replicas} copies"
        lines.append(f"{_capital(stage.name)} takes {format_seconds(stage.seconds)} an item{each}: {_parts(stage)}.")
        lines += _kinds(stage)
    slack = [s for s in binding.stages if s.name not in binding.names]
    if slack:
        idle = max(slack, key=binding.slack)
        lines.append(f"{_count(len(slack), 'stage').capitalize()} could take longer; stage {idle.id} waits most, "
                     f"{binding.slack(idle):.0%} of the time.")  # fmt: skip
    return lines


def _kinds(stage: StageLoad) -> list[str]:
    """The load by kind of op, where there are several."""
    seconds: dict[str, float] = {}
    for op in stage.ops:
        seconds[op.kind] = seconds.get(op.kind, 0.0) + op.seconds
    order = sorted(seconds, key=lambda kind: -seconds[kind])
    shown = [f"{kind} {seconds[kind] / stage.seconds:.0%}" for kind in order if seconds[kind] >= stage.seconds / 100]
    return [f"By kind of op: {', '.join(shown)}."] if len(shown) > 1 else []


def _parts(stage: StageLoad) -> str:
    """The parts of a load, largest first, those below 1 % left out."""
    order = sorted(stage.parts.items(), key=lambda item: -item[1])
    threads = f" of {stage.cores} threads" if stage.cores > 1 else ""
    words = []
    for name, seconds in order:
        share = seconds / stage.seconds if stage.seconds else 0.0
        if share < 0.01:
            continue
        text = WORDS.get(name, name) + (threads if name == "fork_join" else "")
        text += f" from {stage.residency}" if name == "weights" else ""
        words.append(f"{share:.0%} {text}")
    return _listed(words) if words else "nothing"


# tables


def _stages(binding: Binding) -> list[str]:
    rows = []
    for stage in binding.stages:
        largest = max(stage.parts, key=lambda part: stage.parts[part], default="-")
        rows.append([
            str(stage.id), str(stage.replicas), str(stage.cores), format_seconds(stage.seconds),
            format_seconds(stage.period_s), "binds" if stage.name in binding.names else f"{binding.slack(stage):.1%}",
            WORDS.get(largest, largest), str(len(stage.ops)), stage.residency,
        ])  # fmt: skip
    head = ["stage", "copies", "cores", "load", "load/copies", "slack", "mostly", "ops", "held in"]
    roles = {i: f"stage {stage.id}" for i, stage in enumerate(binding.stages)}
    most = max((stage.period_s for stage in binding.stages), default=0.0)
    bars = [stage.period_s / most if most else 0.0 for stage in binding.stages]
    return table(head, rows, right="0123457", indent="", fold="783", roles=roles, bars=bars)


def _ops(stage: StageLoad) -> list[str]:
    rows = [
        [op.name, format_seconds(op.seconds), f"{op.seconds / stage.seconds:.1%}", WORDS.get(op.mostly, op.mostly)]
        for op in stage.ops[:MOST_OPS]
    ]
    rest = stage.ops[MOST_OPS:]
    if rest:
        seconds = sum(op.seconds for op in rest)
        rows.append([f"{len(rest)} more", format_seconds(seconds), f"{seconds / stage.seconds:.1%}", ""])
    return table([f"ops of stage {stage.id}", "seconds", "of load", "mostly"], rows, right="12", indent="")


def _tensors(stage: StageLoad) -> list[str]:
    if not stage.tensors:
        return []
    rows = [
        [t.tensor, f"{'from' if t.into else 'to'} {_listed([str(s) for s in t.stages])}", format_bytes(t.bytes),
         format_seconds(t.seconds), f"{t.seconds / stage.seconds:.1%}"]
        for t in stage.tensors[:MOST_TENSORS]
    ]  # fmt: skip
    if len(stage.tensors) > MOST_TENSORS:
        rest = stage.tensors[MOST_TENSORS:]
        seconds = sum(t.seconds for t in rest)
        rows.append([f"{len(rest)} more", "", format_bytes(sum(t.bytes for t in rest)), format_seconds(seconds),
                     f"{seconds / stage.seconds:.1%}"])  # fmt: skip
    head = [f"tensors of stage {stage.id}", "stage", "bytes", "seconds", "of load"]
    return ["", *table(head, rows, right="234", indent="")]


def _memory(binding: Binding) -> list[str]:
    """A row for each memory; nodes that serve the same are one row."""
    shown: dict[tuple[str, ...], list[MemoryLoad]] = {}
    for m in binding.memory:
        slack = "binds" if m.name in binding.names else f"{binding.slack(m):.1%}"
        figures = (format_bytes(m.bytes), f"{format_bytes(m.bytes_per_s)}/s", format_seconds(m.period_s), slack)
        shown.setdefault((*figures, m.name.partition(" of ")[2].partition(" ")[0]), []).append(m)
    rows = []
    for cells, alike in shown.items():
        word = "node" if alike[0].node is not None else "host"
        numbers = [str(m.node if m.node is not None else m.host) for m in alike]
        name = alike[0].name if len(alike) == 1 else f"DRAM of each {word} of {_listed(numbers)}"
        rows.append([name, *cells[:-1]])
    return table(["memory", "an item", "bandwidth", "seconds", "slack"], rows, right="1234", indent="")


def _links(binding: Binding) -> list[str]:
    """A row for the network of each host, in and out."""
    rows = [
        [x.name, format_bytes(x.bytes), f"{format_bytes(x.bytes_per_s)}/s", format_seconds(x.period_s),
         "binds" if x.name in binding.names else f"{binding.slack(x):.1%}"]
        for x in binding.links
    ]  # fmt: skip
    return table(["network", "an item", "bandwidth", "seconds", "slack"], rows, right="1234", indent="")


def _limits(e: Explanation) -> list[str]:
    rows = []
    for limit in e.limits:
        for i, trial in enumerate(limit.trials):
            name = f"{_option(limit)} {_value(limit)}" if i == 0 else ""
            rows.append([name, trial.what, *_figures(trial)])
    head = ["limits", "changed to", "period", "change", "latency", "cores", "stages"]
    return table(head, rows, right="23456", indent="") if rows else []


def _value(limit: LimitEffect) -> str:
    if limit.name == ALL:
        return ""
    if limit.name.endswith("_per_s"):
        return f"{format_rate(limit.value)}/s"
    if limit.name.endswith("_s"):
        return format_seconds(limit.value)
    if limit.name.endswith("_bytes"):
        return format_bytes(limit.value)
    if isinstance(limit.value, list):
        return "; ".join(",".join(ops) for ops in limit.value)
    return str(limit.value)


def _marginal(e: Explanation) -> list[str]:
    if not e.marginal:
        return []
    value = VALUES[e.plan.request.objective]
    tried = [t for t in e.marginal if t.change is not None]
    order = sorted(tried, key=lambda t: t.change.change if t.change and t.change.noticed else 0.0)
    rows = [[t.what, *_figures(t)] for t in order]
    rows += [[t.what, "-", t.why, "", "", ""] for t in e.marginal if t.change is None and t.why.startswith("no plan")]
    lines = table(["with", "period", "change", "latency", "cores", "stages"], rows, right="12345", indent="")
    if e.best is not None:
        lines.append(f"against the best {value} at least distances, {_told(e.best.value, value)}; 'none' is below "
                     f"{NOTICED:.1%}")  # fmt: skip
    left = [f"{t.what} ({t.why})" for t in e.marginal if t.change is None and not t.why.startswith("no plan")]
    return lines + ([f"Not tried: {'; '.join(left)}."] if left else [])


def _figures(trial: Trial) -> list[str]:
    """Period, change, latency, cores and stages of a trial."""
    if trial.change is None or trial.period_s is None or trial.latency_s is None:
        return ["-", trial.why, "", "", ""]
    change = trial.change
    text = _percent(change.change) if change.noticed else "none"
    if change.noticed and not change.certain:
        text += f" ({_percent(change.low)} to {_percent(change.high)})"
    return [format_seconds(trial.period_s), text, format_seconds(trial.latency_s), str(trial.cores), str(trial.stages)]


def _alternatives(e: Explanation) -> list[str]:
    """For each alternative its promises, and under them why it is not the plan."""
    unit, lines = items_name(e.plan).split(" ")[0], []
    for other in e.alternatives:
        more = e.plan.predicted.period_s / other.period_s - 1
        compared = "the same" if abs(more) < NOTICED else _percent(more)
        lines += [
            f"  {other.name}: {format_rate(1 / other.period_s)} {unit}/s ({compared}), latency "
            f"{format_seconds(other.latency_s)}, {other.cores} cores",
            f"    {other.reason}",
        ]
    return ["Why not", *lines] if lines else []


def _option(limit: LimitEffect) -> str:
    return "all of them" if limit.name == ALL else OPTIONS.get(limit.name, f"--{limit.name}")


def _told(amount: float, value: str) -> str:
    return f"{amount:.0f}" if value == "cores" else format_seconds(amount)


def _percent(change: float) -> str:
    return f"{change:+.1%}".replace("-", "−")


def _listed(words: Iterable[str]) -> str:
    """`a, b and c`."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _count(count: int, noun: str) -> str:
    return f"one {noun}" if count == 1 else f"{count} {noun}s"


# JSON


def explanation_json(e: Explanation) -> dict[str, Any]:
    """Everything, for `--json`. Shares and changes are fractions."""
    return {
        "complete": e.complete,
        "period_s": e.plan.predicted.period_s,
        "best_period_s": e.best.period_s if e.best else None,
        "binding": _binding_json(e.binding),
        "limits": list(map(_limit_json, e.limits)),
        "marginal": list(map(_trial_json, e.marginal)),
        "alternatives": list(map(_comparison_json, e.alternatives)),
    }


def _binding_json(binding: Binding) -> dict[str, Any]:
    return {
        "names": list(binding.names),
        "stages": [_stage_json(stage, binding) for stage in binding.stages],
        "memory": [_memory_json(memory, binding) for memory in binding.memory],
        "links": [_link_json(link, binding) for link in binding.links],
        "core_seconds": dict(binding.core_seconds),
    }


def _stage_json(stage: StageLoad, binding: Binding) -> dict[str, Any]:
    return {
        "id": stage.id, "binds": stage.name in binding.names, "slack": binding.slack(stage),
        "replicas": stage.replicas, "cores": stage.cores, "residency": stage.residency, "load_s": stage.seconds,
        "period_s": stage.period_s, "dram_bytes": stage.dram_bytes, "parts_s": dict(stage.parts),
        "ops": [{"name": op.name, "seconds": op.seconds, "parts_s": dict(op.parts)} for op in stage.ops],
        "tensors": [
            {"name": t.tensor, "direction": "in" if t.into else "out", "stages": list(t.stages), "bytes": t.bytes,
             "seconds": t.seconds}
            for t in stage.tensors
        ],
    }  # fmt: skip


def _memory_json(memory: MemoryLoad, binding: Binding) -> dict[str, Any]:
    return {
        "node": memory.node, "host": memory.host, "binds": memory.name in binding.names, "slack": binding.slack(memory),
        "bytes": memory.bytes, "bytes_per_s": memory.bytes_per_s, "period_s": memory.period_s,
    }  # fmt: skip


def _link_json(link: LinkLoad, binding: Binding) -> dict[str, Any]:
    return {
        "host": link.host, "direction": "in" if link.into else "out", "binds": link.name in binding.names,
        "slack": binding.slack(link), "bytes": link.bytes, "bytes_per_s": link.bytes_per_s, "period_s": link.period_s,
    }  # fmt: skip


def _limit_json(limit: LimitEffect) -> dict[str, Any]:
    trials = list(map(_trial_json, limit.trials))
    return {"name": limit.name, "value": limit.value, "binds": limit.binds, "trials": trials}


def _trial_json(trial: Trial) -> dict[str, Any]:
    found: dict[str, Any] = {"name": trial.name, "what": trial.what}
    if trial.change is None:
        return {**found, "why_not": trial.why}
    return {
        **found, "period_s": trial.period_s, "latency_s": trial.latency_s, "cores_used": trial.cores,
        "stages": trial.stages, "change": trial.change.change,
        "change_range": [trial.change.low, trial.change.high], "noticed": trial.change.noticed,
    }  # fmt: skip


def _comparison_json(other: Comparison) -> dict[str, Any]:
    core_seconds: Mapping[str, float] = other.core_seconds
    return {
        "name": other.name, "options": other.options, "throughput_per_s": 1 / other.period_s,
        "latency_s": other.latency_s, "cores_used": other.cores, "limited_by": other.limited_by,
        "reason": other.reason, "core_seconds": dict(core_seconds),
    }  # fmt: skip
