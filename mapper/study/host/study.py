"""`mapper study --topo host`: everything that tells on the machine at hand what pipelines gain, and why.

What was measured is kept piece by piece; interrupted, the same call goes on from there.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from mapper import __version__, jsonio
from mapper.backends.registry import ATEN, EAGER
from mapper.cache import cache_folder
from mapper.errors import ExecutionFailed, MapperError, UnknownName
from mapper.execution.place import Claim
from mapper.host.facts import facts
from mapper.host.load import Others
from mapper.jsonio import Record
from mapper.machine.discover import discover
from mapper.machine.model import Machine
from mapper.measure import calibrate as calibration
from mapper.measure.calibrate import Calibration, described_here, free_bytes, refuse_emulated
from mapper.measure.journal import Journal, Kind
from mapper.measure.software import Software, cpu_seconds
from mapper.measure.wanted import PARTS
from mapper.measure.worked import arguments
from mapper.program.realise import realise
from mapper.study.host.findings import findings
from mapper.study.host.ops import (
    IMAGES,
    MOST_ROUNDS,
    Memory,
    Op,
    OpTimer,
    Round,
    memory_rows,
    op_rows,
    ops_of,
    reads_of,
)
from mapper.study.host.record import BUSY, Asked, Build, Cell, HostStudy, Skipped
from mapper.study.host.table import expected_s, failed, measured_cell
from mapper.study.sg2042.cases import MODELS

LOOK_S = 1.0
OWN_FACTS = ("CPU quota", "memory policy", "NUMA balancing", "huge pages", "governor")
"""What `mapper doctor` finds of a machine that times depend on."""
ROUNDS, ROUND_S, LIMIT_S = 7, 1.0, 600.0
ITEMS, CALLS = (1, 2, 8, 64), (1, 4)

Say = Callable[[str], None]


@dataclass(frozen=True)
class Settings:
    """What is measured: models, elements of native items, elements of the calls of mappings, images of single
    convolutions; rounds, about how long each takes, and how long a model with one item size may take; without oneDNN,
    as on RISC-V; the model machine (None: this one with the figures that are measured now)."""

    models: tuple[str, ...] = MODELS
    items: tuple[int, ...] = ITEMS
    calls: tuple[int, ...] = CALLS
    images: tuple[int, ...] = IMAGES
    rounds: int = ROUNDS
    round_s: float = ROUND_S
    limit_s: float = LIMIT_S
    without_onednn: bool = False
    like: Machine | None = None

    @property
    def asked(self) -> Asked:
        """As the file tells it: models by their names, not by where their files are."""
        models = tuple(os.path.basename(model).removesuffix(".toml") for model in self.models)
        return Asked(
            models=models, items=self.items, calls=self.calls, rounds=self.rounds, round_s=self.round_s,
            limit_s=self.limit_s, backend=ATEN if self.without_onednn else EAGER,
        )  # fmt: skip


QUICK = Settings(models=("mobilenetv2", "resnet50"), items=(1, 8), calls=(1,), images=(1, 8), rounds=3, round_s=0.3,
                 limit_s=120.0)  # fmt: skip
"""What `--quick` measures: some minutes where cores are fast."""


class Kept(Record):
    """A piece that was measured: one of these. The calibration is as in files, since it holds a machine."""

    place: str
    build: Build | None = None
    calibration: dict[str, Any] | None = None
    op: Round | None = None
    cell: Cell | None = None


KIND: Kind[Kept] = Kind("study", "host-study", "mapper-host-study-pieces/1", Kept, lambda piece: piece.place)


@dataclass
class _Found:
    """What there is so far."""

    build: Build | None = None
    calibration: Calibration | None = None
    rounds: list[Round] = field(default_factory=list)
    cells: list[Cell] = field(default_factory=list)
    ops: list[Op] = field(default_factory=list)
    reads: list[Memory] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)


def host_study(
    settings: Settings, *, fresh: bool = False, say: Say = lambda message: None, tell: Say = lambda message: None
) -> HostStudy:
    """Measures this machine: fork and join, products and convolutions by threads, memory by node, and the table of the
    study. Interrupted, the same call goes on from there (not with `fresh`), and gives what it has, marked so.

    `say` is told where it stands, `tell` what the user should know. Raises: UnknownName for a model; MachineMismatch
    when the model machine is another one than this, or the cores are taken; SystemRefused on an emulated machine.
    """
    refuse_emulated()
    _tell_of_models(settings.models, tell)
    here = discover()
    like = None if settings.like is None else described_here(settings.like, here)
    interrupted, found = False, _Found()
    with Claim([pu for core in here.cores for pu in core.pus]), _journal(here, settings, tell) as journal:
        if fresh:
            journal.discard()
        if pieces := len(journal.read().entries):
            tell(f"going on after {pieces} pieces")
        others = _others_before(here, tell)
        _told_duration(here, settings, tell)
        run = _Run(settings, here, like, journal, found, say, tell)
        try:
            run.everything()
            journal.discard()
        except (KeyboardInterrupt, SystemExit):
            interrupted = True
            tell("interrupted: what was measured is kept; the same command goes on from there within a day")
    return _result(settings, here, run.model_machine, found, others, interrupted)


@contextmanager
def _journal(here: Machine, settings: Settings, tell: Say) -> Iterator[Journal[Kept]]:
    """The journal of exactly this study: this machine (but for its clock, which moves), its PUs, and what is asked."""
    key = jsonio.sha256([
        __version__, here.fingerprint, here.cpu_model, here.isa, [core.pus for core in here.cores],
        jsonio.plain(settings.asked), settings.models, settings.images,
        None if settings.like is None else jsonio.plain(settings.like),
    ])  # fmt: skip
    with Journal(cache_folder(), key, time.time(), tell, KIND) as journal:
        yield journal


def _tell_of_models(models: tuple[str, ...], tell: Say) -> None:
    """Says which models cannot be built here before minutes are spent: all else is measured without them.

    Raises: UnknownName.
    """
    for model in models:
        try:
            realise(model, fake=True)
        except UnknownName:
            raise
        except MapperError as error:
            tell(f"{error.what}: the table will be without {model}")


def _others_before(here: Machine, tell: Say) -> float:
    """The share of the cores that others take just now; more than a little is told."""
    watch = Others([pu for core in here.cores for pu in core.pus], [])
    time.sleep(LOOK_S)
    taken = watch.taken()
    if taken.over(BUSY):
        tell(f"others take {taken.share:.0%} of the cores: rounds that they disturb are marked, and count in nothing "
             "where there are others; better repeat it on an idle machine")  # fmt: skip
    return round(taken.share, 4)


def _told_duration(here: Machine, settings: Settings, tell: Say) -> None:
    asked, cells = settings.asked, len(settings.models) * len(settings.items)
    least, most = expected_s(here, asked, cells)
    single = len(ops_of(here, settings.images)) * 0.3 * min(MOST_ROUNDS, asked.rounds) + 30 * asked.rounds
    tell(f"this takes about {(single + least) / 60:.0f} minutes where cores are fast, and on slow ones up to "
         f"{(2 * single + max(least, most)) / 60:.0f} (--quick, --model, --items, --rounds and --limit bound it); "
         "Ctrl-C keeps what there is")  # fmt: skip


class _Run:
    """The parts of the study, in turn, each from where the journal stands."""

    def __init__(
        self, settings: Settings, here: Machine, like: Machine | None, journal: Journal[Kept], found: _Found, say: Say,
        tell: Say,
    ) -> None:  # fmt: skip
        self.settings, self.here, self.like, self.journal = settings, here, like, journal
        self.found, self.say, self.tell = found, say, tell
        self.model_machine: Machine | None = None

    def everything(self) -> None:
        """Measures what is not there yet."""
        self.calibrate()
        self.single_ops()
        self.table()

    def calibrate(self) -> None:
        """Caches, memory, links, fork and join; with oneDNN also the rates of sorts of ops, which predictions use."""
        kept = self.journal.entries.get("calibration")
        if kept is not None:
            result = jsonio.validated(Calibration, kept.calibration, "what was kept of the calibration")
        else:
            result = self._calibrated()
            self.journal.add(Kept(place="calibration", calibration=jsonio.plain(result)))
        self.found.calibration = result
        machine = self.like or result.machine
        if self.settings.without_onednn:
            compute = machine.compute.model_copy(update={"path": "native-aten"})
            machine = machine.model_copy(update={"compute": compute})
        self.model_machine = machine

    def _calibrated(self) -> Calibration:
        parts = PARTS[:1] if self.settings.without_onednn else PARTS
        how = calibration.Settings(self.settings.rounds, min(0.5, self.settings.round_s / 2))
        return calibration.calibrate_here(
            self.here, parts, how, tell=self.tell, progress=lambda message: self.say(f"calibrating: {message}")
        )

    def single_ops(self) -> None:
        """Products, convolutions, other ops and memory by node, in rounds."""
        found = self.found
        found.ops = ops_of(self.here, self.settings.images)
        found.reads, found.skipped = reads_of(self.here, free_bytes())
        rounds, aten = min(MOST_ROUNDS, self.settings.rounds), self.settings.without_onednn
        with ExitStack() as stack:
            spinning, passive = (
                stack.enter_context(Software("mapper.measure.worked", arguments(passive=quiet, aten=aten)))
                for quiet in (False, True)
            )
            self._build(spinning)
            own = [spinning, passive]
            timer = OpTimer(spinning, passive, lambda: sum(os.times()[:4]) + sum(cpu_seconds(one.pid) for one in own))
            for number in range(rounds):
                for op in found.ops:
                    self.say(f"ops, round {number + 1} of {rounds}: {op.place}")
                    self._round(op, number, partial(timer.op, op, number))
                for read in found.reads:
                    self.say(f"memory, round {number + 1} of {rounds}: {read.place}")
                    self._round(read, number, partial(timer.read, read, number, self.settings.round_s))

    def _build(self, software: Software) -> None:
        """What torch was built with, as its process tells it."""
        kept = self.journal.entries.get("build")
        build = kept.build if kept is not None else None
        if build is None:
            build = Build(python=platform.python_version(), **software.value("build", 0.0))
            self.journal.add(Kept(place="build", build=build))
        self.found.build = build

    def _round(self, what: Op | Memory, number: int, measure: Callable[[], Round]) -> None:
        """One round, unless it is there. What the system refuses is noted as that."""
        place = f"{what.place}, round {number}"
        kept = self.journal.entries.get(place)
        done = kept.op if kept is not None else None
        if done is None:
            try:
                done = measure()
            except ExecutionFailed as error:
                done = Round(place=what.place, round=number, skipped=error.what)
            self.journal.add(Kept(place=place, op=done))
        self.found.rounds.append(done)

    def table(self) -> None:
        """The table, small items before large ones, so that an early end leaves something of every model."""
        assert self.model_machine is not None, "calibrated before"
        names = dict(zip(self.settings.models, self.settings.asked.models, strict=True))
        for item in self.settings.items:
            for model, name in names.items():
                place = f"{name}, items of {item}"
                kept = self.journal.entries.get(place)
                cell = kept.cell if kept is not None else None
                if cell is None:
                    cell = self._cell(model, item).model_copy(update={"model": name})
                    self.journal.add(Kept(place=place, cell=cell))
                self.found.cells.append(cell)

    def _cell(self, model: str, item: int) -> Cell:
        assert self.model_machine is not None, "calibrated before"
        try:
            return measured_cell(model, item, self.model_machine, self.settings.asked, self.say)
        except MapperError as error:
            self.tell(f"{model}, items of {item}: {error.what}")
            return failed(model, item, error)


def _result(
    settings: Settings, here: Machine, model_machine: Machine | None, found: _Found, others: float, interrupted: bool
) -> HostStudy:
    """The file."""
    ops, no_ops = op_rows(found.ops, found.rounds)
    memory, no_reads = memory_rows(found.reads, found.rounds)
    made = found.calibration
    return HostStudy(
        mapper=__version__, asked=settings.asked, build=found.build,
        system={fact.name: fact.value for fact in facts() if fact.name in OWN_FACTS}, machine=here,
        model_machine=model_machine, others_before=others, calibrated=made.figures if made else (),
        calibration_others_busy=made.others_busy if made else None, ops=tuple(ops), memory=tuple(memory),
        cells=tuple(found.cells), findings=findings(ops, memory, found.cells, made.figures if made else (),
                                                   made.others_busy if made else 0.0),
        skipped=(*found.skipped, *no_ops, *no_reads), warnings=made.warnings if made else (), interrupted=interrupted,
    )  # fmt: skip
