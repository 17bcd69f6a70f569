"""Cluster files: which machines are linked, by what, and what their hosts are called (`mapper schema cluster`)."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from mapper import jsonio
from mapper.errors import BadInput, MapperError, UsageError
from mapper.jsonio import Record
from mapper.machine.changes import MARK, changed
from mapper.machine.cluster import EXAMPLE, cluster, parse_link
from mapper.machine.figures import Figure, NotNegative, Positive
from mapper.machine.model import Machine
from mapper.machine.parts import Host, Link
from mapper.units import parse_rate, parse_seconds

SCHEMA = "mapper-cluster/1"
MOST_HOSTS = 1024
AT = "@"
"""Stands before the link in the name of several hosts: `sg2042*4@10Gbit,20us`."""
_COUNTED = re.compile(r"(.*\S)\s*\*\s*(\d{1,7})\s*")

Load = Callable[[str], Machine]
"""From what names a machine to the machine."""


def _with_units(parse: Callable[[str], float]) -> BeforeValidator:
    """Reads texts such as `10Gbit` with `parse`; anything else is a figure."""

    def read(given: Any) -> Any:
        if not isinstance(given, str):
            return given
        try:
            return Figure(value=parse(given), source="as given")
        except UsageError as error:
            raise ValueError(str(error)) from None

    return BeforeValidator(read, json_schema_input_type=str | float | Figure)


class Network(Record):
    """The network between hosts: figures as in topology files, or texts with units."""

    bandwidth_bytes_per_s: Annotated[Positive, _with_units(parse_rate)] = Field(
        description="of a host, in each direction; such as 10Gbit or 1.25GB/s"
    )
    latency_s: Annotated[NotNegative, _with_units(parse_seconds)] = Field(
        description="of a small message on its way; such as 20us"
    )
    message_s: Annotated[NotNegative, _with_units(parse_seconds)] | None = Field(
        default=None, description="what each side's cores do for a message, without its bytes [50us]"
    )

    def link(self) -> Link:
        """The same as a machine has it."""
        return Link(line_s=self.latency_s, bandwidth_bytes_per_s=self.bandwidth_bytes_per_s, message_s=self.message_s)


class ClusterHost(Record):
    """A host, or several that are alike: the machine that it is, by name or as a file beside the cluster file."""

    machine: str
    count: int = Field(default=1, ge=1, le=MOST_HOSTS)
    names: list[str] = Field(default=[], description="what the hosts are called, one each")
    addresses: list[str] = Field(default=[], description="names or numbers that other hosts reach them by, one each")


class Cluster(Record):
    """Several hosts with a network between them. Items are handed in and collected on the first one."""

    schema_: Literal["mapper-cluster/1"] = Field(default="mapper-cluster/1", alias="schema")
    name: str = ""
    title: str = ""
    hosts: list[ClusterHost] = Field(min_length=1)
    link: Network


def read_cluster(document: Any, path: Path, load: Load) -> Machine:
    """The machine that the document of the cluster file at `path` describes; `load` gets machines that are no files.

    Raises: BadInput with the place that is wrong, also where a machine's file is absent.
    """
    found = jsonio.validated(Cluster, document, str(path))
    machines: list[Machine] = []
    hosts: list[Host] = []
    for i, given in enumerate(found.hosts):
        for what in ("names", "addresses"):
            listed = getattr(given, what)
            if listed and len(listed) != given.count:
                raise BadInput(str(path), f"{len(listed)} {what} for {given.count} hosts", place=f"/hosts/{i}/{what}")
        machine = _machine(given.machine, path, f"/hosts/{i}/machine", load)
        names, addresses = given.names or [""] * given.count, given.addresses or [""] * given.count
        machines += [machine] * given.count
        hosts += [Host(name=n, address=a, machine=machine.name) for n, a in zip(names, addresses, strict=True)]
    if len(machines) < 2:
        raise BadInput(str(path), "a single host: at least two were expected", place="/hosts")
    return cluster(machines, found.link.link(), hosts=hosts, name=found.name, title=found.title)


def _machine(text: str, path: Path, place: str, load: Load) -> Machine:
    """The machine called `text` in the cluster file at `path`."""
    beside = path.parent / text
    try:
        return load(str(beside) if beside.is_file() else text)
    except MapperError as error:
        raise BadInput(str(path), error.what, place=place, advice=error.advice) from None


def terms(text: str) -> list[tuple[str, int]]:
    """The machines that `text` adds up, such as `a.json*2+sg2042`, each with how many there are of it.

    A part with `=` in it changes a figure of the machine before it (`sg2042+l2_bytes=2MiB`).
    """
    parts: list[str] = []
    for part in text.split(MARK):
        if parts and "=" in part:
            parts[-1] += MARK + part
        else:
            parts.append(part)
    found = []
    for part in parts:
        counted = _COUNTED.fullmatch(part)
        found.append((counted[1], int(counted[2])) if counted else (part.strip(), 1))
    return found


def is_several(text: str) -> bool:
    """Whether `text` names several machines or a number of one."""
    added = terms(text.partition(AT)[0])
    return len(added) > 1 or _COUNTED.fullmatch(text.partition(AT)[0]) is not None


def cluster_called(text: str, link: str | None, load: Load) -> Machine:
    """The machine that `text` names, such as `sg2042*4@10Gbit,20us`; `link` comes before one in the text. Figures
    may be changed behind it: `sg2042*4@10Gbit,20us+l2_bytes=2MiB`.

    Raises: UsageError where several hosts have no link, or there are too many; what `load` raises.
    """
    named, _, inline = text.partition(AT)
    inline, _, changes = inline.partition(MARK)
    added = terms(named)
    count = sum(n for _, n in added)
    if not 1 <= count <= MOST_HOSTS or any(n < 1 for _, n in added):
        raise UsageError(f"{text}: from 1 to {MOST_HOSTS} hosts were expected")
    if count == 1:
        return load(added[0][0])
    chosen = link or inline
    if not chosen:
        raise UsageError(f"{text} is {count} hosts, but nothing says how they are linked",
                         advice=f"Bandwidth and latency of the network: {EXAMPLE}.")  # fmt: skip
    machines = [machine for name, n in added for machine in [load(name)] * n]
    made = cluster(machines, parse_link(chosen))
    return changed(made, changes) if changes else made


def cluster_document(text: str, link: str | None, names: Sequence[str], output: Path) -> dict[str, Any]:
    """The cluster file, to be written to `output`, of what `cluster_called` makes: files named from there.

    Raises: UsageError.
    """
    named, _, inline = text.partition(AT)
    stated = link or inline or _no_link(text)
    parse_link(stated)
    hosts, left = [], list(names)
    for name, count in terms(named):
        file = Path(name)
        machine = os.path.relpath(file, output.parent) if file.is_file() else name
        mine, left = left[:count], left[count:]
        hosts.append(ClusterHost(machine=machine, count=count, names=mine))
    if names and (left or any(len(host.names) != host.count for host in hosts)):
        raise UsageError(f"{len(names)} names for {sum(host.count for host in hosts)} hosts")
    fields = ("bandwidth_bytes_per_s", "latency_s", "message_s")
    return {
        "schema": SCHEMA,
        "hosts": [{key: value for key, value in jsonio.plain(host).items() if value} for host in hosts],
        "link": dict(zip(fields, (part.strip() for part in stated.split(",")), strict=False)),
    }


def _no_link(text: str) -> str:
    raise UsageError(f"{text}: nothing says how the hosts are linked", advice=f"Such as {EXAMPLE}.")
