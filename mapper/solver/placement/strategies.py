"""Placements of the literature by name, to compare with: where the replicas of given stages go.

Each takes the replicas in the order of the stages and gives each the free cores that it prefers. Where that leaves no
room for a later one, the largest go first, which always packs where sizes divide each other (problem.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from mapper.errors import UsageError, one_of
from mapper.graph.model import Graph
from mapper.machine.model import Machine
from mapper.plans.evaluate import Placed
from mapper.solver.placement.floor import Floor, Unit, units_of
from mapper.solver.placement.place import Unplaceable, place
from mapper.solver.problem import Problem, StageChoice

OPTIMAL = "optimal"
"""The placement, and the planner, that is not one of others: ours."""
Placement = tuple[tuple[Placed, ...], bool]
"""The stages with their cores, and whether the choice among equals is complete."""
Place = Callable[[Graph, Machine, Problem, Sequence[StageChoice]], Placement]
Preference = Callable[[Floor, Unit, int], tuple[float, ...]]
"""What a unit thinks of a group that has room for it, the least first."""


@dataclass(frozen=True)
class Strategy:
    """A placement: its name, who says so, and the function."""

    name: str
    source: str
    place: Place


STRATEGIES: dict[str, Strategy] = {}
"""All placements by name."""


def strategy(name: str, *, source: str) -> Callable[[Place], Place]:
    """Registers a function as the placement called `name`, as described in `source`."""

    def register(function: Place) -> Place:
        assert name not in STRATEGIES
        STRATEGIES[name] = Strategy(name, source, function)
        return function

    return register


def strategy_called(name: str) -> Strategy:
    """The placement called `name`. Raises: UsageError naming those that there are."""
    if name not in STRATEGIES:
        raise UsageError(f"there is no placement {name!r}", advice=one_of(name, STRATEGIES))
    return STRATEGIES[name]


@strategy("optimal", source="this planner: nodes by CP-SAT, then DRAM of nodes, then nearness of partners")
def optimal(graph: Graph, machine: Machine, problem: Problem, stages: Sequence[StageChoice]) -> Placement:
    """The placement of every plan that asks for no other (`place`)."""
    try:
        return place(graph, machine, problem, stages)
    except Unplaceable:
        raise UsageError("the replicas do not fit groups and nodes of these sizes") from None


@strategy("compact", source="OpenMP 5.2, proc_bind close (OMP_PROC_BIND=close); KMP_AFFINITY=compact")
def compact(graph: Graph, machine: Machine, problem: Problem, stages: Sequence[StageChoice]) -> Placement:
    """One replica next to the other, in the order of the cores' logical numbers."""
    return _filled(graph, machine, problem, stages, lambda floor, unit, group: (group,))


@strategy("scatter", source="OpenMP 5.2, proc_bind spread (OMP_PROC_BIND=spread); KMP_AFFINITY=scatter")
def scatter(graph: Graph, machine: Machine, problem: Problem, stages: Sequence[StageChoice]) -> Placement:
    """As evenly over the machine as can be: the node with the most free cores, in it the group with the most.

    The groups of one replica are scattered as well, as threads of a team are there.
    """

    def preference(floor: Floor, unit: Unit, group: int) -> tuple[float, ...]:
        node = machine.node_of_group[group]
        return (-floor.free_of_node(node), node, -len(floor.free[group]), group)

    return _filled(graph, machine, problem, stages, preference)


@strategy("round-robin", source="Open MPI's mpirun --map-by l3cache; Slurm's --distribution, cyclic")
def round_robin(graph: Graph, machine: Machine, problem: Problem, stages: Sequence[StageChoice]) -> Placement:
    """The replicas dealt to the groups in turn: each to the next group that has room, behind the one before it."""

    def preference(floor: Floor, unit: Unit, group: int) -> tuple[float, ...]:
        return ((group - floor.turn - 1) % len(machine.groups),)

    return _filled(graph, machine, problem, stages, preference)


@strategy("mesh-neighbour", source="partners on neighbouring tiles, the aim of Hu and Marculescu, Energy-aware mapping "
          "for tile-based NoC architectures, ASP-DAC 2003; here by a walk, not by their search")  # fmt: skip
def mesh_neighbour(graph: Graph, machine: Machine, problem: Problem, stages: Sequence[StageChoice]) -> Placement:
    """As `compact`, over the groups in the order of a walk through the mesh, row by row and back and forth, so that
    each group is next to the one before it.

    Raises: UsageError where the machine file does not say where the groups lie.
    """
    rank = {group: i for i, group in enumerate(mesh_walk(machine))}
    return _filled(graph, machine, problem, stages, lambda floor, unit, group: (rank[group],))


@strategy("per-group", source="a submodel a core group: Malenza et al., Analysis of Model Parallelism for AI "
          "Applications on a 64-core RV64 Server CPU, IJPP 53(4), 2025")  # fmt: skip
def per_group(graph: Graph, machine: Machine, problem: Problem, stages: Sequence[StageChoice]) -> Placement:
    """Every replica whole in one group, and no group with two stages, in the order of the groups.

    Raises: UsageError when a replica has more cores than a group, or there are too few groups.
    """
    for s, stage in enumerate(stages):
        if problem.configs[stage.config].groups > 1:
            raise _unplaced("per-group", f"a replica of stage {s} has {problem.configs[stage.config].groups} groups")
    floor = Floor.of(machine)
    for unit in units_of(problem, stages):
        own = (g for g in range(len(machine.groups)) if floor.tenants[g] <= {unit.stage})
        if not _put(floor, unit, own, lambda floor, unit, group: (group,)):
            raise _unplaced("per-group", f"{len(machine.groups)} groups are too few for {len(stages)} stages of which "
                            "no two may share one")  # fmt: skip
    return _placement(graph, problem, stages, floor)


