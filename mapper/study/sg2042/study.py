"""`mapper study`: native, copies, pipelines and the planner's choice for each model and item size, with the range that
the machine's uncertain figures leave, what each of them changes, and what each mechanism is worth."""

from __future__ import annotations

import contextlib
import random
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from mapper.cost.configurations import configurations
from mapper.cost.paths import path_of
from mapper.cost.roofline import roofline
from mapper.cost.table import CostTable
from mapper.jsonio import Record
from mapper.machine.model import Machine
from mapper.machine.parts import Path
from mapper.machine.vary import vary
from mapper.study.processes import shared_out
from mapper.study.sg2042.cases import CALLS, ITEMS, MODELS, Case
from mapper.study.sg2042.mappings import PIPELINE, PLACED, Mapping, mappings
from mapper.study.sg2042.native import Native, native_s, teams
from mapper.study.sg2042.parameters import drawn, mechanisms, parameters, unranged
from mapper.study.sg2042.ratios import Outcome, outcome

SAMPLES = 200
LATENCY_LIMIT = 2.0
"""The latency that one of the planner's mappings keeps, over that of native with all threads."""
LOW, HIGH = 0.05, 0.95
"""The percentiles that ranges are told with."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Settings:
    """What is looked at: models, elements of an item, elements of the calls that mappings take, samples of the
    uncertain figures, their seed, and processes."""

    models: tuple[str, ...] = MODELS
    items: tuple[int, ...] = ITEMS
    calls: tuple[int, ...] = CALLS
    samples: int = SAMPLES
    seed: int = 0
    processes: int = 2


class Gain(Record):
    """A mapping over native with all threads, weights on the node that touched them first: at the central figures, and
    the range of the samples. `calls_of` are the elements of a call, `latency_s` is of one call."""

    name: str
    kind: str
    per_s: float
    calls_of: int
    latency_s: float
    ratio: float
    low: float
    high: float


class Row(Record):
    """A model with items of so many elements. `native_s` is an item with all threads; `interleaved` is the gain of
    spreading its weights over all nodes, `best_native` the fastest set-up and `best_native_ratio` its gain.
    `best_pipeline` is the fastest of those without copies."""

    model: str
    item: int
    native_s: float
    interleaved: float
    best_native: str
    best_native_ratio: float
    best_pipeline: Gain | None
    gains: tuple[Gain, ...]


class Influence(Record):
    """What the best pipeline's gain becomes where a parameter is at an end of its range."""

    model: str
    item: int
    parameter: str
    central: float
    low: float
    high: float


class Knockout(Record):
    """What the best pipeline's gain becomes without a mechanism."""

    model: str
    item: int
    mechanism: str
    central: float
    without: float


class Shape(Record):
    """Cores, cores of a group, groups and NUMA nodes of the machine, which regular mappings are named after."""

    cores: int
    cores_per_group: int
    groups: int
    nodes: int


class Study(Record):
    """All of it, for one machine. `path` is how PyTorch executes ops there (`mapper.cost.paths`). `ranged` is how many
    parameters have ranges, `unranged` are assumed figures of the machine's file that have none, which the ranges of
    gains leave out."""

    machine: str
    shape: Shape
    path: Path
    ranged: int
    unranged: tuple[str, ...]
    samples: int
    seed: int
    rows: tuple[Row, ...]
    influences: tuple[Influence, ...]
    knockouts: tuple[Knockout, ...]


def study(machine: Machine, settings: Settings | None = None, say: Say = lambda message: None) -> Study:
    """The study on `machine`, each model in a process of its own."""
    settings = settings or Settings()
    found: dict[str, Study] = {}
    work = shared_out(one_by_one, (machine, settings), settings.models, settings.processes)
    with contextlib.closing(work) as results:
        for model, part in results:
            found[model] = part
            say(f"{len(found)} of {len(settings.models)} models, {model} the last")
    parts = [found[model] for model in settings.models]
    return _study_of(
        machine, settings, [row for part in parts for row in part.rows],
        [row for part in parts for row in part.influences], [row for part in parts for row in part.knockouts],
    )  # fmt: skip


def _study_of(
    machine: Machine, settings: Settings, rows: Iterable[Row], influences: Iterable[Influence],
    knockouts: Iterable[Knockout],
) -> Study:  # fmt: skip
    counts = machine.counts
    shape = Shape(
        cores=counts["cores"], cores_per_group=machine.cores_per_group, groups=counts["groups"], nodes=counts["nodes"]
    )
    return Study(
        machine=machine.name, shape=shape, path=path_of(machine), ranged=len(parameters(machine)),
        unranged=unranged(machine), samples=settings.samples, seed=settings.seed, rows=tuple(rows),
        influences=tuple(influences), knockouts=tuple(knockouts),
    )  # fmt: skip


def one_by_one(subject: tuple[Machine, Settings]) -> Callable[[str], Study]:
    """What makes the study of one model after another."""
    machine, settings = subject
    return lambda model: of_model(machine, model, settings)


def of_model(machine: Machine, model: str, settings: Settings) -> Study:
    """The study of one model."""
    return _OfModel(machine, model, settings).result()


