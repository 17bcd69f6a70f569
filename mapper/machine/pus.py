"""Lists of PU and core numbers as Linux writes them, such as `0-3,8`, and groups of cores made of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer


def parse_pus(text: str) -> tuple[int, ...]:
    """The PU numbers of a Linux CPU list such as `0-3,8,10-14:2`, in the order written.

    Raises: ValueError naming the part that is wrong.
    """
    numbers: list[int] = []
    for part in filter(None, (p.strip() for p in text.split(","))):
        span, _, stride = part.partition(":")
        first, dash, last = span.partition("-")
        try:
            low, high, step = int(first), int(last) if dash else int(first), int(stride) if stride else 1
        except ValueError:
            raise ValueError(f"{part!r} is not a CPU list such as 0-3,8") from None
        if low < 0 or high < low or step < 1 or high - low > 1_000_000:
            raise ValueError(f"{part!r} is not a CPU list such as 0-3,8")
        numbers.extend(range(low, high + 1, step))
    return tuple(numbers)


def format_pus(numbers: Sequence[int]) -> str:
    """The shortest CPU list that `parse_pus` reads as `numbers`, order kept."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(f"{a}" if a == b else f"{a}-{b}" for a, b in runs)


def _read_group(given: Any) -> Any:
    """A group in a file: a CPU list, each PU a core; or a list of CPU lists, one a core (SMT)."""
    if isinstance(given, str):
        return tuple((pu,) for pu in parse_pus(given))
    if isinstance(given, list) and all(isinstance(core, str) for core in given):
        return tuple(parse_pus(core) for core in given)
    return given


def _write_group(cores: tuple[tuple[int, ...], ...]) -> str | list[str]:
    if all(len(core) == 1 for core in cores):
        return format_pus([core[0] for core in cores])
    return [format_pus(core) for core in cores]


GroupCores = Annotated[
    tuple[tuple[int, ...], ...],
    BeforeValidator(_read_group, json_schema_input_type=str | list[str]),
    PlainSerializer(_write_group, return_type=str | list[str]),
]
"""The cores of one group, each as the OS numbers of its PUs."""
