"""The ways to run a model that are measured against each other: those of the study, as plans that can be executed.

Native and copies need no search, so that a board without the solver measures them too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mapper.cost.configurations import Config, configurations
from mapper.cost.roofline import roofline
from mapper.cost.table import CostTable
from mapper.graph.model import Graph
from mapper.machine.model import Machine
from mapper.measure.profile import teams_of
from mapper.plans.evaluate import Placed, evaluate
from mapper.plans.model import ModelRef, Plan, Proof, Request, Solver, WeightPlace
from mapper.study.host.record import Kind, Pages, Skipped
from mapper.study.rounds import Say
from mapper.study.sg2042.mappings import COPIES, KINDS, PLACED, Mapping, mappings
from mapper.study.sg2042.native import Native, native_s, teams
from mapper.study.sg2042.study import LATENCY_LIMIT

NO_SOLVER = "the package ortools is not installed: only native and copies can be measured"


@dataclass(frozen=True)
class Entrant:
    """A way to run a model, as a plan of calls of `calls_of` elements, and what is predicted of a call."""

    name: str
    kind: Kind
    calls_of: int
    pages: Pages
    plan: Plan
    period_s: float
    latency_s: float


@dataclass(frozen=True)
class Traced:
    """A model with calls of so many elements: its graph, how plans name it, and its costs."""

    graph: Graph
    model: ModelRef
    batch: int
    table: CostTable


def traced(graph: Graph, model: ModelRef, batch: int, machine: Machine) -> Traced:
    """`graph` with its costs on `machine`."""
    return Traced(graph, model, batch, roofline(graph, machine, configurations(machine)))


def natives(of: Traced, machine: Machine, backend: str) -> list[Entrant]:
    """Native PyTorch: all threads with weights on the node that touched them first, then the same with weights on all
    nodes, then fewer threads likewise."""
    found: list[Entrant] = []
    size = machine.cores_per_group
    kinds: tuple[Pages, ...] = ("first touch", "interleaved") if len(machine.nodes) > 1 else ("first touch",)
    for threads in sorted(teams(machine), reverse=True):
        config = Config(1, threads) if threads <= size else Config(threads // size, size)
        cores = teams_of(machine, config)[0]
        for pages in kinds:
            placed = Placed(all_ops(of.graph), config, (cores,), spread=pages == "interleaved")
            native = Native(threads, pages)
            seconds = native_s(of.graph, machine, native)
            plan = plan_of(of, machine, (placed,), backend)
            if pages == "first touch":
                plan = on_first_node(plan, machine)
            found.append(Entrant(native.name, "native", of.batch, pages, plan, seconds, seconds))
    return found


def others(of: Traced, machine: Machine, backend: str, say: Say) -> tuple[list[Entrant], list[Skipped]]:
    """Copies, pipelines and the planner's choices of the study, and what there is none of."""
    limit = LATENCY_LIMIT * native_s(of.graph, machine, Native(len(machine.cores)))
    kinds = [kind for kind in KINDS if kind != PLACED]
    skipped: list[Skipped] = []
    try:
        found = mappings(of.graph, machine, of.table, of.batch, limit, kinds=kinds, say=say)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "ortools":
            raise
        skipped = [Skipped(what="pipelines and the planner's choice", reason=NO_SOLVER)]
        found = list(copies(of.graph, machine, of.batch))
    entrants = []
    for mapping in found:
        plan = plan_of(of, machine, mapping.placed, backend)
        predicted = plan.predicted
        entrants.append(Entrant(mapping.name, _kind(mapping), of.batch, "first touch", plan, predicted.period_s,
                                predicted.latency_s))  # fmt: skip
    return entrants, skipped


def copies(graph: Graph, machine: Machine, batch: int) -> Iterator[Mapping]:
    """Copies of the whole model that fill the machine: one a core, a group and a node."""
    known, cores = configurations(machine), len(machine.cores)
    wanted = {1, machine.cores_per_group, cores // len(machine.nodes)}
    for config in known:
        places = teams_of(machine, config)
        if config.cores in wanted and config.cores < cores and len(places) > 1:
            placed = Placed(all_ops(graph), config, places)
            yield Mapping(f"{len(places)} copies × {config.cores}", COPIES, batch, (placed,))


def _kind(mapping: Mapping) -> Kind:
    kind: Kind = "copies" if mapping.kind == COPIES else "pipeline" if mapping.kind == "pipeline" else "planner"
    return kind


def all_ops(graph: Graph) -> tuple[str, ...]:
    """The ops of `graph` in order."""
    return tuple(op.name for op in graph.ops)


def plan_of(of: Traced, machine: Machine, placed: Sequence[Placed], backend: str) -> Plan:
    """A plan of the mapping `placed`, of which nothing is proved."""
    found = evaluate(of.graph, machine, of.table, placed)
    period_s = found.predicted.period_s
    request = Request(batch=of.batch, backend=backend, costs={"source": of.table.source, **of.table.options})
    solver = Solver(
        status="feasible", objective=period_s, best_objective=period_s, bound=0.0, gap=1.0, near_optimal=0.0,
        proved=Proof(space="this mapping alone"),
    )  # fmt: skip
    return found.as_plan(of.model, machine, request, solver)


def on_first_node(plan: Plan, machine: Machine) -> Plan:
    """`plan`, which has one replica, with its weights on the node of its first core: where pages lie that the process
    touched that read them."""
    if len(machine.nodes) == 1:
        return plan
    (stage,) = plan.stages
    (replica,) = stage.replicas
    home = WeightPlace(policy="node", nodes=(machine.cores[replica.cores[0]].node,))
    moved = stage.model_copy(update={"replicas": (replica.model_copy(update={"weights": home}),)})
    return plan.model_copy(update={"stages": (moved,)})
