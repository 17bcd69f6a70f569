from __future__ import annotations

from pathlib import Path

import pytest

from mapper.errors import SystemRefused
from mapper.host.load import busy_between, snapshot

STAT = """cpu  300 0 60 1000 40 0 0 0 0 0
cpu0 100 0 20 500 20 0 0 10 0 0
cpu3 200 0 40 500 20 5 5 0 90 0
intr 5 6 7
"""


def test_counters_are_seconds_and_guest_time_counts_once(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/stat").write_text(STAT)
    found = snapshot(tmp_path)
    assert found.keys() == {0, 3}
    assert found[0] == (pytest.approx(1.3), pytest.approx(6.5))
    assert found[3] == (pytest.approx(2.5), pytest.approx(7.7))


def test_what_others_took_is_what_we_did_not() -> None:
    before = {0: (10.0, 100.0), 1: (5.0, 100.0), 2: (0.0, 100.0)}
    after = {0: (14.0, 110.0), 1: (15.0, 110.0)}
    assert busy_between(before, after, [0]) == pytest.approx(0.4)
    assert busy_between(before, after, [0, 1]) == pytest.approx(0.7)
    assert busy_between(before, after, [0, 1], own_s=12) == pytest.approx(0.1)
    assert busy_between(before, after, [0, 1], own_s=99) == 0.0
    assert busy_between(before, after, [2]) == 0.0
    assert busy_between(before, before, [0, 1]) == 0.0


def test_this_machine_counts() -> None:
    first, second = snapshot(), snapshot()
    assert all(second[pu][1] >= first[pu][1] > 0 for pu in first)


def test_a_machine_without_counters_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemRefused, match="proc/stat cannot be read"):
        snapshot(tmp_path)
