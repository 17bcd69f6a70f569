"""The journal of a run over hosts: outputs that were delivered, on the front's disk: a restart goes on from there.

A line of JSON says which run it is; records of one size follow, one an item in order: the bytes of its outputs and a
checksum. An item counts as delivered once its record is written. What is written survives the death of any process; a
record that a power failure tore is found by its checksum, and counts as not delivered.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import torch

from mapper import jsonio
from mapper.errors import BadInput, MachineMismatch, SystemRefused
from mapper.execution.hosts.wire import pack, unpack
from mapper.program.model import TensorType

SCHEMA = "mapper-journal/1"
MAX_HEAD_BYTES = 2**20
_CHECK_BYTES = 4


class Journal:
    """An open journal of items whose outputs are of `types`. `delivered` items are in it."""

    def __init__(self, file: IO[bytes], path: Path, types: Sequence[TensorType], start: int) -> None:
        self._file, self.path, self._types, self._start = file, path, types, start
        self._bytes = sum(kind.bytes for kind in types)
        self.delivered = 0
        while self._record(self.delivered) is not None:
            self.delivered += 1
        self._cut_off()

    def _cut_off(self) -> None:
        """Drops what is behind the delivered items."""
        end = self._start + self.delivered * (self._bytes + _CHECK_BYTES)
        os.ftruncate(self._file.fileno(), end)
        self._file.seek(end)

    def _record(self, number: int) -> bytearray | None:
        """The bytes of an item's outputs, None where there is no whole record."""
        self._file.seek(self._start + number * (self._bytes + _CHECK_BYTES))
        record = bytearray(self._file.read(self._bytes + _CHECK_BYTES))
        if len(record) < self._bytes + _CHECK_BYTES:
            return None
        check = int.from_bytes(record[self._bytes :], "little")
        del record[self._bytes :]
        return record if zlib.crc32(record) == check else None

    def deliver(self, outputs: Sequence[torch.Tensor]) -> None:
        """Writes the outputs of the next item; with that it is delivered. Raises: SystemRefused."""
        message = pack(outputs, self._types)
        data = message.numpy().tobytes() if self._bytes else b""
        try:
            self._file.write(data + zlib.crc32(data).to_bytes(_CHECK_BYTES, "little"))
            self._file.flush()
        except OSError as error:
            raise SystemRefused(f"{self.path} cannot be written: {error.strerror}") from error
        self.delivered += 1

    def outputs(self) -> Iterator[list[torch.Tensor]]:
        """The outputs of all delivered items, in order."""
        try:
            for number in range(self.delivered):
                record = self._record(number)
                if record is None:
                    raise BadInput(str(self.path), f"the record of item {number} has changed since it was written")
                raw = torch.frombuffer(record, dtype=torch.uint8) if record else torch.empty(0, dtype=torch.uint8)
                yield unpack(raw, self._types)
        finally:
            self._file.seek(self._start + self.delivered * (self._bytes + _CHECK_BYTES))

    def remove(self) -> None:
        """Takes the file away: the run is done."""
        self.path.unlink(missing_ok=True)


@contextlib.contextmanager
def journal_at(path: Path, run: dict[str, Any], types: Sequence[TensorType]) -> Iterator[Journal]:
    """The journal of the run that `run` describes, at `path`: a new one, or as it was left.

    Raises: BadInput when there is the journal of another run, or something else; MachineMismatch when another process
    has it open; SystemRefused when it cannot be written.
    """
    head = jsonio.canonical({"schema": SCHEMA, "run": run}) + b"\n"
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        raise SystemRefused(f"{path} cannot be written: {error.strerror}") from error
    with os.fdopen(fd, "r+b") as file:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise MachineMismatch(f"{path} is in use: another run writes the same results") from None
        found = file.readline(MAX_HEAD_BYTES)
        if not found.endswith(b"\n"):
            if found and not head.startswith(found):
                raise BadInput(
                    str(path), "is no journal of a run over hosts", advice="Remove it, or name other results."
                )
            file.seek(0)
            file.truncate()
            file.write(head)
            file.flush()
        elif found != head:
            raise BadInput(
                str(path), "is the journal of another run: of another plan, items or options",
                advice="Finish that run with its own command, or remove the file to give it up.",
            )  # fmt: skip
        yield Journal(file, path, types, len(head))
