"""Large graphs made small: neighbours of an order in which the ops can run become blocks.

Not exact: a plan of blocks is a plan of the ops, but the best plan may cut a block. So the bound of a coarsened
problem must come from the ops (`bounds.area`), never from the search over blocks.
"""

from __future__ import annotations

import itertools

import numpy as np

from mapper.cost.residency import GROUP
from mapper.solver.problem import Array, Problem
from mapper.solver.reductions.reduce import Reduction, merge


def coarsen(fine: Reduction, most_ideals: int) -> Reduction:
    """`fine` as it is where it can have at most `most_ideals` ideals; a larger one in half as many blocks of about
    equal work, cut where little is handed over.

    Any run of ops in an order in which they can run is convex, and the runs one after the other have no cycle.
    """
    problem = fine.problem
    if problem.ops < most_ideals:
        return fine
    cuts = _cuts(problem, most_ideals // 2)
    blocks = tuple(tuple(range(a, b)) for a, b in zip([0, *cuts], [*cuts, problem.ops], strict=True))
    members = tuple(fine.restore(block) for block in blocks)
    return Reduction(merge(problem, blocks), members)


def _cuts(problem: Problem, blocks: int) -> list[int]:
    """Where blocks begin, but for the first: near equal shares of the work, at the cheapest cut between two shares.

    Half of an op's weight is its share of the seconds, half its share of the ops.
    """
    seconds = problem.seconds[:, 0, GROUP]
    weight = seconds / max(float(seconds.sum()), 1e-300) + 1 / problem.ops
    done = np.cumsum(weight)
    crossing = _crossing(problem)
    edges = np.searchsorted(done, done[-1] * (np.arange(blocks) + 0.5) / blocks)
    found = set()
    for low, high in itertools.pairwise(edges):
        if low < high:
            found.add(int(low) + 1 + int(crossing[low + 1 : high + 1].argmin()))
    return sorted(found)


def _crossing(problem: Problem) -> Array:
    """Seconds of handing over what ops before position p produce for ops at or after it, for each p."""
    out = np.zeros(problem.ops + 1)
    for tensor in problem.tensors:
        seconds = problem.transfer_s(tensor, 0)
        out[tensor.producer + 1] += seconds
        out[max(tensor.readers) + 1] -= seconds
    return np.cumsum(out)
