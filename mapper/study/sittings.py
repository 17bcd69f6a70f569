"""Sittings of `mapper tune`, kept as they are measured: an interrupted tuning goes on with what it has."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence

from mapper import jsonio
from mapper.cost.profile import MeasuredOps
from mapper.jsonio import Record
from mapper.measure.journal import Journal, Kind
from mapper.study.trials import Named, Trial

Compete = Callable[[Sequence[Named], int], Sequence[Trial]]
"""Measures plans against the first of them, in so many rounds."""


class Measured(Record):
    """A trial without its plan and names, which whoever asks for it has."""

    rates: tuple[float, ...]
    disturbed: tuple[bool, ...]
    over_first: tuple[float, ...]
    stages: tuple[MeasuredOps, ...]
    others_busy: float
    loads_s: tuple[float, ...]


class Sitting(Record):
    """Plans that were measured together: a hash of what they are, in how many rounds and for which time (`what`), a
    trial for each, and the seconds that it took."""

    what: str
    seconds: float
    trials: tuple[Measured, ...]


def _wrong(sitting: Sitting) -> str:
    possible = sitting.seconds >= 0 and all(rate > 0 for trial in sitting.trials for rate in trial.rates)
    return "" if possible and sitting.trials else "no rates of plans that ran"


KIND: Kind[Sitting] = Kind("tuning", "tune", "mapper-tune-sittings/1", Sitting, lambda sitting: sitting.what, _wrong)


class Kept:
    """Measures with `compete`, and keeps each sitting in `journal`; what that has already is not measured again.

    `replayed_s` are the seconds that sittings took when they were measured, of those that were taken from the journal.
    """

    def __init__(self, compete: Compete, journal: Journal[Sitting]) -> None:
        self.compete, self.journal = compete, journal
        self.replayed_s = 0.0
        self._asked = Counter[str]()

    def __call__(self, plans: Sequence[Named], rounds: int) -> Sequence[Trial]:
        """The trials of `plans`, as `compete` gives them."""
        same = sitting_of(plans, rounds)
        what = sitting_of(plans, rounds, self._asked[same])
        self._asked[same] += 1
        known = self.journal.entries.get(what)
        if known is not None and len(known.trials) == len(plans):
            self.replayed_s += known.seconds
            return [
                Trial(names, plan, t.rates, t.disturbed, t.over_first, t.stages, t.others_busy, t.loads_s)
                for (names, plan), t in zip(plans, known.trials, strict=True)
            ]
        began = time.monotonic()
        trials = list(self.compete(plans, rounds))
        seconds = time.monotonic() - began
        rows = [{name: getattr(trial, name) for name in Measured.model_fields} for trial in trials]
        self.journal.add(Sitting(what=what, seconds=seconds, trials=tuple(map(Measured.model_validate, rows))))
        return trials


def sitting_of(plans: Sequence[Named], rounds: int, before: int = 0) -> str:
    """A hash of how `plans` run, in their order, of the rounds, and of how often they had as many `before`."""
    run = [
        [plan.request.backend, [[s.ops, [[r.configuration.name, r.cores] for r in s.replicas]] for s in plan.stages]]
        for _, plan in plans
    ]
    return jsonio.sha256([rounds, before, run])
