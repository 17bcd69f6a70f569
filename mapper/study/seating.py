"""Who is measured together. All contenders are up at once where there is memory for that; where there is not, the rest
is measured in further sittings, each with the chosen plan up again, so that every ratio is still one of interleaved
rounds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from mapper.backends.registry import backend_called
from mapper.errors import MapperError, SystemRefused
from mapper.measure.memory import free_bytes
from mapper.plans.model import Plan
from mapper.study.arrivals import Arrivals, schedule
from mapper.study.executed import ExecutedPlan
from mapper.study.rounds import Contender, Round, Say, Series, Watch, interleaved, interleaved_open
from mapper.study.statistics import median
from mapper.study.vendors import Outside

PROCESS_BYTES = 450 * 10**6
"""What a process takes before its weights: the interpreter, torch and a library (measured: 0.3 to 0.45 GB)."""
WORKER_BYTES = 150 * 10**6
"""What a worker takes besides, who shares torch with the others: its library and what lives in a call."""
COPIES = {"eager": 0, "inductor": 0}
"""Copies of the weights in each process, by family of back ends: these map one that all share. Others lay weights out
anew, and hold those of the file while they do."""
OTHER_COPIES = 2


@dataclass(frozen=True)
class Starter:
    """A contender that is not up yet: its name, the memory it takes, and what starts it until the stack is left. One
    that is `optional` is left out where it cannot be started: it is somebody else's."""

    name: str
    bytes: int
    start: Callable[[ExitStack], ExecutedPlan | Outside]
    optional: bool = False


@dataclass
class Seat:
    """A contender's rounds, closed loop, and open loop by rate. `chosen` are those of the chosen plan in the same
    sitting: round i belongs to round i."""

    contender: ExecutedPlan | Outside
    series: Series
    chosen: Series
    open: dict[float, list[Round]]


@dataclass(frozen=True)
class Course:
    """How to measure: interleaved rounds of about so many seconds, and open-loop rates (None: no open loop)."""

    rounds: int
    seconds: float
    arrivals: Arrivals | None = None


def need_bytes(plan: Plan, processes: int, weight_bytes: int, *, forked: bool) -> int:
    """An upper estimate of what a set-up in so many processes takes, with the back end of `plan`. Those that are
    `forked` share what one process has loaded."""
    copies = COPIES.get(backend_called(plan.request.backend).family, OTHER_COPIES)
    own = PROCESS_BYTES + processes * WORKER_BYTES if forked else processes * PROCESS_BYTES
    return own + weight_bytes * (1 + processes * copies)


def measured(
    starters: Sequence[Starter], course: Course, watch: Watch, say: Say = lambda message: None,
    free: Callable[[], int] = free_bytes,
) -> tuple[list[Seat], list[str]]:  # fmt: skip
    """Measures all, the first of which is the chosen plan, in as few sittings as memory allows. What does not fit
    beside the chosen plan is left out. The seats, the chosen plan's first, and notes.

    Raises: SystemRefused when there is no memory for the chosen plan.
    """
    chosen, left = starters[0], list(starters[1:])
    seats: list[Seat] = []
    notes: list[str] = []
    if chosen.bytes > free():
        raise SystemRefused(
            f"{chosen.name} takes about {chosen.bytes / 1e9:.1f} GB, and {free() / 1e9:.1f} GB are free"
        )
    rates: tuple[float, ...] = ()
    while left or not seats:
        with ExitStack() as stack:
            up, waiting = [chosen.start(stack)], []
            for starter in left:
                if starter.bytes > free():
                    waiting.append(starter)
                    continue
                try:
                    up.append(starter.start(stack))
                except MapperError as error:
                    if not starter.optional:
                        raise
                    notes.append(f"{starter.name} is left out: {error.what}")
            if len(up) == 1 and waiting:
                notes.append(f"{waiting[0].name} is left out: there is no memory for it beside the chosen plan")
                left = waiting[1:]
                if left or seats:
                    continue
                waiting = []
            series = interleaved(up, course.rounds, course.seconds, watch, say)
            if course.arrivals is not None:
                rates = rates or course.arrivals.of(median(series[0].rates))
            open_rounds = _open(up, rates, course, watch, say)
        first = 0 if not seats else 1  # the chosen plan counts once, from the first sitting
        for contender, one, opened in list(zip(up, series, open_rounds, strict=True))[first:]:
            seats.append(Seat(contender, one, series[0], opened))
        if waiting and len(up) > 1:
            notes.append(f"not all fit into memory at once: {', '.join(s.name for s in waiting)} ran after the others")
        left = waiting
    return seats, notes


def _open(
    up: Sequence[Contender], rates: Sequence[float], course: Course, watch: Watch, say: Say
) -> list[dict[float, list[Round]]]:
    """The open-loop rounds of each by rate; the same arrivals for all, other ones in each round."""
    found: list[dict[float, list[Round]]] = [{} for _ in up]
    count = max(1, course.rounds // 3)
    for i, rate in enumerate(rates):
        assert course.arrivals is not None, "rates are those of arrivals"
        seed = course.arrivals.seed * 1_000_003 + i * 1009
        schedules = [schedule(rate, course.seconds, seed + number) for number in range(count)]
        for mine, rounds in zip(found, interleaved_open(up, schedules, watch, say), strict=True):
            mine[rate] = rounds
    return found
