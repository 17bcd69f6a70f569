"""Ideals: all of them where they are few, and otherwise those of orders in which the ops can run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mapper.cost.configurations import Config
from mapper.solver.covers.ideals import MOST_COSTS, MOST_OF_ONE, Handed, ideals, most_ideals, order
from mapper.solver.problem import Problem
from tests.solver.linear_problems import all_ideals, instance, layered, linear_problems

MANY = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def handed(problem: Problem) -> list[Handed]:
    return [Handed(t.producer, t.readers, t.seconds) for t in problem.tensors]


@MANY
@given(linear_problems(), st.integers(0, 20))
def test_orders_can_run(problem: Problem, seed: int) -> None:
    found = list(order(problem.ops, handed(problem), seed))
    assert sorted(found) == list(range(problem.ops))
    at = {v: i for i, v in enumerate(found)}
    assert all(at[t.producer] < at[r] for t in problem.tensors for r in t.readers)


@pytest.mark.parametrize("seed", range(6))
def test_orders_keep_stages_together(seed: int) -> None:
    problem = layered(4, 4, 3)
    stage_of = [0] + [v % 4 // 2 for v in range(16)] + [1]
    stage_of[1:17] = [0 if (v - 1) % 4 < 2 else 1 for v in range(1, 17)]
    stages = [stage_of[v] for v in order(problem.ops, handed(problem), seed, stage_of)]
    assert stages == sorted(stages)


def test_the_greedy_order_ends_what_it_began() -> None:
    """Four chains side by side: taking turns would leave four tensors open, one after the other leaves few."""
    problem = layered(4, 4, 3)
    open_now, most, read = 0.0, 0.0, set()
    for v in order(problem.ops, handed(problem), 1):
        read.add(v)
        open_now = sum(t.seconds for t in problem.tensors if t.producer in read and set(t.readers) - read)
        most = max(most, open_now)
    breadth_first = 0.5 + 4 * 0.3
    assert most < breadth_first + 0.5


@MANY
@given(linear_problems())
def test_few_ideals_are_all_there(problem: Problem) -> None:
    found = ideals(problem)
    assert found.complete
    masks = {sum(1 << int(v) for v in np.flatnonzero(row)) for row in found.member}
    assert masks == set(all_ideals(instance(problem)))


def test_many_ideals_are_cut_off_but_stay_ideals() -> None:
    problem = layered(5, 5, 3)
    found = ideals(problem, most=50)
    assert not found.complete
    for t in problem.tensors:
        for reader in t.readers:
            assert not (found.member[:, reader] & ~found.member[:, t.producer]).any()
    assert not found.member[0].any() and found.member[-1].all()


@pytest.mark.parametrize(("groups", "most"), [(16, 1200), (64, 840), (256, 429), (1024, 216)])
def test_fewer_ideals_where_there_are_many_configurations(groups: int, most: int) -> None:
    """Their pairs times options stay within what is worked with."""
    configs = (Config(1, 1), Config(1, 2), *(Config(g, 4) for g in range(1, groups + 1)))
    problem = replace(layered(2, 2, 1), configs=configs, cores_per_group=4)
    assert most_ideals(problem) == most
    assert most_ideals(problem) ** 2 / 2 * (groups + 4) <= MOST_COSTS
    assert most_ideals(replace(problem, configs=configs[:1])) == MOST_OF_ONE
