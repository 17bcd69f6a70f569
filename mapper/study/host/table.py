"""The table of the study measured: one model with one item size, all ways to run it in interleaved rounds."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from mapper.backends.threads import torch_threads
from mapper.errors import MapperError
from mapper.machine.model import Machine
from mapper.plans.latency import percentiles
from mapper.plans.model import Plan
from mapper.plans.source import graph_of_source
from mapper.sources.source import realised_source
from mapper.study.bench import starters_of
from mapper.study.contenders import Field
from mapper.study.executed import DISTINCT_ITEMS, ExecutedPlan
from mapper.study.host.ops import range_of
from mapper.study.host.record import Asked, Cell, Ratio, Skipped, Way
from mapper.study.host.ways import Entrant, Traced, natives, others, traced
from mapper.study.rounds import LEAST_WARM, Say, fair, watched
from mapper.study.seating import Course, Seat, Starter, measured
from mapper.study.statistics import median_interval
from mapper.study.verdict import CONFIDENCE


class OutOfTime(Exception):
    """A model with one item size took longer than it may."""


def measured_cell(model: str, item: int, machine: Machine, asked: Asked, say: Say) -> Cell:
    """Measures `model` with items of `item` elements on `machine`, this machine, whose PUs the caller holds. Ways that
    would take too long are left out, all of them where native itself would.

    Raises: PromiseBroken when outputs are not the model's; what `Executor` raises.
    """
    began = time.monotonic()
    say(f"{model}, items of {item}: tracing and planning")
    cell = _Cell(model, item, machine, asked)
    try:
        cell.enter(say)
        seats = cell.seats(began + asked.limit_s, say) if cell.entrants else []
    except OutOfTime:
        seats = []
        cell.leave_out("all ways", f"it was not done after {asked.limit_s:g} s (--limit)")
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        seats = []
        cell.leave_out("all ways", f"the package {package} is not installed")
    return Cell(
        model=model, item=item, graph_sha256=cell.sha256, ways=tuple(cell.way(seat) for seat in seats),
        skipped=tuple(cell.skipped), notes=tuple(cell.notes), seconds=round(time.monotonic() - began, 1),
    )  # fmt: skip


@dataclass(frozen=True)
class _Cost:
    """About what measuring a plan takes."""

    plan: Plan
    period_s: float

    def seconds(self, asked: Asked) -> float:
        """All its rounds with their warm-up, and the outputs that are checked."""
        window = self.plan.predicted.window
        least = max(4, 2 * window) + 2 * window
        a_round = max(asked.round_s, least * self.period_s)
        return (asked.rounds + LEAST_WARM + 1) * a_round + (window + DISTINCT_ITEMS) * self.period_s


class _Cell:
    def __init__(self, model: str, item: int, machine: Machine, asked: Asked) -> None:
        self.model, self.item, self.machine, self.asked = model, item, machine, asked
        self.entrants: list[Entrant] = []
        self.skipped: list[Skipped] = []
        self.notes: list[str] = []
        self.sha256 = ""
        self._of: dict[str, list[Entrant]] = {}

    def leave_out(self, what: str, reason: str) -> None:
        """Notes what is not measured."""
        self.skipped.append(Skipped(what=what, reason=reason))

    def enter(self, say: Say) -> None:
        """Plans all ways, and keeps those that fit into the time: native first, then the quickest to measure."""
        whole = self._traced(self.item)
        self.sha256 = whole.graph.sha256
        wanted = natives(whole, self.machine, self.asked.backend)
        for calls_of in [calls for calls in self.asked.calls if self.item % calls == 0] or [self.item]:
            of = whole if calls_of == self.item else self._traced(calls_of)
            found, without = others(of, self.machine, self.asked.backend, say)
            wanted += found
            self.skipped += without
        left_s, first = self.asked.limit_s, wanted[0]
        for entrant in [first, *sorted(wanted[1:], key=self._cost)]:
            seconds = self._cost(entrant)
            if seconds > left_s:
                self.leave_out(self._name(entrant), f"it would take about {seconds:.0f} s, {left_s:.0f} s were left")
                if entrant is first:
                    self.leave_out("all ways", "there is nothing to compare with")
                    return
                continue
            left_s -= seconds
            self.entrants.append(entrant)
        self.entrants.sort(key=wanted.index)

    def _traced(self, batch: int) -> Traced:
        graph, reference = graph_of_source(self.model, {"batch": batch} if batch > 1 else None)
        return traced(graph, reference, batch, self.machine)

    def _cost(self, entrant: Entrant) -> float:
        return _Cost(entrant.plan, entrant.period_s).seconds(self.asked)

    def _name(self, entrant: Entrant) -> str:
        return entrant.name if entrant.calls_of == self.item else f"{entrant.name}, calls of {entrant.calls_of}"

    def seats(self, until: float, say: Say) -> list[Seat]:
        """The rounds of all, native's first. Raises: OutOfTime."""

        def told(message: str) -> None:
            if time.monotonic() > until:
                raise OutOfTime
            say(f"{self.model}, items of {self.item}: {message}")

        fields: dict[int, Field] = {}
        for entrant in self.entrants:
            field = fields.setdefault(entrant.calls_of, Field([]))
            field.add(self._name(entrant), entrant.plan)
        starters: list[Starter] = []
        for field in fields.values():
            starters += starters_of(field, self.machine, realised_source(field.plans[0][1]), told)
            for names, _ in field.plans:
                self._of[" = ".join(names)] = [e for e in self.entrants if self._name(e) in names]
        pus = [pu for core in self.machine.cores for pu in core.pus]
        with torch_threads(1):  # feeding must not start threads on the workers' cores
            seats, notes = measured(starters, Course(self.asked.rounds, self.asked.round_s), watched(pus), told)
        self.notes += notes
        return seats

    def way(self, seat: Seat) -> Way:
        """What was measured of a contender."""
        contender, series = seat.contender, seat.series
        assert isinstance(contender, ExecutedPlan), "only plans take part"
        entrants = self._of[series.name]
        first, plan, batch = entrants[0], contender.plan, entrants[0].calls_of
        replicas = [replica for stage in plan.stages for replica in stage.replicas]
        return Way(
            names=tuple(contender.names), kinds=tuple(dict.fromkeys(e.kind for e in entrants)), calls_of=batch,
            pages=first.pages, stages=len(plan.stages), workers=len(replicas),
            threads=sum(r.configuration.threads for r in replicas),
            teams=tuple(f"{stage.replicas[0].configuration.name} × {len(stage.replicas)}" for stage in plan.stages),
            rate_per_s=range_of([rate * batch for rate in series.rates]), latency_s=percentiles(series.latencies_s),
            over_native=self._ratio(seat, batch), predicted_rate_per_s=batch / first.period_s,
            predicted_latency_s=first.latency_s, outputs_identical=contender.identical, steady=series.steady,
            rounds=len(series.rounds), disturbed_rounds=sum(r.disturbed for r in series.rounds),
            rates_per_s=tuple(r.timed.rate_per_s * batch for r in series.rounds),
            others_busy=tuple(round(r.others_busy, 4) for r in series.rounds),
        )  # fmt: skip

    def _ratio(self, seat: Seat, batch: int) -> Ratio | None:
        """Over native, whose rounds are those of the same sitting; None of native itself."""
        if seat.series is seat.chosen:
            return None
        found, marked = fair(seat.series, seat.chosen)
        interval = median_interval([ratio * batch / self.item for ratio in found], CONFIDENCE)
        return Ratio(median=interval.median, low=interval.low, high=interval.high, confidence=interval.level,
                     disturbed=marked)  # fmt: skip


def expected_s(machine: Machine, asked: Asked, cells: int) -> tuple[float, float]:
    """About how long the table takes: at least where every round is as short as asked, at most by the limit."""
    cores, nodes = len(machine.cores), len(machine.nodes)
    native = (math.floor(math.log2(cores)) + 1) * (2 if nodes > 1 else 1)
    ways = native + len(asked.calls) * (2 * math.floor(math.log2(cores)) + 4)
    return cells * ways * (asked.rounds + LEAST_WARM + 1) * asked.round_s, cells * asked.limit_s


def failed(model: str, item: int, error: MapperError) -> Cell:
    """A cell of a model that cannot be measured here."""
    skipped = (Skipped(what="all ways", reason=error.what),)
    return Cell(model=model, item=item, graph_sha256="", ways=(), skipped=skipped, notes=(), seconds=0.0)
