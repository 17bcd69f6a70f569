"""Plans under PipeDream's objective as published, for graphs with its profiles: the search is exact for it, too."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mapper.cost.pipedream import training_costs, without_inputs
from mapper.cost.table import CostTable
from mapper.errors import UsageError
from mapper.graph.model import Graph
from mapper.machine.model import Machine
from mapper.plans.model import Alternative, ModelRef, Plan
from mapper.plans.reference import reference_of
from mapper.solver.peers.programs import few_ideals, pipedream_program
from mapper.solver.plan import plan
from mapper.solver.problem import Limits, Problem, problem_of
from mapper.solver.search.least_period import throughput
from mapper.solver.search.space import Progress, Space, silent
from mapper.solver.stop import Stop


def plan_pipedream(
    graph: Graph,
    machine: Machine,
    bandwidth_bytes_per_s: float,
    *,
    limits: Limits | None = None,
    most_replicas: int | None = None,
    near_optimal: float = 0.0,
    model: ModelRef | None = None,
    progress: Progress = silent,
    stop: Stop | None = None,
) -> Plan:
    """The plan of `graph` on the units of `machine` with the least seconds a minibatch under PipeDream's objective.

    A stage with the configuration `mx1` is m replicas of it that exchange their weights (`mapper.cost.pipedream`); ops
    called `Input` are left out. `most_replicas` limits m: with 1 it is a pipeline without replication.

    Raises: UsageError when the machine is none of units, a latency is asked for (the objective has none: what stands
    as latency in the plan is the sum of the seconds a minibatch), or the graph lacks what the objective needs; what
    `plan` raises.
    """
    work, table, limits = searched_instance(graph, machine, bandwidth_bytes_per_s, limits, most_replicas)
    named = (model or reference_of(work)).model_copy(update={"graph_sha256": work.sha256})
    made = plan(
        work, machine, costs=table, limits=limits, near_optimal=near_optimal, model=named, progress=progress,
        stop=stop,
    )  # fmt: skip
    space = made.solver.proved.space.partition(" × ")[0]
    proof = made.solver.proved.model_copy(
        update={
            "space": f"{space} × 1..{len(table.configs)} replicas a stage",
            "assumptions": ("PipeDream's objective as published: costs of the file, replicas exchange weights, "
                            "activations move for nothing",),
        }
    )  # fmt: skip
    solver = made.solver.model_copy(update={"proved": proof})
    kept = {name: value for name, value in made.request.limits.items() if name != "max_replicas"}
    asked = made.request.model_copy(
        update={"limits": kept if most_replicas is None else kept | {"max_replicas": most_replicas}}
    )
    others = _alternatives(work, machine, table, bandwidth_bytes_per_s, made)
    return made.model_copy(update={"request": asked, "solver": solver, "alternatives": others})


def searched_instance(
    graph: Graph, machine: Machine, bandwidth_bytes_per_s: float, limits: Limits | None, most_replicas: int | None
) -> tuple[Graph, CostTable, Limits]:
    """What is searched for `plan_pipedream`: the graph without inputs, its costs on 1, 2, ... units, and the limits.

    Raises: as `plan_pipedream` does for what the objective is not for.
    """
    if not machine.name.startswith("uniform:"):
        raise UsageError(f"PipeDream's objective is for equal units; {machine.name} is no such machine",
                         advice="K units: --topo uniform:K.")  # fmt: skip
    if limits is not None and limits.max_latency_s is not None:
        raise UsageError("PipeDream's objective knows no latency: it counts seconds a minibatch")
    work, units = without_inputs(graph), len(machine.groups)
    table = training_costs(work, min(units, most_replicas or units), bandwidth_bytes_per_s)
    return work, table, replace(limits or Limits(), max_replicas=1)


def _alternatives(
    graph: Graph, machine: Machine, table: CostTable, bandwidth_bytes_per_s: float, made: Plan
) -> tuple[Alternative, ...]:
    """What PipeDream's own program finds, a pipeline without replication, and data parallelism, unless chosen."""
    problem = problem_of(graph, machine, table)
    found = [_published(problem, graph, bandwidth_bytes_per_s, len(machine.groups))]
    if len(problem.configs) > 1:
        found += [
            _searched(problem, "no replication", "--replicas 1", Limits(configurations=problem.configs[:1])),
            _searched(problem, "data parallel", f"--stages 1 --configurations {problem.configs[-1].name}",
                      Limits(stages=1, configurations=problem.configs[-1:])),
        ]  # fmt: skip
    chosen = (made.predicted.throughput_per_s, made.predicted.cores_used)
    others = [row for row in found if not (np.isclose(row.throughput_per_s, chosen[0]) and row.cores_used == chosen[1])]
    return tuple(sorted(others, key=lambda row: -row.throughput_per_s))


def _searched(problem: Problem, name: str, options: str, limits: Limits) -> Alternative:
    solution = throughput(Space(problem), replace(limits, max_replicas=1))
    return Alternative(
        name=name, options=options, throughput_per_s=1 / solution.period_s, latency_s=solution.latency_s,
        cores_used=sum(problem.configs[stage.config].cores for stage in solution.stages),
    )  # fmt: skip


def _published(problem: Problem, graph: Graph, bandwidth_bytes_per_s: float, units: int) -> Alternative:
    """PipeDream's own program: it uses every unit that it can, whether that helps or not."""
    seconds = problem.seconds[:, 0, 0]
    weights = np.array([sum(weight.bytes for weight in op.weights) for op in graph.ops], dtype=float)
    rate, most = bandwidth_bytes_per_s, len(problem.configs)
    period, stages = pipedream_program(few_ideals(problem), seconds, weights, units, rate, most)
    loads = [float(problem.seconds[list(ops), replicas - 1, 0].sum()) for ops, replicas in stages]
    return Alternative(
        name="PipeDream's own program", throughput_per_s=1 / period, latency_s=sum(loads),
        cores_used=sum(replicas for _, replicas in stages),
    )  # fmt: skip
