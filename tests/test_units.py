"""Quantities as people type and read them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapper import units
from mapper.errors import UsageError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("50ms", 0.05), ("1.5 s", 1.5), ("20", 20), (" 3us ", 3e-6), ("3µs", 3e-6), ("7ns", 7e-9), ("2min", 120),
     ("1h", 3600), (".5s", 0.5), ("1e-3", 1e-3), ("1e3ms", 1), ("+2s", 2), ("0", 0)],
)  # fmt: skip
def test_seconds(text: str, seconds: float) -> None:
    assert units.parse_seconds(text) == pytest.approx(seconds, rel=1e-15)


@pytest.mark.parametrize(
    ("text", "count"),
    [("4096", 4096), ("12 B", 12), ("1kB", 1000), ("1KB", 1000), ("1KiB", 1024), ("1MiB", 2**20), ("16GB", 16e9),
     ("1.5GiB", 1.5 * 2**30), ("2T", 2e12), ("2Ti", 2**41)],
)  # fmt: skip
def test_bytes(text: str, count: float) -> None:
    assert units.parse_bytes(text) == count


@pytest.mark.parametrize(
    ("text", "rate"),
    [("16GB/s", 16e9), ("16GB", 16e9), ("10Gbit", 1.25e9), ("100Gbit/s", 1.25e10), ("1.25GB/s", 1.25e9), ("8bit", 1),
     ("1Mibit/s", 2**17), (" 2.5 Gbit/s ", 312.5e6), ("800kbit", 1e5)],
)  # fmt: skip
def test_rates_in_bytes_and_in_bits(text: str, rate: float) -> None:
    assert units.parse_rate(text) == rate


@pytest.mark.parametrize("text", ["10Gb", "10Gb/s", "10Xbit", "bit", "-1Gbit", "1Gbit/h", "1Gbits"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        units.parse_rate(text)


@pytest.mark.parametrize(("text", "fraction"), [("1%", 0.01), ("0.01", 0.01), ("0", 0), ("50 %", 0.5), ("200%", 2)])
def test_fractions(text: str, fraction: float) -> None:
    assert units.parse_fraction(text) == fraction


@pytest.mark.parametrize("parse", [units.parse_seconds, units.parse_bytes, units.parse_fraction])
@pytest.mark.parametrize("text", ["", "ms", "fast", "1 2", "1..5", "nan", "inf", "1e999", "-1", "-0.1", "1,5", "0x10"])
def test_what_is_no_quantity_is_refused(parse: object, text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text)  # type: ignore[operator]
    assert repr(text) in str(caught.value) and caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("parse", "text", "message"),
    [
        (units.parse_seconds, "5parsec", "unknown unit 'parsec'; one of s, ms, us, µs, ns, min, h"),
        (units.parse_seconds, "1e308h", "must be finite"),
        (units.parse_bytes, "5mB", "unknown unit 'mB'; such as kB, MiB, GB"),
        (units.parse_bytes, "5BB", "unknown unit"),
        (units.parse_bytes, "1e300TB", "must be finite"),
        (units.parse_fraction, "5s", "is not a fraction"),
        (units.parse_seconds, "-5ms", "must not be negative"),
    ],
)
def test_the_message_says_what_is_wrong(parse: object, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse(text)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(12.34, "12.3 s"), (0.845, "845 ms"), (61e-6, "61.0 µs"), (0, "0 s"), (0.9996, "1.00 s"), (0.9994, "999 ms"),
     (9.996, "10.0 s"), (99.96, "100 s"), (1e-9, "1.00 ns"), (2e-12, "0.00200 ns"), (7200, "7200 s"),
     (math.inf, "-"), (math.nan, "-"), (-0.002, "-2.00 ms")],
)  # fmt: skip
def test_seconds_for_people(seconds: float, text: str) -> None:
    assert units.format_seconds(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(343e6, "343 MB"), (1.05e6, "1.05 MB"), (12, "12 B"), (0, "0 B"), (999.6, "1.00 kB"), (999.4, "999 B"),
     (2.5e15, "2500 TB")],
)  # fmt: skip
def test_bytes_for_people(count: float, text: str) -> None:
    assert units.format_bytes(count) == text


@pytest.mark.parametrize(("count", "text"), [(17.6e9, "17.6 G"), (495, "495"), (86567656, "86.6 M"), (3e15, "3.00 P")])
def test_counts_for_people(count: float, text: str) -> None:
    assert units.format_count(count) == text


@pytest.mark.parametrize(
    ("rate", "text"), [(5.2, "5.20"), (141, "141"), (0.0833, "0.0833"), (12345, "12345"), (9.999, "10.0"), (0, "0")]
)
def test_rates_for_people(rate: float, text: str) -> None:
    assert units.format_rate(rate) == text


POSITIVE = st.floats(1e-12, 1e14, allow_nan=False)


@given(POSITIVE)
def test_what_is_written_is_read_back_to_three_digits(value: float) -> None:
    assert units.parse_seconds(units.format_seconds(value)) == pytest.approx(value, rel=0.0051)
    assert units.parse_bytes(units.format_bytes(value + 100)) == pytest.approx(value + 100, rel=0.0051)
    assert float(units.format_rate(value)) == pytest.approx(value, rel=0.0051)


@given(POSITIVE)
def test_three_digits_are_three_digits(value: float) -> None:
    shown = units.format_rate(value)
    assert len(shown.replace(".", "").lstrip("0")) == 3 or value >= 999.5
    assert "." not in shown or not shown.endswith(".")
