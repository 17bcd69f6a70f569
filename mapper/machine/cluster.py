"""Several hosts as one machine: their nodes numbered through, each figure that of the slowest, a network between them.

Hosts may differ in shape and in figures. Costs are those of one table, so that every figure is the one of the hosts
that is worst for a plan; a note says so. Hosts whose instruction sets execute ops in different ways are refused.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from mapper import jsonio
from mapper.errors import BadInput, UsageError
from mapper.jsonio import Record
from mapper.machine.defaults import MESSAGE_S
from mapper.machine.figures import Figure
from mapper.machine.model import Machine
from mapper.machine.parts import Cache, CoreKind, Host, Link, Node
from mapper.machine.shape import MOST_PUS
from mapper.units import parse_rate, parse_seconds

EXAMPLE = "--link 10Gbit,20us"
UNREACHABLE = 255.0
"""Distance between memories of different hosts: what firmware says where there is no way (ACPI 6.5, section 5.2.17)."""
_HIGHER_IS_BETTER = ("bytes_per_s", "bytes", "fill", "flop_per_s", "efficiency", "speedup", "at_once", "hz")
"""How the names of figures end that are worse the smaller they are; but for what a process takes."""
_TAKEN = "process_bytes"


def parse_link(text: str) -> Link:
    """The network that `text` describes: bandwidth of a host in each direction, latency of a small message, and, where
    that is known, what each side's cores do for a message; such as `10Gbit,20us` or `1.25GB/s,20us,50us`.

    Raises: UsageError.
    """
    parts = [part.strip() for part in text.split(",")]
    if not 2 <= len(parts) <= 3 or not all(parts):
        raise UsageError(f"--link {text}: bandwidth and latency were expected, such as 10Gbit,20us")
    rate = parse_rate(parts[0])
    if rate <= 0:
        raise UsageError(f"--link {text}: the bandwidth must be more than 0")
    message = Figure(value=parse_seconds(parts[2]), source="as given") if len(parts) == 3 else MESSAGE_S
    return Link(line_s=Figure(value=parse_seconds(parts[1]), source="as given"), message_s=message,
                bandwidth_bytes_per_s=Figure(value=rate, source="as given"))  # fmt: skip


def linked(machine: Machine, link: Link) -> Machine:
    """`machine`, which has several hosts, with this network between them. Raises: UsageError for a single host."""
    if machine.counts["hosts"] == 1:
        raise UsageError(f"{machine.name} is one host: there is nothing to link",
                         advice=f"Several are {machine.name}*4.")  # fmt: skip
    return machine.model_copy(update={"links": {**machine.links, "cluster": link}})


def cluster(
    machines: Sequence[Machine], link: Link, *, hosts: Sequence[Host] | None = None, name: str = "", title: str = ""
) -> Machine:
    """`machines`, each of one host, as one with `link` between them.

    Raises: BadInput for hosts that no one table of costs fits, that have too many PUs, or none.
    """
    _require_alike(machines)
    counted = [(made, len(list(same))) for made, same in itertools.groupby(machines, key=lambda m: (m.name, m.title))]
    name = name or "+".join(own if n == 1 else f"{own}*{n}" for (own, _), n in counted)
    title = title or " + ".join((t or own) if n == 1 else f"{n} × {t or own}" for (own, t), n in counted)
    named = tuple(hosts) if hosts is not None else tuple(Host(machine=machine.name) for machine in machines)
    first, alike = machines[0], all(_figures_of(m) == _figures_of(machines[0]) for m in machines)
    notes = [note for machine in machines for note in machine.notes]
    notes += [] if alike else ["The hosts differ: every figure is that of the host where it is worst for a plan."]
    update: dict[str, Any] = {name: _worst([getattr(m, name) for m in machines], name) for name in _FIGURES}
    made = first.model_copy(update={
        **update, "name": name, "title": title, "nodes": tuple(_nodes(machines)), "distances": _distances(machines),
        "caches": tuple(_caches(machines)), "links": {**update["links"], "cluster": link}, "hosts": named,
        "cpu_model": _joined(m.cpu_model for m in machines), "isa": _joined(m.isa for m in machines),
        "core_kinds": tuple(_kinds(machines)), "cpu_quota": _quota(machines), "power": first.power if alike else None,
        "layout": None, "part_of": None, "sources": _sources(machines), "notes": tuple(dict.fromkeys(notes)),
    })  # fmt: skip
    return jsonio.validated(Machine, jsonio.plain(made), name)


_FIGURES = ("frequency_hz", "memory", "compute", "overheads", "links")


def _figures_of(machine: Machine) -> tuple[Any, ...]:
    """All that costs depend on, but for the shape."""
    return (*(getattr(machine, name) for name in _FIGURES), machine.caches, machine.power)


def _require_alike(machines: Sequence[Machine]) -> None:
    several = next((machine for machine in machines if machine.counts["hosts"] > 1), None)
    if several is not None:
        raise BadInput(several.name, "is several hosts itself, one was expected", place="/nodes")
    if sum(machine.counts["pus"] for machine in machines) > MOST_PUS:
        raise BadInput(f"{len(machines)} hosts", f"more than {MOST_PUS} PUs")
    for other in machines[1:]:
        ways = [(m.isa.lower().startswith(("rv", "riscv")), m.compute.path) for m in (machines[0], other)]
        if ways[0] != ways[1]:
            raise BadInput(
                f"{machines[0].name} and {other.name}",
                f"their instruction sets ({machines[0].isa or 'not known'}, {other.isa or 'not known'}) execute ops in "
                "different ways, which no one table of costs has",
                advice="Plan for each by itself, and share out items in proportion to their rates.",
            )


def _nodes(machines: Sequence[Machine]) -> list[Node]:
    """The nodes of all hosts; packages are numbered through."""
    out: list[Node] = []
    before = 0
    for host, machine in enumerate(machines):
        packages = sorted({node.package for node in machine.nodes})
        for node in machine.nodes:
            out.append(node.model_copy(update={"host": host, "package": before + packages.index(node.package)}))
        before += len(packages)
    return out


def _distances(machines: Sequence[Machine]) -> tuple[tuple[float, ...], ...] | None:
    """The distances of each host, `UNREACHABLE` between hosts; None where a host of several nodes has none."""
    if any(m.distances is None and len(m.nodes) > 1 for m in machines) or all(m.distances is None for m in machines):
        return None
    tables = [machine.distances or ((10.0,),) for machine in machines]
    width, before, out = sum(map(len, tables)), 0, []
    for rows in tables:
        for row in rows:
            out.append((*[UNREACHABLE] * before, *row, *[UNREACHABLE] * (width - before - len(row))))
        before += len(rows)
    return tuple(out)


def _caches(machines: Sequence[Machine]) -> list[Cache]:
    """The caches that every host has."""
    tables = [{(cache.level, cache.shared_by): cache for cache in machine.caches} for machine in machines]
    return [_worst([table[key] for table in tables], "cache") for key in tables[0] if all(key in t for t in tables)]


def _kinds(machines: Sequence[Machine]) -> list[CoreKind]:
    """The kinds of core of all hosts by their new numbers; all cores of a host without kinds are one."""
    if not any(machine.core_kinds for machine in machines):
        return []
    out: dict[tuple[str, float], CoreKind] = {}
    before = 0
    for machine in machines:
        count = len(machine.cores)
        whole = CoreKind(name=machine.name, cores=tuple(range(count)), speed=Figure(value=1.0))
        for kind in machine.core_kinds or (whole,):
            cores = tuple(before + core for core in kind.cores)
            known = out.get((kind.name, kind.speed.value))
            cores = (*known.cores, *cores) if known else cores
            out[kind.name, kind.speed.value] = kind.model_copy(update={"cores": cores})
        before += count
    return list(out.values())


def _quota(machines: Sequence[Machine]) -> Figure | None:
    """PUs that all systems together grant."""
    if all(machine.cpu_quota is None for machine in machines):
        return None
    granted = [m.cpu_quota.value if m.cpu_quota else float(m.counts["pus"]) for m in machines]
    return Figure(value=sum(granted), kind="inferred", source="what the systems of all hosts grant")


def _sources(machines: Sequence[Machine]) -> dict[str, str]:
    """What figures of any host cite; where two mean something else by a name, both."""
    out: dict[str, str] = {}
    for machine in machines:
        for name, source in machine.sources.items():
            out[name] = source if out.get(name, source) == source else f"{out[name]} / {source}"
    return out


def _joined(texts: Any) -> str:
    return " / ".join(dict.fromkeys(filter(None, texts)))


def _worst(values: Sequence[Any], name: str) -> Any:
    """Of what the hosts have called `name`, the figures that are worst for a plan, one by one."""
    known = [value for value in values if value is not None]
    if not known or all(value == values[0] for value in values):
        return values[0]
    if isinstance(known[0], Figure):
        better = name.endswith(_HIGHER_IS_BETTER) and name != _TAKEN
        return (min if better else max)(known, key=lambda figure: figure.value)
    if isinstance(known[0], Mapping):
        keys = list(dict.fromkeys(key for value in known for key in value))
        if isinstance(keys[0], int) or name == "rates":  # by the number of threads, and measured: those that all have
            keys = [key for key in keys if all(key in value for value in known)]
        inner = name if all(isinstance(value, Figure) for value in known[0].values()) else ""
        return {key: _worst([v[key] for v in known if key in v], inner or str(key)) for key in keys}
    if isinstance(known[0], Record):
        fields = {f: _worst([getattr(value, f) for value in known], f) for f in type(known[0]).model_fields}
        return known[0].model_copy(update=fields)
    return known[0]
