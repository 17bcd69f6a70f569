"""What a calibration or a profile has measured so far, kept in the cache folder so that an interrupted one can go on.

JSON lines: a header with the schema, the key and when it began, then one line an entry. A line that was cut
off (the process was killed while writing it) is dropped; a file that is not what it should be is named and begun anew.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Generic, Self, TypeVar

from pydantic import ValidationError

from mapper.jsonio import Record

SCHEMA = "mapper-calibration-rounds/2"
MOST_AGE_S = 24 * 3600.0
MOST_BYTES = 64 * 2**20


class Entry(Record):
    """One round of one measurement: its value, the CPU seconds that others took meanwhile, and those there were."""

    place: str
    round: int
    value: float
    others_s: float = 0.0
    cpu_s: float = 0.0

    @property
    def what(self) -> tuple[str, int]:
        """Which round of which measurement."""
        return self.place, self.round


class Header(Record):
    """The first line: what the rounds belong to, and when the first began (seconds since 1970)."""

    schema_name: str
    key: str
    began: float


E = TypeVar("E", bound=Record)


@dataclass(frozen=True)
class Kind(Generic[E]):
    """What a journal is of: what it is called, its file and schema, its entries, and what tells them apart. `wrong`
    says what of an entry cannot be, empty if nothing."""

    name: str
    prefix: str
    schema: str
    record: type[E]
    what: Callable[[E], Hashable]
    wrong: Callable[[E], str] = lambda entry: ""


def _wrong(entry: Entry) -> str:
    possible = math.isfinite(entry.value) and entry.value >= 0
    return "" if possible else f"{entry.value} is no measured value"


CALIBRATION: Kind[Entry] = Kind("calibration", "calibrate", SCHEMA, Entry, lambda entry: entry.what, _wrong)


class Journal(Generic[E]):
    """The entries of one calibration or profile, in a file named after its `key`.

    `tell` is told what a user should know: that the file cannot be used or written. Nothing else goes wrong here.
    """

    def __init__(self, folder: Path, key: str, now: float, tell: Callable[[str], None], kind: Kind[E]) -> None:
        self.path = folder / f"{kind.prefix}-{key[:16]}.jsonl"
        self.entries: dict[Any, E] = {}
        self.kind = kind
        self.kept = True
        self._key, self._now, self._tell = key, now, tell
        self._out: IO[bytes] | None = None
        self._whole = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def read(self) -> Self:
        """Takes over the entries of the file, where it is there, is of the same key and not a day old."""
        try:
            if self.path.stat().st_size > MOST_BYTES:
                raise ValueError(f"larger than {MOST_BYTES} bytes")
            data = self.path.read_bytes()
        except FileNotFoundError:
            return self
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            self._anew(reason)
            return self
        try:
            self._take(data)
        except (ValueError, ValidationError) as error:
            self.entries.clear()
            self._whole = 0
            self._anew(f"not the rounds of a {self.kind.name}" if isinstance(error, ValidationError) else error)
        return self

    def _anew(self, reason: object) -> None:
        self._tell(f"{self.path} cannot be used ({reason}): the {self.kind.name} begins anew")

    def _take(self, data: bytes) -> None:
        """Raises: ValueError when a whole line is not what it should be."""
        *lines, _torn = data.split(b"\n")
        if not lines:
            return
        header = Header.model_validate(_object(lines[0], 1))
        if header.schema_name != self.kind.schema or header.key != self._key:
            raise ValueError(f"it belongs to another {self.kind.name}")
        if not 0 <= self._now - header.began <= MOST_AGE_S:
            return
        for number, line in enumerate(lines[1:], 2):
            entry = self.kind.record.model_validate(_object(line, number))
            if wrong := self.kind.wrong(entry):
                raise ValueError(f"line {number}: {wrong}")
            self.entries[self.kind.what(entry)] = entry
        self._whole = sum(len(line) + 1 for line in lines)

    def add(self, entry: E) -> None:
        """Keeps one more entry, at once."""
        self.entries[self.kind.what(entry)] = entry
        if not self.kept:
            return
        try:
            if self._out is None:
                self._out = self._opened()
            self._out.write(json.dumps(entry.model_dump()).encode() + b"\n")
        except OSError as error:
            self.kept = False
            self._close()
            self._tell(f"this {self.kind.name} cannot be resumed: {self.path} cannot be written: {error.strerror}")

    def _opened(self) -> IO[bytes]:
        """The file behind its last whole line, with a header where it is new."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        out = self.path.open("r+b" if self._whole else "wb", buffering=0)
        out.truncate(self._whole)
        out.seek(self._whole)
        if not self._whole:
            header = Header(schema_name=self.kind.schema, key=self._key, began=self._now)
            out.write(json.dumps(header.model_dump()).encode() + b"\n")
        return out

    def discard(self) -> None:
        """Takes the file away: what it was kept for is done, or not wanted."""
        self._close()
        self.entries.clear()
        self._whole = 0
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:
            self._tell(f"{self.path} cannot be taken away: {error.strerror}")

    def _close(self) -> None:
        if self._out is not None:
            self._out.close()
            self._out = None


def _object(line: bytes, number: int) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        raise ValueError(f"line {number} is not JSON") from None
