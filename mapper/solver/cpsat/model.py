"""One call of CP-SAT: the least period of an instance within given windows, within limits of time or of work."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mapper.solver.cpsat.constraints import Constraints
from mapper.solver.cpsat.linear import Chain, Linear
from mapper.solver.cpsat.objective import Objective
from mapper.solver.cpsat.shrink import Windows
from mapper.solver.cpsat.variables import Variables

Ended = Callable[[], bool]
"""Whether it is time to end with what there is."""
Status = Literal["optimal", "found", "refuted", "unknown"]


@dataclass(frozen=True)
class Question:
    """Is there a chain within `windows` whose loads are at most `most` grains, and what is the least that they can be?

    `least`: fewer grains are known to be impossible. `counted`: only the loads of these stages [all] are limited.
    """

    linear: Linear
    windows: Windows
    grain: int
    least: int
    most: int
    counted: range | None = None


@dataclass(frozen=True)
class Effort:
    """Limits: seconds, and CP-SAT's deterministic time (None: no limit). `ended` is asked ten times a second."""

    seconds: float
    ended: Ended
    work: float | None = None
    seed: int = 0


@dataclass(frozen=True)
class Answer:
    """What came out. `chain` is the best found; `least` grains: no chain within the windows has fewer. `work`: what it
    took, in CP-SAT's deterministic time."""

    status: Status
    chain: Chain | None
    least: int
    work: float = 0.0


def solve(question: Question, effort: Effort, hint: Sequence[int] | None = None) -> Answer:
    """CP-SAT's answer. One worker with a seed, so that a limit of work alone gives the same answer every time.

    Raises: KeyboardInterrupt, after the solver has stopped.
    """
    from ortools.sat.python import cp_model

    if question.most < question.least or question.windows.empty:
        return Answer("refuted", None, question.most + 1)
    model = cp_model.CpModel()
    variables = _built(model, question)
    if hint is not None:
        variables.hint(model, hint)
    solver = cp_model.CpSolver()
    _set(solver.parameters, effort)
    status = _watched(solver, model, effort.ended)
    if status == cp_model.MODEL_INVALID:
        raise AssertionError(f"CP-SAT refuses the model: {model.validate()}")
    work = float(solver.response_proto.deterministic_time)
    if status == cp_model.INFEASIBLE:
        return Answer("refuted", None, question.most + 1, work)
    least = min(max(question.least, round(solver.best_objective_bound)), question.most + 1)
    if status == cp_model.UNKNOWN:
        return Answer("unknown", None, least, work)
    return Answer("optimal" if status == cp_model.OPTIMAL else "found", variables.chain(solver.value), least, work)


def _built(model: Any, question: Question) -> Variables:
    """Fills `model`."""
    counted = range(question.linear.stages) if question.counted is None else question.counted
    variables = Variables(model, question.linear, question.windows, counted)
    constraints = Constraints(model, variables)
    constraints.ascend()
    constraints.keep_order()
    constraints.count_crossings()
    if question.linear.exact:
        constraints.fill_stages()
    Objective(model, constraints, question.grain).minimise(question.least, question.most)
    return variables


def _set(parameters: Any, effort: Effort) -> None:
    """All that is linear goes into the relaxation: on these models it prunes more than clauses do, and one worker that
    does so is faster than several that share out the strategies.
    """
    parameters.num_workers = 1
    parameters.linearization_level = 2
    parameters.random_seed = effort.seed
    parameters.max_time_in_seconds = max(effort.seconds, 0.01)
    parameters.catch_sigint_signal = False
    if effort.work is not None:
        parameters.max_deterministic_time = effort.work


def _watched(solver: Any, model: Any, ended: Ended) -> Any:
    """Solves in a thread, so that an interrupt, or an end, is heard while the solver works.

    Waits for an event, not for the thread: an interrupted `Thread.join` of CPython 3.11 takes a thread that runs for
    one that has ended.
    """
    outcome: list[Any] = []
    done = threading.Event()

    def run() -> None:
        try:
            outcome.append(solver.solve(model))
        finally:
            done.set()

    threading.Thread(target=run, daemon=True).start()
    try:
        while not done.wait(0.1):
            if ended():
                solver.stop_search()
    except KeyboardInterrupt:
        while not done.is_set():
            solver.stop_search()
            done.wait(0.1)
        raise
    return outcome[0]
