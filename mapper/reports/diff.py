"""The comparison of two machines as text."""

from __future__ import annotations

from mapper.machine.diff import Comparison, Value
from mapper.reports.table import table
from mapper.units import format_bytes, format_count, format_seconds


def diff_text(comparison: Comparison, a: str, b: str) -> list[str]:
    """The answer (same shape or not, how much differs), then one line a difference."""
    count = len(comparison.differences)
    if comparison.equal:
        return [f"{a} and {b} are equal."]
    fits = "the same shape: a plan for one fits the other" if comparison.same_shape else "different shapes"
    head = f"{a} and {b} have {fits}; {count} difference{'s' if count > 1 else ''}"
    rows = [[d.place, quantity(d.place, d.a), quantity(d.place, d.b)] for d in comparison.differences]
    return [head, "", *table(["", a, b], rows, indent="", whole="0")]


def quantity(place: str, value: Value) -> str:
    """`value` with the unit that the name of its field says."""
    if value is None:
        return "-"
    if isinstance(value, str):
        return value if len(value) <= 60 else f"{value[:57]}..."
    field = place.rpartition("/")[2]
    if field.endswith("bytes_per_s"):
        return f"{format_bytes(value)}/s"
    if field.endswith("bytes"):
        return format_bytes(value)
    if field.endswith("flop_per_s"):
        return f"{format_count(value)}FLOP/s"
    if field.endswith("_hz"):
        return f"{format_count(value)}Hz"
    seconds = field.endswith("_s") or "seconds_per_element" in place or "/fork_join_s/" in place
    return format_seconds(value) if seconds else f"{value:g}"
