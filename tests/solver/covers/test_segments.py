"""Covers in segments: against the whole space of small problems, and compiled against numpy."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mapper.solver.covers import cover as cover_module
from mapper.solver.covers.cover import fewest_from, needed, stage_cores
from mapper.solver.covers.segments import Segmented, in_segments
from mapper.solver.problem import Problem
from mapper.solver.search.space import Space
from tests.solver.problems import problems

QUICK = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
CORES = st.lists(st.integers(1, 4), min_size=1, max_size=3)
BORDERS = st.lists(st.booleans(), min_size=16, max_size=16)


def a_period(space: Space, share: float) -> float:
    """A period from where hardly anything works to where anything does."""
    loads = space.costs.load_s[np.isfinite(space.costs.load_s)]
    return float(max(loads.max() * share, 1e-3))


def chains(space: Space) -> list[tuple[int, ...]]:
    """Every chain of ideals from the empty one to all ops."""
    pairs = set(zip(space.costs.source.tolist(), space.costs.target.tolist(), strict=True))
    last = len(space.ideals.member) - 1
    found, open_ = [], [(0,)]
    while open_:
        chain = open_.pop()
        if chain[-1] == last:
            found.append(chain)
        open_ += [(*chain, j) for j in range(chain[-1] + 1, last + 1) if (chain[-1], j) in pairs]
    return found


def possible(space: Space, period: float, cores: list[int], borders: NDArray[np.bool_]) -> bool:
    """Whether some chain, with its stages shared out to segments in order, meets the period."""
    pairs = {
        pair: p for p, pair in enumerate(zip(space.costs.source.tolist(), space.costs.target.tolist(), strict=True))
    }
    for chain in chains(space):
        stages = list(itertools.pairwise(chain))
        for cuts in itertools.combinations(range(1, len(stages)), len(cores) - 1):
            ends = [0, *cuts, len(stages)]
            if not all(borders[chain[cut]] for cut in cuts):
                continue
            taken = [
                sum(fewest(space, period, pairs[stage]) for stage in stages[a:b]) for a, b in itertools.pairwise(ends)
            ]
            if all(x <= most for x, most in zip(taken, cores, strict=True)):
                return True
    return False


def fewest(space: Space, period: float, pair: int) -> float:
    """The fewest cores of a stage that meets the period."""
    size = space.reduction.problem.cores_per_group
    out = math.inf
    for option, load in enumerate(space.costs.load_s[:, pair]):
        if math.isfinite(load):
            cores = needed(float(load), period) * int(space.costs.cores[option])
            out = min(out, -(-cores // size) * size if space.costs.exclusive[option] else cores)
    return out


@QUICK
@given(problems(), CORES, BORDERS, st.floats(0.05, 1))
def test_a_cover_is_found_where_there_is_one(
    problem: Problem, cores: list[int], allowed: list[bool], share: float
) -> None:  # fmt: skip
    space = Space(problem)
    borders = np.array([allowed[i % 16] for i in range(len(space.ideals.member))])
    period, size = a_period(space, share), space.reduction.problem.cores_per_group

    def asked(most: Sequence[int]) -> Segmented | None:
        return in_segments(space.costs, period, most, borders, cores_per_group=size)

    fewer = [most for n in range(1, len(cores)) for most in itertools.combinations(cores, n)]  # without some segments
    found = asked(cores)
    assert (found or any(map(asked, fewer))) or not possible(space, period, cores, borders)
    if found is None:
        return
    taken = [0] * len(cores)
    at = 0
    for cell, segment in zip(found.cells, found.segments, strict=True):
        assert int(space.costs.source[cell.pair]) == at
        at = int(space.costs.target[cell.pair])
        load = float(space.costs.load_s[cell.option, cell.pair])
        taken[segment] += stage_cores(space.costs, cell, needed(load, period), size)
    assert at == len(space.ideals.member) - 1 and list(found.segments) == sorted(found.segments)
    assert set(found.segments) == set(range(len(cores))), "every segment has a stage"
    assert all(x <= most for x, most in zip(taken, cores, strict=True))
    following = zip(found.cells, itertools.pairwise(found.segments), strict=False)
    ends = [int(space.costs.target[cell.pair]) for cell, (a, b) in following if a != b]
    assert all(borders[end] for end in ends)


@QUICK
@given(problems(), BORDERS, st.integers(1, 4), st.floats(0.05, 1))
def test_the_compiled_pass_and_numpy_begin_alike(
    problem: Problem, chosen: list[bool], cores: int, share: float
) -> None:  # fmt: skip
    if cover_module._COMPILED is None:
        pytest.skip("the compiled pass was not built")
    space = Space(problem)
    begin = np.array([chosen[i % 16] for i in range(len(space.ideals.member))])
    assume(begin.any())
    period, size = a_period(space, share), space.reduction.problem.cores_per_group
    compiled = fewest_from(space.costs, period, begin, cores=cores, cores_per_group=size)
    known, cover_module._COMPILED = cover_module._COMPILED, None
    try:
        plain = fewest_from(space.costs, period, begin, cores=cores, cores_per_group=size)
    finally:
        cover_module._COMPILED = known
    assert compiled.fewest is not None and plain.fewest is not None
    assert compiled.fewest.tolist() == plain.fewest.tolist()
    reached = compiled.fewest <= cores
    assert compiled.least[reached] == pytest.approx(plain.least[reached])
