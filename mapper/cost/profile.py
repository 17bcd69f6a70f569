"""The profile: what parts of a model took on a machine, by configuration and residency. `mapper schema profile`.

A profile belongs to one graph, one back end in its versions, and one machine (shape, CPU model, instruction set,
frequency); it is refused for any other. What costs follow from it is in `profiled`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from mapper import jsonio
from mapper.errors import BadInput, MachineMismatch
from mapper.jsonio import Record
from mapper.machine.hosts import largest_host
from mapper.machine.model import Machine

SCHEMA = "mapper-profile/1"
PROFILE = "profile"
"""`source` of costs that were made from a profile."""
SAME_FREQUENCY = 0.02
"""Frequencies that differ by less than this part are one: some kernels tell them rounded."""
Residency = Literal["hot", "cold", "stream"]
Source = Literal["op", "segment", "stage"]
Range = tuple[int, int]
AGAIN = "Profile the model again: mapper profile."


class Host(Record):
    """The machine that was measured. `fingerprint` is that of the whole machine, of which `cores` were used."""

    name: str
    fingerprint: str
    cpu_model: str
    isa: str
    frequency_hz: float | None = Field(default=None, gt=0)
    cores: int = Field(ge=1)


class MeasuredOps(Record):
    """What a set of ops took: `ops` are half-open ranges of positions in the profile's list of ops.

    `residency`: hot where the set ran again and again, cold where the rest of the model ran (or as many bytes were
    read) between two calls, stream as a stage of a plan at work. `source`: a single op within the running program, a
    segment that was loaded by the back end as a stage is, or a stage of a run. Seconds are of one call on one replica,
    all replicas at work: the median of the rounds, between their quartiles. `others_busy` is the part of the cores
    that others took meanwhile; `noisy` says that it, or the spread, is too much to rely on.
    """

    ops: tuple[Range, ...] = Field(min_length=1)
    configuration: str
    residency: Residency
    source: Source
    median_s: float = Field(gt=0)
    low_s: float = Field(gt=0)
    high_s: float = Field(gt=0)
    rounds: int = Field(ge=1)
    others_busy: float = Field(default=0.0, ge=0, le=1)
    noisy: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        ends = [end for pair in self.ops for end in pair]
        if ends[0] < 0 or any(a >= b for a, b in self.ops) or ends != sorted(ends):
            raise ValueError("/ops: ranges must be ascending, apart, and not empty")
        if not self.low_s <= self.median_s <= self.high_s:
            raise ValueError("/median_s: it is not between low_s and high_s")
        return self

    @property
    def count(self) -> int:
        """How many ops it is of."""
        return sum(b - a for a, b in self.ops)

    @property
    def what(self) -> tuple[tuple[Range, ...], str, Residency, Source]:
        """What was measured, however often."""
        return self.ops, self.configuration, self.residency, self.source

    def positions(self) -> list[int]:
        """The positions of its ops."""
        return [v for a, b in self.ops for v in range(a, b)]


class Profile(Record):
    """Measurements of one model with one back end on one machine. `ops` are those of the graph, in its order or in
    that of a plan's stages."""

    schema_: Literal["mapper-profile/1"] = Field(default="mapper-profile/1", alias="schema")
    model: str
    graph_sha256: str
    backend: str
    versions: dict[str, str] = Field(description="what computes and compiles, by package")
    machine: Host
    mapper: str
    ops: tuple[str, ...] = Field(min_length=1)
    measurements: tuple[MeasuredOps, ...] = ()
    notes: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _known(self) -> Self:
        if len(set(self.ops)) < len(self.ops):
            raise ValueError("/ops: an op is named twice")
        for i, measured in enumerate(self.measurements):
            if measured.ops[-1][1] > len(self.ops):
                raise ValueError(f"/measurements/{i}/ops: there are {len(self.ops)} ops only")
        return self

    @cached_property
    def sha256(self) -> str:
        """What a plan that is made with it names."""
        return jsonio.sha256(jsonio.plain(self))

    def names(self, measured: MeasuredOps) -> tuple[str, ...]:
        """The ops of a measurement by name."""
        return tuple(self.ops[v] for v in measured.positions())


def host_of(machine: Machine) -> Host:
    """What profiles say of `machine`."""
    whole = machine.part_of.fingerprint if machine.part_of else machine.fingerprint
    return Host(
        name=machine.title or machine.name, fingerprint=whole, cpu_model=machine.cpu_model, isa=machine.isa,
        frequency_hz=machine.frequency_hz.value if machine.frequency_hz else None, cores=machine.counts["cores"],
    )  # fmt: skip


def load_profile(path: Path) -> Profile:
    """The profile in `path`. Raises: BadInput with the JSON pointer of the first violation."""
    return jsonio.read_record(Profile, path, SCHEMA)


