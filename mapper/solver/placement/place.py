"""Placement: which cores are which replica. Sizes divide each other, so any plan fits; what is chosen is the nodes.

Replicas become *units*: whole groups, a part of one, or the parts of a stage that has a group to itself. CP-SAT gives
each unit its node: within the memory of nodes where that is limited, as few units as can be span nodes, then no node's
DRAM limits the period, then partners are near. Within a node, whole groups come first and parts are packed largest
first, which wastes nothing where all groups are of one size.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from mapper.errors import NoPlanInTime
from mapper.graph.model import Graph
from mapper.machine.hosts import cores_of, host_numbers, on_host
from mapper.machine.model import Machine
from mapper.plans.evaluate import Placed
from mapper.solver.placement.floor import Floor, Held, Replica, Unit, unit_of, units_of
from mapper.solver.placement.hosts import Field, Homes, Hosts, hosts_of_units
from mapper.solver.placement.nearer import BETTER, Seats, nearer, neighbourhood
from mapper.solver.placement.together import together
from mapper.solver.problem import Problem, StageChoice

SPAN_COST, DRAW_COST = 10**10, 10**5
"""Weights of one more node spanned, and of 1/4096 of the DRAM traffic more than a node can serve."""
WORK_LIMIT, NEAR_WORK_LIMIT = 1.0, 0.4
"""Deterministic time of CP-SAT for nodes, and for who is near whom; past it the best placement so far is kept and
`tie_break` says incomplete."""
MOST_UNITS = 24
"""Units up to which who talks to whom counts; with more, partners are nearly everyone and nearness is moot."""

Kind = list[Unit]
"""Units that are alike: which of them goes where makes no difference."""


class Unplaceable(Exception):
    """There are cores enough, but not in groups or nodes of the right size."""


@dataclass(frozen=True)
class _Seats:
    """What each kind takes of each node, by how much nodes are asked for more DRAM traffic than they serve, and whether
    there is no better choice."""

    counts: list[list[int]]
    excess: int
    complete: bool


@dataclass(frozen=True)
class _Demand:
    """What is to be placed on nodes: `draws` and `cap` of DRAM traffic, and memory where it is limited."""

    kinds: list[Kind]
    traffic: dict[tuple[int, int], int]
    draws: list[int]
    cap: int
    held: Held | None


def place(
    graph: Graph, machine: Machine, problem: Problem, stages: Sequence[StageChoice], held: Held | None = None,
    homes: Homes | None = None,
) -> tuple[tuple[Placed, ...], bool]:  # fmt: skip
    """Cores for every replica of `stages`, and whether the choice among equals is complete (deterministic).

    `held` limits the memory of each node; `homes` say on which of several hosts each stage would do well. Raises:
    Unplaceable where the replicas do not fit groups, nodes or hosts.
    """
    if len(host_numbers(machine)) == 1:
        return _place_on_host(graph, machine, problem, stages, held)
    units = units_of(problem, stages)
    around = neighbourhood(machine, problem, stages, units, still=False)
    hosts = hosts_of_units(Field(graph, machine, problem, stages, units, around, held), homes)
    if hosts is None:
        raise Unplaceable
    cores, complete = _on_hosts(graph, machine, problem, stages, held, units, hosts)
    return _placed(graph, problem, stages, cores), complete


def _on_hosts(
    graph: Graph, machine: Machine, problem: Problem, stages: Sequence[StageChoice], held: Held | None,
    units: Sequence[Unit], hosts: Hosts,
) -> tuple[dict[Replica, tuple[int, ...]], bool]:  # fmt: skip
    """Cores for every replica, host by host, each with what it has of the stages."""
    cores: dict[Replica, tuple[int, ...]] = {}
    complete = True
    for position, number in enumerate(host_numbers(machine)):
        mine: dict[int, list[int]] = {}
        for unit, host in zip(units, hosts, strict=True):
            if host == position:
                mine.setdefault(unit.stage, []).extend(unit.replicas)
        if not mine:
            continue
        own = [replace(stages[s], replicas=len(replicas)) for s, replicas in sorted(mine.items())]
        holds = held and Held(tuple(held.weights[s] for s in sorted(mine)),
                              tuple(held.replica[s] for s in sorted(mine)), held.most)  # fmt: skip
        inside = {v for stage in own for v in stage.ops}
        placed, whole = _place_on_host(
            _graph_of(graph, inside), on_host(machine, number), _problem_of(problem, inside), own, holds
        )
        complete, numbers = complete and whole, cores_of(machine, number)
        for (s, replicas), found in zip(sorted(mine.items()), placed, strict=True):
            for r, taken in zip(replicas, found.replicas, strict=True):
                cores[s, r] = tuple(numbers[core] for core in taken)
    return cores, complete


def _graph_of(graph: Graph, ops: set[int]) -> Graph:
    """`graph` with what its `ops` hand to each other only."""
    names = {graph.ops[v].name for v in ops}
    kept = [(tensor, tuple(r for r in tensor.readers if r in names)) for tensor in graph.tensors]
    tensors = tuple(
        tensor.model_copy(update={"readers": readers})
        for tensor, readers in kept
        if tensor.producer in names and readers
    )
    return graph.model_copy(update={"tensors": tensors})


def _problem_of(problem: Problem, ops: set[int]) -> Problem:
    """`problem` with what its `ops` hand to each other only."""
    kept = [(tensor, tuple(r for r in tensor.readers if r in ops)) for tensor in problem.tensors]
    tensors = tuple(replace(tensor, readers=readers) for tensor, readers in kept if tensor.producer in ops and readers)
    return replace(problem, tensors=tensors)


def _place_on_host(
    graph: Graph, machine: Machine, problem: Problem, stages: Sequence[StageChoice], held: Held | None
) -> tuple[tuple[Placed, ...], bool]:
    """`place` on a machine of one host."""
    units = units_of(problem, stages)
    alike = _demand(machine, stages, _alike(units), {}, held)
    if len(machine.nodes) == 1 and held is None:
        cores, complete = _cores(machine, alike.kinds, [[sum(max(1, u.groups) for u in k)] for k in alike.kinds]), True
    else:
        seats = _solve(alike, machine)
        assert seats is not None
        cores, complete = _cores(machine, alike.kinds, seats.counts), seats.complete
        if 1 < len(units) <= MOST_UNITS and len(stages) > 1:
            each = _demand(machine, stages, [[unit] for unit in units], _traffic(graph, stages, units), held)
            near = _solve(each, machine, seats.excess)
            complete = near is not None and near.complete
            cores = _cores(machine, each.kinds, near.counts) if near else cores
    if len(stages) > 1:
        around = neighbourhood(machine, problem, stages, units, still=held is not None)
        found = nearer(around, _seats(machine, units, cores))
        if around.meetings and around.cost(found)[0] > around.target_s / BETTER:
            found = nearer(around, together(around, found))
        cores = _seated(machine, units, found)
    return _placed(graph, problem, stages, cores), complete


def _placed(
    graph: Graph, problem: Problem, stages: Sequence[StageChoice], cores: dict[Replica, tuple[int, ...]]
) -> tuple[Placed, ...]:
    """`stages` on their cores."""
    return tuple(
        Placed(
            tuple(graph.ops[v].name for v in stage.ops),
            problem.configs[stage.config],
            tuple(cores[s, r] for r in range(stage.replicas)),
        )
        for s, stage in enumerate(stages)
    )


def _seats(machine: Machine, units: Sequence[Unit], cores: dict[Replica, tuple[int, ...]]) -> Seats:
    """The groups of each unit, in the order of its cores."""
    taken = [[core for r in unit.replicas for core in cores[unit.stage, r]] for unit in units]
    return tuple(tuple(dict.fromkeys(machine.cores[core].group for core in found)) for found in taken)


def _seated(machine: Machine, units: Sequence[Unit], seats: Seats) -> dict[Replica, tuple[int, ...]]:
    """Cores for every replica, from the groups of each unit."""
    floor = Floor.of(machine)
    for unit, groups in sorted(zip(units, seats, strict=True), key=lambda both: -both[0].groups):
        floor.put(unit, groups)
    return floor.placed


def _alike(units: list[Unit]) -> list[Kind]:
    """Units of one stage together, unless they are large enough to span nodes."""
    kinds: dict[tuple[int, int, int], Kind] = {}
    for i, unit in enumerate(units):
        kinds.setdefault((unit.stage, len(unit.replicas), i if unit.groups > 1 else -1), []).append(unit)
    return list(kinds.values())


def _traffic(graph: Graph, stages: Sequence[StageChoice], units: list[Unit]) -> dict[tuple[int, int], int]:
    """Bytes per item that flow between each pair of units, in cache lines."""
    home = {graph.ops[v].name: s for s, stage in enumerate(stages) for v in stage.ops}
    flow: dict[tuple[int, int], float] = {}
    for tensor in graph.tensors:
        for t in sorted({home[r] for r in tensor.readers} - {home[tensor.producer]}):
            pair = (home[tensor.producer], t)
            flow[pair] = flow.get(pair, 0.0) + tensor.bytes
    at = unit_of(units)
    out: dict[tuple[int, int], float] = {}
    for (s, t), size in flow.items():
        rounds = math.lcm(stages[s].replicas, stages[t].replicas)
        for n in range(rounds):
            a, b = at[s, n % stages[s].replicas], at[t, n % stages[t].replicas]
            if a != b:
                out[min(a, b), max(a, b)] = out.get((min(a, b), max(a, b)), 0.0) + size / rounds
    return {pair: max(1, round(size / 64)) for pair, size in out.items()}


def _demand(
    machine: Machine, stages: Sequence[StageChoice], kinds: list[Kind], traffic: dict[tuple[int, int], int],
    held: Held | None,
) -> _Demand:  # fmt: skip
    """`draws`: DRAM bytes per item that one unit (or one of its groups) of each kind draws, in 1/4096 of what all draw;
    `cap`: what a node can serve in the plan's period; nothing where no figure limits a node."""
    each = [stage.dram_bytes / stage.replicas for stage in stages]
    drawn = [each[kind[0].stage] * len(kind[0].replicas) for kind in kinds]
    total = sum(x * len(kind) for x, kind in zip(drawn, kinds, strict=True))
    figure = machine.memory.node_bandwidth_bytes_per_s
    if total == 0 or figure is None:
        return _Demand(kinds, traffic, [0] * len(kinds), 0, held)
    period = max(stage.load_s / stage.replicas for stage in stages)
    draws = [math.ceil(4096 * x / total / max(1, kind[0].groups)) for x, kind in zip(drawn, kinds, strict=True)]
    return _Demand(kinds, traffic, draws, math.floor(4096 * figure.value * period / total), held)


