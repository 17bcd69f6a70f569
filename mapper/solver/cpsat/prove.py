"""`prove`: the best chain of a linear instance and a proved bound, by cuts, linear programs and CP-SAT.

The bound ascends: a little above what is proved, windows are narrow and CP-SAT decides fast. Where it refutes a period,
that is the new bound, and the next step is larger; where it finds the least period below, that is the optimum. Above
some work the rounds go on against the clock, with neighbourhoods of the best chain in a thread beside them.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace

import numpy as np

from mapper.cost.residency import GROUP
from mapper.solver.cpsat.improve import around_the_longest
from mapper.solver.cpsat.layers import exact
from mapper.solver.cpsat.linear import Chain, Linear, Shrunk, is_chain, linear_of, loads, without_gaps
from mapper.solver.cpsat.model import Answer, Effort, Ended, Question, solve
from mapper.solver.cpsat.shrink import Windows, dominated
from mapper.solver.cpsat.start import FIRST_STEP, State, narrowed, started, windowed
from mapper.solver.problem import Limits, Problem, Solution, StageChoice
from mapper.solver.stop import Stop
from mapper.units import format_seconds

TOLERANCE = 2.5e-7
"""Relative precision of a proof: a quarter of what a plan of a graph file needs to be called optimal."""
WORK, TIE_WORK = 5.0, 15.0
"""CP-SAT's deterministic time for one round before the clock decides, and for one choice among equal chains."""
MOST_STEP, LEAST_STEP = 0.08, 0.0005
"""How far above the proved bound a period is that is asked about, relative: a quarter of the gap at first, between
`start.FIRST_STEP` and the first of these; the second is the least that it shrinks to."""
MOST_OPS = 8000
"""Ops up to which a graph is looked at: each cut takes milliseconds."""
FIRST_SLICE_S = 4.0
"""Of the first round by the clock."""
MOST_WIDTH = 6
"""Neighbouring stages that are solved anew at once."""


def prove(
    problem: Problem,
    limits: Limits,
    incumbent: Solution,
    bound_s: float,
    *,
    time_limit_s: float = 10.0,
    workers: int = 2,
    progress: Callable[[str], None] = lambda message: None,
    tolerance: float = TOLERANCE,
    near_optimal: float = 0.0,
    stop: Stop | None = None,
) -> tuple[Solution, float]:
    """The best solution of `problem` that was found, and the best bound in seconds that was proved.

    `incumbent` and the result have stages in ops of `problem`; `bound_s` holds already. Both come back unchanged where
    the problem is not linear (`linear.linear_of`) or too large. Where the two come to agree to `tolerance`, the result
    is the same for any number of workers and any time limit that sufficed: its stages are chosen by one worker within
    limits of work, fewest first; with `near_optimal` the fewest within that fraction of the best period (`strict` is
    the best then). The time limit, `stop` and KeyboardInterrupt end it with what it has, marked
    `stopped`; an interrupt is also noted in `stop`.
    """
    whole = linear_of(problem, limits)
    if whole is None or bound_s >= incumbent.best_period_s * (1 - tolerance):
        return incumbent, bound_s
    reduced = dominated(whole)
    if reduced.linear.ops > MOST_OPS:
        return incumbent, bound_s
    limit, interrupted = Stop(time_limit_s), stop or Stop()

    def ended() -> bool:
        return limit.reached or interrupted.reached

    state = _begun(whole, reduced, incumbent, tolerance)
    _note(state, whole, bound_s)
    floor_s = float(problem.dram_bytes[:, _column(problem, limits)].sum()) / problem.dram_bytes_per_s
    chosen = None
    try:
        _improved(state, workers, ended, progress)
        if state.proved and near_optimal > 0:
            most = int(state.best * (1 + near_optimal))
            chosen = _fewest(state, state.chain, most, state.best, ended)
    except KeyboardInterrupt:
        interrupted.now()
    bound_s = max(bound_s, floor_s, ((state.low - 1) * state.grain + 1) * whole.unit_s)
    found = _solution(problem, limits, reduced.restore(state.chain), floor_s)
    best = found if state.proved or found.period_s < incumbent.period_s else incumbent
    bound_s = min(bound_s, best.best_period_s)
    best = replace(best, bound_s=bound_s, whole_space=state.proved, stopped=ended())
    if chosen is not None and len(set(chosen)) < len(best.stages):
        fewer = _solution(problem, limits, reduced.restore(chosen), floor_s)
        best = replace(fewer, best_period_s=best.period_s, bound_s=bound_s, stopped=best.stopped, strict=best)
    return best, bound_s


