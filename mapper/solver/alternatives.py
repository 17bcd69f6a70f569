"""The few other plans that stand beside the chosen one: what people do today, and other trades of rate for latency."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from mapper.errors import Infeasible
from mapper.machine.hosts import feeder_host
from mapper.plans.evaluate import evaluate
from mapper.plans.model import Alternative
from mapper.solver.placement.candidates import Case, Wanted
from mapper.solver.placement.hosts import Homes
from mapper.solver.placement.over_hosts import all_on_one, all_replicated, even_split
from mapper.solver.placement.place import Unplaceable, place
from mapper.solver.problem import Limits, Solution
from mapper.solver.search.aim import ROUNDING
from mapper.solver.search.least_period import least_period, throughput
from mapper.solver.search.request import Request
from mapper.solver.search.space import Space

COARSE = 1e-3
"""Relative precision of the periods of alternatives."""
APART = 2.0
"""How many times the least latency the chosen plan's must be, so that plans between the two are looked for."""
FURTHER = 8.0
"""The same for a second one between."""


Point = tuple[float, float, int]
"""Rate, latency, cores."""


@dataclass(frozen=True)
class Row:
    """A plan to look for: its name, the options that give it, its limits. One that is a `habit` is listed in any case,
    the others where no listed plan is as good in all of rate, latency and cores, to `slack`."""

    name: str
    options: str
    limits: Limits
    habit: bool = False
    slack: float = COARSE


def alternatives(
    space: Space, chosen: Solution, limits: Limits, calls: int = 1, placed: OnHosts | None = None
) -> tuple[Alternative, ...]:
    """What people do without a planner, always; of the others those that no listed plan beats in all of rate,
    latency and cores. The chosen plan itself is left out. Of items that are `calls` of the model. On several hosts
    plans are `placed`: the network counts."""
    if space.stop.reached:
        return ()
    wanted = _habits(space)
    if limits.as_options():
        one_each = limits.max_replicas == 1 and len(space.problem.configs) == 1  # the default of graphs with times
        wanted.append(Row("best", "--replicas any" if one_each else "", Limits()))
    wanted += _within_latencies(space, chosen, limits) if calls == 1 else ()
    own = (1 / chosen.period_s, chosen.latency_s, _cores(chosen, space))
    found = list(_found(space, wanted, limits.max_cores))
    if placed is not None:
        own = placed.point
        found = [*placed.rows(limits.max_cores), *placed.realised(found)]
    return tuple(_of_items(row, calls) for row in _listed(own, [(row, plan) for row, plan, _ in found]))


@dataclass(frozen=True)
class OnHosts:
    """What is planned for several hosts, and what was chosen: rate, latency and cores with the network."""

    case: Case
    point: Point

    def rows(self, max_cores: int | None) -> Iterator[tuple[Row, Alternative, Solution]]:
        """What people do with several hosts: one of them, a copy on each, an equal part on each."""
        wanted = Wanted(Limits(max_cores=max_cores), 0.0, COARSE)
        first = f"--hosts {feeder_host(self.case.machine)}"
        for name, options, candidates in (
            ("all on one host", first, all_on_one), ("a copy on each host", "", all_replicated),
            ("an equal part on each host", "", even_split),
        ):  # fmt: skip
            candidate = next(candidates(self.case, wanted), None)
            if candidate is None:
                continue
            plan = self._alternative(name, options, candidate.solution, candidate.homes)
            if plan is not None:
                yield Row(name, options, wanted.limits, habit=True), plan, candidate.solution

    def realised(
        self, found: Iterable[tuple[Row, Alternative, Solution]]
    ) -> Iterator[tuple[Row, Alternative, Solution]]:
        """Those of `found` that fit hosts, with what they come to there."""
        for row, plan, solution in found:
            on_cores = self._alternative(plan.name, plan.options, solution, None)
            if on_cores is not None:
                yield row, on_cores, solution

    def _alternative(self, name: str, options: str, solution: Solution, homes: Homes | None) -> Alternative | None:
        """A solution on cores; None where it does not fit."""
        case = self.case
        try:
            mapping, _ = place(case.graph, case.machine, case.space.problem, solution.stages, homes=homes)
        except Unplaceable:
            return None
        predicted = evaluate(case.graph, case.machine, case.table, mapping).predicted
        return Alternative(
            name=name, options=options, throughput_per_s=predicted.throughput_per_s, latency_s=predicted.latency_s,
            cores_used=predicted.cores_used,
        )  # fmt: skip


def _of_items(row: Alternative, calls: int) -> Alternative:
    """`row`, which is of calls, for items of so many (`plans.micro_batches`)."""
    latency_s = row.latency_s + (calls - 1) / row.throughput_per_s
    return row.model_copy(update={"throughput_per_s": row.throughput_per_s / calls, "latency_s": latency_s})


