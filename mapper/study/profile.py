"""`mapper profile`: what a plan for this machine depends on, measured with one back end, within a budget."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mapper import jsonio
from mapper.backends.registry import EAGER, backend_called
from mapper.cache import cache_folder
from mapper.cost.configurations import Config
from mapper.cost.profile import MeasuredOps, Profile, merged
from mapper.cost.profiled import Fit
from mapper.execution.place import Claim
from mapper.execution.run import drawn_items
from mapper.graph.model import Graph
from mapper.machine.discover import discover
from mapper.machine.model import Machine
from mapper.measure.calibrate import refuse_emulated
from mapper.measure.journal import Journal, Kind
from mapper.measure.memory import NoRoom
from mapper.measure.profile import ROUND_S, ROUNDS, Chain, PartTimer, empty_profile, pus_here
from mapper.plans.model import ModelRef, Plan
from mapper.solver.plan import plan
from mapper.sources.source import Source, realised_source
from mapper.study.profiling import PLAN_S, Profiling, Turn, fill

BUDGET_S = 300.0
KIND: Kind[MeasuredOps] = Kind("profile", "profile", "mapper-profile-rows/1", MeasuredOps, lambda row: row.what)

Say = Callable[[str], None]


@dataclass(frozen=True)
class Profiled:
    """A profile, the costs that follow from it (None where it was interrupted before), and how it came about."""

    profile: Profile
    fit: Fit | None
    turns: tuple[Turn, ...]
    ended: str
    interrupted: bool = False


@dataclass(frozen=True)
class Settings:
    """How a profile is made: seconds in all, rounds of a part and seconds of a round, and the configurations that are
    looked at (None: those of likely plans)."""

    budget_s: float = BUDGET_S
    rounds: int = ROUNDS
    round_s: float = ROUND_S
    configurations: tuple[Config, ...] | None = None


def profile(
    graph: Graph, machine: Machine, model: ModelRef, *, backend: str = EAGER, settings: Settings | None = None,
    known: Sequence[Profile] = (), fresh: bool = False, say: Say = lambda message: None,
    tell: Say = lambda message: None,
) -> Profiled:  # fmt: skip
    """Measures parts of `graph` (of `model`) on `machine`, this machine, with `backend`, for about `budget_s`.

    `known` are earlier profiles of the same, which are completed. Interrupted, the same call goes on from there (not
    with `fresh`), and gives what it has, marked so. `say` is told where it stands, `tell` what the user should know.

    Raises: MachineMismatch when `machine` is another one than this, or its cores are taken; BadInput where a part
    cannot be compiled, or `known` is of something else; MissingFeature; SystemRefused on an emulated machine.
    """
    refuse_emulated()
    settings = settings or Settings()
    backend_called(backend).require()
    empty = empty_profile(graph, machine, backend)
    begun = time.monotonic()
    profiling = Profiling(merged([empty, *known]))
    with Claim(pus_here(machine, discover())):
        say("Building the model ...")
        source, some = _source(graph, machine, model)
        item = drawn_items(some, source, 1)[0]
        timer = PartTimer(
            graph, machine, source, item, backend, rounds=settings.rounds, seconds=settings.round_s, say=say
        )
        with timer, journal_for(empty, settings, tell) as journal:
            if fresh:
                journal.discard()
            if kept := tuple(journal.read().entries.values()):
                tell(f"going on after {len(kept)} measurements")
                earlier = empty.model_copy(update={"measurements": kept})
                profiling.profile = merged([profiling.profile, earlier])
            left = settings.budget_s - (time.monotonic() - begun)
            measure = _kept(timer, journal, tell)
            try:
                fit = fill(
                    profiling, graph, machine, measure, budget_s=left, chosen=settings.configurations, progress=say
                )
            except (KeyboardInterrupt, SystemExit):
                return Profiled(profiling.profile, None, tuple(profiling.turns), profiling.ended, interrupted=True)
            journal.discard()
    return Profiled(profiling.profile, fit, tuple(profiling.turns), profiling.ended)


def _kept(timer: PartTimer, journal: Journal[MeasuredOps], tell: Say) -> Callable[[Chain], list[MeasuredOps]]:
    """What measures with `timer`, and keeps it in `journal`; `tell` is told what there is no memory for."""

    def measure(chain: Chain) -> list[MeasuredOps]:
        try:
            rows = timer.measure(chain)
        except NoRoom as error:
            tell(f"{error.what}. {error.advice}")
            raise
        for row in rows:
            journal.add(row)
        return rows

    return measure


def _source(graph: Graph, machine: Machine, model: ModelRef) -> tuple[Source, Plan]:
    """The model with its weights, and some plan of it, which names it."""
    some = plan(graph, machine, model=model, time_limit_s=PLAN_S)
    return realised_source(some), some


def journal_for(empty: Profile, settings: Settings, tell: Say) -> Journal[MeasuredOps]:
    """The journal of exactly this: graph, back end, machine, and how it is measured."""
    key = jsonio.sha256([jsonio.plain(empty), settings.rounds, settings.round_s])
    return Journal(cache_folder(), key, time.time(), tell, KIND)
