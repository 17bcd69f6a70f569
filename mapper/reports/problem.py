"""The plan of a problem file in words and a table: the answer first."""

from __future__ import annotations

from mapper.plans.problem_file import ProblemFile
from mapper.plans.problem_plan import ProblemPlan, ProblemStage
from mapper.reports import asked
from mapper.reports.table import table
from mapper.units import format_bytes, format_rate, format_seconds


def problem_text(plan: ProblemPlan, file: ProblemFile) -> list[str]:
    """Lines for people: rate, proof, what limits it, then a row a stage. Ops are named by the file and counted."""
    return [*_answer(plan, file), _subject(plan, file), *_remarks(plan), "", *_stages(plan, file)]


def left_out_text(written: str, left_out: tuple[str, ...]) -> list[str]:
    """That a problem file was written, and what it does not say."""
    if not left_out:
        return [f"Problem written to {written}, with all that the request says"]
    head = f"Problem written to {written}. Left out, as the format cannot say it:"
    return [head, *(f"  {what}" for what in left_out)]


def _answer(plan: ProblemPlan, file: ProblemFile) -> list[str]:
    predicted, solver, objective = plan.predicted, plan.solver, plan.request.objective
    return [
        f"{asked.head(objective, plan.request.limits.given)}: {format_rate(predicted.throughput_per_s)} items/s, "
        f"{format_seconds(predicted.latency_s)} an item, {predicted.cores_used} of {file.machine.cores} cores",
        asked.proof(objective, predicted.value(objective), solver, "the numbers in the file"),
    ]


def _subject(plan: ProblemPlan, file: ProblemFile) -> str:
    machine, stages = file.machine, plan.stages
    sizes = ((machine.groups, "group"), (machine.cores_per_group, "core"))
    where = " of ".join(f"{count} {noun}{'s' * (count > 1)}" for count, noun in sizes)
    if len(stages) > 1:
        workers = sum(stage.replicas for stage in stages)
        shape = f"a pipeline of {len(stages)} stages, {workers} workers in all"
    else:
        copies = stages[0].replicas
        shape = f"{copies} copies of the whole" if copies > 1 else "one worker for the whole"
    return f"{plan.problem.name} ({len(file.ops)} ops, {where}): {shape}; limited by {plan.predicted.limited_by}"


def _remarks(plan: ProblemPlan) -> list[str]:
    """What the plan has only because of an allowance, and what the proof assumes beyond the numbers."""
    solver, lines = plan.solver, []
    if solver.objective > solver.best_objective * (1 + 1e-4):
        best = format_seconds(solver.best_objective)
        lines.append(f"Fewest stages within {solver.near_optimal:.1%} of the best period, {best}")
    lines += [text[0].upper() + text[1:] for text in solver.proved.assumptions[1:]]
    return lines


def _stages(plan: ProblemPlan, file: ProblemFile) -> list[str]:
    rows = [_row(stage, file) for stage in plan.stages]
    head = ["stage", "ops", "copies", "configuration", "weights", "held in", "load", "load/copies"]
    each = [stage.load_s / stage.replicas for stage in plan.stages]
    bars = [seconds / max(each) if max(each) else 0.0 for seconds in each] if len(each) > 1 else []
    roles = {i: f"stage {stage.id}" for i, stage in enumerate(plan.stages)}
    return table(head, rows, right="02467", fold="5463", whole="3", roles=roles, bars=bars)


def _row(stage: ProblemStage, file: ProblemFile) -> list[str]:
    names = [file.ops[v].name for v in stage.ops]
    ops = names[0] if len(names) == 1 else f"{names[0]} … {names[-1]} ({len(names)})"
    if len(names) == len(file.ops):
        ops = f"all {len(names)}"
    alone = ", own groups" if stage.exclusive else ""
    return [
        str(stage.id), ops, str(stage.replicas), stage.configuration.name + alone, format_bytes(stage.weight_bytes),
        stage.residency, format_seconds(stage.load_s), format_seconds(stage.load_s / stage.replicas),
    ]  # fmt: skip