def _solve(demand: _Demand, machine: Machine, most_excess: int | None = None) -> _Seats | None:
    """CP-SAT: for each kind how many units each node gets; for a unit of several groups, how many of its groups.

    None where nothing was found with at most `most_excess`, which is known to be possible.
    """
    from ortools.sat.python import cp_model

    model = cp_model.CpModel()
    nodes, size, kinds = range(len(machine.nodes)), machine.cores_per_group, demand.kinds
    whole = [sum(machine.node_of_group[g] == n for g in machine.whole_groups) for n in nodes]
    cores = [sum(map(len, node.groups)) for node in machine.nodes]
    take, cost, spans, excess = [], [], {}, []
    for k, kind in enumerate(kinds):
        amount = max(1, kind[0].groups) if len(kind) == 1 else len(kind)
        take.append([model.new_int_var(0, amount, f"take_{k}_{n}") for n in nodes])
        model.add(sum(take[k]) == amount)
        if kind[0].groups > 1:
            for n in nodes:
                spans[k, n] = model.new_bool_var(f"used_{k}_{n}")
                model.add(take[k][n] <= whole[n] * spans[k, n])
                cost.append(SPAN_COST * spans[k, n])
    for n in nodes:
        model.add(sum(take[k][n] for k, kind in enumerate(kinds) if kind[0].groups) <= whole[n])
        model.add(sum(take[k][n] * (size if kind[0].groups else kind[0].cores) for k, kind in enumerate(kinds))
                  <= cores[n])  # fmt: skip
    for n in nodes if any(demand.draws) else []:
        excess.append(model.new_int_var(0, 4096 * 2, f"excess_{n}"))
        model.add(sum(draw * take[k][n] for k, draw in enumerate(demand.draws)) <= demand.cap + excess[-1])
    if most_excess is not None:
        model.add(sum(excess) <= most_excess)
    if demand.held is not None:
        _within_memory(model, take, spans, demand.kinds, demand.held, whole)
    cost += [DRAW_COST * x for x in excess] + _apart(model, take, demand.traffic, machine)
    model.minimize(sum(cost))
    work = WORK_LIMIT if most_excess is None else NEAR_WORK_LIMIT
    return _optimised(model, take, excess, work, required=most_excess is None)


