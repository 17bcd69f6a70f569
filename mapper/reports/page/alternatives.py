"""The plan beside other plans: what people do without a planner, other trades, and its stages on other cores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mapper.cost.table import CostTable
from mapper.errors import MapperError
from mapper.graph.model import Graph
from mapper.plans.evaluate import evaluate
from mapper.plans.micro_batches import in_items
from mapper.plans.model import Plan
from mapper.reports.page.charts import Bar, Bars, Segment, Table, rate_told
from mapper.reports.plan import items_name
from mapper.simulator.simulate import simulate
from mapper.solver.explanation.resolve import case_of
from mapper.solver.placement.strategies import OPTIMAL, STRATEGIES
from mapper.solver.problem import StageChoice
from mapper.units import format_rate, format_seconds


@dataclass(frozen=True)
class PlacedBy:
    """The stages of the plan on the cores that a named strategy gives them: what is predicted, and what a simulation
    with shared bandwidth gives. Without them, why it finds no cores."""

    strategy: str
    source: str
    throughput_per_s: float | None = None
    simulated_per_s: float | None = None
    why: str = ""


def placed_by_strategies(plan: Plan, graph: Graph, table: CostTable) -> tuple[PlacedBy, ...]:
    """The stages of `plan` placed by every strategy that has a name; nothing is searched."""
    case = case_of(plan, graph, table)
    names = [config.name for config in case.problem.configs]
    stages = [
        StageChoice(
            tuple(graph.position[op] for op in stage.ops), names.index(stage.replicas[0].configuration.name),
            len(stage.replicas), False, stage.load.total_s, stage.dram_bytes,
        )
        for stage in plan.stages
    ]  # fmt: skip
    found = [PlacedBy("the plan", "its own cores", plan.predicted.throughput_per_s, simulate(plan).throughput_per_s)]
    for strategy in STRATEGIES.values():
        if strategy.name == OPTIMAL:
            continue
        try:
            placed, _ = strategy.place(graph, plan.machine, case.problem, stages)
            made = evaluate(graph, plan.machine, table, placed)
        except MapperError as error:
            found.append(PlacedBy(strategy.name, strategy.source, why=error.what))
            continue
        predicted = in_items(made.predicted, plan.request.micro_batches)
        other = made.in_plan(plan, predicted=predicted)
        found.append(PlacedBy(strategy.name, strategy.source, predicted.throughput_per_s,
                              simulate(other).throughput_per_s))  # fmt: skip
    return tuple(found)


def alternatives(plan: Plan) -> Bars:
    """A bar a plan: this one, and those that stand beside it in its file."""
    unit = f"{items_name(plan).split(' ')[0]} a second"
    its = plan.predicted
    rows = [_bar("this plan", its.throughput_per_s, its.latency_s, its.cores_used, unit, 0)]
    rows += [_bar(a.name, a.throughput_per_s, a.latency_s, a.cores_used, unit, 2) for a in plan.alternatives]
    return Bars(f"{unit}, predicted", tuple(rows), rate_told)


def _bar(name: str, rate: float, latency: float, cores: int, unit: str, shade: int) -> Bar:
    told = f"{format_rate(rate)}/s, {format_seconds(latency)}"
    tip = f"{name}: {format_rate(rate)} {unit}, {format_seconds(latency)} an item, {cores} cores"
    return Bar(name, (Segment(rate, tip, None, shade),), told)


def alternatives_table(plan: Plan) -> Table:
    """The same in figures, with the options that give each."""
    its = plan.predicted
    rows = [("this plan", format_rate(its.throughput_per_s), "1", format_seconds(its.latency_s), str(its.cores_used),
             "")]  # fmt: skip
    for a in plan.alternatives:
        over = a.throughput_per_s / its.throughput_per_s
        rows.append((a.name, format_rate(a.throughput_per_s), f"{over:.3f}", format_seconds(a.latency_s),
                     str(a.cores_used), a.options))  # fmt: skip
    heads = ("", f"{items_name(plan).split(' ')[0]} a second", "over this plan", "latency", "cores", "options")
    return Table(heads, tuple(rows), (1, 2, 3, 4))


def strategies(plan: Plan, found: Sequence[PlacedBy]) -> Bars:
    """A bar a strategy that found cores: what a simulation of the same stages gives there."""
    unit = f"{items_name(plan).split(' ')[0]} a second"
    rows: list[Bar] = []
    for one in found:
        if one.throughput_per_s is not None and one.simulated_per_s is not None:
            told = f"{format_rate(one.simulated_per_s)}/s"
            tip = f"{one.strategy}: {told} simulated, {format_rate(one.throughput_per_s)}/s predicted; {one.source}"
            rows.append(Bar(one.strategy, (Segment(one.simulated_per_s, tip, None, 0 if not rows else 2),), told))
    return Bars(f"{unit}, simulated: the same stages on other cores", tuple(rows), rate_told)


def strategies_table(found: Sequence[PlacedBy]) -> Table:
    """The same in figures, with the sources of the strategies, and why some find no cores."""
    rows = []
    for one in found:
        if one.throughput_per_s is None or one.simulated_per_s is None:
            rows.append((one.strategy, "-", "-", f"{one.why} ({one.source})"))
        else:
            rows.append((one.strategy, format_rate(one.throughput_per_s), format_rate(one.simulated_per_s), one.source))
    return Table(("placement", "predicted, items a second", "simulated", "after"), tuple(rows), (1, 2))
