"""What differs between two machines: shape, numbering, caches, figures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mapper.jsonio import Record
from mapper.machine.draw import shape
from mapper.machine.figures import Figure
from mapper.machine.model import Machine, figures
from mapper.machine.pus import format_pus

Value = float | str | None


class Difference(Record):
    """One thing that differs: a JSON pointer (caches by their name), and what each machine has, None for nothing."""

    place: str
    a: Value
    b: Value


class Comparison(Record):
    """What differs between two machines; the same shape means that a plan for one fits the other."""

    same_shape: bool
    differences: tuple[Difference, ...]

    @property
    def equal(self) -> bool:
        """Whether nothing differs that a plan depends on."""
        return not self.differences


def compare(a: Machine, b: Machine) -> Comparison:
    """What differs between `a` and `b`, but for names, titles, sources and notes."""
    first, second = dict(_facts(a)), dict(_facts(b))
    places = [*first, *(place for place in second if place not in first)]
    found = [
        Difference(place=place, a=first.get(place), b=second.get(place))
        for place in places
        if first.get(place) != second.get(place)
    ]
    return Comparison(same_shape=a.fingerprint == b.fingerprint, differences=tuple(found))


def _facts(machine: Machine) -> Iterator[tuple[str, Value]]:
    """Everything that is compared, by place."""
    yield "/cpu_model", machine.cpu_model or None
    yield "/isa", machine.isa or None
    yield "/shape", shape(machine)
    sizes = [len(group) for group in machine.groups]
    if len(set(sizes)) > 1:
        yield "/groups", " + ".join(map(str, sizes))
    for n, node in enumerate(machine.nodes):
        pus = [pu for group in node.groups for core in group for pu in core]
        yield f"/nodes/{n}/pus", format_pus(pus)
    if machine.distances is not None:
        yield "/distances", "; ".join(" ".join(f"{d:g}" for d in row) for row in machine.distances)
    for kind in machine.core_kinds:
        yield f"/core_kinds/{kind.name}/cores", format_pus(kind.cores)
    for place, figure in _figures(machine):
        yield place, figure.value


def _figures(machine: Machine) -> Iterator[tuple[str, Figure]]:
    by_name: dict[str, Any] = {
        "caches": {f"{cache.name} of a {cache.shared_by}": cache for cache in machine.caches},
        "core_kinds": {kind.name: kind for kind in machine.core_kinds},
    }
    for name in type(machine).model_fields:
        yield from figures(by_name.get(name, getattr(machine, name)), f"/{name}")
