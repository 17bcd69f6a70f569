"""The mappings that are compared: what the paper does by hand, what people do without a planner, and the planner's own.

Each is planned once for an item size, at the central figures, and kept as stages, configurations and cores, so that it
can be costed again on a machine with other figures.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from mapper.cost.configurations import Config, configurations
from mapper.cost.roofline import roofline
from mapper.cost.table import CostTable
from mapper.errors import Infeasible, NoPlanInTime, UsageError
from mapper.graph.model import Graph
from mapper.machine.model import Machine
from mapper.machine.parts import Path
from mapper.plans.check import mapping_of
from mapper.plans.evaluate import Placed, evaluate
from mapper.plans.model import Predicted
from mapper.solver.plan import plan
from mapper.solver.problem import Limits, problem_of
from mapper.study.sg2042.cases import Case
from mapper.study.sg2042.rivals import placements

PIPELINE, COPIES, PLANNED, PLACED = KINDS = ("pipeline", "copies", "planner", "placement")

Say = Callable[[str], None]


@dataclass(frozen=True)
class Mapping:
    """A mapping of a model with items of `batch` elements; `kind` is what it stands for."""

    name: str
    kind: str
    batch: int
    placed: tuple[Placed, ...]

    @property
    def configs(self) -> tuple[Config, ...]:
        """The configurations that it uses."""
        return tuple(dict.fromkeys(stage.config for stage in self.placed))


def table_of(case: Case, machine: Machine, mappings: Sequence[Mapping], path: Path | None = None) -> CostTable:
    """The costs that `mappings` need."""
    configs = dict.fromkeys(config for mapping in mappings for config in mapping.configs)
    return roofline(case.graph, machine, tuple(configs), path=path, shapes=case.forms)


def costed(graph: Graph, machine: Machine, table: CostTable, mapping: Mapping) -> Predicted:
    """What is predicted of `mapping` on `machine` with the costs of `table`, of an item of `batch` elements."""
    return evaluate(graph, machine, table, mapping.placed).predicted


def mappings(
    graph: Graph, machine: Machine, table: CostTable, batch: int, limit_s: float | None = None,
    kinds: Collection[str] = KINDS, say: Say = lambda message: None, plan_s: float | None = None,
) -> list[Mapping]:  # fmt: skip
    """The mappings of `kinds` for `graph`, whose items have `batch` elements, by the costs of `table`. `limit_s` bounds
    the latency of one of the planner's; those that there is no room for are left out. After `plan_s` seconds each
    search takes the best so far, which then depends on how busy the computer is."""
    found: list[Mapping] = []
    for name, kind, limits in _wanted(machine, len(graph.ops), limit_s):
        if kind not in kinds:
            continue
        say(f"{graph.name}, items of {batch}: {name}")
        placed = _planned(graph, machine, table, limits, plan_s)
        if placed is not None:
            found.append(Mapping(name, kind, batch, placed))
    if COPIES in kinds:
        found += _repeated(graph, machine, table, batch, plan_s)
    if PLACED in kinds:
        found += _strategies(graph, machine, table, batch, plan_s)
    return found


def _wanted(machine: Machine, ops: int, limit_s: float | None) -> Iterator[tuple[str, str, Limits]]:
    """Name, kind and limits of what is planned."""
    places = (1, machine.cores_per_group, len(machine.cores) // len(machine.nodes))
    for config in configurations(machine):
        copies = len(machine.cores) // config.cores
        if copies < 2 or not (config.cores in places or _is_power_of_two(config.cores)):
            continue
        if config.cores in places:
            yield f"{copies} copies × {config.cores}", COPIES, Limits(stages=1, configurations=(config,))
        if copies <= ops:
            limits = Limits(stages=copies, max_replicas=1, configurations=(config,))
            yield f"{copies} stages × {config.cores}", PIPELINE, limits
    yield "one pipeline, any teams", PIPELINE, Limits(max_replicas=1)
    yield "planner", PLANNED, Limits()
    if limit_s is not None:
        yield "planner, latency limit", PLANNED, Limits(max_latency_s=limit_s)


def _is_power_of_two(n: int) -> bool:
    return n & (n - 1) == 0


def _planned(
    graph: Graph, machine: Machine, table: CostTable, limits: Limits, plan_s: float | None
) -> tuple[Placed, ...] | None:
    """The stages of the best plan under `limits`; None where there is none."""
    try:
        made = plan(graph, machine, costs=table, limits=limits, near_optimal=0.0, time_limit_s=plan_s)
    except (Infeasible, NoPlanInTime, UsageError):
        return None
    return tuple(mapping_of(made))


def _repeated(graph: Graph, machine: Machine, table: CostTable, batch: int, plan_s: float | None) -> Iterator[Mapping]:
    """A pipeline for each NUMA node and for each group, the same everywhere, items dealt to them in turn."""
    size = machine.cores_per_group
    per_node = [list(cores) for cores in _cores_of_nodes(machine)]
    per_group = [list(cores) for cores in machine.groups]
    for name, places, config in (("a pipeline a node", per_node, Config(1, size)),
                                 ("a pipeline a group", per_group, Config(1, 1))):  # fmt: skip
        stages = min(len(cores) for cores in places) // config.cores
        if stages < 2 or stages > len(graph.ops) or len(places) < 2:
            continue
        one = _planned(graph, machine, table, Limits(stages=stages, max_replicas=1, configurations=(config,)), plan_s)
        if one is None:
            continue
        placed = [
            Placed(
                stage.ops, config, tuple(tuple(cores[s * config.cores : (s + 1) * config.cores]) for cores in places)
            )
            for s, stage in enumerate(one)
        ]
        yield Mapping(f"{name}: {len(places)} × {stages} × {config.cores}", COPIES, batch, tuple(placed))


def _cores_of_nodes(machine: Machine) -> list[list[int]]:
    found: list[list[int]] = [[] for _ in machine.nodes]
    for core in machine.cores:
        found[core.node].append(core.logical)
    return found


def _strategies(
    graph: Graph, machine: Machine, table: CostTable, batch: int, plan_s: float | None
) -> Iterator[Mapping]:
    """The paper's pipeline, a stage a group, with its stages where each named placement puts them."""
    stages, config = len(machine.groups), Config(1, machine.cores_per_group)
    if stages > len(graph.ops) or stages < 2:
        return
    limits = Limits(stages=stages, max_replicas=1, configurations=(config,))
    one = _planned(graph, machine, table, limits, plan_s)
    if one is None:
        return
    for name, placed in placements(graph, machine, problem_of(graph, machine, table), one):
        yield Mapping(f"{stages} stages × {config.cores}, {name}", PLACED, batch, placed)
