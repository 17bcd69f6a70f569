"""Why a plan is as it is: what binds, which limits cost something, what a little more of the machine would bring, and
why people's habits are slower.

What binds is read off the plan; everything else is planned again, with one thing changed at a time.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from mapper.cost.configurations import parse_configurations
from mapper.cost.table import GIVEN, CostTable
from mapper.errors import PromiseBroken, UsageError
from mapper.graph.model import Graph
from mapper.plans.account import Binding, binding_of
from mapper.plans.check import violations
from mapper.plans.costs import costs_of, planned_graph
from mapper.plans.evaluate import Evaluation
from mapper.plans.micro_batches import in_calls
from mapper.plans.model import Alternative, Plan
from mapper.solver.columns import binding_op
from mapper.solver.explanation.levers import levers, unit_levers
from mapper.solver.explanation.reasons import reason
from mapper.solver.explanation.resolve import (
    Case,
    Change,
    Outcome,
    case_of,
    compared,
    faster_transfers,
    in_columns,
    on_machine,
    on_the_same_cores,
    placed,
    promised,
    same,
    solved,
    unchanged,
)
from mapper.solver.problem import Limits
from mapper.solver.search.space import Progress, silent
from mapper.units import format_seconds, parse_seconds

Section = Literal["binding", "limits", "marginal", "alternatives"]
SECTIONS: tuple[Section, ...] = get_args(Section)
ALL = "all"
"""Stands for all limits of a request together: each may hide what another costs."""
RELAXED = 0.1
"""How much more than it allows a limit is tried with."""


@dataclass(frozen=True)
class Trial:
    """The request planned again with one thing changed. Without `change` there is no such plan, and `why` says why."""

    name: str
    what: str
    change: Change | None = None
    period_s: float | None = None
    latency_s: float | None = None
    cores: int | None = None
    stages: int | None = None
    adds_cores: bool = False
    why: str = ""


@dataclass(frozen=True)
class LimitEffect:
    """A limit of the request, and the best plans with it relaxed and without it."""

    name: str
    value: Any
    trials: tuple[Trial, ...]

    @property
    def binds(self) -> bool:
        """Whether a better plan is proved to exist without it."""
        return any(t.change is not None and t.change.certain and t.change.change < 0 for t in self.trials)


@dataclass(frozen=True)
class Comparison:
    """An alternative beside the plan: its promises, where its cores' time goes, and what makes the difference."""

    name: str
    options: str
    period_s: float
    latency_s: float
    cores: int
    limited_by: str
    reason: str
    core_seconds: Mapping[str, float]


@dataclass(frozen=True)
class Explanation:
    """All of it. `best` is the same request planned again, which changes are measured against; None where no section
    needs it. `complete` is False where the user interrupted: what was found until then is there."""

    plan: Plan
    binding: Binding
    best: Outcome | None = None
    limits: tuple[LimitEffect, ...] = ()
    marginal: tuple[Trial, ...] = ()
    alternatives: tuple[Comparison, ...] = ()
    complete: bool = True


def explain(
    plan: Plan,
    graph: Graph,
    table: CostTable | None = None,
    *,
    only: Collection[Section] = SECTIONS,
    progress: Progress = silent,
) -> Explanation:
    """Why `plan`, which is of `graph`, is as it is. `table` are its costs; where not given they are derived as the
    plan's request says.

    Every section but `binding` plans again, 0.1 to 3 s a time. An interruption ends that with what was found.

    Raises: PromiseBroken when the plan is not what it says; UsageError when costs are needed that are not given.
    """
    if table is None:
        graph = planned_graph(plan, graph)
        table = costs_of(plan, graph)
    if table is None:
        raise UsageError(f"the plan's costs are from {plan.request.costs.get('source')!r}, which is not at hand",
                         advice="Give the profile that it was made with: --costs F.")  # fmt: skip
    broken = violations(plan, graph, table)
    if broken:
        raise PromiseBroken(f"the plan breaks {len(broken)} of its promises, such as {broken[0]}",
                            advice="mapper check says which; plan again before asking why.")  # fmt: skip
    made = Evaluation(plan.stages, plan.edges, in_calls(plan.predicted, plan.request.micro_batches))
    found = Explanation(plan, binding_of(made, graph, plan.machine, table))
    if set(only) <= {"binding"}:
        return found
    if plan.request.micro_batches > 1:
        raise UsageError("only what binds is explained of plans for items in micro-batches", advice="--only binding")
    case = case_of(plan, graph, table)
    try:
        progress("planning the request again ...")
        best = solved(case) or promised(plan)
        found = dataclasses.replace(found, best=best)
        for more in _sections(found, case, best, only, progress):
            found = more
    except KeyboardInterrupt:
        return dataclasses.replace(found, complete=False)
    return found


