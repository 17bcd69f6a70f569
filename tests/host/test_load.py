from __future__ import annotations

from pathlib import Path

import pytest

from mapper.errors import SystemRefused
from mapper.host.load import Others, Taken, available_bytes, busy_between, cpu_s, snapshot

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


def test_others_are_seen_in_a_copy_of_proc(tmp_path: Path) -> None:
    def write(busy: int, idle: int, own: int) -> None:
        (tmp_path / "proc/5").mkdir(parents=True, exist_ok=True)
        (tmp_path / "proc/stat").write_text(f"cpu {busy} 0 0 {idle}\ncpu0 {busy} 0 0 {idle} 0 0 0 0 0 0\n")
        fields = " ".join(["0"] * 11 + [str(own), "0"])
        (tmp_path / "proc/5/stat").write_text(f"5 (a b) S {fields} 0\n")

    write(100, 100, 50)
    others = Others([0], [5], tmp_path)
    write(200, 200, 90)
    assert others.taken().share == pytest.approx(0.3, abs=0.01), "100 of 200 ticks busy, 40 of them ours"
    assert cpu_s(5, tmp_path) == pytest.approx(0.9) and cpu_s(6, tmp_path) == 0.0
    assert Taken(0.08, 0.02).over(0.05) and not Taken(0.06, 0.02).over(0.05)
    (tmp_path / "proc/meminfo").write_text("MemTotal: 9 kB\nMemAvailable:    7 kB\n")
    assert available_bytes(tmp_path) == 7 * 1024
