"""Plans for several hosts against every placed plan on small ones."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mapper.cost.configurations import configurations
from mapper.cost.roofline import roofline
from mapper.cost.table import CostTable
from mapper.errors import UsageError
from mapper.graph.model import Boundary, Graph
from mapper.machine.files import load_machine
from mapper.machine.hosts import cores_of, host_numbers, host_of, on_host
from mapper.machine.model import Machine
from mapper.plans.evaluate import Placed, evaluate
from mapper.solver.placement.candidates import Case, Wanted
from mapper.solver.placement.fitting import fitting
from mapper.solver.placement.over_hosts import compositions, even_split
from mapper.solver.placement.place import place
from mapper.solver.placement.strategies import STRATEGIES
from mapper.solver.problem import Limits, problem_of
from mapper.solver.search.least_period import PRECISION, throughput
from mapper.solver.search.space import Space
from tests.planning.graphs import graphs
from tests.solver.clusters import clustered, clusters
from tests.solver.distances import placed_mappings, small_graphs

QUICK = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
ROUNDING = 1 + 1e-9
PRECISE = 1 + 1e-4


def case_of(graph: Graph, machine: Machine) -> Case:
    """The case of `graph` on `machine` with the roofline's costs."""
    table = roofline(graph, machine, configurations(machine))
    return Case(graph, machine, table, Space(problem_of(graph, machine, table)))


def period(case: Case, mapping: list[Placed]) -> float:
    """Seconds an item of a mapping."""
    return evaluate(case.graph, case.machine, case.table, mapping).predicted.period_s


def on_first(case: Case) -> list[Placed]:
    """The best of all placed plans of the first host alone."""
    host = on_host(case.machine, host_numbers(case.machine)[0])
    table: CostTable = roofline(case.graph, host, configurations(host))
    every = placed_mappings(case.graph, host, table, Limits())
    return min(every, key=lambda mapping: evaluate(case.graph, host, table, mapping).predicted.period_s)


@QUICK
@given(small_graphs(), clusters())
def test_no_plan_beats_the_bound_and_the_planner_is_behind_none_of_what_people_do(
    graph: Graph, machine: Machine
) -> None:
    case = case_of(graph, machine)
    found = fitting(case, Limits(), Limits(), 0.0, PRECISION)
    best = min(period(case, mapping) for mapping in placed_mappings(graph, machine, case.table, Limits()))
    assert found.bound_s <= best * ROUNDING <= found.best_period_s * ROUNDING * PRECISE
    single = on_first(case)
    assert found.best_period_s <= period(case, single) * PRECISE, "all on one host"
    hosts = [cores_of(machine, number) for number in host_numbers(machine)]
    each = [
        Placed(p.ops, p.config, tuple(tuple(own[c] for c in r) for r in p.replicas for own in hosts)) for p in single
    ]  # fmt: skip
    assert found.best_period_s <= period(case, each) * PRECISE, "a copy on each host"
    split = next(even_split(case, Wanted(Limits(), 0.0, PRECISION)), None)
    if split is not None:
        placed, _ = place(graph, machine, case.space.problem, split.solution.stages, homes=split.homes)
        assert found.best_period_s <= period(case, list(placed)) * PRECISE, "an equal part on each host"


@QUICK
@given(small_graphs(), clusters(), st.integers(2, 6))
def test_replicas_are_on_the_best_hosts_that_there_are(graph: Graph, machine: Machine, cores: int) -> None:
    """Against every assignment of replicas of one core to hosts."""
    case = case_of(graph, machine)
    if any(config.cores > 1 for config in case.table.configs[:1]):
        return
    limits = Limits(configurations=case.table.configs[:1], max_cores=min(cores, len(machine.cores)))
    stages = throughput(case.space, limits).stages
    placed, _ = place(graph, machine, case.space.problem, stages)
    units = [s for s, stage in enumerate(stages) for _ in range(stage.replicas)]
    numbers = host_numbers(machine)
    best = float("inf")
    for homes in itertools.product(numbers, repeat=len(units)):
        left = {number: list(cores_of(machine, number)) for number in numbers}
        if any(homes.count(number) > len(left[number]) for number in numbers):
            continue
        seats: list[list[tuple[int, ...]]] = [[] for _ in stages]
        for s, home in zip(units, homes, strict=True):
            seats[s].append((left[home].pop(0),))
        mapping = [
            Placed(tuple(graph.ops[v].name for v in stage.ops), case.table.configs[0], tuple(seats[s]))
            for s, stage in enumerate(stages)
        ]
        best = min(best, period(case, mapping))
    groups = max(machine.counts["groups"] // machine.counts["hosts"], 1)
    room = 1.3 if groups > 1 and machine.cores_per_group > 1 else ROUNDING  # groups of a host are as near as they are
    assert period(case, list(placed)) <= best * room


@settings(QUICK, max_examples=25)
@given(graphs(most_ops=6), st.sampled_from([(2, 2, 2), (3, 1, 4), (2, 3, 1)]), st.sampled_from(sorted(STRATEGIES)))
def test_no_placement_puts_a_team_on_two_hosts(graph: Graph, shape: tuple[int, int, int], name: str) -> None:
    case = case_of(graph, clustered(*shape))
    stages = throughput(case.space, Limits()).stages
    try:
        placed, _ = STRATEGIES[name].place(graph, case.machine, case.space.problem, stages)
    except UsageError:
        return  # not every strategy has room, or a layout
    for stage in placed:
        assert all(len({host_of(case.machine, core) for core in cores}) == 1 for cores in stage.replicas)
    assert period(case, list(placed)) > 0


def test_hosts_are_shared_out_in_every_way_where_there_are_few() -> None:
    assert compositions(2) == [(1, 1)]
    assert set(compositions(4)) == {(1, 3), (2, 2), (3, 1), (1, 1, 2), (1, 2, 1), (2, 1, 1), (1, 1, 1, 1)}
    many = compositions(12)
    assert all(sum(parts) == 12 for parts in many) and (6, 6) in many and (1, 11) in many and (1,) * 12 in many


def test_hosts_of_different_sizes_are_planned_together() -> None:
    machine = load_machine("group:2 core:2+group:1 core:4", "1Gbit,10us")
    case = case_of(_chain(), machine)
    found = fitting(case, Limits(), Limits(), 0.0, PRECISION)
    used = {replica.host for stage in found.evaluation.stages for replica in stage.replicas}
    assert used == {0, 1} and found.evaluation.predicted.cores_used == 8


def _chain() -> Graph:
    """Two ops whose items are small."""
    return Graph.model_validate({
        "name": "chain", "inputs": [], "outputs": [],
        "ops": [{"name": n, "kind": "matmul", "flop": 10**8, "elements": 10, "read_bytes": 10, "write_bytes": 10}
                for n in "ab"],
        "tensors": [{"name": "t", "producer": "a", "readers": ["b"], "bytes": 100}],
    })  # fmt: skip


@pytest.mark.parametrize("hosts", [2, 3])
def test_a_slow_network_keeps_items_on_the_first_host(hosts: int) -> None:
    graph = _chain().model_copy(update={"inputs": (Boundary(name="x", ops=("a",), bytes=10**9),)})
    found = fitting(case_of(graph, clustered(hosts, rate=1e3)), Limits(), Limits(), 0.0, PRECISION)
    assert {replica.host for stage in found.evaluation.stages for replica in stage.replicas} == {0}