def _listed(own: Point, found: list[tuple[Row, Alternative]]) -> tuple[Alternative, ...]:
    """What of `found` stands beside the chosen plan `own`: habits, and of the others, from the fastest on, those that
    nothing listed before is as good as."""
    habits = [x for x in found if x[0].habit]
    others = sorted((x for x in found if not x[0].habit), key=lambda x: (-x[1].throughput_per_s, *_point(x[1])[1:]))
    kept: list[Alternative] = []
    for row, plan in [*habits, *others]:
        known = [own, *map(_point, kept)]
        if any(_same(x, plan) or (not row.habit and _covers(x, plan, row.slack)) for x in known):
            continue
        kept.append(plan)
    return tuple(sorted(kept, key=lambda plan: -plan.throughput_per_s))


def _found(space: Space, wanted: list[Row], max_cores: int | None) -> Iterator[tuple[Row, Alternative, Solution]]:
    """The best plan of each row that has one, in at most `max_cores` cores; of searches that are done only."""
    whole = space.undivided()
    for row in wanted:
        limits = replace(row.limits, max_cores=max_cores)
        try:
            if limits.stages == 1:
                solution = least_period(whole, limits, 0.0, COARSE)
            else:
                solution = throughput(space, limits, tolerance=COARSE)
        except Infeasible:
            continue
        if row.habit or not solution.stopped:
            yield row, _alternative(row, solution, space), solution


def _habits(space: Space) -> list[Row]:
    """What people do without a planner: every thread on one item, a copy a core, a stage a group."""
    problem = space.problem
    whole, one = problem.configs[-1], problem.configs[0]
    threads = f"{whole.cores} thread{'s' * (whole.cores > 1)}"
    native = Limits(stages=1, max_replicas=1, configurations=(whole,))
    options = f"--stages 1 --replicas 1 --configurations {whole.name}"
    wanted = [Row(f"native, {threads}", options, native, habit=True)]
    if problem.cores > 1:
        streams = Limits(stages=1, configurations=(one,))
        options = f"--stages 1 --configurations {one.name}"
        wanted.append(Row("streams, one core each", options, streams, habit=True))
    if problem.groups > 1:
        group = next(c for c in problem.configs if c.groups == 1 and c.cores == problem.cores_per_group)
        equal = Limits(max_replicas=1, configurations=(group,))  # the cores allow as many stages as there are groups
        options = f"--replicas 1 --configurations {group.name}"
        wanted.append(Row("pipeline, one group a stage", options, equal, habit=True))
    return wanted


def _within_latencies(space: Space, chosen: Solution, limits: Limits) -> Iterator[Row]:
    """Plans of less latency than the chosen one: within one round latency or two, and of the least."""
    request = Request(space, Limits(max_cores=limits.max_cores))
    least = float(request.cover(math.inf).front()[-1])  # at any period DRAM is no limit
    if not APART * least <= chosen.latency_s:
        return
    middle = _round(math.sqrt(least * chosen.latency_s))
    yield Row(f"best within {_milliseconds(middle)}", f"--max-latency {_milliseconds(middle)}", _within(middle))
    lower = _round(math.sqrt(least * middle))
    if FURTHER * least <= chosen.latency_s and lower < middle:
        text = _milliseconds(lower)
        yield Row(f"best within {text}", f"--max-latency {text}", _within(lower), slack=0.05)
    yield Row("least latency", "--objective latency", _within(least * (1 + ROUNDING)), slack=0.05)


def _within(seconds: float) -> Limits:
    return Limits(max_latency_s=seconds)


def _alternative(row: Row, solution: Solution, space: Space) -> Alternative:
    return Alternative(
        name=row.name,
        options=row.options,
        throughput_per_s=1 / solution.period_s,
        latency_s=solution.latency_s,
        cores_used=_cores(solution, space),
    )


def _cores(solution: Solution, space: Space) -> int:
    return sum(stage.replicas * space.problem.configs[stage.config].cores for stage in solution.stages)


def _point(row: Alternative) -> Point:
    return row.throughput_per_s, row.latency_s, row.cores_used


def _covers(known: Point, row: Alternative, slack: float) -> bool:
    """Whether a listed plan is at least as good in all three, to `slack`."""
    rate, latency, cores = known
    return (
        rate >= row.throughput_per_s * (1 - slack)
        and latency <= row.latency_s * (1 + slack)
        and cores <= row.cores_used
    )


def _same(known: Point, row: Alternative) -> bool:
    """Whether `row` is the known plan over again."""
    return all(math.isclose(a, b, rel_tol=COARSE) for a, b in zip(known, _point(row), strict=True))


def _round(seconds: float) -> float:
    """1, 2 or 5 times a power of ten, not below `seconds`."""
    power = 10 ** math.floor(math.log10(seconds))
    return float(next(step * power for step in (1, 2, 5, 10) if step * power >= seconds * 0.999))


def _milliseconds(seconds: float) -> str:
    return f"{seconds:g}s" if seconds >= 1 else f"{seconds * 1e3:g}ms"
