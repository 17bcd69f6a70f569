"""What others would plan: each by hand on a small case, and never better than the bound of the search."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from mapper.cost.configurations import Config
from mapper.cost.residency import Caches
from mapper.errors import Infeasible, UsageError
from mapper.graph.importers.load import load_graph
from mapper.solver.covers.ideals import ideals
from mapper.solver.peers.baselines import block_partition, equal_shares, filled
from mapper.solver.peers.choose import choose, peer_solution
from mapper.solver.peers.programs import MICROBATCHES, pipedream_program, prefixes
from mapper.solver.peers.register import PLANNERS, Task
from mapper.solver.problem import Limits, Problem, TensorArc, WeightArc
from mapper.solver.search.least_period import throughput
from mapper.solver.search.space import Space
from mapper.solver.stage import period_of
from tests.graph.files import FOLDER, OPTIMA
from tests.solver.brute import least_period
from tests.solver.problems import problems

QUICK = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
NAMES = ["native", "streams", "equal-ops", "equal-flop", "equal-time", "greedy", "torchgpipe", "pipedream",
         "dnn-partitioning", "alpa"]  # fmt: skip
WORK = st.lists(st.integers(0, 20).map(float), min_size=1, max_size=12)


def chain(*seconds: float, groups: int = 2, size: int = 2, bytes_between: float = 0.0) -> Problem:
    """A chain of ops with these seconds on one core; two cores are 1.6 times as fast, four 2.5 times."""
    configs = tuple(Config(1, n) for n in (1,) if n < size) + tuple(Config(g, size) for g in range(1, groups + 1))
    speed = {1: 1.0, 2: 1.6, 3: 2.0, 4: 2.5, 6: 3.0, 8: 3.5}
    table = np.array([[[second / speed[config.cores]] * 3 for config in configs] for second in seconds])
    return Problem(
        configs=configs, cache_shares=(1,) * len(configs), seconds=table,
        dram_bytes=np.zeros((len(seconds), len(configs))), footprint=np.zeros(len(seconds)),
        tensors=tuple(TensorArc(v, (v + 1,), bytes_between) for v in range(len(seconds) - 1)), weights=(),
        groups=groups, cores_per_group=size, cores=groups * size, caches=Caches(1e9, 1e9, ("group", "package", "dram")),
        dram_bytes_per_s=1e9, handoff_s=0.0, link_bytes_per_s=(1.0,) * len(configs),
    )  # fmt: skip


def shape(name: str, problem: Problem, limits: Limits | None = None) -> list[tuple[tuple[int, ...], str, int]]:
    """(ops, configuration, replicas) of every stage that the planner makes; each op has 1 FLOP."""
    stages = choose(name, problem, limits or Limits(), np.ones(problem.ops))
    return [(stage.ops, problem.configs[stage.config].name, stage.replicas) for stage in stages]


def borders(name: str, problem: Problem, limits: Limits | None = None) -> list[int]:
    """Where the stages begin, all of them one group each."""
    made = shape(name, problem, limits)
    assert all((config, replicas) == (f"1x{problem.cores_per_group}", 1) for _, config, replicas in made)
    return [ops[0] for ops, _, _ in made]


def test_the_register_names_them_all_and_who_says_so() -> None:
    assert list(PLANNERS) == NAMES
    assert all(planner.source and planner.choose.__doc__ for planner in PLANNERS.values())


def test_native_is_one_process_on_all_cores() -> None:
    assert shape("native", chain(1, 2, 3)) == [((0, 1, 2), "2x2", 1)]
    assert shape("native", chain(1, 2, 3), Limits(max_cores=3)) == [((0, 1, 2), "1x2", 1)]


def test_streams_are_a_copy_a_core() -> None:
    assert shape("streams", chain(1, 2, 3)) == [((0, 1, 2), "1x1", 4)]
    assert shape("streams", chain(1, 2, 3), Limits(max_cores=3)) == [((0, 1, 2), "1x1", 3)]
    assert shape("streams", chain(1, 2, 3), Limits(max_replicas=2)) == [((0, 1, 2), "1x1", 2)]


def test_streams_have_their_groups_to_themselves_only_where_those_may_be_used() -> None:
    """100 bytes of weights and 20 a copy: two copies fit the group of 150, one does not fit half of it."""
    problem = replace(
        chain(1, 1), caches=Caches(150.0, 0.0, ("g", "p", "d")), footprint=np.array([20.0, 20.0]),
        weights=(WeightArc((0,), 100.0),),
    )  # fmt: skip
    assert choose("streams", problem, Limits())[0].exclusive
    assert not choose("streams", problem, Limits(max_cores=3))[0].exclusive


def test_equal_ops_counts_ops() -> None:
    assert borders("equal-ops", chain(9, 1, 1, 1, 1)) == [0, 3]
    assert borders("equal-ops", chain(9, 1, 1, 1, 1, groups=4), Limits(max_stages=3)) == [0, 2, 4]


def test_equal_flop_and_equal_time_share_out_what_they_count() -> None:
    assert borders("equal-time", chain(9, 1, 1, 1, 1)) == [0, 1]
    assert borders("equal-flop", chain(9, 1, 1, 1)) == [0, 2], "a FLOP each"
    with pytest.raises(UsageError, match="equal-time"):
        choose("equal-flop", chain(1, 1), Limits())


def test_greedy_fills_a_stage_until_its_share_is_reached() -> None:
    assert borders("greedy", chain(3, 3, 1, 1, 4)) == [0, 2], "3 + 3 reaches 6 of 12"
    assert borders("greedy", chain(1, 1, 1, 9)) == [0, 3], "the last op is needed for the last stage"


def test_torchgpipe_on_a_hand_made_case() -> None:
    """Equal counts first: 5 1 | 1 1 | 1 3 differ by less than the longest op; 1 1 1 1 | 1 1 9 9 does not."""
    assert block_partition(np.array([5.0, 1, 1, 1, 1, 3]), 3) == [0, 2, 4, 6]
    assert block_partition(np.array([1.0, 1, 1, 1, 1, 1, 9, 9]), 2) == [0, 7, 8]
    assert borders("torchgpipe", chain(1, 1, 1, 1, 1, 1, 9, 9)) == [0, 7]


def test_pipedream_on_a_hand_made_case() -> None:
    """3 machines at 1 byte/s: 6 s without weights, then 1 s with 10 bytes of them, which no two should exchange."""
    seconds, weights = np.array([6.0, 1.0]), np.array([0.0, 10.0])
    period, stages = pipedream_program(prefixes(2), seconds, weights, 3, 1.0, 3)
    assert (period, stages) == (3.0, (((0,), 2), ((1,), 1)))
    light, whole = pipedream_program(prefixes(2), seconds, weights / 1000, 3, 1.0, 3)
    assert whole == (((0, 1), 3),) and light == pytest.approx((7 + 4 * 2 * 0.01 / 3) / 3)
    straight, parts = pipedream_program(prefixes(2), seconds, weights, 2, 1.0, 1)
    assert straight == 6.0 and [r for _, r in parts] == [1, 1]
    assert pipedream_program(prefixes(2), seconds, weights, 9, 1.0, 1) == (straight, parts), "nobody else has work"


def test_pipedream_takes_groups_for_machines() -> None:
    problem = replace(chain(12, 2, groups=3, size=1), weights=(WeightArc((1,), 10.0),))
    assert shape("pipedream", problem) == [((0,), "1x1", 2), ((1,), "1x1", 1)]


def test_dnn_partitioning_minimises_the_largest_load_of_a_group_each() -> None:
    """Cutting behind the second op would be even in work (3 | 3), but 5 bytes are handed over there at 1 byte/s."""
    problem = chain(1, 2, 2, 1, size=1)
    dear = replace(problem, tensors=(TensorArc(0, (1,), 0.5), TensorArc(1, (2,), 5.0), TensorArc(2, (3,), 0.5)))
    assert borders("dnn-partitioning", problem) == [0, 2]
    assert borders("dnn-partitioning", dear) in ([0, 1], [0, 3])


def test_alpa_takes_a_larger_submesh_where_work_is() -> None:
    """8 | 9/1.6 on one and two cores: 13.6 + 63 · 8 = 517.6; 8 | 8 | 1 on one each: 17 + 63 · 8 = 521."""
    assert shape("alpa", chain(8, 8, 1, groups=3, size=1)) == [((0,), "1x1", 1), ((1, 2), "2x1", 1)]


@QUICK
@given(WORK, st.integers(1, 6))
def test_blocks_differ_by_at_most_the_longest_op(work: list[float], stages: int) -> None:
    found = block_partition(np.array(work), stages)
    assert found[0] == 0 and found[-1] == len(work) and found == sorted(found) and len(found) == stages + 1
    sums = [sum(work[a:b]) for a, b in itertools.pairwise(found)]
    assert max(sums) - min(sums) <= max(work) * (1 + 1e-9)


@QUICK
@given(WORK, st.integers(1, 6))
def test_shares_have_every_op_once_and_no_stage_empty(work: list[float], stages: int) -> None:
    assume(stages <= len(work))
    for found in (equal_shares(np.array(work), stages), filled(np.array(work), stages)):
        assert found[0] == 0 and found[-1] == len(work)
        assert all(a < b for a, b in itertools.pairwise(found)) and len(found) == stages + 1


@QUICK
@given(problems(most_ops=4), st.integers(1, 3), st.sampled_from([1, 2, 3]))
def test_pipedreams_program_is_the_best_of_all_chains(problem: Problem, workers: int, most: int) -> None:
    """By brute force over all chains of ideals and all replica counts that use every worker."""
    found = ideals(problem)
    seconds, weights, rate = problem.seconds[:, 0, 0], problem.footprint, 2.0
    member = [frozenset(np.flatnonzero(row)) for row in found.member]

    def best(done: frozenset[int], left: int) -> float:
        if len(done) == problem.ops:
            return 0.0 if left == 0 else math.inf
        options = [math.inf]
        for bigger in member:
            for r in range(1, min(left, most) + 1) if done < bigger else ():
                new = list(bigger - done)
                load = (seconds[new].sum() + 4 * (r - 1) * weights[new].sum() / (rate * r)) / r
                options.append(max(load, best(bigger, left - r)))
        return min(options)

    period, stages = pipedream_program(found, seconds, weights, workers, rate, most)
    workers = min(workers, most * problem.ops)
    assert period == pytest.approx(best(frozenset(), workers), rel=1e-12)
    assert sum(r for _, r in stages) == workers
    assert sorted(v for ops, _ in stages for v in ops) == list(range(problem.ops))


@QUICK
@given(problems(most_ops=4), st.sampled_from(NAMES), st.sampled_from([Limits(), Limits(max_replicas=1)]))
def test_no_planner_is_better_than_the_bound_or_the_brute_force(problem: Problem, name: str, limits: Limits) -> None:
    assume(float(problem.seconds.sum()) > 0)
    stages = choose(name, problem, limits, np.ones(problem.ops))
    assert sorted(v for stage in stages for v in stage.ops) == list(range(problem.ops))
    home = {v: s for s, stage in enumerate(stages) for v in stage.ops}
    assert all(home[t.producer] <= home[r] for t in problem.tensors for r in t.readers)
    period = period_of(problem, stages)
    assert period >= least_period(problem, limits) * (1 - 1e-9)
    proved = throughput(Space(problem), limits)
    assert period >= proved.bound_s * (1 - 1e-9)
    made = peer_solution(name, problem, limits, proved, np.ones(problem.ops))
    assert (made.stages, made.period_s, made.bound_s) == (stages, period, proved.bound_s)


@QUICK
@given(problems(most_ops=4))
def test_dnn_partitioning_is_the_optimum_of_its_space(problem: Problem) -> None:
    assume(float(problem.seconds.sum()) > 0)
    group = Task(problem, Limits()).group
    limits = Limits(max_replicas=1, max_stages=problem.groups, configurations=(problem.configs[group],))
    stages = choose("dnn-partitioning", problem, Limits())
    assert period_of(problem, stages) <= least_period(problem, limits) * (1 + 1e-4)


@QUICK
@given(problems(most_ops=4), st.integers(0, 3))
def test_alpa_is_the_least_of_its_objective(problem: Problem, seed: int) -> None:
    """By brute force over all runs of the order and all configurations, with caches that hold everything."""
    assume(float(problem.seconds.sum()) > 0)
    problem = replace(problem, caches=Caches(1e9, 1e9, ("g", "p", "d")), tensors=(), weights=())
    seconds = problem.seconds[:, :, 0]

    def value(loads: list[float]) -> float:
        return sum(loads) + (MICROBATCHES - 1) * max(loads)

    best = math.inf
    for count in range(1, problem.ops + 1):
        for cuts in itertools.combinations(range(1, problem.ops), count - 1):
            runs = list(itertools.pairwise([0, *cuts, problem.ops]))
            for choice in itertools.product(range(len(problem.configs)), repeat=count):
                if sum(problem.configs[c].cores for c in choice) <= problem.cores:
                    best = min(
                        best, value([float(seconds[a:b, c].sum()) for (a, b), c in zip(runs, choice, strict=True)])
                    )
    made = choose("alpa", problem, Limits())
    assert value([stage.load_s for stage in made]) <= best * 1.011
    assert value([stage.load_s for stage in made]) >= best * (1 - 1e-9)


def test_ops_that_must_share_a_stage_do() -> None:
    problem = replace(chain(1, 1, 1, 1), together=((1, 2),))
    for name in NAMES:
        home = {v: s for s, stage in enumerate(choose(name, problem, Limits(), np.ones(4))) for v in stage.ops}
        assert home[1] == home[2], name


def test_limits_on_numbers_are_kept_or_refused() -> None:
    assert len(choose("torchgpipe", chain(1, 1, 1, 1, groups=4), Limits(stages=3))) == 3
    with pytest.raises(Infeasible, match="native does not keep the limits") as raised:
        choose("native", chain(1, 1), Limits(stages=2))
    assert raised.value.levers[0] == "--stages 1"
    with pytest.raises(Infeasible, match="5 stages of a group each were asked for, 2 can be made"):
        choose("greedy", chain(1, 1, 1, 1, 1), Limits(stages=5))
    with pytest.raises(Infeasible, match="a worker is a group of 2 cores"):
        choose("equal-ops", chain(1, 1), Limits(max_cores=1))
    with pytest.raises(UsageError, match="no planner 'gpipe'"):
        choose("gpipe", chain(1, 1), Limits())


def test_long_orders_are_planned_in_blocks() -> None:
    problem = chain(*([1.0, 2.0, 3.0] * 400), groups=4, size=1)
    for name in ("pipedream", "alpa"):
        stages = choose(name, problem, Limits())
        assert sorted(v for stage in stages for v in stage.ops) == list(range(1200))


@pytest.mark.skipif(not OPTIMA, reason="the published workloads are not beside this checkout")
@pytest.mark.parametrize(
    ("name", "most", "period", "replicas"),
    [("vgg16", 4, 0.175733, [3, 1]), ("vgg16", 1, 0.216450, [1] * 4), ("resnet50", 4, 0.111497, [1] * 4),
     ("resnet50", 1, 0.111497, [1] * 4)],
)  # fmt: skip
def test_what_pipedreams_own_optimiser_printed(name: str, most: int, period: float, replicas: list[int]) -> None:
    from mapper.cost.pipedream import training_costs, without_inputs
    from mapper.machine.files import load_machine
    from mapper.solver.problem import problem_of

    graph = without_inputs(load_graph(FOLDER / "pipedream" / name / "graph.txt"))
    table = training_costs(graph, 1, 1e9)
    found = ideals(problem_of(graph, load_machine("uniform:4"), table))
    weights = np.array([sum(weight.bytes for weight in op.weights) for op in graph.ops], dtype=float)
    value, stages = pipedream_program(found, table.compute_s[:, 0, 0], weights, 4, 1e9, most)
    assert value == pytest.approx(period, abs=5e-7)
    assert [r for _, r in stages] == replicas