def _sections(
    found: Explanation, case: Case, best: Outcome, only: Collection[Section], progress: Progress
) -> Iterator[Explanation]:
    """`found` with one more result each time."""
    if "limits" in only:
        for effect in _limits(case, best, progress):
            found = dataclasses.replace(found, limits=(*found.limits, effect))
            yield found
    if "alternatives" in only:
        for comparison in _alternatives(found, case, progress):
            found = dataclasses.replace(found, alternatives=(*found.alternatives, comparison))
            yield found
    if "marginal" in only:
        for trial in _marginal(found, case, best, progress):
            found = dataclasses.replace(found, marginal=(*found.marginal, trial))
            yield found


# limits


def _limits(case: Case, best: Outcome, progress: Progress) -> Iterator[LimitEffect]:
    """Each limit that the request sets, relaxed and left out, the others as they are."""
    for name, value in case.limits.as_options().items():
        trials = []
        for what, other in relaxations(name, getattr(case.limits, name)):
            progress(f"planning with {name} {what} ...")
            limits = dataclasses.replace(case.limits, **{name: other})
            changed = dataclasses.replace(case, limits=limits) if name in ("together", "apart") else case
            trials.append(_trial(name, what, changed, limits, best, wider=name != "stages" or other is None))
        yield LimitEffect(name, value, tuple(trials))
    given = case.limits.as_options()
    if len(given) > 1:
        progress("planning without any limit ...")
        free = dataclasses.replace(case, limits=Limits())
        yield LimitEffect(ALL, list(given), (_trial(ALL, "left out", free, Limits(), best, wider=True),))


def relaxations(name: str, value: Any) -> list[tuple[str, Any]]:
    """What is tried instead of `value` of the limit `name`, in words and as a value: a little more, and none."""
    none = () if name in ("together", "apart") else None
    without = [("left out", none)]
    if name == "stages":
        return [(str(n), n) for n in (value - 1, value + 1) if n > 0] + without
    if isinstance(value, bool) or not isinstance(value, int | float):
        return without
    if isinstance(value, int):
        more = max(value + 1, math.ceil(value * (1 + RELAXED) - 1e-9))
        return [(str(more), more), *without]
    factor = 1 - RELAXED if name.startswith("min_") else 1 + RELAXED
    text = format_seconds(value * factor) if name.endswith("_s") and not name.endswith("per_s") else f"× {factor:g}"
    return [(text, value * factor), *without]


def _trial(name: str, what: str, case: Case, limits: Limits, best: Outcome, *, wider: bool) -> Trial:
    """`case` under `limits`, planned again. `wider`: the plan of `best` is possible there too, and costs no more."""
    if wider and unchanged(case, limits, best):
        return _told(name, what, best, same(best))
    found = solved(case, limits)
    if found is None:
        return Trial(name, what, why="no plan keeps the limits")
    return _told(name, what, found, compared(found, best, monotone=wider))


def _told(name: str, what: str, found: Outcome, change: Change) -> Trial:
    return Trial(name, what, change, found.period_s, found.latency_s, found.cores, found.stages)