def _improved(state: State, workers: int, ended: Ended, progress: Callable[[str], None]) -> None:
    """Cuts and linear programs, CP-SAT within a limit of work, then by the clock; and the choice among equals."""
    started(state, ended)
    state.step = min(max(FIRST_STEP, (state.best / state.low - 1) / 4), MOST_STEP)
    in_work = _by_work(state, ended, progress)
    if not in_work:
        _by_clock(state, ended, workers, progress)
    if state.proved:
        state.chain = _fewest(state, state.chain if in_work else _settled(state, ended), state.best, state.best, ended)


def _note(state: State, whole: Linear, bound_s: float) -> None:
    """Takes a bound from outside. A load in units may be lower than the true one, by a unit for each cost in it."""
    units = bound_s / whole.unit_s - whole.ops - len(whole.arcs) - 2
    state.low = max(state.low, min(state.best, math.floor(units / state.grain)))


def _column(problem: Problem, limits: Limits) -> int:
    """The configuration."""
    return 0 if limits.configurations is None else problem.configs.index(limits.configurations[0])


def _begun(whole: Linear, reduced: Shrunk, incumbent: Solution, tolerance: float) -> State:
    """The incumbent in terms of the reduced instance: a merged op goes with its latest part, and all that read it."""
    stage_of = {v: s for s, stage in enumerate(incumbent.stages) for v in stage.ops}
    linear = reduced.linear
    chain = [0] * linear.ops
    for v, op in enumerate(reduced.home):
        chain[op] = max(chain[op], stage_of.get(v, 0))
    for u, v in linear.edges:  # ascending producers, so that each is settled before it is read
        chain[v] = max(chain[v], chain[u])
    if not is_chain(linear, chain):
        raise AssertionError("the incumbent breaks the limits of its own problem")
    grain = max(1, int(linear.least * tolerance))
    alone = 0 if linear.exact else sum(linear.work)
    best = -(-max(loads(linear, chain)) // grain)
    state = State(linear, grain, tuple(chain), best, -(-linear.least // grain))
    if alone:
        state.offer((0,) * linear.ops)
    state.low = min(state.low, state.best)
    return state


def _ask(state: State, most: int, effort: Effort, *, linear: Linear | None = None, least: int | None = None) -> Answer:
    """What is known of chains that keep `most` grains, after the dynamic program or CP-SAT; in ops of the instance."""
    linear = state.linear if linear is None else linear
    small, places = narrowed(linear, most * state.grain + 1)
    known = _by_layers(small, places, most, state.grain)
    if known is not None:
        return known
    question = Question(small.linear, places, state.grain, state.low if least is None else least, most)
    answer = solve(question, effort)
    return replace(answer, chain=answer.chain and small.restore(answer.chain))


def _by_layers(small: Shrunk, places: Windows, most: int, grain: int) -> Answer | None:
    """The best chain that keeps `most` grains by the dynamic program; None where it would take too long."""
    if places.empty:
        return Answer("refuted", None, most + 1)
    known = exact(small.linear, places, most * grain)
    if known is None:
        return None
    if known.chain is None:
        return Answer("refuted", None, most + 1)
    return Answer("optimal", small.restore(known.chain), -(-known.load // grain))


def _by_work(state: State, ended: Ended, progress: Callable[[str], None]) -> bool:
    """Ascends within a limit of work. Whether it proved the optimum, which then depends on no clock."""
    spent = 0.0
    while not state.proved and not ended():
        known = _by_layers(*windowed(state.linear, (state.best - 1) * state.grain + 1), state.best - 1, state.grain)
        if known is not None:
            _heard(state, known, state.best - 1)
            continue
        most = _target(state)
        answer = _ask(state, most, Effort(math.inf, ended, WORK - spent))
        spent += answer.work
        _heard(state, answer, most)
        progress(_report(state))
        if answer.status in ("unknown", "found") or spent >= WORK:
            break
    return state.proved and not ended()


def _target(state: State) -> int:
    """The period to ask about, in grains: a step above the bound, but below the best chain."""
    return min(state.best - 1, int(state.low * (1 + state.step)) + 1)


def _heard(state: State, answer: Answer, most: int) -> None:
    """Notes an answer. A refutation of what a checked chain keeps would be a bug of the solver, and proves nothing."""
    if answer.status == "refuted" and state.best <= most:
        return
    state.offer(answer.chain)
    state.low = min(max(state.low, answer.least), state.best)
    if answer.status == "refuted":
        state.step *= 2
    elif answer.status == "unknown":
        state.step = max(LEAST_STEP, state.step / 2)


def _by_clock(state: State, ended: Ended, workers: int, progress: Callable[[str], None]) -> None:
    """Rounds that get longer: the bound in this thread, better chains in another (or after it, with one worker)."""
    slice_s = FIRST_SLICE_S
    while not state.proved and not ended():
        most = _target(state)
        answer, found = _round(state, most, slice_s, ended, workers)
        state.width, state.each_s = found.width, found.each_s
        state.offer(found.chain)
        _heard(state, answer, most)
        slice_s *= 2 if answer.status == "unknown" else 1
        progress(_report(state))


def _round(state: State, most: int, seconds: float, ended: Ended, workers: int) -> tuple[Answer, State]:
    """One question about `most` grains, and what neighbourhoods find meanwhile."""
    over = threading.Event()

    def over_or_ended() -> bool:
        return over.is_set() or ended()

    with ThreadPoolExecutor(1) as pool:
        try:
            other = pool.submit(_neighbourhoods, replace(state), over_or_ended) if workers > 1 else None
            answer = _ask(state, most, Effort(seconds, ended))
            if other is None:
                other = pool.submit(_neighbourhoods, replace(state), over_or_ended)
                wait([other], seconds)
        finally:
            over.set()
    return answer, other.result()


def _neighbourhoods(state: State, ended: Ended) -> State:
    """Solves some neighbouring stages around the longest anew until told to stop: two, then more, then for longer."""
    while not ended() and not state.proved:
        better = around_the_longest(state.linear, state.chain, state.grain, state.width, Effort(state.each_s, ended))
        if better is not None:
            state.offer(better)
        elif not ended():
            state.width += 1
            if state.width > min(state.linear.stages, MOST_WIDTH):
                state.width, state.each_s = 2, state.each_s * 2
    return state


def _settled(state: State, ended: Ended) -> Chain:
    """The best chain that one worker finds within its work, whatever the clock has found; that one if it finds none."""
    answer = _ask(state, state.best, Effort(math.inf, ended, TIE_WORK), least=state.best)
    return state.chain if answer.chain is None else answer.chain


def _fewest(state: State, chain: Chain, most: int, least: int, ended: Ended) -> Chain:
    """`chain`, or one with fewer stages that keeps `most` grains, as far as work finds or refutes any. None has fewer
    than `least` grains."""
    chain = without_gaps(chain)
    fewest, used = -(-sum(state.linear.work) // (most * state.grain)), max(chain) + 1
    while fewest < used and not state.linear.exact and not ended():
        stages = (fewest + used) // 2
        fewer = replace(state.linear, stages=stages)
        answer = _ask(state, most, Effort(math.inf, ended, TIE_WORK), linear=fewer, least=least)
        if answer.chain is None:
            fewest = stages + 1
        else:
            chain = without_gaps(answer.chain)
            used = max(chain) + 1
    return chain


def _solution(problem: Problem, limits: Limits, chain: Chain, floor_s: float) -> Solution:
    """`chain` in seconds, costed from the problem."""
    column, chain = _column(problem, limits), without_gaps(chain)
    seconds = np.zeros(max(chain) + 1)
    np.add.at(seconds, list(chain), problem.seconds[:, column, GROUP])
    for tensor in problem.tensors:
        each = problem.transfer_s(tensor, column)
        home = chain[tensor.producer]
        away = sorted({chain[reader] for reader in tensor.readers} - {home})
        for s in (*away, *([home] if away else [])):
            seconds[s] += each
    stages = []
    for s, load in enumerate(seconds):
        ops = [v for v, stage in enumerate(chain) if stage == s]
        dram = float(problem.dram_bytes[ops, column].sum())
        stages.append(StageChoice(tuple(ops), column, 1, False, float(load), dram))
    period = max(float(seconds.max()), floor_s)
    return Solution(tuple(stages), period, period, 0.0, True)


def _report(state: State) -> str:
    scale = state.grain * state.linear.unit_s
    return f"period {format_seconds(state.best * scale)}, bound {format_seconds(state.low * scale)}"
