"""Random linear instances and all their chains, for property tests."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
from hypothesis import strategies as st

from mapper.cost.configurations import Config
from mapper.cost.residency import Caches
from mapper.solver.cpsat.linear import Chain, Linear, is_chain, linear_of, loads
from mapper.solver.problem import Limits, Problem, Solution, StageChoice, TensorArc

ONE_EACH = Limits(max_replicas=1)


def problem_from(seconds: list[float], tensors: tuple[TensorArc, ...], stages: int) -> Problem:
    """The published problem: `stages` equal units, no caches, tensors that cost seconds."""
    ops = len(seconds)
    return Problem(
        configs=(Config(1, 1),), cache_shares=(1,), seconds=np.repeat(np.array(seconds)[:, None, None], 3, axis=2),
        dram_bytes=np.zeros((ops, 1)), footprint=np.zeros(ops), tensors=tensors, weights=(), groups=stages,
        cores_per_group=1, cores=stages, caches=Caches(math.inf, math.inf, ("-", "-", "-")),
        dram_bytes_per_s=math.inf, handoff_s=0.0, link_bytes_per_s=(math.inf,),
    )  # fmt: skip


@st.composite
def linear_problems(draw: st.DrawFn, most_ops: int = 6, most_stages: int = 3) -> Problem:
    """Up to `most_ops` ops; tensors with several readers, two of one producer now and then, prices none to high."""
    n = draw(st.integers(1, most_ops))
    seconds = [float(draw(st.integers(0, 12))) for _ in range(n)]
    seconds[draw(st.integers(0, n - 1))] += 1.0
    tensors = []
    for v in range(n - 1):
        for _ in range(draw(st.sampled_from([0, 1, 1, 1, 2]))):
            readers = draw(st.lists(st.integers(v + 1, n - 1), unique=True, min_size=1, max_size=3))
            price = draw(st.sampled_from([0.0, 0.5, 1.0, 2.0, 5.0, 30.0]))
            tensors.append(TensorArc(v, tuple(sorted(readers)), 0.0, price))
    return problem_from(seconds, tuple(tensors), draw(st.integers(1, most_stages)))


def instance(problem: Problem, limits: Limits = ONE_EACH) -> Linear:
    """`problem` in whole numbers."""
    found = linear_of(problem, limits)
    assert found is not None
    return found


def chains(linear: Linear) -> Iterator[Chain]:
    """Every chain, also with empty stages."""
    for chain in itertools.product(range(linear.stages), repeat=linear.ops):
        if is_chain(linear, chain):
            yield chain


def least(linear: Linear) -> int:
    """The least possible largest load, in units."""
    return min(max(loads(linear, chain)) for chain in chains(linear))


def in_one_stage(problem: Problem) -> Solution:
    """The whole model in one stage."""
    total = float(problem.seconds[:, 0, 0].sum())
    stage = StageChoice(tuple(range(problem.ops)), 0, 1, False, total, 0.0)
    return Solution((stage,), total, total, 0.0, True)


def all_ideals(linear: Linear) -> list[int]:
    """Every set of ops that is closed under producers, as masks."""
    return [mask for mask in range(1 << linear.ops) if all(mask >> u & 1 or not mask >> v & 1 for u, v in linear.edges)]


def layered(width: int, depth: int, stages: int) -> Problem:
    """`width` parallel chains of `depth` ops between a first and a last op; times differ, but not at random."""
    seconds, tensors = [3.0], []
    starts: list[int] = []
    for w in range(width):
        before = 0
        for d in range(depth):
            v = len(seconds)
            seconds.append(1.0 + ((w * 7 + d * 5) % 11) / 10)
            if d:
                tensors.append(TensorArc(before, (v,), 0.0, 0.3 + 0.05 * (w % 3)))
            else:
                starts.append(v)
            before = v
        tensors.append(TensorArc(before, (1 + width * depth,), 0.0, 0.4))
    tensors.append(TensorArc(0, tuple(starts), 0.0, 0.5))
    return problem_from([*seconds, 2.0], tuple(tensors), stages)
