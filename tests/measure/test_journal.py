"""What is kept of a calibration that was interrupted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mapper.measure.journal import CALIBRATION, MOST_AGE_S, Entry, Journal

KEY = "0123456789abcdef" * 4
NOW = 1e9
ENTRIES = [Entry(place=f"/caches/{i}/latency_s", round=0, value=1e-9 * (i + 1)) for i in range(3)]


@pytest.fixture
def said() -> list[str]:
    return []


def written(folder: Path, said: list[str]) -> Path:
    with Journal(folder, KEY, NOW, said.append, CALIBRATION) as journal:
        for entry in ENTRIES:
            journal.read().add(entry)
    return journal.path


def read(folder: Path, said: list[str], now: float = NOW + 60, key: str = KEY) -> list[Entry]:
    with Journal(folder, key, now, said.append, CALIBRATION) as journal:
        return list(journal.read().entries.values())


def test_rounds_come_back(tmp_path: Path, said: list[str]) -> None:
    written(tmp_path / "new" / "folder", said)
    assert read(tmp_path / "new" / "folder", said) == ENTRIES
    assert said == []


@pytest.mark.parametrize("torn", [b'{"place": "/caches/9', b"\x00\xff", b'{"place": "/x", "round": 1, "value": 1}'])
def test_a_torn_last_line_is_dropped_and_written_over(tmp_path: Path, said: list[str], torn: bytes) -> None:
    path = written(tmp_path, said)
    path.write_bytes(path.read_bytes() + torn)
    last = Entry(place="/memory/latency_s", round=0, value=2e-7)
    with Journal(tmp_path, KEY, NOW, said.append, CALIBRATION) as journal:
        assert list(journal.read().entries.values()) == ENTRIES
        journal.add(last)
    assert read(tmp_path, said) == [*ENTRIES, last]
    assert [json.loads(line)["place"] for line in path.read_text().splitlines()[1:]][-1] == last.place
    assert said == []


def test_a_header_cut_off_begins_anew(tmp_path: Path, said: list[str]) -> None:
    path = written(tmp_path, said)
    path.write_bytes(path.read_bytes()[:20])
    assert read(tmp_path, said) == []
    assert said == []
    assert len(written(tmp_path, said).read_text().splitlines()) == 1 + len(ENTRIES)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"not a journal\n",
        lambda data: data.replace(b"calibration-rounds/2", b"calibration-rounds/9"),
        lambda data: data.replace(b'"round": 0', b'"round": "x"', 1),
        lambda data: data.replace(b"\n{", b"\ngarbage\n{", 1),
        lambda data: data.replace(b'"value": 1e-09', b'"value": NaN'),
        lambda data: data.replace(b'"value": 1e-09', b'"value": -1.0'),
        lambda data: b"[" * 100_000 + b"\n",
    ],
    ids=["no journal", "another version", "no number", "garbage inside", "NaN", "negative", "deep"],
)
def test_a_file_that_is_not_right_is_named_and_begun_anew(tmp_path: Path, said: list[str], damage: object) -> None:
    path = written(tmp_path, said)
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    assert read(tmp_path, said) == []
    assert len(said) == 1
    assert str(path) in said[0]
    assert "begins anew" in said[0]
    written(tmp_path, said)
    assert read(tmp_path, said) == ENTRIES


def test_a_folder_in_its_place_is_named(tmp_path: Path, said: list[str]) -> None:
    (tmp_path / f"calibrate-{KEY[:16]}.jsonl").mkdir()
    assert written(tmp_path, said).is_dir()
    assert "cannot be used" in said[0]
    assert any("cannot be resumed" in message for message in said)


def test_a_day_old_or_of_the_future_is_not_used(tmp_path: Path, said: list[str]) -> None:
    written(tmp_path, said)
    assert read(tmp_path, said, NOW + MOST_AGE_S + 1) == []
    assert read(tmp_path, said, NOW - 10) == []
    assert read(tmp_path, said, NOW + MOST_AGE_S - 1) == ENTRIES
    assert said == []


def test_another_calibration_does_not_see_it(tmp_path: Path, said: list[str]) -> None:
    path = written(tmp_path, said)
    assert read(tmp_path, said, key="f" * 64) == []
    near = KEY[:16] + "f" * 48  # the same file name, another key
    assert read(tmp_path, said, key=near) == []
    assert "another calibration" in said[0]
    assert path.exists()


def test_what_cannot_be_written_is_said_once_and_measuring_goes_on(tmp_path: Path, said: list[str]) -> None:
    (tmp_path / "file").write_text("")
    with Journal(tmp_path / "file" / "below", KEY, NOW, said.append, CALIBRATION) as journal:
        for entry in ENTRIES:
            journal.add(entry)
        assert list(journal.entries.values()) == ENTRIES
        assert not journal.kept
    assert len([message for message in said if "cannot be resumed" in message]) == 1


def test_discarded_it_is_gone(tmp_path: Path, said: list[str]) -> None:
    path = written(tmp_path, said)
    with Journal(tmp_path, KEY, NOW, said.append, CALIBRATION) as journal:
        journal.read().discard()
        assert journal.entries == {}
        journal.discard()
    assert not path.exists()
    assert said == []
