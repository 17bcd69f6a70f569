"""`mapper.explore`: every point that the dimensions span, planned, placed and compared.

Points that differ in the strategy, or in a limit on replicas that a plan keeps anyway, share a search. What a search
gave is kept in the cache folder at once, so that an exploration that was ended goes on where it was.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from mapper import __version__, jsonio
from mapper.cache import cache_folder
from mapper.errors import UsageError
from mapper.graph.model import Graph
from mapper.host.affinity import allowed_pus
from mapper.jsonio import Record
from mapper.measure.journal import Journal, Kind
from mapper.plans.model import ModelRef
from mapper.study.exploration.dimensions import Dimensions, Variant
from mapper.study.exploration.families import Families, Outcomes
from mapper.study.exploration.outcomes import Outcome, Subject, searcher
from mapper.study.exploration.points import Point, Search, loosest, options_of, points_of, search_of, why_not
from mapper.study.exploration.rows import Row, row_of, with_front
from mapper.study.processes import shared_out
from mapper.units import format_rate, format_seconds

MOST_POINTS = 200_000
"""Their searches still fit a journal that is read again."""
Say = Callable[[str], None]
GraphOf = Callable[[int], tuple[Graph, ModelRef]]
"""The graph of the model for items of so many elements, and how a plan names it."""


class Searched(Record):
    """What came of one search: what the journal keeps."""

    key: str
    outcomes: tuple[Outcome, ...]


KIND: Kind[Searched] = Kind(
    "exploration", "explore", "mapper-exploration-searches/1", Searched, lambda entry: entry.key
)


@dataclass(frozen=True)
class Settings:
    """How it is done: `processes` (None: one a PU that may be used), seconds after which a search ends, whether plans
    are simulated as well, whether it begins anew, and options of `mapper plan` that the model needs besides."""

    processes: int | None = None
    time_limit_s: float | None = None
    simulated: bool = False
    fresh: bool = False
    more_options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Exploration:
    """All rows in the order of the points. `interrupted`: those that were not reached are missing. Of the
    `searches` that it took, `resumed` are those of an earlier run that was ended."""

    model: ModelRef
    dimensions: Dimensions
    variants: tuple[Variant, ...]
    rows: tuple[Row, ...]
    points: int
    searches: int
    resumed: int
    interrupted: bool = False


def explore(
    graph_of: GraphOf, dimensions: Dimensions, *, settings: Settings | None = None, say: Say = lambda message: None,
    tell: Say = lambda message: None,
) -> Exploration:  # fmt: skip
    """The plan of every point of `dimensions`, and which of them no other beats.

    Interrupted (Ctrl-C), it gives the rows that it has; the same call later goes on from there. `say` is told where it
    stands, `tell` what the user should know.

    Raises: UsageError for too many points; ExecutionFailed when a process dies; BadInput for a machine that lacks a
    figure for the model.
    """
    settings = settings or Settings()
    if dimensions.points > MOST_POINTS:
        raise UsageError(
            f"{dimensions.points} points are too many: at most {MOST_POINTS}", advice="Vary less at a time."
        )
    points, variants = points_of(dimensions), dimensions.machines()
    graphs = {}
    for batch in dimensions.batches:
        say(f"Tracing items of {batch} ...")
        graphs[batch] = graph_of(batch)
    subject = Subject(
        graphs, tuple(variant.machine for variant in variants), dimensions.strategies, settings.simulated,
        settings.time_limit_s,
    )  # fmt: skip
    return _Exploring(subject, dimensions, variants, points, settings).run(say, tell)


class _Exploring:
    def __init__(
        self, subject: Subject, dimensions: Dimensions, variants: tuple[Variant, ...], points: list[Point],
        settings: Settings,
    ) -> None:  # fmt: skip
        self.subject, self.dimensions, self.variants, self.settings = subject, dimensions, variants, settings
        self.points = points
        self.reasons = {point: self._why_not(point) for point in points}
        self.search_of = {
            point: search_of(point, variants[point.machine].machine)
            for point, reason in self.reasons.items() if not reason
        }  # fmt: skip
        self.families = Families(dict.fromkeys(self.search_of.values()))

    def _why_not(self, point: Point) -> str:
        graph, _ = self.subject.graphs[point.batch]
        return why_not(point, self.variants[point.machine].machine, len(graph.ops))

    def run(self, say: Say, tell: Say) -> Exploration:
        interrupted = False
        with self._journal(tell) as journal:
            if self.settings.fresh:
                journal.discard()
            found = {entry.key: entry.outcomes for entry in journal.read().entries.values()}
            resumed = len(found)
            if resumed:
                tell(f"going on after {resumed} searches")
            try:
                for search, outcomes in self._searched(found, say):
                    found[search.key] = outcomes
                    journal.add(Searched(key=search.key, outcomes=outcomes))
                journal.discard()
            except KeyboardInterrupt:
                interrupted = True
        return Exploration(
            self.subject.graphs[self.dimensions.batches[0]][1], self.dimensions, self.variants, self._rows(found),
            len(self.points), len(found), resumed, interrupted,
        )  # fmt: skip

    def _searched(self, known: dict[str, Outcomes], say: Say) -> Iterator[tuple[Search, Outcomes]]:
        """What came of the searches that are not `known`."""
        left, following = self.families.left(known), self.families.following
        processes = self.settings.processes or len(allowed_pus())
        told = _Told(self.search_of.values(), self.families, known, say)
        with contextlib.closing(shared_out(searcher, self.subject, left, processes, following)) as results:
            for search, outcomes in results:
                yield search, outcomes
                told.tell(search)

    def _rows(self, found: dict[str, Outcomes]) -> tuple[Row, ...]:
        """The rows of all points whose search is done."""
        rows = []
        for point in self.points:
            variant = self.variants[point.machine]
            search = self.search_of.get(point) and self.families.source(self.search_of[point], found)
            if point not in self.search_of:
                outcome, options = Outcome(strategy=point.strategy, reason=self.reasons[point]), ""
            elif search is not None:
                outcome = next(one for one in found[search.key] if one.strategy == point.strategy)
                source = self.subject.graphs[point.batch][1].source
                options = options_of(source, self.settings.more_options, variant, search, point.strategy)
            else:
                continue
            rows.append(row_of(point, variant, outcome, options))
        return with_front(rows)

    def _journal(self, tell: Say) -> Journal[Searched]:
        """The journal of exactly this: graphs, machines, dimensions, and how it is done."""
        key = jsonio.sha256([
            __version__, [graph.sha256 for graph, _ in self.subject.graphs.values()],
            [jsonio.plain(machine) for machine in self.subject.machines], jsonio.plain(self.dimensions),
            self.settings.simulated, self.settings.time_limit_s,
        ])  # fmt: skip
        return Journal(cache_folder(), key, time.time(), tell, KIND)


class _Told:
    """How far it is, for the progress line: points whose search is done, and how many a second."""

    def __init__(self, wanted: Iterable[Search], families: Families, known: dict[str, Outcomes], say: Say) -> None:
        self.families, self.known, self.say = families, known, say
        self.open: dict[Search, dict[Search, int]] = {}
        for search in wanted:
            if families.source(search, known) is None:
                mine = self.open.setdefault(loosest(search), {})
                mine[search] = mine.get(search, 0) + 1
        self.of = sum(sum(mine.values()) for mine in self.open.values())
        self.done, self.began = 0, time.monotonic()

    def tell(self, search: Search) -> None:
        """Counts the points that are done after `search`, which is known now."""
        mine = self.open[loosest(search)]
        for other in [other for other in mine if self.families.source(other, self.known) is not None]:
            self.done += mine.pop(other)
        rate = self.done / max(1e-9, time.monotonic() - self.began)
        rest = f", about {format_seconds((self.of - self.done) / rate)} to go" if rate else ""
        self.say(f"{self.done} of {self.of} points, {format_rate(rate)} a second{rest}")
