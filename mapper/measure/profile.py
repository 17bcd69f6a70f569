"""Measuring parts of a model on this machine, as stages of it would run: every team of a configuration at work."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import torch

from mapper import __version__, jsonio
from mapper.backends.compile import Team, artefacts
from mapper.backends.registry import EAGER, backend_called
from mapper.cost.configurations import Config
from mapper.cost.profile import (
    MeasuredOps,
    Profile,
    Source,
    differences,
    host_of,
    load_profile,
    merged,
    ranges,
    require_same_machine,
    save_profile,
)
from mapper.errors import MachineMismatch, UsageError
from mapper.execution.measurement import Measurement
from mapper.graph.model import Graph
from mapper.host.anonymous import anonymous_file
from mapper.host.load import busy_between, snapshot
from mapper.machine.discover import discover
from mapper.machine.model import Machine
from mapper.measure.memory import NoRoom, free_bytes, need_bytes
from mapper.measure.parts import parted
from mapper.measure.software import Software, cpu_seconds
from mapper.plans.model import Plan
from mapper.program.weights import write_weights
from mapper.sources.source import Source as ModelSource

ROUNDS, ROUND_S = 5, 0.25
"""How often a chain is measured, and how long each time; less than two calls it never is."""
LOUD = 0.1
"""Share of the cores that others may take before a measurement is marked."""
APART = 0.25
"""Spread of the middle half of the rounds, as part of the median, from which it is marked."""
SWEPT = 4
"""What is read between two turns is at most so many times the outermost caches."""
WITHIN_S = 1800.0

Tell = Callable[[str], None]
Heat = Literal["hot", "cold"]
HOT: Heat = "hot"
COLD: Heat = "cold"


@dataclass(frozen=True)
class Chain:
    """Disjoint parts of a model, in its order, to be measured with one configuration: hot, each by itself again and
    again; cold, in turn, with the rest of the model's weights displacing theirs."""

    config: Config
    parts: tuple[tuple[int, ...], ...]
    residency: Heat
    source: Source

    def keys(self) -> tuple[tuple[object, ...], ...]:
        """What a measurement of each part says that it is of (`MeasuredOps.what`)."""
        return tuple((ranges(part), self.config.name, self.residency, self.source) for part in self.parts)


def teams_of(machine: Machine, config: Config) -> tuple[tuple[int, ...], ...]:
    """The cores of all replicas of `config` that `machine` has room for at once."""
    each = config.cores_per_group
    if config.groups == 1:
        return tuple(group[i : i + each] for group in machine.groups for i in range(0, len(group) - each + 1, each))
    whole = [group[:each] for group in machine.groups if len(group) >= each]
    spans = [whole[i : i + config.groups] for i in range(0, len(whole) - config.groups + 1, config.groups)]
    return tuple(tuple(core for group in span for core in group) for span in spans)


def pus_here(machine: Machine, here: Machine) -> tuple[int, ...]:
    """The PU of each core of `machine`, (a part of) the machine `here`, as the system numbers them now.

    Raises: MachineMismatch where it is another machine, or this process may not use one of its cores.
    """
    if found := differences(host_of(machine), host_of(here)):
        raise MachineMismatch(f"{machine.name} is another machine than this one: {'; '.join(found)}",
                              advice="Only the machine at hand can be measured: --topo host.")  # fmt: skip
    wanted, present = (m.part_of.cores if m.part_of else range(len(m.cores)) for m in (machine, here))
    position = {number: i for i, number in enumerate(present)}
    if missing := [number for number in wanted if number not in position]:
        raise MachineMismatch(f"this process may not use core {missing[0]} of {machine.name}",
                              advice="Leave it out: --cores.")  # fmt: skip
    return tuple(here.cores[position[number]].pus[0] for number in wanted)


