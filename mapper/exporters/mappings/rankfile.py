"""A rankfile of Open MPI, read: which cores each rank has. Its grammar is in `mapper.exporters.pinning.openmpi`.

`slot=` has cores by their logical number on the host (`0,2-3`), or by that of a package with the number of the core in
it (`1:0-2`), several with `;` between; `*` is all cores of a package. Comments are those of C and the shell.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mapper.errors import BadInput
from mapper.exporters.mappings.mapping import MappedStage, Team
from mapper.exporters.pinning.openmpi import hwloc_numbers
from mapper.jsonio import read_bytes
from mapper.machine.model import Machine
from mapper.machine.pus import parse_pus
from mapper.plans.dram import is_spread
from mapper.plans.model import Plan

_LINE = re.compile(r"rank\s+(\d{1,9})\s*=\s*(\S+)\s+slots?\s*=\s*(.*)")
_COMMENT = re.compile(r"/\*.*?\*/|#[^\n]*|//[^\n]*", re.DOTALL)
_RELATIVE = re.compile(r"(?:\+[nN]|host)(\d{1,9})")


@dataclass(frozen=True)
class Rank:
    """A line of a rankfile."""

    line: int
    host: str
    slots: str


def is_rankfile(path: Path) -> bool:
    """Whether the first line of `path` that says anything begins as one of a rankfile does."""
    lines = _without_comments(read_bytes(path).decode("utf-8", "replace")).split("\n")
    return next((line for line in map(str.strip, lines) if line), "").startswith("rank ")


def read_rankfile(path: Path, machine: Machine, ops: Sequence[str], of: Plan | None = None) -> list[MappedStage]:
    """The stages that the ranks in `path` are: copies of the whole model (`ops`), or the workers of the plan `of`, in
    their order, on other cores.

    Raises: BadInput with the line of what is wrong: a line that is none of a rankfile, a rank that is there twice or
    missing, more hosts than the machine has, cores that are not there.
    """
    ranks = ranks_of(path)
    numbers = _hosts(ranks, machine, str(path))
    teams = [Team(rank.line, _cores(rank, numbers[rank.host], machine, str(path))) for rank in ranks]
    if of is None:
        return [MappedStage(tuple(ops), tuple(teams))]
    wanted = sum(len(stage.replicas) for stage in of.stages)
    if len(teams) != wanted:
        raise BadInput(str(path), f"{len(teams)} ranks, but the plan has {wanted} workers")
    given = iter(teams)
    return [MappedStage(stage.ops, tuple(next(given) for _ in stage.replicas), is_spread(stage, of.machine))
            for stage in of.stages]  # fmt: skip


def ranks_of(path: Path) -> list[Rank]:
    """The ranks in `path` in their order. Raises: BadInput."""
    source = str(path)
    try:
        text = read_bytes(path).decode()
    except UnicodeDecodeError:
        raise BadInput(source, "not UTF-8 text") from None
    found: dict[int, Rank] = {}
    for number, line in enumerate(_without_comments(text).split("\n"), 1):
        if not line.strip():
            continue
        parts = _LINE.fullmatch(line.strip())
        if parts is None:
            raise BadInput(source, f"{line.strip()[:60]!r} is no line of a rankfile, such as rank 0=HOST slot=0-3",
                           place=f"line {number}")  # fmt: skip
        rank = int(parts[1])
        if rank in found:
            raise BadInput(source, f"rank {rank} is in line {found[rank].line} already", place=f"line {number}")
        found[rank] = Rank(number, parts[2], parts[3].strip())
    if not found:
        raise BadInput(source, "it has no ranks: lines such as rank 0=HOST slot=0-3 were expected")
    if missing := sorted(set(range(len(found))) - found.keys()):
        raise BadInput(source, f"rank {missing[0]} is missing: there is rank {max(found)}")
    return [found[rank] for rank in sorted(found)]


def _without_comments(text: str) -> str:
    """`text` with as many lines."""
    return _COMMENT.sub(lambda comment: "\n" * comment[0].count("\n"), text)


def _hosts(ranks: Sequence[Rank], machine: Machine, source: str) -> Mapping[str, int]:
    """The number of each host: as `+nX` or `hostX` say, or the machine's own names and addresses, else in the order in
    which they come."""
    known = sorted({node.host for node in machine.nodes})
    called = {name: n for n, host in enumerate(machine.hosts or ()) for name in (host.name, host.address) if name}
    numbers: dict[str, int] = {}
    unknown: list[str] = []
    for rank in ranks:
        if rank.host in numbers:
            continue
        if (relative := _RELATIVE.fullmatch(rank.host)) is not None:
            numbers[rank.host] = int(relative[1])
        elif rank.host in called:
            numbers[rank.host] = called[rank.host]
        else:
            numbers[rank.host] = known[len(unknown)] if len(unknown) < len(known) else len(known)
            unknown.append(rank.host)
        if numbers[rank.host] not in known:
            raise BadInput(source, f"{rank.host} is host {numbers[rank.host]}, but {machine.name} has {len(known)}",
                           place=f"line {rank.line}")  # fmt: skip
    return numbers


def _cores(rank: Rank, host: int, machine: Machine, source: str) -> tuple[int, ...]:
    """The logical numbers of the cores of `rank`."""
    numbers = {
        number: core for core, number in hwloc_numbers(machine).items()
        if machine.nodes[machine.cores[core].node].host == host
    }  # fmt: skip
    packages: dict[int, list[int]] = {}
    for number in sorted(numbers):
        packages.setdefault(machine.nodes[machine.cores[numbers[number]].node].package, []).append(number)
    found: list[int] = []
    for part in rank.slots.split(";"):
        found += _part(part.strip(), list(packages.values()), rank, source)
    if absent := [number for number in found if number not in numbers]:
        raise BadInput(source, f"core {absent[0]} is not on host {host} of {machine.name}, which has "
                       f"{len(numbers)}", place=f"line {rank.line}")  # fmt: skip
    return tuple(numbers[number] for number in found)


def _part(part: str, packages: Sequence[Sequence[int]], rank: Rank, source: str) -> list[int]:
    """The numbers on the host that one of the lists of `slot=` names."""
    place = f"line {rank.line}"
    if part.lower().startswith("p"):
        raise BadInput(source, f"slot={part} has physical numbers, which Open MPI 5 has given up", place=place,
                       advice="Write logical numbers of cores, such as slot=0-3 or slot=1:0-2.")  # fmt: skip
    package, colon, listed = part.rpartition(":")
    try:
        if not colon:
            found = list(parse_pus(part))
        else:
            cores = packages[int(package)] if package.isdecimal() and int(package) < len(packages) else None
            if cores is None:
                raise BadInput(source, f"slot={part}: there is no package {package!r} on its host", place=place)
            within = range(len(cores)) if listed.strip() == "*" else parse_pus(listed)
            if absent := [core for core in within if core >= len(cores)]:
                raise BadInput(source, f"slot={part}: package {package} has {len(cores)} cores, not {absent[0] + 1}",
                               place=place)  # fmt: skip
            found = [cores[core] for core in within]
    except ValueError as error:
        raise BadInput(source, f"slot={part}: {error}", place=place) from None
    if not found:
        raise BadInput(source, "slot= names no core", place=place)
    return found
