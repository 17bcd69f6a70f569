"""The passes of the dynamic program: compiled against numpy, and the narrow one against the whole front."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from mapper.solver.covers import cover as cover_module
from mapper.solver.covers.cover import Covers, cover
from mapper.solver.problem import Array, Problem
from mapper.solver.search.space import Space
from tests.solver.problems import problems

QUICK = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
STAGES = st.sampled_from([None, 1, 2, 3])


def a_pass(space: Space, values: Array, period: float, stages: int | None, **asked: float) -> Covers:
    problem = space.reduction.problem
    return cover(
        space.costs, period, values, cores=problem.cores, cores_per_group=problem.cores_per_group, stages=stages,
        **asked,  # type: ignore[arg-type]
    )  # fmt: skip


def in_numpy(space: Space, values: Array, period: float, stages: int | None, **asked: float) -> Covers:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cover_module, "_PASS", cover_module._numpy_pass)
        patch.setattr(cover_module, "_NARROW", cover_module._numpy_pass)
        return a_pass(space, values, period, stages, **asked)


def period_of(space: Space, share: float) -> float:
    """Somewhere between what the fastest stages take and the whole on the slowest option."""
    finite = space.costs.load_s[np.isfinite(space.costs.load_s)]
    assume(finite.size and finite.max() > 0)
    return float(finite.max() ** share * max(finite.min(), 0.1) ** (1 - share))


@QUICK
@given(problems(), STAGES, st.floats(0, 1), st.floats(0, 1.1), st.sampled_from([1.0, 7.0]))
def test_a_compiled_pass_leaves_out_nothing_that_a_whole_cover_needs(
    problem: Problem, stages: int | None, share: float, tight: float, unit: float
) -> None:
    """It begins with bounds of what is left; numpy does without, and has the same front within the limit."""
    if cover_module.KERNEL != "compiled":
        pytest.skip("the compiled pass was not built")
    space = Space(problem)
    period, values = period_of(space, share), space.costs.load_s
    free = in_numpy(space, values, period, stages, unit=unit).front()
    free = free[np.isfinite(free)]
    assume(free.size)
    limit = math.inf if tight > 1 else float(free.min() + tight * (free.max() - free.min())) * (1 + 1e-9)
    compiled = a_pass(space, values, period, stages, limit=limit, unit=unit)
    plain = in_numpy(space, values, period, stages, limit=limit, unit=unit)
    for count in range(1, stages + 1) if stages else [None]:
        assert compiled.front(count) == pytest.approx(plain.front(count), rel=1e-12)
        for cores in np.flatnonzero(np.isfinite(compiled.front(count))):
            cells = compiled.chain(int(cores), count)
            total = sum(float(values[cell.option, cell.pair]) for cell in cells) / unit
            assert total == pytest.approx(float(compiled.front(count)[cores]), rel=1e-9)


@QUICK
@given(problems(), STAGES, st.floats(0, 1), st.booleans())
def test_a_narrow_pass_gives_the_first_point_of_the_front(
    problem: Problem, stages: int | None, share: float, dram: bool
) -> None:
    space = Space(problem)
    period = period_of(space, share)
    values = space.costs.dram_bytes if dram else space.costs.load_s
    wide, narrow = a_pass(space, values, period, stages), a_pass(space, values, period, stages, narrow=True)
    for count in range(1, stages + 1) if stages else [None]:
        fewest = np.flatnonzero(np.isfinite(wide.front(count)))
        assert np.isfinite(narrow.front(count)).tolist() == np.isfinite(wide.front(count)).tolist()
        if fewest.size:
            first = int(fewest[0])
            assert narrow.front(count)[first] == wide.front(count)[first]
            assert narrow.chain(first, count) == wide.chain(first, count)


@QUICK
@given(problems(), st.floats(0, 1), st.sampled_from([0.0, 0.3, 3.0, 70.0]))
def test_a_unit_divides_every_amount(problem: Problem, share: float, unit: float) -> None:
    space = Space(problem)
    period, values = period_of(space, share), space.costs.dram_bytes
    divided = a_pass(space, cover_module.relative(values, unit), period, None, limit=1.0)
    assert a_pass(space, values, period, None, limit=1.0, unit=unit).front().tolist() == divided.front().tolist()


def test_a_unit_of_nothing_leaves_room_for_nothing_only() -> None:
    amounts = np.array([[0.0, 1.0, math.inf]])
    assert cover_module.relative(amounts, 0.0).tolist() == [[0.0, math.inf, math.inf]]
    assert cover_module.relative(amounts, 2.0).tolist() == [[0.0, 0.5, math.inf]]


@QUICK
@given(problems(), st.floats(0, 1))
def test_cores_taken_are_replicas_times_cores_and_whole_groups_where_exclusive(problem: Problem, share: float) -> None:
    space = Space(replace(problem, dram_bytes_per_s=1e9))
    period, costs = period_of(space, share), space.costs
    taken = cover_module.cores_taken(costs, period, problem.cores_per_group, 2, problem.cores)
    replicas = cover_module.replicas_needed(costs, period)
    for o, p in np.ndindex(costs.load_s.shape):
        cell = cover_module.Cell(p, o)
        if not math.isfinite(costs.load_s[o, p]):
            assert taken[o, p] == -1 and math.isnan(replicas[o, p])
            continue
        count = cover_module.needed(float(costs.load_s[o, p]), period)
        cores = cover_module.stage_cores(costs, cell, count, problem.cores_per_group)
        assert replicas[o, p] == count
        assert taken[o, p] == (cores if count <= 2 and cores <= problem.cores else -1)
