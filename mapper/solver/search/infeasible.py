"""Requests that no plan keeps: which limits conflict, and the smallest change of each that helps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from mapper.errors import Infeasible
from mapper.solver.problem import Limits
from mapper.solver.search.least_period import fewest_cores, least_latency, throughput
from mapper.solver.search.request import Found, Request
from mapper.solver.search.space import Space
from mapper.units import format_bytes, format_seconds

OPTIONS = {
    "max_latency_s": "--max-latency",
    "min_throughput_per_s": "--min-throughput",
    "stages": "--stages",
    "max_stages": "--max-stages",
    "max_replicas": "--replicas",
    "max_cores": "--max-cores",
    "node_memory_bytes": "--memory-per-node",
    "configurations": "--configurations",
}
"""The option behind each limit that is one of a number or a list."""
ROOM = 1.0001
"""A lever goes this much further than the limit where the search finds a plan, for what placement adds."""
MOST_STAGES = 64
"""Stages up to which the fewest that help are looked for."""


def infeasible(space: Space, limits: Limits) -> Infeasible:
    """The error that names the limits in conflict, and for each the smallest change that helps."""
    given = [name for name in OPTIONS if getattr(limits, name) is not None]
    conflict = list(given)
    for name in given:
        rest = [other for other in conflict if other != name]
        if rest and _found(space, _only(limits, rest)) is None:
            conflict = rest  # without it there is none either
    levers = [lever for name in conflict for lever in _levers(space, limits, name)]
    names = [OPTIONS[name] for name in conflict]
    names += ["--together"] * bool(space.problem.together) + ["--apart"] * bool(space.problem.apart)
    together = " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
    if levers or not 0 < len(conflict) < len(given):
        return Infeasible(f"no plan keeps {together}" + ("" if levers else "; no change of a single one helps"), levers)
    further = infeasible(space, _only(limits, [name for name in given if name not in conflict]))
    without = f"without {together}"
    return Infeasible(
        f"no plan keeps {together}; {without}, {further.what}", [f"{lever} and {without}" for lever in further.levers]
    )


def _only(limits: Limits, names: list[str]) -> Limits:
    """`limits` without those that are not among `names`."""
    dropped: dict[str, Any] = {name: None for name in OPTIONS if name not in names}
    return replace(limits, **dropped)


def _found(space: Space, limits: Limits) -> Found | None:
    return Request(space, limits).feasible(limits.max_period_s)


def _levers(space: Space, limits: Limits, name: str) -> Iterator[str]:
    """The smallest change of the limit `name` that, alone, makes the request feasible; nothing where none does."""
    dropped: dict[str, Any] = {name: None}
    free = replace(limits, **dropped)
    found = _found(space, free)
    option = OPTIONS[name]
    if found is None:
        return
    if name == "max_latency_s":
        least = least_latency(space, free)[0]
        yield f"{option} {least * ROOM * 1e3:.6g}ms (the least latency is {format_seconds(least)})"
    elif name == "min_throughput_per_s":
        best = throughput(space, free).period_s
        yield f"{option} {1 / (best * ROOM):.6g} (the least period is {format_seconds(best)})"
    elif name == "max_cores":
        yield f"{option} {fewest_cores(space, free)[0]}"
    elif name == "node_memory_bytes":
        least = _least(space, free, name, 0.0, _enough_memory(space, free))
        yield f"{option} {least * ROOM / 2**20:.6g}MiB ({format_bytes(least)} are the least that the search finds)"
    elif name == "configurations":
        yield f"without {option}"
    elif name == "max_replicas":
        yield f"{option} {round(_least(space, free, name, 1, max(found.replicas), whole=True))}"
    else:
        most = replace(free, max_stages=min(space.problem.ops, MOST_STAGES))
        fewest = _found(space, most)
        yield f"{option} {len((fewest or found).cells)}"


def _enough_memory(space: Space, free: Limits) -> float:
    """Bytes of a node with which a plan is found."""
    size = 2.0**20
    while _found(space, replace(free, node_memory_bytes=size)) is None and size < 2.0**60:
        size *= 2
    return size


def _least(space: Space, free: Limits, name: str, low: float, high: float, *, whole: bool = False) -> float:
    """The least value of the limit `name` with which a plan is found: `low` is too little, `high` enough."""
    while high - low > (1 if whole else high * 1e-4):
        middle = (low + high) // 2 if whole else (low + high) / 2
        changed: dict[str, Any] = {name: middle}
        if _found(space, replace(free, **changed)) is None:
            low = middle
        else:
            high = middle
    return high
