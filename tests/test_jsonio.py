"""Files at the border: errors with their place, writing all or nothing."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from mapper import jsonio
from mapper.errors import BadInput, SystemRefused
from mapper.jsonio import Record

DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@given(DOCUMENTS)
def test_what_is_written_is_read_back(document: Any) -> None:
    assert jsonio.parse_json(jsonio.dumps(document), "f") == document
    assert jsonio.parse_json(jsonio.canonical(document), "f") == document


@given(st.dictionaries(st.text(), st.integers(), min_size=2))
def test_the_hash_does_not_depend_on_the_order_of_keys(document: dict[str, int]) -> None:
    turned = dict(reversed(document.items()))
    assert jsonio.sha256(turned) == jsonio.sha256(document)
    assert jsonio.sha256({**document, "more": "text"}) != jsonio.sha256(document)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "f, line 1, column 2: not JSON: Expecting property name"),
        ('{"a": 1,\n "b": }', "f, line 2, column 7: not JSON: Expecting value"),
        ("", "f, line 1, column 1: not JSON: Expecting value"),
        ('{"a": 1} x', "f, line 1, column 10: not JSON: Extra data"),
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "f: the key 'c' is given twice in one object"),
        ("[NaN]", "f: NaN is not JSON\nNumbers must be finite"),
        ("[-Infinity]", "f: -Infinity is not JSON"),
        ("[1e999]", "f: the number 1e999 is too large"),
        ("[-1e999]", "f: the number -1e999 is too large"),
        ("1" * 5000, "f: not JSON that can be read: Exceeds the limit"),
        (b"\xff\xfe\xfd", "f: not JSON: not UTF-8"),
        ("[" * 102 + "]" * 102, "f: nested more than 100 deep"),
        ("[" * 100_000 + "]" * 100_000, "f: nested more than 100 deep"),
        ('{"a":' * 100_000 + "1" + "}" * 100_000, "f: nested more than 100 deep"),
    ],
)
def test_what_is_no_json_is_refused_with_its_place(text: str | bytes, message: str) -> None:
    with pytest.raises(BadInput) as caught:
        jsonio.parse_json(text, "f")
    assert str(caught.value).startswith(message)
    assert caught.value.exit_code == 3


def test_a_hundred_levels_are_not_too_deep() -> None:
    assert jsonio.parse_json("[" * 100 + "]" * 100, "f") is not None


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="absent: no such file"):
        jsonio.read_json(tmp_path / "absent")
    with pytest.raises(BadInput, match="is a folder, a file was expected"):
        jsonio.read_json(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(BadInput, match="cannot be read: Too many levels of symbolic links"):
        jsonio.read_json(tmp_path / "loop")


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "huge.json"
    with file.open("wb") as out:
        out.truncate(2**40)  # a hole: no byte of it is on the disk
    with pytest.raises(BadInput, match="more than 536870912 bytes"):
        jsonio.read_json(file)
    file.write_bytes(b"12345")
    assert jsonio.read_bytes(file, limit=5) == b"12345"
    with pytest.raises(BadInput, match="more than 4 bytes"):
        jsonio.read_bytes(file, limit=4)
    with pytest.raises(BadInput, match="more than 1000 bytes"):
        jsonio.read_bytes(Path("/dev/zero"), limit=1000)


class Part(Record):
    size: int = Field(ge=0)


class Whole(Record):
    parts: dict[str, tuple[Part, ...]]
    rate: float = 0


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"parts": {"a/b~c": [{"size": 1}, {"size": -1}]}}, "f, /parts/a~1b~0c/1/size: Input should be greater"),
        ({"parts": {}, "colour": 1}, "f, /colour: unknown field"),
        ({"parts": {"a": [{}]}, "x": 1}, "f, /parts/a/0/size: Field required (1 more problem in the file)"),
        ({"parts": {"a": [{}, {}, {}]}}, "f, /parts/a/0/size: Field required (2 more problems in the file)"),
        ({"parts": {}, "rate": float("inf")}, "f, /rate: Input should be a finite number"),
        ([], "f: Input should be a valid dictionary"),
    ],
)
def test_a_violation_is_told_with_its_pointer(document: Any, message: str) -> None:
    with pytest.raises(BadInput) as caught:
        jsonio.validated(Whole, document, "f")
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([1], "a JSON object was expected, not list"),
        ({}, "schema is None, 'mapper-plan/1' was expected"),
        (
            {"schema": "mapper-plan/2"},
            "schema is 'mapper-plan/2', 'mapper-plan/1' was expected\n.*the mapper that wrote",
        ),
        ({"schema": ["mapper-plan/1"]}, "schema is"),
    ],
)
def test_another_schema_is_refused(document: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        jsonio.require_schema(document, "mapper-plan/1", "f")


def test_a_copy_derives_anew() -> None:
    from functools import cached_property

    class Square(Record):
        side: int

        @cached_property
        def area(self) -> int:
            return self.side**2

    square = Square(side=2)
    assert square.area == 4
    assert square.model_copy(update={"side": 3}).area == 9


def test_writing_replaces_the_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "f.json"
    jsonio.write_text(file, "first")
    jsonio.write_text(file, "zweite Fassung, länger")
    assert file.read_text() == "zweite Fassung, länger"
    assert os.listdir(tmp_path) == ["f.json"]
    umask = os.umask(0o022)
    os.umask(umask)
    assert stat.S_IMODE(file.stat().st_mode) == 0o666 & ~umask


@pytest.mark.parametrize("error", [RuntimeError("oh"), KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_the_old_file_stays_whole_when_writing_fails(tmp_path: Path, error: BaseException) -> None:
    file = tmp_path / "f.json"
    file.write_text("precious")
    with pytest.raises((type(error), SystemRefused)) as caught, jsonio.replacing(file) as out:
        out.write(b"half of")
        raise error
    assert file.read_text() == "precious"
    assert os.listdir(tmp_path) == ["f.json"]
    if isinstance(error, OSError):
        assert f"{file} cannot be written: No space left on device" in str(caught.value)


WRITER = """
import sys, time
from pathlib import Path
from mapper import jsonio
with jsonio.replacing(Path(sys.argv[1])) as out:
    out.write(b"half")
    out.flush()
    print("begun", flush=True)
    time.sleep(60)
