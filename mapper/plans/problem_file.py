"""Problem files, `mapper-problem/1`: whole instances of the mapping problem with their tables, for comparing planners.

Seconds and bytes throughout. docs/problem.md describes the fields and what a plan of such a file costs.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
import math
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from mapper import jsonio
from mapper.errors import BadInput
from mapper.jsonio import Record
from mapper.machine.shape import MOST_PUS
from mapper.plans.model import PlanRecord

FORMAT = "mapper-problem/1"
GROUP, CHIP, DRAM = "group", "chip", "dram"
"""Residencies, nearest first. A file without `chip` has two columns of seconds."""


def _op(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError("an op was expected: its name, or its position from 0")
    return value


Seconds = Annotated[float, Field(ge=0, le=1e18)]
Bytes = Annotated[float, Field(ge=0, le=1e15)]
"""The caps keep sums finite, and those of whole bytes exact."""
OpReference = Annotated[str | int, BeforeValidator(_op)]
"""An op by its name, or by its position in the file, from 0."""


class FileCache(Record):
    """A cache: `bytes` of it, of which the part `fill` counts. Where there is none, `bytes` is 0."""

    name: str = ""
    bytes: Bytes
    fill: float = Field(gt=0, le=1)

    @property
    def usable_bytes(self) -> float:
        """What a working set may take of it."""
        return self.bytes * self.fill


class FileMachine(Record):
    """The machine of an instance: equal groups of equal cores."""

    groups: int = Field(gt=0, le=MOST_PUS)
    cores_per_group: int = Field(gt=0, le=MOST_PUS)
    dram_bytes_per_s: float = Field(gt=0)
    group_cache: FileCache
    chip_cache: FileCache | None = None
    handoff_s: Seconds
    link_bytes_per_s: float = Field(gt=0)
    ring_slots: int = Field(gt=0, le=1_000_000)

    @property
    def cores(self) -> int:
        """All cores."""
        return self.groups * self.cores_per_group


class FileConfig(Record):
    """A configuration: `cores` in all, over `groups` groups, adding up `cache_shares` group caches."""

    name: str
    cores: int = Field(gt=0)
    groups: int = Field(gt=0)
    cache_shares: int = Field(gt=0)


class FileOp(Record):
    """An op: seconds[config][residency], weights [[id, bytes]...], and the bytes that it reads and writes."""

    name: str
    kind: str = ""
    weights: tuple[tuple[str, Bytes], ...] = ()
    footprint: Bytes
    seconds: tuple[tuple[Seconds, ...], ...]


class FileTensor(Record):
    """One distinct tensor. Ops are named, or given by position."""

    producer: OpReference
    readers: tuple[OpReference, ...]
    bytes: Bytes


class ProblemFile(Record):
    """An instance as it stands in its file."""

    format: Literal["mapper-problem/1"]
    name: str = ""
    machine: FileMachine
    residencies: tuple[str, ...]
    configs: tuple[FileConfig, ...] = Field(min_length=1)
    ops: tuple[FileOp, ...] = Field(min_length=1)
    tensors: tuple[FileTensor, ...]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        problems = itertools.chain(_residencies(self), _configs(self), _ops(self), _tensors(self))
        first = next(problems, None)
        if first is None and len(self.order) < len(self.ops):
            first = _cycle(self)
        if first is not None:
            raise ValueError(first)
        return self

    @cached_property
    def ends(self) -> tuple[tuple[int, tuple[int, ...]], ...]:
        """For each tensor the positions of its producer and of its readers, these once each and ascending."""
        at: dict[str | int, int] = {op.name: v for v, op in enumerate(self.ops)}
        at |= {v: v for v in range(len(self.ops))}
        return tuple((at[t.producer], tuple(sorted({at[r] for r in t.readers}))) for t in self.tensors)

    @cached_property
    def order(self) -> tuple[int, ...]:
        """Positions of the ops in an order in which they can run; of those that could be next, the first in the file.

        Shorter than `ops` where some wait for each other, which no file that was validated has.
        """
        waits, readers = [0] * len(self.ops), [list[int]() for _ in self.ops]
        for producer, users in self.ends:
            for reader in users:
                readers[producer].append(reader)
                waits[reader] += 1
        ready, done = [v for v, count in enumerate(waits) if count == 0], []
        while ready:
            done.append(heapq.heappop(ready))
            for reader in readers[done[-1]]:
                waits[reader] -= 1
                if waits[reader] == 0:
                    heapq.heappush(ready, reader)
        return tuple(done)

    @property
    def total_weight_bytes(self) -> float:
        """Distinct weight bytes of the whole model."""
        return math.fsum({name: size for op in self.ops for name, size in op.weights}.values())

    def config(self, name: str) -> int:
        """The position of the configuration called `name`. Raises: ValueError where there is none."""
        return [config.name for config in self.configs].index(name)


class ProblemRef(PlanRecord):
    """Which problem file: what it calls itself, the file's name without folder, the SHA-256 of its bytes."""

    name: str
    file: str
    sha256: str


def read_problem(path: Path) -> tuple[ProblemFile, ProblemRef]:
    """The instance in `path`, and how a plan refers to it.

    Raises: BadInput with the pointer of the first violation.
    """
    data = jsonio.read_bytes(path)
    document = jsonio.parse_json(data, str(path))
    if not isinstance(document, dict):
        raise BadInput(str(path), f"a JSON object was expected, not {type(document).__name__}")
    if document.get("format") != FORMAT:
        raise BadInput(
            str(path), f"format is {document.get('format')!r}, {FORMAT!r} was expected", place="/format",
            advice="A plan of a problem file goes to mapper check; the problem file itself to --problem.",
        )  # fmt: skip
    file = jsonio.validated(ProblemFile, document, str(path))
    return file, ProblemRef(name=file.name or path.stem, file=path.name, sha256=hashlib.sha256(data).hexdigest())


