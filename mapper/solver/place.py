"""Placement: which cores are which replica. Sizes divide each other, so any plan fits; what is chosen is the nodes.

Replicas become *units*: whole groups, a part of one, or the parts of a stage that has a group to itself. CP-SAT gives
each unit its node: as few units as can be span nodes, then no node's DRAM limits the period, then partners are near.
Within a node, whole groups come first and parts are packed largest first, which wastes nothing.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mapper.errors import NoPlanInTime
from mapper.graph.model import Graph
from mapper.machine.model import Machine
from mapper.plans.evaluate import Placed
from mapper.solver.problem import Problem, StageChoice

SPAN_COST, DRAW_COST = 10**10, 10**5
"""Weights of one more node spanned, and of 1/4096 of the DRAM traffic more than a node can serve."""
WORK_LIMIT = 1.0
"""Deterministic time of CP-SAT; past it the best placement so far is kept and `tie_break` says incomplete."""
MOST_UNITS = 24
"""Units up to which who talks to whom counts; with more, partners are nearly everyone and nearness is moot."""

Replica = tuple[int, int]
"""(stage, number of the replica)."""


@dataclass(frozen=True)
class Unit:
    """Replicas that are placed as one: `groups` whole groups, or with 0 groups `cores` cores of one."""

    groups: int
    cores: int
    parts: tuple[Replica, ...]

    @property
    def stage(self) -> int:
        """The stage whose replicas they are."""
        return self.parts[0][0]


Kind = list[Unit]
"""Units that are alike: which of them goes where makes no difference."""


def place(
    graph: Graph, machine: Machine, problem: Problem, stages: Sequence[StageChoice]
) -> tuple[tuple[Placed, ...], bool]:
    """Cores for every replica of `stages`, and whether the choice among equals is complete (deterministic)."""
    units = _units(problem, stages)
    traffic = _traffic(graph, stages, units)
    kinds = [[unit] for unit in units]
    if len(units) > MOST_UNITS or len(stages) == 1:
        traffic, kinds = {}, _alike(units)
    room = [machine.node_of_group.count(n) for n in range(len(machine.nodes))]
    if len(room) == 1:
        counts, complete = [[sum(max(1, unit.groups) for unit in kind)] for kind in kinds], True
    else:
        draws, cap = _draws(machine, stages, kinds)
        counts, complete = _solve(kinds, room, traffic, draws, cap, machine)
    cores = _cores(machine, kinds, counts)
    placed = tuple(
        Placed(
            tuple(graph.ops[v].name for v in stage.ops),
            problem.configs[stage.config],
            tuple(cores[s, r] for r in range(stage.replicas)),
        )
        for s, stage in enumerate(stages)
    )
    return placed, complete


def _units(problem: Problem, stages: Sequence[StageChoice]) -> list[Unit]:
    size = problem.cores_per_group
    units: list[Unit] = []
    for s, stage in enumerate(stages):
        config = problem.configs[stage.config]
        replicas = [(s, r) for r in range(stage.replicas)]
        if config.cores >= size:
            units += [Unit(config.groups, config.cores, (replica,)) for replica in replicas]
        elif stage.exclusive:
            each = size // config.cores
            units += [Unit(1, config.cores, tuple(replicas[at : at + each])) for at in range(0, len(replicas), each)]
        else:
            units += [Unit(0, config.cores, (replica,)) for replica in replicas]
    return units


def _alike(units: list[Unit]) -> list[Kind]:
    """Units of one stage together, unless they are large enough to span nodes."""
    kinds: dict[tuple[int, int, int], Kind] = {}
    for i, unit in enumerate(units):
        kinds.setdefault((unit.stage, len(unit.parts), i if unit.groups > 1 else -1), []).append(unit)
    return list(kinds.values())


def _traffic(graph: Graph, stages: Sequence[StageChoice], units: list[Unit]) -> dict[tuple[int, int], int]:
    """Bytes per item that flow between each pair of units, in cache lines."""
    home = {graph.ops[v].name: s for s, stage in enumerate(stages) for v in stage.ops}
    flow: dict[tuple[int, int], float] = {}
    for tensor in graph.tensors:
        for t in sorted({home[r] for r in tensor.readers} - {home[tensor.producer]}):
            pair = (home[tensor.producer], t)
            flow[pair] = flow.get(pair, 0.0) + tensor.bytes
    at = {part: u for u, unit in enumerate(units) for part in unit.parts}
    out: dict[tuple[int, int], float] = {}
    for (s, t), size in flow.items():
        rounds = math.lcm(stages[s].replicas, stages[t].replicas)
        for n in range(rounds):
            a, b = at[s, n % stages[s].replicas], at[t, n % stages[t].replicas]
            if a != b:
                out[min(a, b), max(a, b)] = out.get((min(a, b), max(a, b)), 0.0) + size / rounds
    return {pair: max(1, round(size / 64)) for pair, size in out.items()}


def _draws(machine: Machine, stages: Sequence[StageChoice], kinds: list[Kind]) -> tuple[list[int], int]:
    """DRAM bytes per item that one unit (or one of its groups) of each kind draws, in 1/4096 of what all draw, and
    what a node can serve in the plan's period; nothing where no figure limits a node."""
    drawn = [sum(stages[s].dram_bytes / stages[s].replicas for s, _ in kind[0].parts) for kind in kinds]
    total = sum(x * len(kind) for x, kind in zip(drawn, kinds, strict=True))
    figure = machine.memory.node_bandwidth_bytes_per_s
    if total == 0 or figure is None:
        return [0] * len(kinds), 0
    period = max(stage.load_s / stage.replicas for stage in stages)
    draws = [math.ceil(4096 * x / total / max(1, kind[0].groups)) for x, kind in zip(drawn, kinds, strict=True)]
    return draws, math.floor(4096 * figure.value * period / total)