def empty_profile(graph: Graph, machine: Machine, backend: str) -> Profile:
    """A profile of `graph` on `machine`, this machine, with nothing measured yet."""
    return Profile(
        model=graph.name, graph_sha256=graph.sha256, backend=backend, versions=backend_called(backend).versions(),
        machine=host_of(machine), mapper=__version__, ops=tuple(op.name for op in graph.ops),
    )  # fmt: skip


class PartTimer:
    """Times parts of the model of `source` on `machine`, this machine. Nothing is left of it when the block ends.

    Raises: UsageError for a graph that was not traced; MachineMismatch where `machine` is not this one.
    """

    def __init__(
        self, graph: Graph, machine: Machine, source: ModelSource, item: Sequence[torch.Tensor], backend: str = EAGER,
        *, rounds: int = ROUNDS, seconds: float = ROUND_S, say: Tell = lambda message: None,
        free: Callable[[], int] = free_bytes,
    ) -> None:  # fmt: skip
        if graph.program is None:
            raise UsageError("only a traced model can be profiled; a graph file has nothing that could be computed")
        self.graph, self.machine, self.source, self.program = graph, machine, source, graph.program
        self.backend = backend_called(backend)
        self.rounds, self.seconds, self.say, self.free = rounds, seconds, say, free
        self._item = item
        self.pus = pus_here(machine, discover())

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._weights = self.source.weights_fd()
            stack.callback(os.close, self._weights)
            fds = [self._weights]
            item = {g.name: t.contiguous() for g, t in zip(self.program.inputs, self._item, strict=True)}
            for name in ("mapper-program", "mapper-item"):
                fds.append(anonymous_file(name))
                stack.callback(os.close, fds[-1])
            with os.fdopen(os.dup(fds[1]), "wb") as out:
                out.write(jsonio.canonical(jsonio.plain(self.program)))
            with os.fdopen(os.dup(fds[2]), "wb") as out:
                write_weights(out, item)
            arguments = [str(fds[i]) for i in (1, 0, 2)]
            self._process = stack.enter_context(Software("mapper.measure.parts", arguments, fds))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    def measure(self, chain: Chain) -> list[MeasuredOps]:
        """What the parts of `chain` take.

        Raises: NoRoom where all teams at once would need more memory than there is; BadInput when the back end cannot
        compile a part; ExecutionFailed when the process cannot do it.
        """
        self._require_room(chain)
        names = [[self.graph.ops[v].name for v in part] for part in chain.parts]
        teams = [[self.pus[core] for core in team] for team in teams_of(self.machine, chain.config)]
        folders = self._compiled(names, chain.config.cores)
        pus = [pu for team in teams for pu in team]
        if self._process.pid is None:
            self._process.start()
        before, own = snapshot(), self._own_s()
        rows = self._process.value(
            "parts", WITHIN_S, parts=names, backend=self.backend.name, threads=chain.config.cores, teams=teams,
            artefacts=folders, alone=chain.residency == HOT, sweep_bytes=self._sweep_bytes(chain),
            rounds=self.rounds, seconds=self.seconds,
        )  # fmt: skip
        busy = busy_between(before, snapshot(), pus, self._own_s() - own)
        return [
            _measured(chain, i, [statistics.median(team[r][i] for team in rows) for r in range(self.rounds)], busy)
            for i in range(len(chain.parts))
        ]

    def _require_room(self, chain: Chain) -> None:
        teams, sweep = len(teams_of(self.machine, chain.config)), self._sweep_bytes(chain)
        need, free = need_bytes(self.graph, chain.parts, teams, self.backend, sweep_bytes=sweep), self.free()
        if need > free:
            count = len(chain.parts)
            what = f"{count} parts with {chain.config.name} are" if count > 1 else f"1 part with {chain.config.name} is"
            raise NoRoom(
                f"{what} not measured: "
                f"{teams} team{'s' * (teams > 1)} at once would need about {need / 1e9:.1f} GB, and "
                f"{max(0, free) / 1e9:.1f} GB are free",
                advice="Free memory, name other configurations (--configurations), or use fewer cores (--cores).",
            )

    def _compiled(self, names: Sequence[Sequence[str]], threads: int) -> list[str | None]:
        """The folder with what the back end compiled of each part, None where it compiles nothing."""
        if self.backend.compile is None:
            return [None] * len(names)
        teams = [Team(i, threads, program) for i, program in enumerate(parted(self.program, names))]
        found = artefacts(self.backend, teams, self.source.weights, self._weights, self.say)
        return [str(found[i, threads]) for i in range(len(names))]

    def _own_s(self) -> float:
        """CPU seconds that measuring has used so far."""
        return sum(os.times()[:2]) + cpu_seconds(self._process.pid)

    def _sweep_bytes(self, chain: Chain) -> int:
        """Bytes to read between two turns, so that they displace what the rest of the model would."""
        if chain.residency == HOT:
            return 0
        inside = {v for part in chain.parts for v in part}
        rest = {(w.name, w.touched_bytes) for v, op in enumerate(self.graph.ops) if v not in inside for w in op.weights}
        outermost = max((cache.bytes.value for cache in self.machine.caches), default=2.0**25)
        return int(min(sum(size for _, size in rest), SWEPT * outermost)) // 4096 * 4096


