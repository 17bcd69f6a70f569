"""Planning again with something changed: the same request on another machine, or other limits on the same machine."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import cast

from mapper.cost.configurations import Config, configurations, parse_configurations
from mapper.cost.pipedream import OBJECTIVE, training_costs
from mapper.cost.roofline import roofline
from mapper.cost.table import CostTable
from mapper.errors import Infeasible, NoPlanInTime, UsageError
from mapper.graph.measure import graph_of
from mapper.graph.model import Graph
from mapper.machine.model import Machine
from mapper.machine.parts import Path
from mapper.plans.check import mapping_of, value_of
from mapper.plans.evaluate import Evaluation, evaluate
from mapper.plans.model import Plan
from mapper.program.columns import with_columns
from mapper.solver.columns import Columns
from mapper.solver.placement.candidates import Case as Fitted
from mapper.solver.placement.fitting import fitting
from mapper.solver.problem import Limits, Objective, Problem, problem_of
from mapper.solver.reductions.reduce import reduce
from mapper.solver.search.aim import aimed
from mapper.solver.search.least_period import throughput
from mapper.solver.search.request import Request
from mapper.solver.search.space import Space

PRECISION = 2e-4
"""Relative precision of what is solved again."""
NOTICED = 1e-3
"""Relative change of the objective below which a change is none: it is near the precision of two searches."""


@dataclass(frozen=True)
class Case:
    """One graph on one machine with its costs, to be planned under any limits that name the same ops."""

    graph: Graph
    machine: Machine
    table: CostTable
    limits: Limits
    objective: Objective

    @cached_property
    def problem(self) -> Problem:
        """The instance that is searched."""
        return problem_of(self.graph, self.machine, self.table, self.limits)

    @cached_property
    def space(self) -> Space:
        """All plans, whose stage costs serve all limits."""
        return Space(self.problem)


@dataclass(frozen=True)
class Outcome:
    """The best plan of one request as it is searched: at least distances, before cores are chosen.

    `value` is the objective's and `bound` a proved bound of it; `whole_space`: every plan was searched.
    """

    value: float
    bound: float
    period_s: float
    latency_s: float
    cores: int
    stages: int
    whole_space: bool


@dataclass(frozen=True)
class Change:
    """How the objective's value changes against the plain request, as a fraction: -0.05 is 5 % less.

    The truth lies between `low` and `high`, which are what bounds and plans allow; they are equal but for the
    precision where both were proved.
    """

    change: float
    low: float
    high: float

    @property
    def noticed(self) -> bool:
        """Whether it is more than the search's precision."""
        return abs(self.change) > NOTICED

    @property
    def certain(self) -> bool:
        """Whether it is proved to be a change in this direction."""
        return self.noticed and (self.high < 0 or self.low > 0)


def case_of(plan: Plan, graph: Graph, table: CostTable) -> Case:
    """The request of `plan`, to be solved again."""
    return Case(graph, plan.machine, table, limits_of(plan, table.configs), plan.request.objective)


def limits_of(plan: Plan, configs: Sequence[Config]) -> Limits:
    """The limits of a plan's request. Raises: UsageError for one that this version does not know."""
    given = dict(plan.request.limits)
    known = {field.name for field in dataclasses.fields(Limits)}
    if unknown := sorted(given.keys() - known):
        raise UsageError(f"the plan's request has limits that are not known here: {', '.join(unknown)}")
    if "configurations" in given:
        given["configurations"] = parse_configurations(given["configurations"], configs)
    for name in ("together", "apart"):
        if name in given:
            given[name] = tuple(tuple(ops) for ops in given[name])
    return Limits(**given)


def on_machine(case: Case, machine: Machine) -> Case:
    """The same request on `machine`, its costs computed anew unless they came with the graph.

    Raises: UsageError where the request's configurations do not exist there.
    """
    table = case.table
    if table.source == "roofline":
        path = cast("Path | None", table.options.get("path"))
        table = roofline(case.graph, machine, configurations(machine), path=path)
    elif table.options.get("objective_model") == OBJECTIVE:
        table = training_costs(case.graph, len(machine.groups), float(table.options["bandwidth_bytes_per_s"]))
    limits = dataclasses.replace(case.limits, configurations=_configurations(case, machine, table))
    return dataclasses.replace(case, machine=machine, table=table, limits=limits)


def in_columns(case: Case, columns: Columns) -> Case:
    """The same request with ops of the model's program split into columns."""
    assert case.graph.program is not None and case.table.source == "roofline", "only ops of a program can be split"
    graph = graph_of(with_columns(case.graph.program, columns))
    return on_machine(dataclasses.replace(case, graph=graph), case.machine)