def _within_memory(
    model: Any, take: list[list[Any]], spans: dict[tuple[int, int], Any], kinds: list[Kind], held: Held,
    whole: list[int],
) -> None:  # fmt: skip
    """Each node holds what its replicas hold, and the weights of every stage that has one there; of a unit that spans
    several nodes the share that there is on as few nodes as can be. In units of 1/2^20 of the limit."""
    unit = held.most / 2**20
    for n in range(len(whole)):
        terms = []
        present: dict[int, Any] = {}
        for k, kind in enumerate(kinds):
            s = kind[0].stage
            fewest = max(1, -(-kind[0].groups // max(whole)))
            if fewest > 1:
                terms.append(math.ceil((held.weights[s] + held.replica[s]) / fewest / unit - 1e-3) * spans[k, n])
                continue
            if s not in present:
                present[s] = model.new_bool_var(f"present_{s}_{n}")
                terms.append(math.ceil(held.weights[s] / unit - 1e-3) * present[s])
            model.add(take[k][n] == 0).only_enforce_if(present[s].negated())
            each = math.ceil(held.replica[s] * len(kind[0].replicas) / unit - 1e-3)
            terms.append(each * (spans[k, n] if kind[0].groups > 1 else take[k][n]))
        model.add(sum(terms) <= 2**20)


def _apart(model: Any, take: list[list[Any]], traffic: dict[tuple[int, int], int], machine: Machine) -> list[Any]:
    """What it costs that units which talk are on different nodes: cache lines times the distance."""
    first = {k: _first(model, take[k], k) for pair in traffic for k in pair}
    cost = []
    for (a, b), lines in sorted(traffic.items()):
        for n, m in itertools.permutations(range(len(machine.nodes)), 2):
            apart = model.new_bool_var(f"apart_{a}_{b}_{n}_{m}")
            model.add_bool_or([first[a][n].negated(), first[b][m].negated(), apart])
            cost.append(lines * _relative(machine, n, m) * apart)
    return cost


def _first(model: Any, take: list[Any], k: int) -> list[Any]:
    """One boolean a node: the unit's first group is there, which is the lowest node that it takes anything of."""
    first = [model.new_bool_var(f"first_{k}_{n}") for n in range(len(take))]
    model.add_exactly_one(first)
    for n, chosen in enumerate(first):
        model.add(take[n] >= 1).only_enforce_if(chosen)
        for m in range(n):
            model.add(take[m] == 0).only_enforce_if(chosen)
    return first


def _optimised(model: Any, take: list[list[Any]], excess: list[Any], work: float, *, required: bool) -> _Seats | None:
    """The best counts within the work limit: one worker and a fixed seed, so that they are always the same."""
    from ortools.sat.python import cp_model

    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = 0
    solver.parameters.max_deterministic_time = work
    solver.parameters.catch_sigint_signal = False  # it would leave Ctrl-C without a handler
    status = solver.solve(model)
    if status in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        counts = [[solver.value(x) for x in row] for row in take]
        return _Seats(counts, sum(solver.value(x) for x in excess), bool(status == cp_model.OPTIMAL))
    if not required:
        return None
    if status == cp_model.INFEASIBLE:
        raise Unplaceable
    raise NoPlanInTime("no placement was found within the work limit of CP-SAT",
                       advice="Fewer stages or replicas make it smaller: --max-stages, --replicas.")  # fmt: skip


def _relative(machine: Machine, a: int, b: int) -> int:
    """How far node `b` is from node `a`, 10 being the node itself, as firmware counts."""
    if machine.distances is None:
        return 20
    return max(1, round(10 * machine.distances[a][b] / machine.distances[a][a]))


def _cores(machine: Machine, kinds: list[Kind], counts: list[list[int]]) -> dict[Replica, tuple[int, ...]]:
    """Cores by logical number for every replica, from what each kind takes of each node."""
    floor = Floor.of(machine)
    whole = {n: [g for g in machine.whole_groups if machine.node_of_group[g] == n] for n in range(len(machine.nodes))}
    parts: list[tuple[int, Unit]] = []
    for kind, row in zip(kinds, counts, strict=True):
        left = iter(kind)
        if kind[0].groups > 1:
            for unit in left:
                floor.put(unit, [_next(whole[n]) for n, count in enumerate(row) for _ in range(count)])
            continue
        for n, count in enumerate(row):
            for unit in itertools.islice(left, count):
                if unit.groups:
                    floor.put(unit, [_next(whole[n])])
                else:
                    parts.append((n, unit))
    for n, unit in sorted(parts, key=lambda part: -part[1].cores):
        room = (g for g, home in enumerate(machine.node_of_group) if home == n and floor.has_room(g, unit))
        group = next(room, None)
        if group is None:
            raise Unplaceable
        floor.put(unit, [group])
    return floor.placed


def _next(groups: list[int]) -> int:
    if not groups:
        raise Unplaceable
    return groups.pop(0)