def unpacked(file: ProblemFile) -> str:
    """Which sizes of configurations do not pack into groups, in words; empty where all do.

    The format counts cores and does not place them. Only where the sizes below a group's divide each other and the
    group's is a plan that keeps the count sure to fit into groups as well.
    """
    size = file.machine.cores_per_group
    sizes = sorted({config.cores for config in file.configs if config.cores < size} | {size})
    for small, large in itertools.pairwise(sizes):
        if large % small:
            what = f"groups of {size}" if large == size else f"{large}"
            return f"cores are counted, not placed: configurations of {small} cores do not divide {what}"
    return ""


def _residencies(file: ProblemFile) -> Iterator[str]:
    """What is wrong with the names of the residencies; pointers are relative to the file."""
    if file.residencies not in ((GROUP, DRAM), (GROUP, CHIP, DRAM)):
        given = ", ".join(file.residencies) or "nothing"
        yield f"/residencies: group, dram or group, chip, dram were expected, nearest first, not {given}"
    elif file.machine.chip_cache is not None and CHIP not in file.residencies:
        yield "/residencies: the machine has a chip_cache, but there are no seconds for the residency chip"


def _configs(file: ProblemFile) -> Iterator[str]:
    """More cores than can be, names that stand twice, and configurations neither part of a group nor whole groups."""
    if file.machine.cores > MOST_PUS:
        yield f"/machine: {file.machine.cores} cores, which are more than {MOST_PUS}"
    size, seen = file.machine.cores_per_group, dict[str, int]()
    for c, config in enumerate(file.configs):
        each, rest = divmod(config.cores, config.groups)
        if seen.setdefault(config.name, c) != c:
            yield f"/configs/{c}/name: {config.name!r} is the name of configuration {seen[config.name]} too"
        if rest:
            yield f"/configs/{c}/cores: {config.cores} cores are no multiple of {config.groups} groups"
        elif each > size:
            yield f"/configs/{c}/cores: {each} cores of a group, which has {size}"
        elif config.groups > 1 and each < size:
            yield (
                f"/configs/{c}/cores: {each} of {size} cores of each of {config.groups} groups; "
                "part of one group or whole groups were expected"
            )
        elif config.cache_shares > config.groups:
            yield f"/configs/{c}/cache_shares: {config.cache_shares} caches, but it has {config.groups} groups"
    if all(config.cores > file.machine.cores for config in file.configs):
        yield f"/configs: none fits the machine, which has {file.machine.cores} cores"


def _ops(file: ProblemFile) -> Iterator[str]:
    """Names that stand twice, tables of another shape, and weights of two sizes."""
    shape, seen = (len(file.configs), len(file.residencies)), dict[str, int]()
    sizes: dict[str, tuple[float, int]] = {}
    for v, op in enumerate(file.ops):
        if seen.setdefault(op.name, v) != v:
            yield f"/ops/{v}/name: {op.name!r} is the name of op {seen[op.name]} too"
        if len(op.seconds) != shape[0]:
            yield f"/ops/{v}/seconds: {shape[0]} rows were expected, one a configuration, not {len(op.seconds)}"
        for c, row in enumerate(op.seconds):
            if len(row) != shape[1]:
                yield f"/ops/{v}/seconds/{c}: {shape[1]} numbers were expected, one a residency, not {len(row)}"
        for w, (name, size) in enumerate(op.weights):
            known, first = sizes.setdefault(name, (size, v))
            if known != size:
                yield f"/ops/{v}/weights/{w}: {name!r} has {size:.15g} bytes here and {known:.15g} in op {first}"


def _tensors(file: ProblemFile) -> Iterator[str]:
    """Ops that are not there, and tensors that their own producer reads."""
    names, count = {op.name for op in file.ops}, len(file.ops)

    def known(op: str | int) -> bool:
        return op in names if isinstance(op, str) else 0 <= op < count

    for i, tensor in enumerate(file.tensors):
        if not known(tensor.producer):
            yield f"/tensors/{i}/producer: there is no op {tensor.producer!r}"
        for j, reader in enumerate(tensor.readers):
            if not known(reader):
                yield f"/tensors/{i}/readers/{j}: there is no op {reader!r}"


def _cycle(file: ProblemFile) -> str:
    """The ops of one cycle by name, at a tensor that closes it. Walks from reader to producer among what cannot run."""
    stuck = set(range(len(file.ops))) - set(file.order)
    needs: dict[int, tuple[int, int]] = {}
    for i, (producer, readers) in enumerate(file.ends):
        for reader in readers:
            if producer in stuck and reader in stuck:
                needs.setdefault(reader, (producer, i))
    walk, at = dict[int, int](), min(needs)
    while at not in walk:
        walk[at] = len(walk)
        at = needs[at][0]
    ops = list(walk)[walk[at] :][::-1]
    names = [repr(file.ops[v].name) for v in ops]
    shown = ", ".join(names if len(names) <= 6 else [*names[:5], f"{len(names) - 5} more"])
    what = f"{names[0]} reads what it produces itself" if len(ops) == 1 else f"the ops {shown} wait for each other"
    return f"/tensors/{needs[at][1]}: {what}"
