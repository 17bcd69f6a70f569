"""Blocks of graphs with many ideals: their plans are plans, and the floor is below every plan."""

from __future__ import annotations

import math
from dataclasses import replace
from unittest import mock

import numpy as np
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from mapper.cost.configurations import Config
from mapper.cost.residency import Caches
from mapper.errors import Infeasible
from mapper.solver.problem import Limits, NodeMemory, Problem, TensorArc, WeightArc
from mapper.solver.reductions import blocks as blocks_module
from mapper.solver.reductions.blocks import SHARES, blocked, blocks
from mapper.solver.reductions.reduce import reduce
from mapper.solver.search import space as space_module
from mapper.solver.search.least_period import fewest_cores, least_latency, throughput
from mapper.solver.search.space import Space
from tests.solver.brute import least_period, outcomes
from tests.solver.limits import some_limits
from tests.solver.problems import problems

SOME = settings(deadline=None, suppress_health_check=list(HealthCheck))


def in_blocks(problem: Problem, most: int, shares: tuple[float, ...] = SHARES) -> Space:
    """The space of `problem`, as if more than `most` ideals were too many, and ops of such `shares` were small."""
    with (
        mock.patch.object(space_module, "most_ideals", lambda problem: most),
        mock.patch.object(blocks_module, "SHARES", shares),
    ):
        return Space(problem)


@st.composite
def blocked_spaces(draw: st.DrawFn) -> Space:
    """A space that is searched in blocks, of a small problem of several configurations."""
    problem = draw(problems())
    assume(float(problem.seconds.sum()) > 0 and len(problem.configs) > 1 and problem.ops > 1)
    space = in_blocks(problem, draw(st.integers(4, 8)), (0.2, 0.5, 1.0))
    assume(space.floor is not None)
    return space


@SOME
@given(blocked_spaces(), st.data())
def test_the_floor_is_a_bound_and_plans_of_blocks_are_plans(space: Space, data: st.DataObject) -> None:
    problem = space.problem
    limits = data.draw(st.composite(some_limits)(problem))
    best = least_period(problem, limits)
    try:
        found = throughput(space, limits, proof_s=1.0)
    except Infeasible:
        return
    assert found.bound_s <= best * (1 + 1e-9), "a bound above the optimum"
    assert found.period_s >= best * (1 - 1e-9)
    assert sorted(v for stage in found.stages for v in stage.ops) == list(range(problem.ops))


@SOME
@given(blocked_spaces(), st.data())
def test_least_latency_and_fewest_cores_have_bounds_for_all_plans(space: Space, data: st.DataObject) -> None:
    limits = data.draw(st.composite(some_limits)(space.problem))
    rows = [row for row in outcomes(space.problem, replace(limits, max_latency_s=None)) if row.period_s < math.inf]
    try:
        latency, bound = least_latency(space, limits)
    except Infeasible:
        return
    least = min(row.latency_s for row in rows)
    assert bound <= least * (1 + 1e-9) and latency >= least * (1 - 1e-9)
    limits = replace(limits, max_latency_s=None)
    cores, at_least = fewest_cores(space, limits)
    assert at_least <= min(row.cores for row in rows) <= cores


def chain_with_a_bias(ops: int) -> Problem:
    """Heavy ops in a chain, each with an activation after it and a bias that needs nothing before it: 3 · `ops` ops."""
    configs = (Config(1, 1), Config(1, 2), Config(2, 2))
    work = np.zeros(3 * ops)
    work[1::3], work[0::3], work[2::3] = 1.0, 0.001, 0.002
    cores = np.array([1.0, 2.0, 4.0])
    tensors = []
    for k in range(ops):
        bias, heavy, after = 3 * k, 3 * k + 1, 3 * k + 2
        tensors += [TensorArc(bias, (heavy,), 10.0), TensorArc(heavy, (after,), 10.0)]
        tensors += [TensorArc(after, (heavy + 3,), 10.0)] if k + 1 < ops else []
    return Problem(
        configs=configs, cache_shares=(1, 1, 1), seconds=np.repeat((work[:, None] / cores)[:, :, None], 3, axis=2),
        dram_bytes=np.zeros((3 * ops, 3)), footprint=np.ones(3 * ops), tensors=tuple(tensors),
        weights=tuple(WeightArc((3 * k + 1,), 5.0) for k in range(ops)), groups=4, cores_per_group=2, cores=8,
        caches=Caches(1e9, 1e9, ("L2", "L3", "DRAM")), dram_bytes_per_s=math.inf, handoff_s=0.01,
        link_bytes_per_s=(1e6, 1e6, 1e6),
    )  # fmt: skip


