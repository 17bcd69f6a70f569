"""Quantities with units: read from what people type, and written for people. Inside, everything is SI.

Sizes know decimal (kB, MB, GB) and binary (KiB, MiB, GiB) prefixes; a bare number is in the base unit.
"""

from __future__ import annotations

import math
import re

from mapper.errors import UsageError

_DECIMAL = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_BINARY = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
_SECONDS = {"": 1.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9, "min": 60.0, "h": 3600.0}
_NUMBER = re.compile(r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(\S*)\s*")


def _split(text: str, what: str) -> tuple[float, str]:
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise UsageError(f"{text!r} is not {what}")
    return float(match[1]), match[2]


def _sane(value: float, text: str, what: str) -> float:
    if not math.isfinite(value):
        raise UsageError(f"{text!r} is not {what}: it must be finite")
    if value < 0:
        raise UsageError(f"{text!r} is not {what}: it must not be negative")
    return value


def parse_seconds(text: str) -> float:
    """Seconds in `text`, such as `50ms`, `1.5 s` or `20` (seconds).

    >>> parse_seconds("50ms")
    0.05
    """
    what = "a duration such as 50ms or 1.5s"
    value, unit = _split(text, what)
    if unit not in _SECONDS:
        raise UsageError(f"{text!r}: unknown unit {unit!r}; one of {', '.join(u for u in _SECONDS if u)}")
    return _sane(value * _SECONDS[unit], text, what)


def parse_bytes(text: str) -> float:
    """Bytes in `text`, such as `1MiB`, `16GB` or `4096`."""
    what = "a size such as 1MiB or 16GB"
    value, unit = _split(text, what)
    prefix = unit.removesuffix("B")
    factor = (_DECIMAL | _BINARY | {"K": 1000}).get(prefix)
    if factor is None:
        raise UsageError(f"{text!r}: unknown unit {unit!r}; such as kB, MiB, GB")
    return _sane(value * factor, text, what)


def parse_rate(text: str) -> float:
    """Bytes per second in `text`, such as `16GB/s`, or bits as of networks, `10Gbit/s`; the `/s` may be left out.

    >>> parse_rate("16GB/s"), parse_rate("10Gbit")
    (16000000000.0, 1250000000.0)
    """
    amount = text.strip().removesuffix("/s")
    if not amount.endswith("bit"):
        return parse_bytes(amount)
    what = "a rate such as 16GB/s or 10Gbit/s"
    value, unit = _split(amount, what)
    factor = (_DECIMAL | _BINARY | {"K": 1000}).get(unit.removesuffix("bit"))
    if factor is None:
        raise UsageError(f"{text!r}: unknown unit {unit!r}; such as Mbit, Gbit")
    return _sane(value * factor / 8, text, what)


def parse_per_second(text: str) -> float:
    """How many a second: `20` or `20/s`."""
    what = "a number a second such as 20 or 20/s"
    value, unit = _split(text, what)
    if unit not in ("", "/s"):
        raise UsageError(f"{text!r} is not {what}")
    return _sane(value, text, what)


def parse_frequency(text: str) -> float:
    """Hertz (or FLOP per second) in `text`, such as `2.6GHz`, `16G` or `2e9`."""
    what = "a frequency such as 2GHz or 16G"
    value, unit = _split(text, what)
    factor = (_DECIMAL | {"K": 1000}).get(unit.removesuffix("Hz"))
    if factor is None:
        raise UsageError(f"{text!r}: unknown unit {unit!r}; such as GHz")
    return _sane(value * factor, text, what)


def parse_fraction(text: str) -> float:
    """The fraction in `text`, such as `1%` or `0.01`."""
    what = "a fraction such as 1% or 0.01"
    value, unit = _split(text, what)
    if unit not in ("", "%"):
        raise UsageError(f"{text!r} is not {what}")
    return _sane(value / 100 if unit == "%" else value, text, what)


def format_seconds(seconds: float) -> str:
    """`seconds` with three digits and the unit that fits: 12.3 s, 845 ms, 61.0 µs. What rounding leaves of sums and
    differences, below a femtosecond, is none."""
    if abs(seconds) < 1e-15:
        return "0 s"
    if not math.isfinite(seconds):
        return "-"
    for factor, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")):
        if abs(seconds) >= factor * 0.9995 or unit == "ns":
            return f"{_three_digits(seconds / factor)} {unit}"
    raise AssertionError("unreachable: the loop ends with ns")


def format_bytes(count: float) -> str:
    """`count` bytes with three digits and a decimal prefix.

    >>> format_bytes(343e6), format_bytes(2**20), format_bytes(12)
    ('343 MB', '1.05 MB', '12 B')
    """
    for factor, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if abs(count) >= factor * 0.9995:
            return f"{_three_digits(count / factor)} {unit}"
    return f"{count:.0f} B"


def format_count(count: float) -> str:
    """`count` with three digits and a decimal prefix: 17.6 G, 86.6 M, 495."""
    for factor, unit in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(count) >= factor * 0.9995:
            return f"{_three_digits(count / factor)} {unit}"
    return f"{count:.0f}"


def format_rate(per_second: float) -> str:
    """`per_second` with three digits: 5.20, 141, 0.0833."""
    return _three_digits(per_second)


def _three_digits(value: float) -> str:
    if value == 0 or not math.isfinite(value):
        return f"{value:.0f}"
    rounded = abs(float(f"{value:.2e}"))  # 9.996 becomes 10.0, which has one decimal
    return f"{value:.{max(0, 2 - math.floor(math.log10(rounded)))}f}"
