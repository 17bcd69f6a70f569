"""What is to be measured on a machine: for each figure where it goes, and what finds it out."""

from __future__ import annotations

import itertools
import random
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Literal

from mapper.machine.model import Machine
from mapper.machine.parts import Cache, Core, Distance
from mapper.measure.cases import CASES, Case
from mapper.measure.probe import LEAST_MEMCHR_BYTES, NO_PROBE
from mapper.units import format_bytes

Team = tuple[int, ...]
Unit = Literal["B/s", "s", "times"]

BEYOND = 4
"""A working set in memory is so many times the outermost caches in reach."""
LEAST_BEYOND = 2
"""Where memory is so short that it is less than this, what is measured would be the cache."""
NO_CACHES_BYTES = 256 * 2**20
"""Working set in memory where the system shows no caches."""
PAIRS = 4
"""Pairs of cores of one distance that a round looks at."""
MESSAGE = "half a round trip of one cache line between two cores of this distance, the median of up to {} pairs a round"


@dataclass(frozen=True)
class Read:
    """Bytes a second that a team reads from `bytes` of memory; a round takes one of the `teams` (of PUs) in turn."""

    bytes: int
    teams: tuple[Team, ...]


@dataclass(frozen=True)
class Chase:
    """Seconds a load in a random cycle through `bytes` of memory, on one of the PUs in turn."""

    bytes: int
    pus: Team


@dataclass(frozen=True)
class Exchange:
    """Seconds from core to core, over some of the `pairs` of PUs, others in every round."""

    pairs: tuple[tuple[int, int], ...]

    def drawn(self, number: int) -> list[tuple[int, int]]:
        """The pairs of round `number`."""
        return random.Random(number).sample(self.pairs, min(PAIRS, len(self.pairs)))


@dataclass(frozen=True)
class ForkJoin:
    """Seconds to start and join a team on `pus`."""

    pus: Team


@dataclass(frozen=True)
class Dispatch:
    """Seconds an op of next to no work, on one of the PUs in turn."""

    pus: Team


@dataclass(frozen=True)
class Busy:
    """How much slower the cores are when all of `pus` compute."""

    pus: Team


@dataclass(frozen=True)
class Timed:
    """Seconds of an op with a team on `pus`. Not a figure by itself: those of one sort make a rate (`rates`)."""

    case: Case
    pus: Team


Task = Read | Chase | Exchange | ForkJoin | Dispatch | Busy | Timed
Part = Literal["machine", "rates"]
"""What a calibration finds out: caches, memory, links and overheads; or the rate of each sort of op."""
PARTS: tuple[Part, Part] = ("machine", "rates")
RATE_ROUNDS = 5
"""Most rounds that ops are timed: there are some hundred sizes, and a rate is fitted to several."""


@dataclass(frozen=True)
class Measurement:
    """One figure: where it goes (JSON pointers into the topology), its name and unit, and how it is measured."""

    places: tuple[str, ...]
    name: str
    unit: Unit
    task: Task
    how: str

    @property
    def place(self) -> str:
        """The first of its places, which stands for it."""
        return self.places[0]

    def rounds(self, asked: int) -> int:
        """How many of the rounds that were asked for it takes part in."""
        return min(asked, RATE_ROUNDS) if isinstance(self.task, Timed) else asked


@dataclass(frozen=True)
class LeftOut:
    """A figure that cannot be measured here, and why."""

    place: str
    name: str
    reason: str


@dataclass(frozen=True)
class Wanted:
    """All figures of a machine, in the order in which a round goes through them."""

    measurements: tuple[Measurement, ...]
    left_out: tuple[LeftOut, ...]


def wanted(
    machine: Machine, free_bytes: float, compiled: bool, parts: Collection[Part] = PARTS[:1]
) -> Wanted:  # fmt: skip
    """What to measure on `machine`, this machine, with at most `free_bytes` of memory, with the compiled probe or
    without it; `parts` of all there is."""
    found: list[Measurement | LeftOut] = []
    if "machine" in parts:
        found += [
            *_caches(machine, compiled), *_memory(machine, free_bytes, compiled), *_links(machine, compiled),
            *_software(machine),
        ]  # fmt: skip
    if "rates" in parts:
        found += _rates(machine)
    return Wanted(
        tuple(item for item in found if isinstance(item, Measurement)),
        tuple(item for item in found if isinstance(item, LeftOut)),
    )