@strategy("per-node", source="a submodel a NUMA node (numactl --cpunodebind), as Malenza et al., IJPP 53(4), 2025, "
          "for groups")  # fmt: skip
def per_node(graph: Graph, machine: Machine, problem: Problem, stages: Sequence[StageChoice]) -> Placement:
    """Every stage whole in one node, the first with room for it. A stage with more cores than any node goes replica by
    replica, each whole in one node.

    Raises: UsageError when a replica has more groups than a node, or the stages do not pack so.
    """
    units: dict[int, list[Unit]] = {}
    for unit in units_of(problem, stages):
        units.setdefault(unit.stage, []).append(unit)
    most = max(machine.node_of_group.count(node) for node in range(len(machine.nodes)))
    for s, own in units.items():
        if own[0].groups > most:
            raise _unplaced("per-node", f"a replica of stage {s} has {own[0].groups} groups, a node {most}")
    largest = sorted(units, key=lambda s: (-max(unit.groups for unit in units[s]), -_cores(units[s]), s))
    for order in (sorted(units), largest):
        floor: Floor | None = Floor.of(machine)
        for s in order:
            floor = floor and _in_one_node(floor, units[s])
        if floor is not None:
            return _placement(graph, problem, stages, floor)
    raise _unplaced("per-node", "the stages do not pack into nodes without one of them spanning two")


def mesh_walk(machine: Machine) -> tuple[int, ...]:
    """The groups in the order of a walk through the mesh: rows from the bottom, every second one from the right.

    Raises: UsageError where the machine file does not say where the groups lie.
    """
    if machine.layout is None:
        raise _unplaced("mesh-neighbour", f"the file of {machine.name} does not say where its groups lie (/layout)")
    places = machine.layout.groups
    out: list[int] = []
    for i, row in enumerate(sorted({row for _, row in places})):
        here = sorted((group for group in range(len(places)) if places[group][1] == row), key=lambda g: places[g][0])
        out += here if i % 2 == 0 else here[::-1]
    return tuple(out)


def _filled(
    graph: Graph, machine: Machine, problem: Problem, stages: Sequence[StageChoice], preference: Preference
) -> Placement:
    """Every unit on the groups that it prefers, in the order of the stages, or else the largest first."""
    units = units_of(problem, stages)
    for order in (units, sorted(units, key=lambda unit: (-unit.groups, -unit.cores))):
        floor = Floor.of(machine)
        if all(_put(floor, unit, range(len(machine.groups)), preference) for unit in order):
            return _placement(graph, problem, stages, floor)
    raise UsageError("the replicas do not pack into the groups of the machine in this placement",
                     advice="--placement optimal finds another.")  # fmt: skip


def _put(floor: Floor, unit: Unit, groups: Iterable[int], preference: Preference) -> bool:
    """Places `unit` on those of `groups` that it prefers, one after the other; False where too few have room."""
    trial, chosen, usable = floor.copy(), list[int](), [g for g in groups if floor.has_room(g, unit)]
    usable = _of_roomy_hosts(floor, unit, usable)
    for _ in range(max(1, unit.groups)):
        left = [g for g in usable if g not in chosen and (not chosen or floor.host(g) == floor.host(chosen[0]))]
        if not left:
            return False
        chosen.append(min(left, key=lambda g: preference(trial, unit, g)))
        trial.free[chosen[-1]], trial.turn = [], chosen[-1]
    floor.put(unit, chosen)
    return True


def _of_roomy_hosts(floor: Floor, unit: Unit, groups: list[int]) -> list[int]:
    """Those of `groups` whose host has as many of them as the unit needs: a team never spans hosts."""
    hosts = [floor.host(group) for group in groups]
    return [group for group, host in zip(groups, hosts, strict=True) if hosts.count(host) >= unit.groups]


def _in_one_node(floor: Floor, units: list[Unit]) -> Floor | None:
    """`floor` with the units of a stage in one node, or each in one where none is large enough; None without room."""
    homes = floor.machine.node_of_group
    nodes = [[g for g, home in enumerate(homes) if home == node] for node in range(len(floor.machine.nodes))]
    for groups in nodes:
        trial = floor.copy()
        if all(_put(trial, unit, groups, lambda floor, unit, group: (group,)) for unit in units):
            return trial
    if _cores(units) <= max(sum(len(floor.machine.groups[g]) for g in groups) for groups in nodes):
        return None
    trial = floor.copy()
    for unit in units:
        if not any(_put(trial, unit, groups, lambda floor, unit, group: (group,)) for groups in nodes):
            return None
    return trial


def _cores(units: Sequence[Unit]) -> int:
    return sum(unit.cores * len(unit.replicas) for unit in units)


def _placement(graph: Graph, problem: Problem, stages: Sequence[StageChoice], floor: Floor) -> Placement:
    placed = tuple(
        Placed(
            tuple(graph.ops[v].name for v in stage.ops),
            problem.configs[stage.config],
            tuple(floor.placed[s, r] for r in range(stage.replicas)),
        )
        for s, stage in enumerate(stages)
    )
    return placed, True


def _unplaced(name: str, why: str) -> UsageError:
    return UsageError(f"--placement {name}: {why}", advice="--placement optimal places any plan.")
