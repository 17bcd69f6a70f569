"""Placements by name: by hand on the SG2042, and whatever they place has its shape and no core twice."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from mapper.cost.configurations import Config, configurations
from mapper.cost.roofline import roofline
from mapper.errors import UsageError
from mapper.graph.model import Graph
from mapper.machine.files import load_machine
from mapper.machine.model import Machine
from mapper.plans.evaluate import Placed, evaluate
from mapper.solver.placement.place import place
from mapper.solver.placement.strategies import STRATEGIES, mesh_walk, strategy_called
from mapper.solver.problem import Limits, Problem, StageChoice, problem_of
from mapper.solver.search.least_period import throughput
from mapper.solver.search.space import Space
from tests.planning.graphs import graphs, machines
from tests.planning.test_place import chain

QUICK = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
SG2042 = load_machine("sg2042")
NAMES = ["optimal", "compact", "scatter", "round-robin", "mesh-neighbour", "per-group", "per-node"]


def instance(ops: int, machine: Machine = SG2042) -> tuple[Graph, Problem]:
    graph = chain(ops)
    return graph, problem_of(graph, machine, roofline(graph, machine, configurations(machine)))


def placed(name: str, *stages: tuple[str, int], machine: Machine = SG2042) -> list[list[tuple[int, ...]]]:
    """The cores of every replica of stages given as (configuration, replicas), an op each."""
    graph, problem = instance(len(stages), machine)
    known = [config.name for config in problem.configs]
    chosen = [StageChoice((v,), known.index(c), r, False, 1.0, 0.0) for v, (c, r) in enumerate(stages)]
    result, _ = strategy_called(name).place(graph, machine, problem, chosen)
    return [list(stage.replicas) for stage in result]


def groups(cores: list[tuple[int, ...]], machine: Machine = SG2042) -> list[list[int]]:
    """The groups of each replica."""
    return [sorted({machine.cores[core].group for core in replica}) for replica in cores]


def test_the_register_names_them_all_and_who_says_so() -> None:
    assert list(STRATEGIES) == NAMES
    assert all(strategy.source and strategy.place.__doc__ for strategy in STRATEGIES.values())
    with pytest.raises(UsageError, match="no placement 'close'"):
        strategy_called("close")


def test_compact_goes_core_by_core_in_the_order_of_the_stages() -> None:
    assert placed("compact", ("1x2", 2), ("1x1", 1), ("1x4", 1)) == [[(0, 1), (2, 3)], [(4,)], [(8, 9, 10, 11)]]


def test_compact_fills_what_a_group_has_left() -> None:
    assert placed("compact", ("1x1", 1), ("1x4", 1), ("1x2", 1)) == [[(0,)], [(4, 5, 6, 7)], [(1, 2)]]


def test_the_largest_go_first_where_the_order_of_the_stages_leaves_no_room() -> None:
    """A core of one group is all that scattering leaves: 15 groups and 4 single cores fill the machine."""
    for name in ("compact", "scatter", "round-robin", "mesh-neighbour"):
        singles, whole = placed(name, ("1x1", 4), ("15x4", 1))
        assert len(set(itertools.chain(*singles, *whole))) == 64


def test_scatter_goes_to_another_node_each_time() -> None:
    (copies,) = placed("scatter", ("1x1", 8))
    assert [SG2042.cores[cores[0]].node for cores in copies] == [0, 1, 2, 3, 0, 1, 2, 3]
    assert len({SG2042.cores[cores[0]].group for cores in copies}) == 8
    (team,) = placed("scatter", ("4x4", 1))
    assert {SG2042.cores[core].node for core in team[0]} == {0, 1, 2, 3}


def test_round_robin_deals_to_the_groups_in_turn() -> None:
    first, second = placed("round-robin", ("1x1", 3), ("1x4", 1))
    assert groups(first) == [[0], [1], [2]] and groups(second) == [[3]]
    (copies,) = placed("round-robin", ("1x1", 20))
    assert [group for (group,) in groups(copies)] == [*range(16), *range(4)]


def test_a_walk_through_the_mesh_steps_to_a_neighbour_each_time() -> None:
    assert SG2042.layout is not None
    places = [SG2042.layout.groups[group] for group in mesh_walk(SG2042)]
    assert all(abs(a[0] - b[0]) + abs(a[1] - b[1]) == 1 for a, b in itertools.pairwise(places))
    assert sorted(places) == sorted(SG2042.layout.groups)
    pipeline = placed("mesh-neighbour", *[("1x4", 1)] * 16)
    assert [groups(stage)[0][0] for stage in pipeline] == list(mesh_walk(SG2042))


def test_without_a_layout_there_is_no_walk() -> None:
    with pytest.raises(UsageError, match="does not say where its groups lie"):
        placed("mesh-neighbour", ("1x4", 1), machine=SG2042.model_copy(update={"layout": None}))


def test_per_group_shares_no_group_between_stages() -> None:
    first, second = placed("per-group", ("1x2", 3), ("1x1", 2))
    assert groups(first) == [[0], [0], [1]] and groups(second) == [[2], [2]]
    with pytest.raises(UsageError, match="a replica of stage 1 has 2 groups"):
        placed("per-group", ("1x4", 1), ("2x4", 1))
    with pytest.raises(UsageError, match="16 groups are too few for 17 stages"):
        placed("per-group", *[("1x1", 1)] * 17)


def test_per_node_keeps_a_stage_in_one_node() -> None:
    stages = placed("per-node", ("1x4", 3), ("1x4", 2), ("1x1", 4))
    nodes = [{SG2042.cores[core].node for replica in stage for core in replica} for stage in stages]
    assert nodes == [{0}, {1}, {0}]
    (copies,) = placed("per-node", ("4x4", 4))
    assert [{SG2042.cores[core].node for core in replica} for replica in copies] == [{0}, {1}, {2}, {3}]
    with pytest.raises(UsageError, match="a replica of stage 0 has 5 groups, a node 4"):
        placed("per-node", ("5x4", 1))
    with pytest.raises(UsageError, match="do not pack into nodes"):
        placed("per-node", *[("3x4", 1)] * 4, ("2x4", 1))


def test_per_node_packs_the_largest_first_where_that_is_needed() -> None:
    """In their order 2 1 · | 3 · | 3 · | 4 leave no two groups of a node; 4 | 3 1 | 3 · | 2 2 does."""
    stages = placed("per-node", *[(f"{g}x4", 1) for g in (2, 1, 3, 3, 4, 2)])
    assert len({core for stage in stages for replica in stage for core in replica}) == 60


def test_a_stage_with_groups_to_itself_keeps_them() -> None:
    graph, problem = instance(2)
    one = [config.name for config in problem.configs].index("1x1")
    stages = (StageChoice((0,), one, 5, True, 1.0, 0.0), StageChoice((1,), one, 3, False, 1.0, 0.0))
    for name in NAMES:
        own, other = strategy_called(name).place(graph, SG2042, problem, stages)[0]
        taken = {group for found in groups(list(own.replicas)) for group in found}
        assert taken.isdisjoint(group for found in groups(list(other.replicas)) for group in found), name
        assert len(taken) == 2


def test_optimal_is_the_placement_of_every_plan() -> None:
    graph, problem = instance(3)
    stages = throughput(Space(problem), Limits(stages=3)).stages
    assert STRATEGIES["optimal"].place(graph, SG2042, problem, stages) == place(graph, SG2042, problem, stages)


def correct(result: tuple[Placed, ...], stages: tuple[StageChoice, ...], machine: Machine, problem: Problem) -> None:
    """Every replica has the shape of its configuration, and no core is used twice."""
    used: list[int] = []
    for stage, choice in zip(result, stages, strict=True):
        config: Config = problem.configs[choice.config]
        assert stage.config == config and len(stage.replicas) == choice.replicas
        for cores in stage.replicas:
            counts = [sum(machine.cores[core].group == g for core in cores) for g in range(len(machine.groups))]
            assert sorted(n for n in counts if n) == [config.cores_per_group] * config.groups
            used += cores
    assert len(used) == len(set(used))


@QUICK
@given(graphs(), machines(), st.sampled_from(NAMES), st.sampled_from([Limits(), Limits(max_replicas=1)]))
def test_what_is_placed_has_its_shape_and_is_never_below_the_bound(
    graph: Graph, machine: Machine, name: str, limits: Limits
) -> None:
    table = roofline(graph, machine, configurations(machine))
    problem = problem_of(graph, machine, table)
    found = throughput(Space(problem), limits)
    try:
        result, _ = strategy_called(name).place(graph, machine, problem, found.stages)
    except UsageError as error:
        assert name in ("mesh-neighbour", "per-group", "per-node") and "--placement optimal" in error.advice
        return
    correct(result, found.stages, machine, problem)
    assert evaluate(graph, machine, table, result).predicted.period_s >= found.bound_s * (1 - 1e-9)


@QUICK
@given(st.lists(st.tuples(st.sampled_from(["1x1", "1x2", "1x4", "2x4", "3x4", "5x4"]), st.integers(1, 6)), max_size=7,
                min_size=1), st.sampled_from(["compact", "scatter", "round-robin", "mesh-neighbour"]))  # fmt: skip
def test_whatever_fits_the_machine_is_placed(stages: list[tuple[str, int]], name: str) -> None:
    graph, problem = instance(len(stages))
    known = [config.name for config in problem.configs]
    chosen = tuple(StageChoice((v,), known.index(c), r, False, 1.0, 0.0) for v, (c, r) in enumerate(stages))
    assume(sum(stage.replicas * problem.configs[stage.config].cores for stage in chosen) <= 64)
    correct(strategy_called(name).place(graph, SG2042, problem, chosen)[0], chosen, SG2042, problem)
