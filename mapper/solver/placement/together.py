"""Who shares a group: the groups of parts under which the slowest stage is fastest, by CP-SAT.

Moves one at a time (`nearer`) end where a better plan needs several at once. Here all parts of groups are seated at
once, with one distance for all that is outside a group; whole groups stay where they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from mapper.solver.placement.nearer import Neighbourhood, Seats

MOST_PARTS, MOST_BOOLEANS = 96, 4000
"""Parts of groups that are seated at once, and parts times groups, at most."""
WORK_LIMIT = 0.1
"""Deterministic time of CP-SAT."""
STEPS = 10**6
"""Units of time in the target."""


def together(around: Neighbourhood, seats: Seats) -> Seats:
    """`seats` with parts in other groups, if that makes the slowest stage faster."""
    units = around.units
    parts = [u for u, unit in enumerate(units) if not unit.groups]
    taken = {g for unit, groups in zip(units, seats, strict=True) if unit.groups for g in groups}
    groups = [g for g in range(len(around.machine.groups)) if g not in taken]
    fits = len(groups) > 1 and 1 < len(parts) <= MOST_PARTS and len(parts) * len(groups) <= MOST_BOOLEANS
    if not fits or around.still:
        return seats
    found = _seated(around, parts, groups, seats)
    if found is None:
        return seats
    moved = tuple((found[u],) if u in found else groups for u, groups in enumerate(seats))
    return moved if around.cost(moved) < around.cost(seats) else seats


def _seated(around: Neighbourhood, parts: Sequence[int], groups: Sequence[int], seats: Seats) -> dict[int, int] | None:
    """The group of each part; None where nothing was found."""
    from ortools.sat.python import cp_model

    model = cp_model.CpModel()
    sits = {(u, g): model.new_bool_var(f"sits_{u}_{g}") for u in parts for g in groups}
    for u in parts:
        model.add_exactly_one(sits[u, g] for g in groups)
        for g in groups:
            model.add_hint(sits[u, g], seats[u][0] == g)
    for g in groups:
        model.add(sum(around.units[u].cores * sits[u, g] for u in parts) <= len(around.machine.groups[g]))
    if len({len(around.machine.groups[g]) for g in groups}) == 1:
        for x, u in enumerate(parts):  # groups are alike: the first part is in the first, and so on
            for g in groups[x + 1 :]:
                model.add(sits[u, g] == 0)
    most = math.ceil(around.cost(seats)[0] / around.target_s * STEPS) + len(around.meetings) + 1
    period = model.new_int_var(STEPS, most, "period")
    _within(around, model, sits, groups, period)
    model.minimize(period)
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = 0
    solver.parameters.max_deterministic_time = WORK_LIMIT
    solver.parameters.catch_sigint_signal = False  # it would leave Ctrl-C without a handler
    if solver.solve(model) not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return None
    return {u: next(g for g in groups if solver.value(sits[u, g])) for u in parts}


def _within(
    around: Neighbourhood, model: Any, sits: dict[tuple[int, int], Any], groups: Sequence[int], period: Any
) -> None:
    """Every replica takes no longer than the period allows."""
    pairs, unit = around.pairs, around.target_s / STEPS
    outside = _outside(around)
    together: dict[tuple[int, int], Any] = {}
    rises: dict[int, list[Any]] = {}
    near_s = [0.0] * (len(around.stages) * pairs.most)
    ends = [*pairs.begin[1:], len(pairs.own)]
    for m, (begin, end) in enumerate(zip(pairs.begin, ends, strict=True)):
        row, seconds = int(pairs.row[m]), pairs.seconds[m]
        others = {int(pairs.other[x]) for x in range(begin, end)} - {int(pairs.own[begin])}
        own = int(pairs.own[begin])
        if not all((u, groups[0]) in sits for u in (own, *others)):
            near_s[row] += seconds[outside]
            continue
        near_s[row] += seconds[1]
        rise = math.ceil(max(0.0, seconds[outside] - seconds[1]) / unit)
        for u in sorted(others) if rise else []:
            pair = (min(own, u), max(own, u))
            if pair not in together:
                together[pair] = _shares(model, sits, groups, *pair)
        if rise and others:
            far = model.new_bool_var(f"far_{m}")
            for u in sorted(others):
                model.add_bool_or([far, together[min(own, u), max(own, u)]])
            rises.setdefault(row, []).append(rise * far)
    for row, far in rises.items():
        s = row // pairs.most
        base = math.ceil((around.fixed_s[s] + near_s[row]) / unit)
        model.add(base + sum(far) <= period * int(around.replicas[s]))


def _outside(around: Neighbourhood) -> int:
    """The least distance between groups, as an index of `DISTANCES`."""
    groups = range(len(around.machine.groups))
    return min(int(around.apart[a, b]) for a in groups for b in groups if a != b)


def _shares(model: Any, sits: dict[tuple[int, int], Any], groups: Sequence[int], a: int, b: int) -> Any:
    """Whether two parts share a group."""
    found = model.new_bool_var(f"together_{a}_{b}")
    for g in groups:
        model.add_bool_or([found.negated(), sits[a, g].negated(), sits[b, g]])
    return found