class _OfModel:
    def __init__(self, machine: Machine, model: str, settings: Settings) -> None:
        self.machine, self.model, self.settings = machine, model, settings
        self.all_threads = Native(len(machine.cores))
        self.found = [mapping for batch in settings.calls for mapping in self._mappings(batch)]
        self.names = {
            kind: list(dict.fromkeys(m.name for m in self.found if m.kind == kind))
            for kind in dict.fromkeys(m.kind for m in self.found)
        }

    def _mappings(self, batch: int) -> list[Mapping]:
        case = Case(self.model, batch)
        limit = LATENCY_LIMIT * native_s(case.graph, self.machine, self.all_threads)
        return mappings(case.graph, self.machine, self._costs(case), batch, limit)

    def _costs(self, case: Case, path: Path | None = None) -> CostTable:
        return roofline(case.graph, self.machine, configurations(self.machine), path=path, shapes=case.forms)

    def _pipelines(self, path: Path) -> list[Mapping]:
        """The pipelines for another path, which are cut elsewhere: as many elements a call as are looked at."""
        calls = [batch for batch in self.settings.calls if any(item % batch == 0 for item in self._looked_at())]
        found: list[Mapping] = []
        for batch in calls:
            case = Case(self.model, batch)
            found += mappings(case.graph, self.machine, self._costs(case, path), batch, kinds=(PIPELINE,))
        return found

    def result(self) -> Study:
        natives = [
            Native(threads, pages) for threads in teams(self.machine) for pages in ("first touch", "interleaved")
        ]
        central = outcome(self.model, self.machine, self.found, natives, self.settings.items)
        sampled = list(self._sampled())
        rows = [self._row(central, sampled, item) for item in self.settings.items]
        return _study_of(self.machine, self.settings, rows, self._influences(central), self._knockouts(central))

    def _on(self, machine: Machine, items: Sequence[int], path: Path | None = None) -> Outcome:
        """What the mappings that are not there for their placement reach on another machine; on another path, the
        pipelines that are made for it."""
        moving = [m for m in self.found if m.kind != PLACED] if path is None else self._pipelines(path)
        return outcome(self.model, machine, moving, [self.all_threads], items, path)

    def _sampled(self) -> Iterator[Outcome]:
        """The outcomes on machines with drawn figures: the same ones for every model."""
        rng, known = random.Random(self.settings.seed), parameters(self.machine)
        for _ in range(self.settings.samples):
            yield self._on(drawn(self.machine, known, rng), self.settings.items)

    def _row(self, central: Outcome, sampled: Sequence[Outcome], item: int) -> Row:
        base = central.native_per_s(self.all_threads, item)
        best = central.best_native(item)
        gains = [gain for name in self._all_names() if (gain := self._gain(central, sampled, item, name)) is not None]
        pipelines = [gain for gain in gains if gain.kind == PIPELINE]
        return Row(
            model=self.model, item=item, native_s=item / base,
            interleaved=central.native_per_s(Native(self.all_threads.threads, "interleaved"), item) / base,
            best_native=best.name, best_native_ratio=central.native_per_s(best, item) / base,
            best_pipeline=max(pipelines, key=lambda gain: gain.ratio, default=None), gains=tuple(gains),
        )  # fmt: skip

    def _all_names(self) -> list[tuple[str, str]]:
        return [(name, kind) for kind, names in self.names.items() for name in names]

    def _gain(self, central: Outcome, sampled: Sequence[Outcome], item: int, named: tuple[str, str]) -> Gain | None:
        name, kind = named
        rate = central.rate(name, item)
        ratio = central.ratio([name], item, self.all_threads)
        if rate is None or ratio is None:
            return None
        others = [r for one in sampled if (r := one.ratio([name], item, self.all_threads)) is not None]
        low, high = spread(others) if others else (ratio, ratio)
        return Gain(name=name, kind=kind, per_s=rate.per_s, calls_of=rate.calls_of, latency_s=rate.latency_s,
                    ratio=ratio, low=low, high=high)  # fmt: skip

    def _pipeline(self, found: Outcome, item: int) -> float:
        """The gain of the best pipeline without copies."""
        return found.ratio(self.names.get(PIPELINE, []), item, self.all_threads) or 0.0

    def _looked_at(self) -> list[int]:
        """The item sizes that parameters and mechanisms are told for."""
        return [item for item in (1, 8) if item in self.settings.items]

    def _influences(self, central: Outcome) -> Iterator[Influence]:
        if not (items := self._looked_at()):
            return
        for parameter in parameters(self.machine):
            ends = [self._on(vary(self.machine, parameter.at(share)), items) for share in (0.0, 1.0)]
            for item in items:
                low, high = (self._pipeline(end, item) for end in ends)
                yield Influence(model=self.model, item=item, parameter=parameter.name,
                                central=self._pipeline(central, item), low=low, high=high)  # fmt: skip

    def _knockouts(self, central: Outcome) -> Iterator[Knockout]:
        if not (items := self._looked_at()):
            return
        for mechanism in mechanisms(self.machine):
            without = self._on(mechanism.without(self.machine), items, path=mechanism.path)
            for item in items:
                yield Knockout(
                    model=self.model, item=item, mechanism=mechanism.name, central=self._pipeline(central, item),
                    without=self._pipeline(without, item),
                )  # fmt: skip


def spread(values: Sequence[float]) -> tuple[float, float]:
    """The 5th and the 95th percentile."""
    if len(values) < 2:
        return values[0], values[0]
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    return cuts[round(LOW * 100) - 1], cuts[round(HIGH * 100) - 1]
