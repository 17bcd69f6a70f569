"""Whether a plan of a problem file keeps its promises: everything is derived again from the file, and compared.

Uses `evaluate_problem`, which shares nothing with the search.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from pydantic import BaseModel

from mapper.plans.check import OPTIMAL_GAP, RELATIVE, Report
from mapper.plans.problem_evaluate import Proposed, cores_of, evaluate_problem
from mapper.plans.problem_file import ProblemFile, ProblemRef
from mapper.plans.problem_plan import ProblemLimits, ProblemPlan

ALONE = (
    "limits of the request are kept",
    "bound, gap and status agree",
    "predicted values agree with the loads",
)
WITH_FILE = (
    "the stages cover the ops, and every tensor is read in its own stage or a later one",
    "the stages fit the cores of the machine",
    "every residency, load and byte, the latency and the period come out the same",
    "no copies of the whole model are better than the bound",
)
_SLACK = 1 + 1e-6


def check_problem_plan(
    plan: ProblemPlan, file: ProblemFile | None = None, reference: ProblemRef | None = None
) -> Report:
    """Derives every promise of `plan` again: some from the plan alone, the rest from `file`, the problem that it was
    made for. `reference`, where given, must have the hash that the plan names."""
    found = _of_the_plan_alone(plan)
    verified, missing = list(ALONE), [f"the limit {name}" for name in plan.request.limits.model_extra or ()]
    if reference is not None and reference.sha256 != plan.problem.sha256:
        found.append(
            f"/problem/sha256: that of {reference.file} is {reference.sha256[:12]}…, "
            f"the plan was made for {plan.problem.sha256[:12]}…"
        )
    if file is None:
        missing.append("stages, loads, residencies and cores: they need the problem file (--problem)")
    else:
        found += problem_violations(plan, file)
        verified += WITH_FILE
    missing.append("that the bound is one: planning again is the only proof of it (mapper plan)")
    return Report(tuple(dict.fromkeys(found)), tuple(verified), tuple(missing))


def problem_violations(plan: ProblemPlan, file: ProblemFile) -> list[str]:
    """Every promise of `plan` that the problem file contradicts, each with the pointer of what is wrong."""
    found = _of_the_plan_alone(plan)
    misplaced = [*_partition(plan, file), *_configurations(plan, file)]
    if misplaced:
        return found + misplaced
    found += [*_backwards(plan, file), *_neighbours(plan, file)]
    proposed = [Proposed(s.ops, s.configuration.name, s.replicas, s.exclusive) for s in plan.stages]
    fresh = evaluate_problem(file, proposed)
    for promised, derived in zip(plan.stages, fresh.stages, strict=True):
        found += _differences(promised, derived, f"/stages/{promised.id}")
    if fresh.period_s > 0:
        found += _differences(plan.predicted, fresh.predicted, "/predicted")
    else:
        found.append("/predicted/period_s: all loads come out as 0")
    if fresh.cores_used > file.machine.cores:
        found.append(f"/stages: they take {fresh.cores_used} cores, but the machine has {file.machine.cores}")
    return found + list(_better_copies(plan, file))


def _partition(plan: ProblemPlan, file: ProblemFile) -> Iterator[str]:
    """Ops that are not in the file, in two stages, or in none."""
    home: dict[int, int] = {}
    for stage in plan.stages:
        for i, op in enumerate(stage.ops):
            place = f"/stages/{stage.id}/ops/{i}"
            if not 0 <= op < len(file.ops):
                yield f"{place}: there is no op {op}, the file has {len(file.ops)}"
            elif op in home:
                yield f"{place}: op {op} ({file.ops[op].name!r}) is in stage {home[op]} already"
            else:
                home[op] = stage.id
    missing = [v for v in range(len(file.ops)) if v not in home]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        yield f"/stages: op {missing[0]} ({file.ops[missing[0]].name!r}){more} is in no stage"


def _configurations(plan: ProblemPlan, file: ProblemFile) -> Iterator[str]:
    known = {config.name for config in file.configs}
    for stage in plan.stages:
        if stage.configuration.name not in known:
            name = stage.configuration.name
            yield f"/stages/{stage.id}/configuration/name: the file has no configuration {name!r}"
    for name in plan.request.limits.configurations or ():
        if name not in known:
            yield f"/request/limits/configurations: the file has no configuration {name!r}"


def _backwards(plan: ProblemPlan, file: ProblemFile) -> Iterator[str]:
    """Tensors that a stage reads from a later one."""
    home = {op: stage.id for stage in plan.stages for op in stage.ops}
    for i, (producer, readers) in enumerate(file.ends):
        for reader in readers:
            if home[reader] < home[producer]:
                yield (
                    f"/stages/{home[reader]}: op {reader} ({file.ops[reader].name!r}) reads tensor {i} of op "
                    f"{producer}, which is in the later stage {home[producer]}"
                )


def _neighbours(plan: ProblemPlan, file: ProblemFile) -> Iterator[str]:
    """Sets of ops that the request wants in one stage or in different ones, and that are not."""
    at = {op.name: v for v, op in enumerate(file.ops)}
    home = {op: stage.id for stage in plan.stages for op in stage.ops}
    for name in ("together", "apart"):
        for i, names in enumerate(plan.request.limits.given.get(name, ())):
            if unknown := [op for op in names if op not in at]:
                yield f"/request/limits/{name}/{i}: there is no op {unknown[0]!r}"
                continue
            if len(set(names)) < 2:
                yield f"/request/limits/{name}/{i}: two ops or more were expected"
                continue
            stages = [home[at[op]] for op in names]
            if len(set(stages)) != (1 if name == "together" else len(stages)):
                yield f"/request/limits/{name}/{i}: the ops are in the stages {', '.join(map(str, stages))}"


def _better_copies(plan: ProblemPlan, file: ProblemFile) -> Iterator[str]:
    """Copies of the whole model, within the limits of the request, that are better than the bound: then it is none."""
    limits, rate = plan.request.limits, file.machine.dram_bytes_per_s
    if limits.stages not in (None, 1) or limits.apart or limits.model_extra:
        return
    objective, bound = plan.request.objective, plan.solver.bound
    names = {"throughput": "period", "latency": "latency", "cores": "number of cores"}
    for one, most in _copies(file, limits):
        stage = evaluate_problem(file, [one]).stages[0]
        wanted = math.ceil(stage.load_s * (limits.min_throughput_per_s or 0.0))
        for copies in sorted({1, min(max(wanted, 1), most), most}):
            period_s = max(stage.load_s / copies, stage.dram_bytes / rate)
            kept = stage.load_s <= (math.inf if limits.max_latency_s is None else limits.max_latency_s)
            kept = kept and period_s * (limits.min_throughput_per_s or 0.0) <= 1
            cores = cores_of(file, replace(one, replicas=copies))
            value = {"throughput": period_s, "latency": stage.load_s, "cores": cores}[objective]
            if kept and value < bound * (1 - RELATIVE):
                yield (
                    f"/solver/bound: {bound:.9g}, but {copies} copies of everything with {one.configuration} "
                    f"have the {names[objective]} {value:.9g}"
                )


def _copies(file: ProblemFile, limits: ProblemLimits) -> Iterator[tuple[Proposed, int]]:
    """The whole model with each configuration that the limits allow, and how many copies there is room for."""
    size, every = file.machine.cores_per_group, tuple(range(len(file.ops)))
    cores = min(file.machine.cores, limits.max_cores or file.machine.cores)
    for config in file.configs:
        if limits.configurations is not None and config.name not in limits.configurations:
            continue
        for exclusive in (False, True) if config.cores < size else (False,):
            room = cores // size * size if exclusive else cores
            most = min(room // config.cores, limits.max_replicas or room)
            if most >= 1:
                yield Proposed(every, config.name, 1, exclusive), most


def _of_the_plan_alone(plan: ProblemPlan) -> list[str]:
    return [*_limits(plan), *_solver(plan), *_totals(plan)]


def _limits(plan: ProblemPlan) -> Iterator[str]:
    limits, predicted = plan.request.limits.given, plan.predicted
    for name, value, text in (
        ("max_latency_s", predicted.latency_s, "latency"),
        ("max_stages", len(plan.stages), "number of stages"),
        ("max_replicas", max(stage.replicas for stage in plan.stages), "number of replicas"),
        ("max_cores", predicted.cores_used, "number of cores"),
    ):
        if name in limits and value > limits[name] * _SLACK:
            yield f"/request/limits/{name}: the {text} is {value:.6g}, more than {limits[name]:.6g}"
    least = limits.get("min_throughput_per_s", 0.0)
    if predicted.throughput_per_s * _SLACK < least:
        yield f"/request/limits/min_throughput_per_s: {predicted.throughput_per_s:.6g} are less than {least:.6g}"
    if limits.get("stages", len(plan.stages)) != len(plan.stages):
        yield f"/request/limits/stages: {len(plan.stages)} stages, not {limits['stages']}"
    if "configurations" in limits:
        for stage in plan.stages:
            if stage.configuration.name not in limits["configurations"]:
                yield f"/request/limits/configurations: stage {stage.id} has {stage.configuration.name!r}"


def _solver(plan: ProblemPlan) -> Iterator[str]:
    solver, objective = plan.solver, plan.request.objective
    value = plan.predicted.value(objective)
    if not _near(solver.objective, value):
        yield f"/solver/objective: {solver.objective:.9g}, but by {objective} it is {value:.9g}"
    if not 0 <= solver.bound <= solver.best_objective * (1 + RELATIVE):
        yield f"/solver/bound: {solver.bound:.9g} is not between 0 and best_objective {solver.best_objective:.9g}"
    if solver.best_objective > solver.objective * (1 + RELATIVE):
        yield f"/solver/best_objective: {solver.best_objective:.9g} is more than objective {solver.objective:.9g}"
    if solver.best_objective > 0:
        gap = (solver.best_objective - solver.bound) / solver.best_objective
        if not math.isclose(solver.gap, gap, abs_tol=1e-9):
            yield f"/solver/gap: {solver.gap:.6g} is not (best_objective - bound) / best_objective"
    if solver.objective > solver.best_objective * (1 + solver.near_optimal) * (1 + OPTIMAL_GAP):
        yield "/solver/objective: further from the best than near_optimal allows"
    if solver.status == "optimal" and solver.gap > OPTIMAL_GAP * _SLACK:
        yield f"/solver/status: optimal, but the gap is {solver.gap:.3g}"
    if solver.status in ("infeasible", "unknown"):
        yield f"/solver/status: {solver.status}, but there is a plan"


def _totals(plan: ProblemPlan) -> Iterator[str]:
    predicted = plan.predicted
    latency = math.fsum(stage.load_s for stage in plan.stages)
    if not _near(latency, predicted.latency_s):
        yield f"/predicted/latency_s: {predicted.latency_s:.9g}, but the loads add up to {latency:.9g}"
    if not _near(1 / predicted.period_s, predicted.throughput_per_s):
        yield "/predicted/throughput_per_s: not 1 / period_s"
    slowest = max(stage.load_s / stage.replicas for stage in plan.stages)
    if predicted.period_s < slowest * (1 - RELATIVE):
        yield f"/predicted/period_s: {predicted.period_s:.9g}, but a stage needs {slowest:.9g}"
    dram = math.fsum(stage.dram_bytes for stage in plan.stages)
    if not _near(dram, predicted.dram_bytes_per_item):
        yield f"/predicted/dram_bytes_per_item: {predicted.dram_bytes_per_item:.9g}, but the stages draw {dram:.9g}"


def _differences(promised: BaseModel, derived: BaseModel, place: str) -> list[str]:
    """Where two records of one kind differ, numbers to a relative 1e-9."""
    out = []
    for name in type(derived).model_fields:
        a, b = getattr(promised, name), getattr(derived, name)
        if not _same(a, b):
            shown = [f"{x:.9g}" if isinstance(x, float) else repr(x) for x in (a, b)]
            out.append(f"{place}/{name}: {shown[0]}, but it comes out as {shown[1]}")
    return out


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, BaseModel) and isinstance(b, BaseModel):
        return all(_same(getattr(a, name), getattr(b, name)) for name in type(b).model_fields)
    return _near(a, b) if isinstance(a, float) and isinstance(b, float) else bool(a == b)


def _near(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=RELATIVE, abs_tol=1e-15)