def _same_cores(name: str, what: str, changed: Case, plan: Plan, best: Outcome) -> Trial:
    """What `changed` brings the plan on the cores that it has; nothing is searched."""
    if changed.objective != "throughput":
        return _told(name, what, best, same(best))
    change = on_the_same_cores(changed, plan) / plan.predicted.period_s - 1
    found = dataclasses.replace(best, period_s=best.period_s * (1 + change))
    return _told(name, what, found, Change(change, change, change))


# what more of the machine would bring


def _marginal(found: Explanation, case: Case, best: Outcome, progress: Progress) -> Iterator[Trial]:
    """The request on a machine that is a little different, for each lever."""
    given = case.table.source == GIVEN
    if case.table.source == "roofline":
        yield from _split(found, case, best, progress)
    chosen = unit_levers() if given else levers(case.machine, case.problem.weight_bytes)
    for lever in chosen:
        progress(f"planning with {lever.what} ...")
        try:
            changed = on_machine(case, lever.change(case.machine))
        except UsageError as error:
            yield Trial(lever.name, lever.what, why=error.what)
            continue
        if lever.on_nodes:
            yield _same_cores(lever.name, lever.what, changed, found.plan, best)
            continue
        trial = _trial(lever.name, lever.what, changed, changed.limits, best, wider=lever.lowers)
        yield dataclasses.replace(trial, adds_cores=len(changed.machine.cores) > len(case.machine.cores))
    if given:
        yield _faster_transfers(case, best)


def _split(found: Explanation, case: Case, best: Outcome, progress: Progress) -> Iterator[Trial]:
    """What it brings to split the op that binds, where one does, into two columns."""
    name = binding_op(case.graph, found.binding)
    if name is not None:
        what = f"{name} split into 2 columns (--columns {name}=2)"
        progress(f"planning with {what} ...")
        changed = in_columns(case, {name: 2})
        yield _trial(f"columns {name}", what, changed, changed.limits, best, wider=False)


def _faster_transfers(case: Case, best: Outcome) -> Trial:
    """Imported graphs: tensors that take a tenth less."""
    name, what = "transfers+10%", "tensors moved 10 % faster"
    try:
        changed = faster_transfers(case, 1.1)
    except UsageError as error:
        return Trial(name, what, why=error.what)
    return _trial(name, what, changed, changed.limits, best, wider=True)


# alternatives


def _alternatives(found: Explanation, case: Case, progress: Progress) -> Iterator[Comparison]:
    """Each alternative of the plan, planned again, beside the plan."""
    plan = found.plan
    for alternative in plan.alternatives:
        limits = _limits_of_options(alternative, case)
        if limits is None:
            continue
        progress(f"planning {alternative.name} ...")
        other = placed(case, dataclasses.replace(limits, max_cores=case.limits.max_cores))
        if other is None:
            continue
        its, account = other.predicted, binding_of(other, case.graph, plan.machine, case.table)
        yield Comparison(
            alternative.name, alternative.options, its.period_s, its.latency_s, its.cores_used, its.limited_by,
            reason(plan, found.binding, other, account), account.core_seconds,
        )  # fmt: skip


def _limits_of_options(alternative: Alternative, case: Case) -> Limits | None:
    """The limits that the options of an alternative set, None where one is not known here."""
    words = alternative.options.split()
    given: dict[str, Any] = {}
    for option, text in zip(words[::2], words[1::2], strict=False):
        if option == "--stages":
            given["stages"] = int(text)
        elif option == "--max-stages":
            given["max_stages"] = int(text)
        elif option == "--replicas":
            given["max_replicas"] = None if text == "any" else int(text)
        elif option == "--max-latency":
            given["max_latency_s"] = parse_seconds(text)
        elif option == "--configurations":
            given["configurations"] = parse_configurations(text, case.table.configs)
        else:
            return None
    return Limits(**given)
