"""What the study does not know for certain: figures with ranges, drawn together where they stand for one thing, and
mechanisms that can be taken out."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mapper.cost.paths import path_of
from mapper.errors import UsageError
from mapper.machine.figures import Figure
from mapper.machine.model import Machine, figures
from mapper.machine.parts import Path
from mapper.machine.vary import vary

TOGETHER = {
    "efficiency of products": "/compute/efficiency/",
    "seconds an element": "/compute/seconds_per_element/",
}
"""Figures below these places are one parameter: what makes one of them larger makes them all so."""
IGNORED = ("/nodes/", "/frequency_hz", "/power/", "/overheads/process_bytes", "latency_s")
"""What costs do not depend on."""


@dataclass(frozen=True)
class Parameter:
    """Something with a range: the figures that go with it, each with its low, central and high value."""

    name: str
    values: tuple[tuple[str, float, float, float], ...]

    def at(self, share: float) -> dict[str, float]:
        """The figures `share` of the way from the low end (0) by the centre (0.5) to the high end (1)."""
        return {
            pointer: low + (value - low) * 2 * share if share <= 0.5 else value + (high - value) * (2 * share - 1)
            for pointer, low, value, high in self.values
        }


def parameters(machine: Machine) -> tuple[Parameter, ...]:
    """All parameters of `machine`, in the order of its file."""
    found: dict[str, list[tuple[str, float, float, float]]] = {}
    for pointer, figure in figures(machine):
        if (figure.low is None and figure.high is None) or any(part in pointer for part in IGNORED):
            continue
        name = next((name for name, place in TOGETHER.items() if pointer.startswith(place)), _name(machine, pointer))
        found.setdefault(name, []).append((pointer, *_range(figure)))
    return tuple(Parameter(name, tuple(values)) for name, values in found.items())


def unranged(machine: Machine) -> tuple[str, ...]:
    """Where in the file of `machine` figures are assumed that costs depend on and that have no range: what ranges do
    not cover. Those of caches that are neither a group's nor the package's are not looked at."""
    used = {f"/caches/{i}/" for i, cache in enumerate(machine.caches)
            if cache in (machine.group_cache, machine.package_cache)}  # fmt: skip
    found = [
        pointer for pointer, figure in figures(machine)
        if figure.kind == "assumed" and figure.low is None and figure.high is None
        and not any(part in pointer for part in IGNORED)
    ]  # fmt: skip
    return tuple(p for p in found if not p.startswith("/caches/") or p.startswith(tuple(used)))


def _range(figure: Figure) -> tuple[float, float, float]:
    low = figure.value if figure.low is None else figure.low
    high = figure.value if figure.high is None else figure.high
    return low, figure.value, high


def _name(machine: Machine, pointer: str) -> str:
    """The pointer in words: `L2 core bandwidth`, `link node bandwidth`, `fork join jitter`."""
    parts = pointer.strip("/").split("/")
    if parts[0] == "caches":
        parts = [machine.caches[int(parts[1])].name, *parts[2:]]
    elif parts[0] == "links":
        parts[0] = "link"
    else:
        parts = parts[1:] if len(parts) > 1 else parts
    last = parts[-1]
    for unit in ("_bytes_per_s", "_s"):
        last = last.removesuffix(unit)
    return " ".join([*parts[:-1], last]).replace("_", " ")


def drawn(machine: Machine, known: Sequence[Parameter], rng: random.Random) -> Machine:
    """`machine` with every parameter drawn: from a triangle over its range, its peak at the central value."""
    values: dict[str, float] = {}
    for parameter in known:
        values |= parameter.at(rng.triangular(0, 1, 0.5))
    return vary(machine, values)


@dataclass(frozen=True)
class Mechanism:
    """Something that costs time: what a machine without it is like."""

    name: str
    values: Mapping[str, float | None]
    path: Path | None = None
    flat: bool = False

    def there(self, machine: Machine) -> bool:
        """Whether `machine` has it: a figure that costs something, distances, or another path."""
        if self.path is not None:
            return self.path != path_of(machine)
        return (self.flat and machine.distances is not None) or any(_has(machine, pointer) for pointer in self.values)

    def without(self, machine: Machine) -> Machine:
        """`machine` without it. `flat`: all nodes are equally near."""
        there = {pointer: value for pointer, value in self.values.items() if _has(machine, pointer)}
        changed = vary(machine, there)
        return changed.model_copy(update={"distances": None}) if self.flat else changed


MECHANISMS = (
    Mechanism("fork and join", {"/overheads/fork_join_base_s": 0.0, "/overheads/fork_join_factor": 0.0,
                                "/overheads/fork_join_jitter_s": 0.0}),
    Mechanism("panels of products", {"/overheads/panel_factor": None}),
    Mechanism("dispatch", {"/overheads/dispatch_s": 0.0}),
    Mechanism("NUMA: one controller, remote nodes", {"/memory/node_bandwidth_bytes_per_s": None}, flat=True),
    Mechanism("imbalance", {"/compute/imbalance": 0.0}),
    Mechanism("grain of elementwise ops", {"/overheads/grain_elements": 1.0}),
    Mechanism("L3 and mesh bandwidth", {"/caches/L3/core_bandwidth_bytes_per_s": 1e15,
                                        "/links/node/bandwidth_bytes_per_s": 1e15,
                                        "/links/package/bandwidth_bytes_per_s": 1e15}),
    Mechanism("fresh pages", {"/overheads/page_fault_s": None}),
    Mechanism("busy cores", {"/compute/busy_slowdown": 1.0}),
    Mechanism("group loops and batch split (as oneDNN)", {}, path="onednn"),
)  # fmt: skip
"""What is taken out in turn: on both sides of the ratio, with mappings made with it; for another path they are made
anew."""


def mechanisms(machine: Machine) -> tuple[Mechanism, ...]:
    """Those that there are on `machine`."""
    return tuple(mechanism for mechanism in MECHANISMS if mechanism.there(machine))


def _has(machine: Machine, pointer: str) -> bool:
    try:
        vary(machine, {pointer: 1.0})
    except UsageError:
        return False
    return True