def _measured(chain: Chain, part: int, rounds: Sequence[float], busy: float) -> MeasuredOps:
    """The median of the rounds between their quartiles."""
    low, median, high = statistics.quantiles(rounds, n=4, method="inclusive") if len(rounds) > 1 else [rounds[0]] * 3
    return MeasuredOps(
        ops=ranges(chain.parts[part]), configuration=chain.config.name, residency=chain.residency,
        source=chain.source, median_s=median, low_s=low, high_s=high, rounds=len(rounds), others_busy=round(busy, 4),
        noisy=busy > LOUD or high - low > APART * median,
    )  # fmt: skip


def recorded(plan: Plan, measurement: Measurement, here: Machine | None = None) -> Profile:
    """What a run of `plan` on the machine `here` (read from it if absent) says of its stages: what each computed for a
    call. Copying is left out, which plans count apart.

    Raises: MachineMismatch where the plan is for another machine: its configurations mean nothing here.
    """
    names = tuple(name for stage in plan.stages for name in stage.ops)
    found, start = [], 0
    for stage, seen in zip(plan.stages, measurement.stages, strict=True):
        end = start + len(stage.ops)
        loads = sorted(worker.load_s for worker in measurement.workers if worker.stage == stage.id)
        apart = (loads[-1] - loads[0]) / seen.load_s / 2 if seen.load_s > 0 and loads else 0.0
        if seen.compute_s > 0:
            found.append(MeasuredOps(
                ops=((start, end),), configuration=stage.replicas[0].configuration.name, residency="stream",
                source="stage", median_s=seen.compute_s, low_s=seen.compute_s * (1 - min(apart, 0.9)),
                high_s=seen.compute_s * (1 + apart), rounds=max(1, measurement.items // len(stage.replicas)),
                others_busy=min(1.0, max(0.0, measurement.others_busy)), noisy=measurement.others_busy > LOUD,
            ))  # fmt: skip
        start = end
    backend = backend_called(measurement.backend)
    made = Profile(
        model=plan.model.name, graph_sha256=plan.model.graph_sha256, backend=backend.name, versions=backend.versions(),
        machine=host_of(plan.machine), mapper=__version__, ops=names, measurements=tuple(found),
    )  # fmt: skip
    require_same_machine(made, here or discover(), "what was planned for")
    return made


def add_to(path: Path, profile: Profile) -> Profile:
    """Writes `profile` to `path`, behind what a profile there has measured already; gives what is written.

    Raises: BadInput or MachineMismatch where the two do not belong together; SystemRefused.
    """
    found = merged([load_profile(path), profile], str(path)) if path.exists() else profile
    save_profile(found, path)
    return found
