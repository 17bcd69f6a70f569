"""Everything that a report shows, computed: from a plan, its graph and costs, and files of measurements."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from mapper.cost.table import CostTable
from mapper.errors import MapperError
from mapper.graph.model import Graph
from mapper.plans.account import StageLoad, stage_loads
from mapper.plans.costs import costs_of, planned_graph
from mapper.plans.evaluate import Evaluation
from mapper.plans.model import Plan
from mapper.plans.timeline import Span, Timeline
from mapper.reports.explain import explanation_text
from mapper.reports.machine import machine_text
from mapper.reports.page import alternatives, loads, measured
from mapper.reports.page.ceilings import roof_of
from mapper.reports.page.charts import Bars, Flow, Missing, Roof, Table
from mapper.reports.page.measured import Given
from mapper.reports.page.modules import Module, Shares, folded, module_tree, shares_of
from mapper.simulator.result import Simulated
from mapper.simulator.simulate import simulate
from mapper.solver.explanation.explain import SECTIONS, Section, explain
from mapper.solver.search.space import Progress, silent


@dataclass(frozen=True)
class Model:
    """The model of the plan: folded into blocks, and as a tree down to the ops with what each weighs."""

    graph: Graph
    flow: Flow
    tree: Module
    shares: Shares


@dataclass(frozen=True)
class Contents:
    """What a report shows. Where something cannot be had, a `Missing` says why."""

    plan: Plan
    model: Model | Missing
    simulated: Simulated
    timeline: Timeline
    loads: Bars
    load_table: Table
    roof: Roof | Missing
    traffic: Bars | Missing
    traffic_table: Table
    figures: Table
    beside: Bars | Missing
    compared: tuple[tuple[str, Bars], ...]
    notes: tuple[str, ...]
    alternatives: Bars
    alternatives_table: Table
    strategies: Bars | Missing
    strategies_table: Table | None
    explained: tuple[str, ...] | Missing
    machine: tuple[str, ...]


@dataclass(frozen=True)
class Work:
    """The graph of the plan with its costs, and the loads of its stages taken apart."""

    graph: Graph
    table: CostTable
    loads: tuple[StageLoad, ...]


def contents_of(
    plan: Plan,
    graph: Graph | Missing,
    table: CostTable | None = None,
    given: Sequence[Given] = (),
    *,
    only: Collection[Section] = SECTIONS,
    progress: Progress = silent,
) -> Contents:
    """What the report of `plan` shows. `graph` is the model's, or why there is none; `table` are the plan's costs,
    where it was made with a profile; `given` are measurements of it. `only` are the sections that are explained.

    Raises: KeyboardInterrupt.
    """
    work = graph if isinstance(graph, Missing) else _work(plan, graph, table)
    progress("simulating ...")
    simulated, timeline = _simulated(plan)
    beside = measured.beside_prediction(plan, given)
    strategies, strategies_table = _strategies(plan, work, progress)
    return Contents(
        plan, _model(plan, graph, work), simulated, timeline, loads.stage_loads(plan), loads.load_table(plan),
        work if isinstance(work, Missing) else roof_of(plan, work.graph, work.loads),
        loads.traffic(plan), loads.traffic_table(plan), measured.figures(plan, given), beside or _unmeasured(given),
        measured.compared(given), measured.notes(given), alternatives.alternatives(plan),
        alternatives.alternatives_table(plan), strategies, strategies_table,
        _explained(plan, work, only, progress), tuple(machine_text(plan.machine, None, 110)),
    )  # fmt: skip


def _work(plan: Plan, graph: Graph, table: CostTable | None) -> Work | Missing:
    """The costs of the plan's ops, where they can be had."""
    try:
        graph = planned_graph(plan, graph)
        found = table or costs_of(plan, graph)
        if found is None:
            source = plan.request.costs.get("source", "elsewhere")
            return Missing(f"The plan's costs are from {source!r}, which is not at hand.",
                           "Give the profile that it was made with: --costs FILE.")  # fmt: skip
        made = Evaluation(plan.stages, plan.edges, plan.predicted)
        return Work(graph, found, stage_loads(made, graph, plan.machine, found))
    except MapperError as error:
        return _missing(error)


def _model(plan: Plan, graph: Graph | Missing, work: Work | Missing) -> Model | Missing:
    if isinstance(graph, Missing):
        return graph
    graph = planned_graph(plan, graph)
    seconds = None if isinstance(work, Missing) else {op.name: op.seconds for load in work.loads for op in load.ops}
    shares = shares_of(graph, seconds)
    return Model(graph, folded(graph, plan.stage_of, shares), module_tree(graph), shares)


def _simulated(plan: Plan) -> tuple[Simulated, Timeline]:
    spans: list[Span] = []
    found = simulate(plan, watch=spans.append)
    return found, Timeline.of(plan, spans, "simulated")


def _unmeasured(given: Sequence[Given]) -> Missing:
    if given:
        return Missing("None of the files tells what single stages took.")
    advice = "To have it: mapper run plan.json -o run.json; mapper report plan.json run.json -o report.html"
    return Missing("Nothing that was measured was given.", advice)


def _strategies(plan: Plan, work: Work | Missing, progress: Progress) -> tuple[Bars | Missing, Table | None]:
    if isinstance(work, Missing):
        return work, None
    progress("placing the stages by other strategies ...")
    try:
        found = alternatives.placed_by_strategies(plan, work.graph, work.table)
    except MapperError as error:
        return _missing(error), None
    bars = alternatives.strategies(plan, found)
    return bars, alternatives.strategies_table(found)


def _explained(
    plan: Plan, work: Work | Missing, only: Collection[Section], progress: Progress
) -> tuple[str, ...] | Missing:
    if isinstance(work, Missing):
        return work
    if plan.request.micro_batches > 1:
        only = frozenset[Section](("binding",))
    try:
        found = explain(plan, work.graph, work.table, only=only, progress=progress)
    except MapperError as error:
        return _missing(error)
    if not found.complete:
        raise KeyboardInterrupt
    return tuple(explanation_text(found))


def _missing(error: MapperError) -> Missing:
    what = error.what[:1].upper() + error.what[1:]
    return Missing(what if what.endswith(".") else f"{what}.", error.advice)
