"""Mappings of others as plans: stages with the cores of their replicas, checked, evaluated, and nothing proved.

What is wrong with a mapping is told with the line of the file that says it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mapper import __version__
from mapper.cost.configurations import Config
from mapper.cost.table import CostTable
from mapper.errors import BadInput
from mapper.exporters.readme import printable
from mapper.graph.model import Graph
from mapper.jsonio import plain, sha256
from mapper.machine.model import Machine
from mapper.machine.pus import format_pus
from mapper.plans.check import value_of
from mapper.plans.evaluate import Placed, evaluate
from mapper.plans.micro_batches import in_items
from mapper.plans.model import ModelRef, Plan, Proof, Request, Solver


@dataclass(frozen=True)
class Team:
    """The cores of one worker by logical number, and the line that says so."""

    line: int
    cores: tuple[int, ...]


@dataclass(frozen=True)
class MappedStage:
    """A stage as a file has it. `spread`: its weights lie on all nodes of the machine."""

    ops: tuple[str, ...]
    teams: tuple[Team, ...]
    spread: bool = False


@dataclass(frozen=True)
class Work:
    """What is mapped: a graph with its costs on a machine, where it comes from, and what was asked for."""

    graph: Graph
    machine: Machine
    table: CostTable
    model: ModelRef
    request: Request


def imported_plan(stages: Sequence[MappedStage], work: Work, source: str) -> Plan:
    """The plan of `stages`, which cover the graph and flow forward (`csv_mapping` sees to that); `source` is the name
    of their file. Its status is feasible and its bound 0: nothing else was looked at.

    Raises: BadInput with the line of a core that is not there or is taken, of a worker whose cores are no
    configuration, or of replicas that are not alike.
    """
    require_cores([team for stage in stages for team in stage.teams], work.machine, source)
    placed = [_placed(stage, work, source) for stage in stages]
    found = evaluate(work.graph, work.machine, work.table, placed)
    predicted = in_items(found.predicted, work.request.micro_batches)
    value = value_of(work.request.objective, predicted)
    solver = Solver(
        status="feasible", objective=value, best_objective=value, bound=0.0, gap=1.0, near_optimal=0.0,
        proved=Proof(space="none: the mapping is as it was given, and no other was looked at"),
        versions={"mapper": __version__},
    )  # fmt: skip
    costs = {"source": work.table.source, **work.table.options}
    request = work.request.model_copy(update={"limits": {}, "costs": costs, "planner": printable(Path(source).name)})
    made = found.as_plan(work.model, work.machine, request, solver)
    provenance = {"mapper": __version__, "topology_sha256": sha256(plain(work.machine))}
    return made.model_copy(update={"predicted": predicted, "provenance": provenance})


def require_cores(teams: Sequence[Team], machine: Machine, source: str) -> None:
    """Raises BadInput where a core is not on the machine, or taken twice."""
    count, taken = len(machine.cores), dict[int, int]()
    for team in teams:
        for core in team.cores:
            if not 0 <= core < count:
                raise BadInput(source, f"core {core} is not on {machine.name}, which has 0 to {count - 1}",
                               place=f"line {team.line}")  # fmt: skip
            if core in taken:
                where = "in this line" if taken[core] == team.line else f"in line {taken[core]}"
                raise BadInput(source, f"core {core} is taken already, {where}", place=f"line {team.line}")
            taken[core] = team.line


def _placed(stage: MappedStage, work: Work, source: str) -> Placed:
    """`stage` with the configuration that its workers have."""
    first = stage.teams[0]
    config = _config(first, work, source)
    for team in stage.teams[1:]:
        if (other := _config(team, work, source)) != config:
            raise BadInput(
                source, f"replicas of a stage are alike, but this one has {other.name} and that of line "
                f"{first.line} has {config.name}", place=f"line {team.line}",
            )  # fmt: skip
    ops = tuple(sorted(stage.ops, key=work.graph.position.__getitem__))
    return Placed(ops, config, tuple(team.cores for team in stage.teams), stage.spread)


def _config(team: Team, work: Work, source: str) -> Config:
    """How many cores of how many groups `team` has."""
    counts: dict[int, int] = {}
    for core in team.cores:
        group = work.machine.cores[core].group
        counts[group] = counts.get(group, 0) + 1
    if len({work.machine.nodes[work.machine.cores[core].node].host for core in team.cores}) > 1:
        raise BadInput(source, "its cores are on several hosts; a worker is a process", place=f"line {team.line}")
    known = [config.name for config in work.table.configs]
    config = Config(len(counts), next(iter(counts.values())))
    if len(set(counts.values())) > 1 or config.name not in known:
        shape = "+".join(map(str, counts.values()))
        raise BadInput(
            source, f"cores {format_pus(team.cores)} are {shape} of {len(counts)} group(s), which is no configuration",
            place=f"line {team.line}",
            advice=f"Configurations of {work.machine.name} (groups x cores of each): {', '.join(known)}.",
        )  # fmt: skip
    return config