def test_small_ops_go_with_the_op_that_they_serve() -> None:
    problem = chain_with_a_bias(6)
    found = blocks(problem, 0.01)
    assert found.members == tuple((3 * k, 3 * k + 1, 3 * k + 2) for k in range(6))
    assert found.head == tuple(3 * k + 1 for k in range(6))
    assert found.leads == {3 * k for k in range(6)} and found.followers == [3 * k + 2 for k in range(6)]
    assert blocks(problem, 1e-9).members == tuple((v,) for v in range(18))


def test_leaders_need_nothing_but_leaders() -> None:
    """An op that others need is none, nor is what needs it: gathered in one block they would need each other."""
    problem = chain_with_a_bias(4)
    first = replace(problem, tensors=(TensorArc(0, (1, 3), 10.0), *problem.tensors[1:]))
    found = blocks(first, 0.01)
    assert found.leads == {6, 9}
    space = in_blocks(problem, 16)
    assert space.gathered is not None and space.gathered.reduction.members[0] == (0, 3, 6, 9)
    assert throughput(space.gathered, Limits()).period_s >= throughput(Space(problem), Limits()).period_s * (1 - 1e-9)


def test_a_graph_of_many_ideals_is_planned_and_proved_nearly() -> None:
    """Biases that may run at any time before they are needed: 2^40 ideals and more."""
    problem = chain_with_a_bias(40)
    space = Space(problem)
    assert space.blocks == 40 and space.ideals.complete and space.floor is not None
    for limits in (Limits(), Limits(max_replicas=1), Limits(max_latency_s=1.2 * least_latency(space, Limits())[0])):
        found = throughput(space, limits, proof_s=1.0)
        assert found.bound_s >= 0.97 * found.best_period_s
        assert not found.whole_space


def test_ops_that_must_be_apart_are_in_blocks_of_their_own() -> None:
    problem = replace(chain_with_a_bias(4), apart=((1, 2),))
    found = blocked(reduce(problem, idle=False), 20)
    assert found is not None and all(not {1, 2} <= set(ops) for ops in found.found.members)


def test_what_is_derived_from_a_space_is_not_taken_for_that_of_another() -> None:
    problem = chain_with_a_bias(4)
    memory = NodeMemory((), np.ones(12), np.zeros(12), 1.0, (4, 4))
    space = in_blocks(replace(problem, memory=memory), 16)
    assert space.floor is not None and space.gathered is not None
    sizes = {len(x.memory.each) for x in (space, space.floor)}
    assert sizes == {len(space.costs.source)} and len(space.gathered.memory.each) == len(space.gathered.costs.source)
    part = space.part(2)
    assert part.floor is None and part.gathered is None
    assert throughput(part, Limits()).period_s > 1.5 * throughput(space, Limits()).period_s
    held = throughput(space, Limits(node_memory_bytes=150.0), proof_s=1.0)
    assert held.bound_s <= held.period_s and sum(stage.replicas for stage in held.stages) < 8


def test_other_prices_have_a_floor_of_their_own() -> None:
    problem = chain_with_a_bias(4)
    space = in_blocks(problem, 16)
    assert space.floor is not None
    dearer = space.priced(replace(problem, seconds=2 * problem.seconds))
    assert dearer.floor is not None and np.all(dearer.floor.costs.load_s >= space.floor.costs.load_s)
    assert throughput(dearer, Limits(), proof_s=1.0).period_s > 1.5 * throughput(space, Limits(), proof_s=1.0).period_s
