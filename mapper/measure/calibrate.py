"""Calibration: the figures of the machine at hand, measured in interleaved rounds.

All figures are measured once, then all a second time, and so on, so that a burst of noise hits one round of all rather
than all rounds of one. A figure is the median of its rounds; its low and high are the least and the greatest of them.
Where the middle half of the rounds spreads too far no figure is made, and the one before stays.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mapper import jsonio
from mapper.cache import cache_folder
from mapper.errors import MachineMismatch, SystemRefused
from mapper.host.load import snapshot
from mapper.jsonio import Record
from mapper.machine import cgroup
from mapper.machine.figures import Figure
from mapper.machine.kernel import text
from mapper.machine.model import Machine
from mapper.measure import rates
from mapper.measure.cases import Case
from mapper.measure.instruments import Instruments
from mapper.measure.journal import CALIBRATION, Entry, Journal
from mapper.measure.probe import PROBE, compiled
from mapper.measure.spread import middle_half, summary, unusable
from mapper.measure.wanted import ForkJoin, LeftOut, Measurement, Part, Timed, Unit, Wanted
from mapper.measure.wanted import wanted as wanted_of

BUSY = 0.1
"""Share of the cores that others may take before the calibration warns."""
APART = 2
"""Factor between the least and the greatest round above which the calibration warns."""
LOUD = 0.2
"""Share of the cores that others took in a round above which it says nothing of a team."""
MEMORY_PART = 0.25
"""Part of the available memory that a measurement may fill."""
NOTE = "Calibrated: "

State = Literal["measured", "refused", "not measured"]
Tell = Callable[[str], None]
Measure = Callable[[Measurement, int], float]
"""Carries out one round of a measurement, and gives its value."""


def _silent(message: str) -> None:
    """Tells nobody."""


@dataclass(frozen=True)
class Settings:
    """How often and how long each figure is measured, and how far its middle half may spread."""

    rounds: int = 15
    seconds: float = 0.5
    max_spread: float = 0.25


class Row(Record):
    """One figure of the topology, and what became of it. `spread` is that of the middle half, as part of the median."""

    place: str
    name: str
    unit: Unit | None = None
    state: State
    reason: str = ""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    spread: float | None = None
    rounds: tuple[float, ...] = ()
    how: str = ""


class Calibration(Record):
    """What a calibration gave: each figure, the share of the cores that others took, and the machine with them."""

    figures: tuple[Row, ...]
    others_busy: float
    warnings: tuple[str, ...]
    machine: Machine


def refuse_emulated() -> None:
    """Raises: SystemRefused where the machine is emulated: what is measured there is the emulator."""
    if os.environ.get("MAPPER_EMULATED") == "1":
        raise SystemRefused("this machine is emulated (MAPPER_EMULATED=1): times measured on it mean nothing",
                            advice="Calibrate the machine itself, and copy the file.")  # fmt: skip


def described_here(described: Machine, here: Machine) -> Machine:
    """`described`, a description of this machine, with the numbers that its PUs have now (as in `here`).

    Raises: MachineMismatch when it describes another machine.
    """
    if described.fingerprint != here.fingerprint:
        raise MachineMismatch(
            f"{described.name} is another machine than this one: its shape has the fingerprint "
            f"{described.fingerprint}, this machine's is {here.fingerprint}",
            advice="mapper topo show host draws this machine; leave --topo out to calibrate it as it is.",
        )
    if _groups(described) == _groups(here):
        return described
    shapes = [[[len(group) for group in node.groups] for node in machine.nodes] for machine in (described, here)]
    if shapes[0] != shapes[1]:
        raise MachineMismatch(
            f"{described.name} has {described.counts['nodes']} nodes and other PU numbers than this machine, "
            f"which shows {here.counts['nodes']}: which core is where cannot be told",
            advice="Make the file anew: mapper topo discover -o machine.json.",
        )
    nodes = tuple(
        old.model_copy(update={"groups": new.groups, "os_index": new.os_index})
        for old, new in zip(described.nodes, here.nodes, strict=True)
    )
    return described.model_copy(update={"nodes": nodes})


def _groups(machine: Machine) -> set[frozenset[tuple[int, ...]]]:
    return {frozenset(machine.cores[core].pus for core in group) for group in machine.groups}


def free_bytes() -> float:
    """Bytes of memory that a measurement may fill: a quarter of what is available to this process."""
    lines = (text(Path("/proc/meminfo")) or "").splitlines()
    available = next((float(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), 2.0**30)
    return MEMORY_PART * min(available, cgroup.memory_limit(Path("/")) or available)


def journal_for(machine: Machine, wanted: Wanted, settings: Settings, tell: Tell) -> Journal[Entry]:
    """The journal of exactly this calibration: this machine, its PUs, these measurements and settings."""
    key = jsonio.sha256({
        "machine": [machine.fingerprint, machine.cpu_model, machine.isa, [core.pus for core in machine.cores]],
        "wanted": [[m.place, m.how, repr(m.task)] for m in wanted.measurements],
        "settings": [settings.rounds, settings.seconds, PROBE],
    })  # fmt: skip
    return Journal(cache_folder(), key, time.time(), tell, CALIBRATION)


def calibrate_here(
    machine: Machine, parts: Sequence[Part], settings: Settings, *, fresh: bool = False, progress: Tell = _silent,
    tell: Tell = _silent,
) -> Calibration:  # fmt: skip
    """The figures of `machine`, which is the one at hand; its PUs are the caller's meanwhile. What an interrupted
    calibration has measured is taken, unless a `fresh` one is wanted."""
    asked = wanted_of(machine, free_bytes(), compiled(), parts)
    with Instruments(settings.seconds) as instruments, journal_for(machine, asked, settings, tell) as journal:
        if fresh:
            journal.discard()
        result = calibrate(
            machine, asked, settings, journal.read(), instruments.measure, progress=progress, tell=tell,
            own_s=instruments.own_s,
        )  # fmt: skip
        journal.discard()
    return result


def calibrate(
    machine: Machine, wanted: Wanted, settings: Settings, journal: Journal[Entry], measure: Measure, *,
    progress: Tell = _silent, tell: Tell = _silent, own_s: Callable[[], float] = lambda: 0.0,
) -> Calibration:  # fmt: skip
    """Measures what is `wanted` of `machine`, from where `journal` stands, and gives the figures.

    `measure` finds out one round of one measurement; `own_s` are the CPU seconds that it has used in all. `progress`
    is told where the calibration stands, `tell` what the user should know.
    """
    total = sum(m.rounds(settings.rounds) for m in wanted.measurements)
    done = len(journal.entries)
    if done:
        tell(f"going on after {done} of {total} measurements")
    began, before = time.monotonic(), done
    try:
        for number in range(settings.rounds):
            for measurement in wanted.measurements:
                if (measurement.place, number) in journal.entries or number >= measurement.rounds(settings.rounds):
                    continue
                left = _left(time.monotonic() - began, done - before, total - done)
                progress(f"{done} of {total}{left}, round {number + 1}: {measurement.name}")
                journal.add(_entry(machine, measurement, number, measure, own_s))
                done += 1
    except (KeyboardInterrupt, SystemExit):
        if done and journal.kept:
            tell(f"{done} of {total} measurements are kept: the same command goes on from there")
        raise
    return _result(machine, wanted, settings, list(journal.entries.values()))


def _left(taken_s: float, done: int, missing: int) -> str:
    """About how long it takes yet, in words, once some of it is done."""
    return f", about {taken_s / done * missing:.0f} s left" if done else ""


def _entry(
    machine: Machine, measurement: Measurement, number: int, measure: Measure, own_s: Callable[[], float]
) -> Entry:  # fmt: skip
    """One round of one measurement, with the CPU time that others took meanwhile."""
    pus = [pu for core in machine.cores for pu in core.pus]
    before, own = snapshot(), own_s()
    value = measure(measurement, number)
    after, own = snapshot(), own_s() - own
    known = [pu for pu in pus if pu in before and pu in after]
    busy, whole = (sum(after[pu][i] - before[pu][i] for pu in known) for i in (0, 1))
    return Entry(place=measurement.place, round=number, value=value, others_s=busy - own, cpu_s=whole)


def _result(machine: Machine, wanted: Wanted, settings: Settings, entries: list[Entry]) -> Calibration:
    """The figures that the rounds allow, and the machine with them."""
    rows: list[Row] = []
    figures: dict[str, Figure] = {}
    rounds: dict[str, list[float]] = {}
    for entry in sorted(entries, key=lambda e: e.round):
        rounds.setdefault(entry.place, []).append(entry.value)
    loud = {(e.place, e.round) for e in entries if e.others_s > LOUD * e.cpu_s}
    quiet = {place: [e.value for e in entries if e.place == place and (place, e.round) not in loud] for place in rounds}
    for m in wanted.measurements:
        if isinstance(m.task, Timed):
            continue
        values = rounds[m.place]
        reason = unusable(values, settings.max_spread)
        figure = figure_of(values, m.how)
        if not reason:
            figures |= dict.fromkeys(m.places, figure)
        rows += [
            Row(place=place, name=m.name, unit=m.unit, state="refused" if reason else "measured", reason=reason,
                value=figure.value, low=figure.low, high=figure.high, spread=middle_half(values),
                rounds=tuple(values), how=m.how)
            for place in m.places
        ]  # fmt: skip
    timed, of_ops = _rates(machine, wanted, settings, rounds, quiet)
    rows += [*timed, *(_left_out(item) for item in wanted.left_out)]
    figures |= of_ops
    cpu_s = sum(entry.cpu_s for entry in entries)
    others = min(1.0, max(0.0, sum(entry.others_s for entry in entries) / cpu_s)) if cpu_s else 0.0
    warnings = tuple(_warnings(machine, others, rows))
    notes = [_note(rows), *warnings]
    return Calibration(
        figures=tuple(rows), others_busy=others, warnings=warnings, machine=with_figures(machine, figures, notes)
    )


def figure_of(values: list[float], how: str) -> Figure:
    """The median of the rounds, between the least and the greatest."""
    rounds = f"median of {len(values)} rounds" if len(values) > 1 else "one round"
    low, value, high = summary(values)
    return Figure(value=value, low=low, high=high, kind="measured", source=f"mapper calibrate: {rounds}, {how}")


def _rates(
    machine: Machine,
    wanted: Wanted,
    settings: Settings,
    rounds: dict[str, list[float]],
    quiet: dict[str, list[float]],
) -> tuple[list[Row], dict[str, Figure]]:
    """The rates of the sorts of ops that were timed, a row for each of their figures, and the figures by place.

    Where there are `quiet` rounds only those count. Of teams no others do: one member that has to wait for its core
    holds up all.
    """
    started = {threads: figure.value for threads, figure in machine.overheads.fork_join_s.items()}
    started |= {
        len(m.task.pus): statistics.median(rounds[m.place]) for m in wanted.measurements if isinstance(m.task, ForkJoin)
    }
    timings: dict[tuple[Case, int], list[float]] = {}
    missing: dict[tuple[str, int], None] = {}
    for m in wanted.measurements:
        if isinstance(m.task, Timed):
            threads = len(m.task.pus)
            if values := quiet[m.place] or (rounds[m.place] if threads == 1 else []):
                timings[m.task.case, threads] = values
            missing.setdefault((m.task.case.sort, threads))
    rows, usable = [], []
    for rate in rates.folded(timings, started):
        reason = f"spread {rate.spread * 100:.0f} %" if rate.spread > settings.max_spread else ""
        usable += [] if reason else [rate]
        rows += [
            Row(place=f"/compute/rates/{rate.sort}/{field}", name=f"{rate.sort}, {field}",
                unit="times" if "speedup" in field else "s", state="refused" if reason else "measured", reason=reason,
                value=figure.value, low=figure.low, high=figure.high, spread=rate.spread, how=figure.source)
            for field, figure in rate.figures.items()
        ]  # fmt: skip
    measured = {(case.sort, threads) for case, threads in timings}
    rows += [
        Row(place=f"/compute/rates/{sort}/speedup/{threads}", name=f"{sort}, speedup/{threads}", state="not measured",
            reason="others were at work in every round")
        for sort, threads in missing
        if (sort, threads) not in measured
    ]  # fmt: skip
    return rows, rates.by_place(usable)


def _left_out(item: LeftOut) -> Row:
    return Row(place=item.place, name=item.name, state="not measured", reason=item.reason)


def _warnings(machine: Machine, others: float, rows: Iterable[Row]) -> Iterable[str]:
    if others > BUSY:
        yield f"others took {others:.0%} of the cores meanwhile: better repeat it on an idle machine"
    if machine.cpu_quota is not None:
        yield (f"a quota of {machine.cpu_quota.value:.3g} PUs stops threads now and then: figures of all cores are too "
               "low")  # fmt: skip
    measured = [row for row in rows if row.rounds and row.state == "measured"]
    apart = [row.name for row in measured if max(row.rounds) > APART * min(row.rounds)]
    if apart:
        yield (f"the greatest round is more than {APART} times the least for {'; '.join(dict.fromkeys(apart))}: others "
               "at work, or a virtual machine whose cores move; count on the range, not on the value")  # fmt: skip


def _note(rows: Iterable[Row]) -> str:
    """What was measured and what not, in one sentence."""
    by_state: dict[State, list[str]] = {"measured": [], "refused": [], "not measured": []}
    for row in rows:
        by_state[row.state].append(row.name)
    parts = [f"{len(by_state['measured'])} figures measured"]
    for state in ("refused", "not measured"):
        names = list(dict.fromkeys(by_state[state]))
        if names:
            parts.append(f"{len(names)} {state} ({'; '.join(names)})")
    return NOTE + ", ".join(parts) + "."


def with_figures(machine: Machine, figures: dict[str, Figure], notes: Iterable[str]) -> Machine:
    """`machine` with the figures at their places (JSON pointers), and the notes in place of those that calibrations
    left before."""
    document: dict[str, Any] = jsonio.plain(machine)
    for place, figure in figures.items():
        *path, last = place.strip("/").split("/")
        part: Any = document
        for key in path:
            part = part[int(key)] if isinstance(part, list) else part.setdefault(key, {})
        part[last] = jsonio.plain(figure)
    kept = [note for note in machine.notes if not note.startswith(NOTE)]
    calibrated = [note if note.startswith(NOTE) else f"{NOTE}{note}." for note in notes]
    return jsonio.validated(Machine, {**document, "notes": [*kept, *calibrated]}, machine.name)
