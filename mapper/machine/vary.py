"""A machine with other figures: for ranges, for sensitivities, and for machines that nobody has built."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mapper.errors import UsageError
from mapper.jsonio import Record
from mapper.machine.figures import Figure
from mapper.machine.model import Machine

VARIED = "varied"
"""The source of a figure that was changed here."""


def vary(machine: Machine, values: Mapping[str, float | None]) -> Machine:
    """`machine` with these values in the place of the figures at these JSON pointers; caches also go by their name
    (`/caches/L2/bytes`). None takes away a limit that a machine need not have. Ranges of the figures go.

    Raises: UsageError where there is no such figure.
    """
    varied: Any = machine
    for pointer, value in values.items():
        varied = _with(varied, pointer.strip("/").split("/"), value, pointer)
    assert isinstance(varied, Machine)
    return varied


def _with(part: Any, path: list[str], value: float | None, pointer: str) -> Any:
    """`part` with `value` at `path`."""
    if not path:
        if value is None:
            return None
        if isinstance(part, Figure):
            return part.model_copy(
                update={"value": value, "low": None, "high": None, "kind": "assumed", "source": VARIED}
            )
        raise UsageError(f"{pointer}: there is no figure")
    first, rest = path[0], path[1:]
    if isinstance(part, Record) and first in type(part).model_fields:
        return part.model_copy(update={first: _with(getattr(part, first), rest, value, pointer)})
    if isinstance(part, dict) and first in part:
        return {**part, first: _with(part[first], rest, value, pointer)}
    if isinstance(part, tuple):
        for i, each in enumerate(part):
            if first in (str(i), getattr(each, "name", None)):
                return (*part[:i], _with(each, rest, value, pointer), *part[i + 1 :])
    raise UsageError(f"{pointer}: there is no {first!r}")
