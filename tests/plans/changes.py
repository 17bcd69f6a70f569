"""Single changes of a plan document: numbers a little more and less, texts, lists; of lists the first and the last."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

Document = dict[str, Any]
Place = tuple[str | int, ...]


def named(place: Place) -> str:
    """The pointer of `place`, with `*` for positions in lists."""
    return "/".join("*" if isinstance(part, int) else part for part in place)


def changed(document: Document) -> Iterator[tuple[Place, Any, Document]]:
    """The place of each change, what stands there then, and the whole document with it."""
    for place, value in _values(document, ()):
        for other in _others(value):
            made = copy.deepcopy(document)
            at: Any = made
            for part in place[:-1]:
                at = at[part]
            at[place[-1]] = other
            yield place, other, made


def _values(value: Any, place: Place) -> Iterator[tuple[Place, Any]]:
    if place and not isinstance(value, dict):
        yield place, value
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _values(inner, (*place, key))
    if isinstance(value, list):
        for i in sorted({0, len(value) - 1} & set(range(len(value)))):
            yield from _values(value[i], (*place, i))


def _others(value: Any) -> list[Any]:
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1, value - 1]
    if isinstance(value, float):
        return [value * 1.001 + 1e-6, value * 0.999 - 1e-6]
    if isinstance(value, str):
        return [value + "x"]
    if isinstance(value, list) and value:
        return [value[:-1], [*value, value[-1]], [], *([value[::-1]] if value != value[::-1] else [])]
    return []