def cache_bytes(cache: Cache, inner: Cache | None) -> int:
    """The working set that shows what `cache` does: half of it, and twice the one inside it, within what `cache` can
    hold; 0 where it is hardly larger than that one."""
    size = max(cache.bytes.value / 2, 2 * inner.bytes.value if inner else 0)
    size = min(size, cache.fill.value * cache.bytes.value)
    return 0 if inner and size < 1.25 * inner.bytes.value else int(size) // 4096 * 4096


def _caches(machine: Machine, compiled: bool) -> Iterator[Measurement | LeftOut]:
    pus = _one_each(_slowest(machine))
    ordered = sorted(enumerate(machine.caches), key=lambda item: item[1].level)
    inner: Cache | None = None
    for index, cache in ordered:
        size, inner_one, inner = cache_bytes(cache, inner), inner, cache
        rate, latency = f"/caches/{index}/core_bandwidth_bytes_per_s", f"/caches/{index}/latency_s"
        names = (f"{cache.name} bandwidth, core", f"{cache.name} latency")
        if not size:
            reason = f"{cache.name} is hardly larger than {inner_one.name if inner_one else 'a page'}"
            yield from (LeftOut(rate, names[0], reason), LeftOut(latency, names[1], reason))
            continue
        if compiled or size >= LEAST_MEMCHR_BYTES:
            yield Measurement((rate,), names[0], "B/s", Read(size, tuple((pu,) for pu in pus)),
                              f"reads of {_size(size)} on one core")  # fmt: skip
        else:
            yield LeftOut(rate, names[0], NO_PROBE)
        if compiled:
            how = f"dependent loads at random in {_size(size)} on one core"
            yield Measurement((latency,), names[1], "s", Chase(size, pus), how)
        else:
            yield LeftOut(latency, names[1], NO_PROBE)


def _memory(machine: Machine, free_bytes: float, compiled: bool) -> Iterator[Measurement | LeftOut]:
    scopes: dict[tuple[Team, ...], list[str]] = {}
    for scope, parts in _teams(machine).items():
        scopes.setdefault(tuple(map(_one_each, parts)), []).append(scope)
    core_of = {core.pus[0]: core for core in machine.cores}
    for teams, names in scopes.items():
        places = tuple(f"/memory/{scope}_bandwidth_bytes_per_s" for scope in names)
        title = f"memory bandwidth, {' and '.join(names)}"
        largest = max(teams, key=len)
        size, told = _beyond(machine, [core_of[pu] for pu in largest], free_bytes)
        if not size:
            yield from (LeftOut(place, title, told) for place in places)
            continue
        cores = "one core" if len(largest) == 1 else f"{len(largest)} cores"
        yield Measurement(places, title, "B/s", Read(size, teams), f"reads of {told} on {cores}")
    size, told = _beyond(machine, machine.cores[:1], free_bytes)
    place, title = "/memory/latency_s", "memory latency"
    if not size or not compiled:
        yield LeftOut(place, title, NO_PROBE if size else told)
    else:
        how = f"dependent loads at random in {told} on one core"
        yield Measurement((place,), title, "s", Chase(size, _one_each(_slowest(machine))), how)


def _teams(machine: Machine) -> dict[str, list[list[Core]]]:
    """The cores of each core, group (where one has several cores), node and package."""
    parts: dict[str, dict[object, list[Core]]] = {"core": {}, "group": {}, "node": {}, "package": {}}
    for core in machine.cores:
        parts["group"].setdefault(core.group, []).append(core)
        parts["node"].setdefault(core.node, []).append(core)
        parts["package"].setdefault(_package(machine, core), []).append(core)
    parts["core"] = {core.logical: [core] for core in _slowest(machine)}
    if max(map(len, parts["group"].values())) == 1:
        del parts["group"]
    return {scope: list(teams.values()) for scope, teams in parts.items()}


def _beyond(machine: Machine, team: list[Core] | tuple[Core, ...], free_bytes: float) -> tuple[int, str]:
    """Bytes of memory that no cache in reach of `team` holds, and how to tell them; 0 and why where there is too
    little memory."""
    reach = _caches_in_reach(machine, team)
    aim = BEYOND * reach or NO_CACHES_BYTES
    size = int(aim) if aim <= free_bytes else 1 << max(0, int(free_bytes).bit_length() - 1)  # the same a minute later
    if size < aim * LEAST_BEYOND / BEYOND:
        return 0, f"only {format_bytes(free_bytes)} of memory may be used for it, {format_bytes(aim)} are needed"
    if not reach:
        return size, f"{_size(size)} (no cache is known)"
    return size, _size(size) + (f" (not {_size(int(aim))}: too little memory)" if size < int(aim) else "")


