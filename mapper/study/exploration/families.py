"""Which searches are made: of points that differ in their limit on replicas, the loosest first, and a tighter one only
where the plan that was found does not keep it anyway."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from math import inf

from mapper.study.exploration.dimensions import Number
from mapper.study.exploration.outcomes import Outcome
from mapper.study.exploration.points import Search, loosest

Outcomes = tuple[Outcome, ...]


class Families:
    """Searches that are alike but for their limit on replicas, by the one without a limit."""

    def __init__(self, searches: Iterable[Search]) -> None:
        self.limits: dict[Search, list[float]] = {}
        for search in searches:
            limits = self.limits.setdefault(loosest(search), [])
            if (limit := _limit(search.replicas)) not in limits:
                limits.append(limit)
        for limits in self.limits.values():
            limits.sort(reverse=True)

    def first(self) -> list[Search]:
        """The search of each family that comes first: that of its loosest limit."""
        return [_with(family, limits[0]) for family, limits in self.limits.items()]

    def following(self, search: Search, outcomes: Outcomes) -> Search | None:
        """The next search of the family, after `outcomes` of `search`; None where all limits are kept already."""
        family, most = loosest(search), kept(search, outcomes)
        tighter = next((x for x in self.limits[family] if x < _limit(search.replicas) and x < most), None)
        return None if tighter is None else _with(family, tighter)

    def source(self, search: Search, found: Mapping[str, Outcomes]) -> Search | None:
        """The search whose plan is that of `search`; None where it is not made yet."""
        family = loosest(search)
        at: Search | None = _with(family, self.limits[family][0])
        while at is not None and at.key in found:
            if kept(at, found[at.key]) <= _limit(search.replicas):
                return at
            at = self.following(at, found[at.key])
        return None

    def left(self, found: Mapping[str, Outcomes]) -> list[Search]:
        """The searches with which to go on after those that were `found`."""
        out = []
        for first in self.first():
            at: Search | None = first
            while at is not None and at.key in found:
                at = self.following(at, found[at.key])
            out += [] if at is None else [at]
        return out


def kept(search: Search, outcomes: Outcomes) -> float:
    """The tightest limit on replicas that the plan of `search` keeps; that of the search where there is no plan."""
    made = next((outcome.made for outcome in outcomes if outcome.made is not None), None)
    return _limit(search.replicas) if made is None else max(made.replicas)


def _limit(replicas: Number) -> float:
    return inf if replicas is None else replicas


def _with(family: Search, limit: float) -> Search:
    return replace(family, replicas=None if limit == inf else int(limit))