def _solve(
    kinds: list[Kind],
    room: list[int],
    traffic: dict[tuple[int, int], int],
    draws: list[int],
    cap: int,
    machine: Machine,
) -> tuple[list[list[int]], bool]:
    """CP-SAT: for each kind how many units each node gets; for a unit of several groups, how many of its groups."""
    from ortools.sat.python import cp_model

    model = cp_model.CpModel()
    nodes, size = range(len(room)), machine.cores_per_group
    take, cost = [], []
    for k, kind in enumerate(kinds):
        amount = max(1, kind[0].groups) if len(kind) == 1 else len(kind)
        take.append([model.new_int_var(0, amount, f"take_{k}_{n}") for n in nodes])
        model.add(sum(take[k]) == amount)
        if kind[0].groups > 1:
            for n in nodes:
                used = model.new_bool_var(f"used_{k}_{n}")
                model.add(take[k][n] <= room[n] * used)
                cost.append(SPAN_COST * used)
    for n in nodes:
        model.add(sum(take[k][n] * (size if kind[0].groups else kind[0].cores) for k, kind in enumerate(kinds))
                  <= room[n] * size)  # fmt: skip
    for n in nodes if any(draws) else []:
        excess = model.new_int_var(0, 4096 * 2, f"excess_{n}")
        model.add(sum(draw * take[k][n] for k, draw in enumerate(draws)) <= cap + excess)
        cost.append(DRAW_COST * excess)
    first = {k: _first(model, take[k], k) for pair in traffic for k in pair}
    for (a, b), lines in sorted(traffic.items()):
        for n, m in itertools.permutations(nodes, 2):
            apart = model.new_bool_var(f"apart_{a}_{b}_{n}_{m}")
            model.add_bool_or([first[a][n].negated(), first[b][m].negated(), apart])
            cost.append(lines * _relative(machine, n, m) * apart)
    model.minimize(sum(cost))
    return _optimised(model, take)


def _first(model: Any, take: list[Any], k: int) -> list[Any]:
    """One boolean a node: the unit's first group is there, which is the lowest node that it takes anything of."""
    first = [model.new_bool_var(f"first_{k}_{n}") for n in range(len(take))]
    model.add_exactly_one(first)
    for n, chosen in enumerate(first):
        model.add(take[n] >= 1).only_enforce_if(chosen)
        for m in range(n):
            model.add(take[m] == 0).only_enforce_if(chosen)
    return first


def _optimised(model: Any, take: list[list[Any]]) -> tuple[list[list[int]], bool]:
    """The best counts within the work limit: one worker and a fixed seed, so that they are always the same."""
    from ortools.sat.python import cp_model

    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = 0
    solver.parameters.max_deterministic_time = WORK_LIMIT
    status = solver.solve(model)
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        raise NoPlanInTime("no placement was found within the work limit of CP-SAT",
                           advice="Fewer stages or replicas make it smaller: --max-stages, --replicas.")  # fmt: skip
    return [[solver.value(x) for x in row] for row in take], bool(status == cp_model.OPTIMAL)


def _relative(machine: Machine, a: int, b: int) -> int:
    """How far node `b` is from node `a`, 10 being the node itself, as firmware counts."""
    if machine.distances is None:
        return 20
    return max(1, round(10 * machine.distances[a][b] / machine.distances[a][a]))


def _cores(machine: Machine, kinds: list[Kind], counts: list[list[int]]) -> dict[Replica, tuple[int, ...]]:
    """Cores by logical number for every replica, from what each kind takes of each node."""
    free = {n: [g for g, home in enumerate(machine.node_of_group) if home == n] for n in range(len(machine.nodes))}
    out: dict[Replica, tuple[int, ...]] = {}
    parts: dict[int, list[Unit]] = {n: [] for n in free}
    for kind, row in zip(kinds, counts, strict=True):
        left = iter(kind)
        if kind[0].groups > 1:
            for unit in left:
                groups = [free[n].pop(0) for n, count in enumerate(row) for _ in range(count)]
                out |= _fill(machine, unit, groups)
            continue
        for n, count in enumerate(row):
            for unit in itertools.islice(left, count):
                if unit.groups:
                    out |= _fill(machine, unit, [free[n].pop(0)])
                else:
                    parts[n].append(unit)
    for n, units in parts.items():
        available = [core for g in free[n] for core in machine.groups[g][: machine.cores_per_group]]
        for unit in sorted(units, key=lambda u: -u.cores):
            out[unit.parts[0]] = tuple(available[: unit.cores])
            available = available[unit.cores :]
    return out


def _fill(machine: Machine, unit: Unit, groups: list[int]) -> dict[Replica, tuple[int, ...]]:
    """The cores of `groups`, shared out to the unit's parts."""
    available = [core for g in groups for core in machine.groups[g][: machine.cores_per_group]]
    return {part: tuple(available[i * unit.cores : (i + 1) * unit.cores]) for i, part in enumerate(unit.parts)}
