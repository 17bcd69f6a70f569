"""What comes before CP-SAT: windows and linear programs that raise the bound, and chains from ideals and fractions."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from mapper.solver.cpsat.improve import MOST_IDEALS, best_of_ideals, candidates, walks
from mapper.solver.cpsat.linear import Chain, Linear, Shrunk, is_chain, loads, unchanged
from mapper.solver.cpsat.model import Ended
from mapper.solver.cpsat.relaxation import relaxed
from mapper.solver.cpsat.shrink import Windows, shrunk, windows

FIRST_STEP = 0.01
"""The least first step above the bound, relative."""
MANY_STAGES = 8
"""Stages from which on half as many are tried first."""
RELAXED_STEP, MOST_RELAXED_STEP, RELAXED_PRECISION = 0.02, 0.16, 0.003
"""The first and the largest step of the bound that needs no search, and how near its end it is followed; relative."""
MOST_PLACES = 1500
"""Places of ops in stages up to which the linear program is solved: a second or two."""
MOST_IDLE = 4
"""Rounds of orders around the best chain that may bring nothing before other ways are tried."""


@dataclass
class State:
    """What is known. Grains: the best chain has `best`, none has fewer than `low`."""

    linear: Linear
    grain: int
    chain: Chain
    best: int
    low: int
    step: float = FIRST_STEP
    seed: int = 0
    width: int = 2
    each_s: float = 2.0

    @property
    def proved(self) -> bool:
        """Whether the best chain is a best one."""
        return self.low >= self.best

    def offer(self, chain: Chain | None) -> None:
        """Takes `chain` if it is one, and better. One below the bound would be a bug of a solver: then the bound is
        what needs none."""
        if chain is not None and is_chain(self.linear, chain):
            grains = -(-max(loads(self.linear, chain)) // self.grain)
            if grains < self.best:
                self.chain, self.best = chain, grains
            if grains < self.low:
                self.low = -(-self.linear.least // self.grain)


def started(state: State, ended: Ended) -> None:
    """Cuts, linear programs and orders; for many stages those of half as many first, as a chain to begin with: the
    linear program is smaller then, and its fractions are nearer to whole."""
    linear = state.linear
    if linear.stages >= MANY_STAGES and not linear.exact:
        fewer = replace(linear, stages=linear.stages // 2)
        total, low = -(-sum(linear.work) // state.grain), -(-fewer.least // state.grain)
        half = State(fewer, state.grain, (0,) * linear.ops, total, low)
        started(half, ended)
        state.offer(half.chain)
    _borders(state, ended)
    _relax(state, ended)
    _walk(state, ended)


def _borders(state: State, ended: Ended) -> None:
    """Moves the borders of the best chain to the cheapest cuts near them, as long as that helps."""
    before = state.best + 1
    while state.best < before and not ended():
        before = state.best
        state.offer(best_of_ideals(state.linear, candidates(state.linear, state.chain, ended)))


def _walk(state: State, ended: Ended) -> None:
    """Orders around the best chain, and the cheapest borders near its own, until `MOST_IDLE` rounds bring nothing."""
    idle = 0
    while idle < MOST_IDLE and not state.proved and not ended():
        before = state.best
        state.seed += 1
        state.offer(walks(state.linear, state.chain, state.seed))
        if state.best < before:
            _borders(state, ended)
        idle = idle + 1 if state.best == before else 0


def _relax(state: State, ended: Ended) -> None:
    """Raises the bound by what needs no search: single ops, windows and the linear program; whose fractions, rounded,
    give chains as well.

    The lower the period that is asked about, the narrower the windows: so from below, in steps that grow, then by
    halves.
    """
    step, high = RELAXED_STEP, state.best
    while high - state.low > RELAXED_PRECISION * state.low and not ended():
        most = min(int(state.low * (1 + step)), (state.low + high) // 2 if high < state.best else high - 1)
        low = _relaxed(state, most)
        state.low = min(max(state.low, low), state.best)
        step = min(2 * step, MOST_RELAXED_STEP)
        if low <= most:
            high = min(most, state.best)


def _relaxed(state: State, most: int) -> int:
    """Grains: no chain has fewer; at most `most` + 1, which says that none keeps `most`."""
    period = most * state.grain + 1
    small, found = windowed(state.linear, period)
    if found.empty:
        return most + 1
    if found.places > MOST_PLACES:
        return 0
    result = relaxed(small.linear, found, period)
    chain = best_of_ideals(small.linear, _some(result.ideals))
    state.offer(None if chain is None else small.restore(chain))
    return min(most + 1, -(-result.bound // state.grain))


def _some(ideals: tuple[int, ...]) -> tuple[int, ...]:
    """Evenly spaced ones, as many as the dynamic program takes."""
    return ideals[:: -(-len(ideals) // MOST_IDEALS) or 1]


def windowed(linear: Linear, period: int) -> tuple[Shrunk, Windows]:
    """What is left of `linear` below `period`; windows are empty where nothing is."""
    small = shrunk(linear, period)
    if small is None:
        return unchanged(linear), Windows((1,), (0,))
    return small, windows(small.linear, period)


def narrowed(linear: Linear, period: int) -> tuple[Shrunk, Windows]:
    """As `windowed`, and windows narrowed by the linear program as long as that takes a tenth of them away."""
    small, found = windowed(linear, period)
    before = math.inf
    while not found.empty and 0 < found.places <= min(MOST_PLACES, 0.9 * before):
        before = found.places
        result = relaxed(small.linear, found, period)
        if result.bound >= period:
            return small, Windows((1,), (0,))
        found = result.windows
    return small, found