"""


def test_what_a_killed_writer_left_goes_with_the_next_one_and_what_a_live_one_writes_stays(tmp_path: Path) -> None:
    file, mine = tmp_path / "out[1].npz", tmp_path / ".out[1].npz.original"
    mine.write_text("the user's")
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(file)], stdout=subprocess.PIPE) for _ in range(2)]
    try:
        for writer in writers:
            assert writer.stdout is not None and writer.stdout.readline() == b"begun\n"
        assert len(list(tmp_path.glob(f".*{jsonio.UNFINISHED}"))) == 2
        writers[0].kill()
        writers[0].wait()
        jsonio.write_text(tmp_path / "other.npz", "{}")
        assert len(list(tmp_path.glob(f".*{jsonio.UNFINISHED}"))) == 2, "only what was to become the same file"
        jsonio.write_text(file, "whole")
        assert len(list(tmp_path.glob(f".*{jsonio.UNFINISHED}"))) == 1, "the other one is at it still"
    finally:
        for writer in writers:
            writer.kill()
            writer.communicate()
    jsonio.write_text(file, "again")
    assert {path.name for path in tmp_path.iterdir()} == {file.name, mine.name, "other.npz"}
    assert file.read_text() == "again" and mine.read_text() == "the user's"


def test_a_folder_that_is_not_there_or_a_folder_in_the_place_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(SystemRefused, match=r"absent/f.json cannot be written: No such file") as caught:
        jsonio.write_text(tmp_path / "absent" / "f.json", "text")
    assert caught.value.exit_code == 10
    with pytest.raises(SystemRefused, match="Is a directory"):
        jsonio.write_text(tmp_path, "text")
    assert not os.listdir(tmp_path)


def test_a_link_stays_and_what_it_points_to_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "f.json").write_text("old")
    (tmp_path / "link.json").symlink_to("real/f.json")
    jsonio.write_text(tmp_path / "link.json", "new")
    assert (tmp_path / "link.json").is_symlink() and (tmp_path / "real" / "f.json").read_text() == "new"


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    """As is /dev/null: renaming a file over it would break the machine."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    jsonio.write_text(pipe, "through")
    assert os.read(reader, 100) == b"through"
    os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