def _caches_in_reach(machine: Machine, team: list[Core] | tuple[Core, ...]) -> float:
    """Bytes of the outermost caches that the cores of `team` fill."""
    outermost = max(machine.caches, key=lambda cache: cache.level, default=None)
    if outermost is None:
        return 0.0
    number = {
        "core": lambda core: core.logical, "group": lambda core: core.group, "node": lambda core: core.node,
        "package": lambda core: _package(machine, core),
    }[outermost.shared_by]  # fmt: skip
    return outermost.bytes.value * len(set(map(number, team)))


def _package(machine: Machine, core: Core) -> tuple[int, int]:
    node = machine.nodes[core.node]
    return node.host, node.package


def _links(machine: Machine, compiled: bool) -> Iterator[Measurement | LeftOut]:
    pairs: dict[Distance, list[tuple[int, int]]] = {}
    for a, b in itertools.combinations(machine.cores, 2):
        pairs.setdefault(machine.distance(a.logical, b.logical), []).append((a.pus[0], b.pus[0]))
    for distance, found in pairs.items():
        place, name = f"/links/{distance}/line_s", f"line, same {distance}"
        if compiled:
            how = MESSAGE.format(PAIRS) if len(found) > 1 else "half a round trip of one cache line between two cores"
            yield Measurement((place,), name, "s", Exchange(tuple(found)), how)
        else:
            yield LeftOut(place, name, NO_PROBE)


def _software(machine: Machine) -> Iterator[Measurement | LeftOut]:
    pus = _one_each(machine.cores)
    for threads in team_sizes(len(pus)):
        how = f"an op on a grain for each of {threads} threads on neighbouring cores, less one on one thread"
        place = f"/overheads/fork_join_s/{threads}"
        yield Measurement((place,), f"fork and join, {threads} threads", "s", ForkJoin(pus[:threads]), how)
    how = "the mean of five ops on one element, called as the eager back end does"
    yield Measurement(("/overheads/dispatch_s",), "dispatch", "s", Dispatch(_one_each(_slowest(machine))), how)
    place, name = "/compute/busy_slowdown", "slow-down when all are busy"
    if len(pus) > 1:
        how = f"a product of matrices in cache on each of {len(pus)} cores against one alone"
        yield Measurement((place,), name, "times", Busy(pus), how)
    else:
        yield LeftOut(place, name, "the machine has one core")


def _rates(machine: Machine) -> Iterator[Measurement]:
    """Every size of every sort of op on one core, the larger ones also on teams of neighbouring cores."""
    slowest, pus = _one_each(_slowest(machine)), _one_each(machine.cores)
    for case in CASES:
        teams = [slowest[:1], *(pus[:threads] for threads in team_sizes(len(pus)) if case.teams)]
        for team in teams:
            yield Measurement((f"/compute/rates/{case.name}/{len(team)}",), f"{case.name}, {len(team)} threads", "s",
                              Timed(case, team), f"{case.name} on {len(team)} cores")  # fmt: skip


def team_sizes(cores: int) -> list[int]:
    """2, 4, 8, … threads, and all cores."""
    powers = [2**k for k in range(1, cores.bit_length()) if 2**k < cores]
    return [*powers, cores] if cores > 1 else []


def _slowest(machine: Machine) -> tuple[Core, ...]:
    """The cores of the slowest kind, which planning takes all of them for."""
    if not machine.core_kinds:
        return machine.cores
    slowest = min(machine.core_kinds, key=lambda kind: kind.speed.value)
    return tuple(machine.cores[number] for number in slowest.cores)


def _one_each(cores: list[Core] | tuple[Core, ...]) -> Team:
    """One PU of each core."""
    return tuple(core.pus[0] for core in cores)


def _size(count: int) -> str:
    """`count` bytes as caches are told: 512 KiB, 16 MiB."""
    for factor, unit in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if count >= factor:
            return f"{count / factor:.3g} {unit}"
    return f"{count} B"