def _configurations(case: Case, machine: Machine, table: CostTable) -> tuple[Config, ...] | None:
    """The request's configurations on another machine: whole groups stay whole groups."""
    if case.limits.configurations is None:
        return None
    before, now = case.machine.cores_per_group, machine.cores_per_group
    wanted = [Config(c.groups, now) if c.cores_per_group == before else c for c in case.limits.configurations]
    left = tuple(config for config in wanted if config in table.configs)
    if not left:
        names = ", ".join(config.name for config in case.limits.configurations)
        raise UsageError(f"the request allows {names} only, which such a machine does not have")
    return left


def faster_transfers(case: Case, factor: float) -> Case:
    """The same request of an imported graph whose tensors (for PipeDream's objective, weights) move `factor` times as
    fast. Raises: UsageError where moving costs nothing."""
    table = case.table
    if table.options.get("objective_model") == OBJECTIVE:
        rate = float(table.options["bandwidth_bytes_per_s"]) * factor
        return dataclasses.replace(case, table=training_costs(case.graph, len(case.machine.groups), rate))
    if not table.comm_s:
        raise UsageError("no tensor of the graph costs anything to move")
    moved = {name: seconds / factor for name, seconds in table.comm_s.items()}
    return dataclasses.replace(case, table=dataclasses.replace(table, comm_s=moved))


def solved(case: Case, limits: Limits | None = None) -> Outcome | None:
    """The best plan of `case` under `limits` (its own, where not given); None where none keeps them.

    "Best" is the request's objective; of plans with the least latency or the fewest cores the one of least period.
    """
    limits = limits or case.limits
    if limits.max_stages is not None and limits.stages is None:  # counting stages takes a layer for each
        free = solved(case, dataclasses.replace(limits, max_stages=None))
        if free is None or free.stages <= limits.max_stages:
            return free
    try:
        return _solved(case, limits)
    except Infeasible:
        return None


def _solved(case: Case, limits: Limits) -> Outcome:
    """As `plan` does it, but for the placement. Raises: Infeasible; KeyboardInterrupt where the user ends it."""
    aim = aimed(case.space, case.objective, limits, PRECISION)
    found = throughput(case.space, aim.limits, 0.0, PRECISION)
    if case.space.stop.reached:
        raise KeyboardInterrupt
    cores = sum(stage.replicas * case.problem.configs[stage.config].cores for stage in found.stages)
    values = {"throughput": found.period_s, "latency": found.latency_s, "cores": float(cores)}
    value = values[case.objective]
    bound = min(found.bound_s if aim.bound is None else aim.bound, value)
    return Outcome(value, bound, found.period_s, found.latency_s, cores, len(found.stages), found.whole_space)


def promised(plan: Plan) -> Outcome:
    """What `plan` says of itself, where the search finds no plan for its request: another planner made it."""
    its, value = plan.predicted, value_of(plan.request.objective, plan.predicted)
    return Outcome(
        value, min(plan.solver.bound, value), its.period_s, its.latency_s, its.cores_used, len(plan.stages), False
    )


def placed(case: Case, limits: Limits) -> Evaluation | None:
    """The plan of least period under `limits` on cores; None where there is none."""
    try:
        found = fitting(Fitted(case.graph, case.machine, case.table, case.space), limits, limits, 0.0, PRECISION)
    except (Infeasible, NoPlanInTime):
        return None
    if case.space.stop.reached:
        raise KeyboardInterrupt
    return found.evaluation


def on_the_same_cores(case: Case, plan: Plan) -> float:
    """The period of `plan`, its mapping as it is, with the machine and costs of `case`."""
    return evaluate(case.graph, case.machine, case.table, mapping_of(plan)).predicted.period_s


def unchanged(case: Case, limits: Limits, before: Outcome) -> bool:
    """Whether one pass proves that no plan of `case` under `limits` has a noticeably shorter period than `before`.

    False says nothing.
    """
    limits = dataclasses.replace(limits, max_stages=None)  # counting stages takes a layer for each
    request = _request(case, limits)
    if case.objective != "throughput" or request is None or not before.whole_space:
        return False
    return request.decide(before.period_s * (1 - NOTICED)).refuted


def _request(case: Case, limits: Limits) -> Request | None:
    """`limits` on the search of `case`; None where an exact number of stages may need ops that it keeps together."""
    if limits.stages is not None and reduce(case.problem, idle=False).problem.ops > case.space.exact.problem.ops:
        return None
    return Request(case.space, limits)


def same(before: Outcome) -> Change:
    """The change that `unchanged` proves: none that is noticed."""
    return Change(0.0, -NOTICED, 0.0)


def compared(now: Outcome, before: Outcome, *, monotone: bool = False) -> Change:
    """How `now` differs from `before`. `monotone`: it cannot be worse, since the plan of `before` is there still."""
    low, high = now.bound / before.value - 1, now.value / before.bound - 1
    change = now.value / before.value - 1
    if monotone:
        change, high, low = min(change, 0.0), min(high, 0.0), min(low, 0.0)
    return Change(change, low, high)
