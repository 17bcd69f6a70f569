"""DRAM bandwidth that many share: who computes at the same time slows the others down where a node or a package has no
more to give.

A fluid model: work flows, at full speed where bandwidth suffices. Speeds are max-min fair (Bertsekas and Gallager,
Data Networks, 1992, section 6.5.2): all rise together until a resource is used up; who draws from that one stays there,
the others go on rising.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

Draws = tuple[tuple[int, float], ...]
"""Resource and bytes per second that a job at full speed draws from it."""

MOST_KNOWN = 4096
"""Who is at work together, with the speeds that follow, that is remembered: with uneven times nothing comes twice."""


def fair_speeds(jobs: Mapping[Draws, int], capacity: Mapping[int, float]) -> dict[Draws, float]:
    """The speed, at most 1, of each sort of job, `jobs` of which run at the same time."""
    left, level = dict(capacity), 0.0
    rising = {draws: count for draws, count in jobs.items() if count}
    speeds: dict[Draws, float] = {}
    while rising:
        load: dict[int, float] = {}
        for draws, count in rising.items():
            for resource, rate in draws:
                load[resource] = load.get(resource, 0.0) + rate * count
        room = {resource: left[resource] / rate for resource, rate in load.items() if rate > 0}
        step = min([1.0 - level, *room.values()])
        level += step
        used_up = {resource for resource, most in room.items() if most <= step}
        for resource, rate in load.items():
            left[resource] = max(0.0, left[resource] - rate * step)
        held = list(rising) if level >= 1.0 else [
            draws for draws in rising if any(resource in used_up and rate > 0 for resource, rate in draws)
        ]  # fmt: skip
        for draws in held:
            speeds[draws] = level
            del rising[draws]
    return speeds


@dataclass
class _Sort:
    """Jobs that draw alike run equally fast: `done_s` is what each that ran from the start would have got done, in
    seconds at full speed, and a job ends when that has grown by its work. `worked_s` is what all got done together."""

    speed: float = 0.0
    done_s: float = 0.0
    worked_s: float = 0.0
    ends: list[tuple[float, int]] = field(default_factory=list)


class Flow:
    """Jobs at work under shared bandwidth. Time only moves forward: call `advance` before anything else."""

    def __init__(self, capacity: Mapping[int, float]) -> None:
        self._capacity = {resource: rate for resource, rate in capacity.items() if math.isfinite(rate)}
        self._sorts: dict[Draws, _Sort] = {}
        self._known: dict[tuple[tuple[Draws, int], ...], dict[Draws, float]] = {}
        self._now_s = 0.0

    @property
    def served(self) -> dict[int, float]:
        """Bytes that each resource has served."""
        found = dict.fromkeys(self._capacity, 0.0)
        for draws, sort in self._sorts.items():
            for resource, rate in draws:
                found[resource] += rate * sort.worked_s
        return found

    def limited(self, draws: Draws) -> Draws:
        """Those of `draws` that somebody limits."""
        return tuple((resource, rate) for resource, rate in draws if resource in self._capacity and rate > 0)

    def add(self, job: int, draws: Draws, work_s: float) -> None:
        """Begins `job`, which takes `work_s` at full speed."""
        sort = self._sorts.setdefault(draws, _Sort())
        heapq.heappush(sort.ends, (sort.done_s + work_s, job))
        self._share()

    def next_end(self) -> tuple[float, int] | None:
        """When the next job ends if none begins before, and which; None where none is at work."""
        found = [
            (self._now_s + max(0.0, sort.ends[0][0] - sort.done_s) / sort.speed, sort.ends[0][1])
            for sort in self._sorts.values() if sort.ends
        ]  # fmt: skip
        return min(found, default=None)

    def end(self, job: int) -> None:
        """Takes out `job`, which `next_end` named."""
        for sort in self._sorts.values():
            if sort.ends and sort.ends[0][1] == job:
                sort.done_s = max(sort.done_s, heapq.heappop(sort.ends)[0])
                break
        self._share()

    def advance(self, now_s: float) -> None:
        """Lets all jobs work until `now_s`."""
        passed = now_s - self._now_s
        if passed > 0:
            for sort in self._sorts.values():
                if sort.ends:
                    done_s = sort.speed * passed
                    sort.done_s += done_s
                    sort.worked_s += done_s * len(sort.ends)
        self._now_s = now_s

    def _share(self) -> None:
        key = tuple((draws, len(sort.ends)) for draws, sort in self._sorts.items())
        if key not in self._known:
            if len(self._known) == MOST_KNOWN:
                self._known.clear()
            self._known[key] = fair_speeds(dict(key), self._capacity)
        for draws, speed in self._known[key].items():
            self._sorts[draws].speed = speed
