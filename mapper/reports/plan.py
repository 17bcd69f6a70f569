"""A plan in words and a table: the answer first, then the stages, the cores, and what else there is."""

from __future__ import annotations

from mapper.cost.table import GIVEN
from mapper.machine.draw import shape
from mapper.plans.check import value_of
from mapper.plans.model import Plan, Stage
from mapper.reports import asked
from mapper.reports.lines import Styled, indented
from mapper.reports.machine import blocks_lines, legend, stages_of
from mapper.reports.table import table
from mapper.units import format_bytes, format_rate, format_seconds


def plan_text(plan: Plan, width: int = 100) -> list[str]:
    """Lines for people; the machine is drawn for `width` columns."""
    told, proof = answer(plan).split("\n")
    return [
        subject(plan), "", Styled.made((told, "answer")), proof, shape_of(plan), *_why(plan), "",
        *_stages(plan), "", *_drawing(plan, width), "", *_others(plan),
    ]  # fmt: skip


def items_name(plan: Plan, count: float = 2) -> str:
    """What an item is called: `images`, or `items` for a batch of them."""
    if plan.request.batch > 1:
        return "items" if count != 1 else "item"
    return plural(plan.model.item_name) if count != 1 else plan.model.item_name


def plural(noun: str) -> str:
    """`image` to `images`, `sequence of 128 tokens` to `sequences of 128 tokens`."""
    first, _, rest = noun.partition(" ")
    return f"{first}s {rest}".strip()


def _unit(plan: Plan) -> str:
    """`images/s`, `sequences/s` or `items/s`."""
    return f"{items_name(plan).split(' ')[0]}/s"


def subject(plan: Plan) -> str:
    """Which model, in items of what, on which machine."""
    batch, noun = plan.request.batch, plan.model.item_name
    item = f"1 {noun}" if batch == 1 else f"{batch} {plural(noun)}"
    items = "" if item == "1 item" else f", items of {item}"
    if plan.request.micro_batches > 1:
        items += f" in {plan.request.micro_batches} micro-batches"
    machine = plan.machine
    return f"{plan.model.title or plan.model.name}{items}, on {machine.title or machine.name} ({shape(machine)})"


def answer(plan: Plan) -> str:
    """What was asked and what the plan gives in one line, how good it is proved to be in another."""
    predicted, request = plan.predicted, plan.request
    one = items_name(plan, 1).split(" ")[0]
    head = asked.head(request.objective, request.limits)
    planner = (request.model_extra or {}).get("planner")
    if planner is not None:
        head = head.replace(asked.HEADS[request.objective], f"Planned by {planner}: throughput")
    noun = "units" if request.costs.get("source") == GIVEN else "cores"
    text = (
        f"{head}: {format_rate(predicted.throughput_per_s)} {_unit(plan)}, "
        f"{format_seconds(predicted.latency_s)} {'an' if one[0] in 'aeiou' else 'a'} {one}, "
        f"{predicted.cores_used} of {len(plan.machine.cores)} {noun}"
    )
    value = value_of(request.objective, predicted)
    return f"{text}\n{asked.proof(request.objective, value, plan.solver, 'this cost model')}"


def shape_of(plan: Plan) -> str:
    """The plan in a sentence: native, copies, or a pipeline."""
    first = plan.stages[0]
    threads = first.replicas[0].configuration.threads
    each = f"{_number(threads, 'thread')} each"
    if len(plan.stages) > 1:
        copies = {len(stage.replicas) for stage in plan.stages}
        more = "one worker each" if copies == {1} else f"{sum(len(s.replicas) for s in plan.stages)} workers in all"
        return f"A pipeline of {len(plan.stages)} stages, {more}"
    if len(first.replicas) == 1:
        whole = threads == len(plan.machine.cores)
        return f"The whole model in one process with {_number(threads, 'thread')}{' (native)' if whole else ''}"
    best = plan.solver.status == "optimal" and "stages" not in plan.request.limits
    return f"{len(first.replicas)} copies of the model, {each}{'; splitting it does not pay here' if best else ''}"