def save_profile(profile: Profile, path: Path) -> None:
    """Writes `profile` to `path`, whole or not at all: one line a measurement. Raises: SystemRefused."""
    document = jsonio.plain(profile)
    rows = [jsonio.canonical(row).decode() for row in document.pop("measurements", [])]
    head = jsonio.dumps(document).rstrip("\n}").rstrip()
    body = ",\n  ".join(rows)
    jsonio.write_text(path, f'{head},\n "measurements": [\n  {body}\n ]\n}}\n')


def ranges(positions: Sequence[int]) -> tuple[Range, ...]:
    """Distinct `positions` as half-open ranges, ascending."""
    found: list[list[int]] = []
    for v in sorted(set(positions)):
        if found and found[-1][1] == v:
            found[-1][1] = v + 1
        else:
            found.append([v, v + 1])
    return tuple((a, b) for a, b in found)


def require_same_machine(profile: Profile, machine: Machine, source: str = "profile") -> None:
    """Raises: MachineMismatch saying what differs, where `profile` (from `source`) is not of `machine`, or of a host of
    it."""
    here = host_of(largest_host(machine))
    if found := differences(profile.machine, here):
        raise MachineMismatch(
            f"{source} was measured on {profile.machine.name}, another machine than {here.name}: {'; '.join(found)}",
            advice="Measure on the machine that is planned for: mapper profile.",
        )


def differences(measured: Host, here: Host) -> list[str]:
    """In what two machines differ so that times of one say nothing of the other, in words; empty where they do not."""
    pairs = {
        "shape": (measured.fingerprint, here.fingerprint), "CPU model": (measured.cpu_model, here.cpu_model),
        "instruction set": (measured.isa, here.isa),
    }  # fmt: skip
    found = [f"{words} {a!r}, not {b!r}" for words, (a, b) in pairs.items() if a != b]
    a, b = measured.frequency_hz, here.frequency_hz
    if a is not None and b is not None and not math.isclose(a, b, rel_tol=SAME_FREQUENCY):
        found.append(f"frequency {a / 1e9:.3g} GHz, not {b / 1e9:.3g} GHz")
    return found


def require_same_graph(profile: Profile, graph_sha256: str, ops: Sequence[str], source: str = "profile") -> None:
    """Raises: BadInput where `profile` (from `source`) is of another graph."""
    if profile.graph_sha256 != graph_sha256:
        raise BadInput(source, f"it is of {profile.model} with the graph {profile.graph_sha256[:12]}…, the graph at "
                       f"hand is {graph_sha256[:12]}…", place="/graph_sha256",
                       advice=f"Another model, batch, length or torch has another graph. {AGAIN}")  # fmt: skip
    unknown = [name for name in profile.ops if name not in set(ops)]
    if unknown or len(profile.ops) != len(ops):
        what = f"the graph has no op {unknown[0]!r}" if unknown else f"{len(profile.ops)} ops, the graph has {len(ops)}"
        raise BadInput(source, what, place="/ops")


def require_same_backend(
    profile: Profile, backend: str, versions: Mapping[str, str] | None = None, source: str = "profile"
) -> None:
    """Raises: BadInput where `profile` (from `source`) is of another back end, or of other `versions` of it than those
    at hand (None: they are not at hand)."""
    if profile.backend != backend:
        what = f"it was measured with the back end {profile.backend}, not with {backend}"
        advice = f"Profile with --backend {backend}, or leave --backend out."
        raise BadInput(source, what, place="/backend", advice=advice)
    for name, version in (versions or {}).items():
        if profile.versions.get(name) != version:
            raise BadInput(source, f"it was measured with {name} {profile.versions.get(name) or '(not stated)'}, this "
                           f"is {name} {version or '(none)'}", place=f"/versions/{name}", advice=AGAIN)  # fmt: skip


def merged(profiles: Sequence[Profile], source: str = "profile") -> Profile:
    """One profile with the measurements of all, of the same model, back end and machine. Where two measured the same,
    the later one counts. Raises: BadInput or MachineMismatch where they do not belong together."""
    first = profiles[0]
    position = {name: v for v, name in enumerate(first.ops)}
    kept: dict[object, MeasuredOps] = {}
    for other in profiles:
        require_same_graph(other, first.graph_sha256, first.ops, source)
        require_same_backend(other, first.backend, first.versions, source)
        if found := differences(other.machine, first.machine):
            raise MachineMismatch(f"{source}: profiles of two machines: {'; '.join(found)}")
        for measured in other.measurements:
            here = measured.model_copy(update={"ops": ranges([position[name] for name in other.names(measured)])})
            kept.pop(here.what, None)
            kept[here.what] = here
    notes = tuple(dict.fromkeys(note for profile in profiles for note in profile.notes))
    return first.model_copy(update={"measurements": tuple(kept.values()), "notes": notes})
