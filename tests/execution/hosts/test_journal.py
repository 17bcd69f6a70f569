"""The journal: what is in it was delivered, whatever ends the process that writes it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mapper.errors import BadInput, MachineMismatch, SystemRefused
from mapper.execution.hosts.journal import Journal, journal_at
from mapper.program.model import TensorType

TYPES = [
    TensorType(shape=(3,), strides=(1,), dtype="float32"),
    TensorType(shape=(2, 2), strides=(2, 1), dtype="int64"),
    TensorType(shape=(5,), strides=(1,), dtype="bfloat16"),
]
RUN = {"graph": "a", "items": 10}


def outputs(number: int) -> list[torch.Tensor]:
    return [torch.full((3,), float(number)), torch.full((2, 2), number), torch.full((5,), number).bfloat16()]


def deliver(journal: Journal, numbers: range) -> None:
    for number in numbers:
        journal.deliver(outputs(number))


def check(journal: Journal, count: int) -> None:
    assert journal.delivered == count
    found = list(journal.outputs())
    assert len(found) == count
    for number, tensors in enumerate(found):
        assert all(torch.equal(a, b) for a, b in zip(tensors, outputs(number), strict=True))


def test_a_journal_is_taken_up_where_it_was_left(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with journal_at(path, RUN, TYPES) as journal:
        check(journal, 0)
        deliver(journal, range(3))
        check(journal, 3)
        deliver(journal, range(3, 5))
    with journal_at(path, RUN, TYPES) as journal:
        check(journal, 5)
        deliver(journal, range(5, 6))
    with journal_at(path, RUN, TYPES) as journal:
        check(journal, 6)
        journal.remove()
    assert not path.exists()


@pytest.mark.parametrize("left", [1, 7, 40, 61])
def test_a_torn_record_was_not_delivered(tmp_path: Path, left: int) -> None:
    path = tmp_path / "journal"
    with journal_at(path, RUN, TYPES) as journal:
        deliver(journal, range(3))
    record = sum(kind.bytes for kind in TYPES) + 4
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) - record + min(left, record - 1)])
    with journal_at(path, RUN, TYPES) as journal:
        check(journal, 2)
        deliver(journal, range(2, 4))
        check(journal, 4)


def test_a_record_that_is_not_what_was_written_was_not_delivered(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with journal_at(path, RUN, TYPES) as journal:
        deliver(journal, range(3))
    whole = bytearray(path.read_bytes())
    whole[-10] ^= 1
    path.write_bytes(whole)
    with journal_at(path, RUN, TYPES) as journal:
        check(journal, 2)


def test_the_journal_of_another_run_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with journal_at(path, RUN, TYPES) as journal:
        deliver(journal, range(1))
    before = path.read_bytes()
    with (
        pytest.raises(BadInput, match="another run") as raised,
        journal_at(path, {**RUN, "items": 11}, TYPES),
    ):
        pass
    assert "remove the file" in raised.value.advice and path.read_bytes() == before
    path.write_bytes(b"a diary\n")
    with pytest.raises(BadInput, match="another run"), journal_at(path, RUN, TYPES):
        pass
    path.write_bytes(b"a diary")
    with pytest.raises(BadInput, match="no journal"), journal_at(path, RUN, TYPES):
        pass
    assert path.read_bytes() == b"a diary"


def test_a_journal_has_one_writer(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with (
        journal_at(path, RUN, TYPES),
        pytest.raises(MachineMismatch, match="in use"),
        journal_at(path, RUN, TYPES),
    ):
        pass


def test_a_journal_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemRefused, match="cannot be written"), journal_at(tmp_path / "no" / "journal", RUN, TYPES):
        pass
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SystemRefused), journal_at(tmp_path / "link", RUN, TYPES):
        pass
    assert not (tmp_path / "elsewhere").exists()


WRITER = """
import os, signal, sys
from pathlib import Path
from tests.execution.hosts.test_journal import RUN, TYPES, deliver
from mapper.execution.hosts.journal import journal_at
with journal_at(Path(sys.argv[1]), RUN, TYPES) as journal:
    deliver(journal, range(7))
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_writer_delivered_is_there(tmp_path: Path) -> None:
    path, root = tmp_path / "journal", Path(__file__).resolve().parents[3]
    assert subprocess.run([sys.executable, "-c", WRITER, path], cwd=root).returncode == -9
    with journal_at(path, RUN, TYPES) as journal:
        check(journal, 7)


def test_items_without_any_byte_are_counted_too(tmp_path: Path) -> None:
    empty = [TensorType(shape=(0, 3), strides=(3, 1), dtype="float32")]
    with journal_at(tmp_path / "journal", RUN, empty) as journal:
        journal.deliver([torch.empty(0, 3)])
        journal.deliver([torch.empty(0, 3)])
    with journal_at(tmp_path / "journal", RUN, empty) as journal:
        assert journal.delivered == 2 and [t.shape for (t,) in journal.outputs()] == [(0, 3), (0, 3)]