def _number(count: int, noun: str) -> str:
    return f"one {noun}" if count == 1 else f"{count} {noun}s"


def _why(plan: Plan) -> list[str]:
    solver = plan.solver
    lines = [f"Limited by {plan.predicted.limited_by}"]
    if plan.request.micro_batches > 1:
        lines.append(f"Loads are those of one of an item's {plan.request.micro_batches} micro-batches")
    if solver.objective > solver.best_objective * (1 + 1e-4):
        best = format_seconds(solver.best_objective)
        lines.append(f"Fewest stages within {solver.near_optimal:.1%} of the best period, {best}")
    return lines


def _stages(plan: Plan) -> list[str]:
    """A row a stage; where there are no copies, the load of one is that of all."""
    rows = [_row(plan, stage) for stage in plan.stages]
    head = ["stage", "ops", "copies", "cores a copy", "weights", "held in", "load", "load/copies", "mostly"]
    copies = any(len(stage.replicas) > 1 for stage in plan.stages)
    head, *rows = [row if copies else [*row[:7], *row[8:]] for row in (head, *rows)]
    each = [stage.load.total_s / len(stage.replicas) for stage in plan.stages]
    bars = [seconds / max(each) if max(each) else 0.0 for seconds in each] if len(each) > 1 else []
    roles = {i: f"stage {stage.id}" for i, stage in enumerate(plan.stages)}
    right, fold = ("02467", "45863") if copies else ("0246", "4573")
    return table(head, rows, right=right, fold=fold, roles=roles, bars=bars)


def _row(plan: Plan, stage: Stage) -> list[str]:
    config, copies = stage.replicas[0].configuration, len(stage.replicas)
    cores = str(config.cores) if config.groups == 1 else f"{config.cores} ({config.groups} groups)"
    ops = f"all {len(stage.ops)}" if len(plan.stages) == 1 else _span(stage)
    load = stage.load.total_s
    parts = {"arithmetic": stage.load.compute_s, "dispatch": stage.load.dispatch_s, "fork-join": stage.load.fork_join_s,
             "transfers": stage.load.in_s + stage.load.out_s}  # fmt: skip
    return [
        str(stage.id), ops, str(copies), cores, format_bytes(stage.weight_bytes), stage.residency, format_seconds(load),
        format_seconds(load / copies), max(parts, key=lambda name: parts[name]),
    ]  # fmt: skip


def _span(stage: Stage) -> str:
    if len(stage.ops) == 1:
        return stage.ops[0]
    return f"{stage.ops[0]} … {stage.ops[-1]} ({len(stage.ops)})"


def _drawing(plan: Plan, width: int) -> list[str]:
    drawn = blocks_lines(plan.machine, stages_of(plan), width - 2)
    return [*(indented(line, "  ") for line in drawn), f"  {legend(plan.machine, stages_of(plan))}"]


def _others(plan: Plan) -> list[str]:
    """The alternatives, under the plan itself to compare with."""
    if not plan.alternatives:
        return []
    predicted = plan.predicted
    rows = [
        ["this plan", *_figures(predicted.throughput_per_s, predicted.latency_s, predicted.cores_used), ""],
        *([a.name, *_figures(a.throughput_per_s, a.latency_s, a.cores_used), a.options] for a in plan.alternatives),
    ]
    rates = [predicted.throughput_per_s, *(a.throughput_per_s for a in plan.alternatives)]
    bars = [rate / max(rates) for rate in rates]
    return table(
        ["Or", _unit(plan), "latency", "cores", ""], rows, right="123", indent="", fold="4", whole="04", bars=bars
    )


def _figures(per_s: float, latency_s: float, cores: int) -> list[str]:
    return [format_rate(per_s), format_seconds(latency_s), str(cores)]
