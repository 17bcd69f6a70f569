"""Files at the border: read JSON with a clear error, validate it once, write it whole or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import hashlib
import json
import math
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from mapper.errors import BadInput, SystemRefused

MAX_DEPTH = 100
MAX_BYTES = 512 * 2**20
UNFINISHED = ".mapper-part"
"""How the names of files end that are being written."""
_POINTED = re.compile(r"(/\S*): (.*)", re.DOTALL)


class Record(BaseModel):
    """A frozen value that goes into files. Unknown fields are errors; a file that may be newer says so itself."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with the fields in `update` (not validated). What is derived from fields is derived anew."""
        copied = super().model_copy(update=update, deep=deep)
        for name in copied.__dict__.keys() - type(self).model_fields.keys():
            del copied.__dict__[name]
        return copied


R = TypeVar("R", bound=BaseModel)


def read_json(path: Path) -> Any:
    """The JSON document in `path`.

    Raises: BadInput when the file is absent, too large, nested too deeply or not JSON (with line and column).
    """
    return parse_json(read_bytes(path), str(path))


def read_bytes(path: Path, limit: int = MAX_BYTES) -> bytes:
    """The bytes of `path`, at most `limit` of them; a file that is absent or larger is a `BadInput`."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            data = file.read(limit + 1) if size <= limit else b""
        if max(size, len(data)) > limit:
            raise BadInput(str(path), f"more than {limit} bytes, which is the most that is read")
        return data
    except FileNotFoundError:
        raise BadInput(str(path), "no such file") from None
    except IsADirectoryError:
        raise BadInput(str(path), "is a folder, a file was expected") from None
    except OSError as error:
        raise BadInput(str(path), f"cannot be read: {error.strerror}") from error


def parse_json(data: bytes | str, source: str) -> Any:
    """The JSON document in `data`; errors name `source`, line and column."""

    def refuse(name: str) -> Any:
        raise BadInput(source, f"{name} is not JSON", advice="Numbers must be finite.")

    def finite(text: str) -> float:
        value = float(text)
        if not math.isfinite(value):
            raise BadInput(source, f"the number {text} is too large")
        return value

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        out = dict(pairs)
        if len(out) != len(pairs):
            seen: set[str] = set()
            twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
            raise BadInput(source, f"the key {twice!r} is given twice in one object")
        return out

    try:
        document = json.loads(data, parse_constant=refuse, parse_float=finite, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        raise BadInput(source, f"not JSON: {error.msg}", place=f"line {error.lineno}, column {error.colno}") from None
    except UnicodeDecodeError:
        raise BadInput(source, "not JSON: not UTF-8 text") from None
    except ValueError as error:  # an integer of more digits than Python reads
        raise BadInput(source, f"not JSON that can be read: {error}") from None
    except RecursionError:
        raise BadInput(source, f"nested more than {MAX_DEPTH} deep") from None
    _refuse_deep(document, source)
    return document


def _refuse_deep(document: Any, source: str) -> None:
    """What walks documents recursively relies on a small depth."""
    level = [document]
    for _ in range(MAX_DEPTH + 1):
        parts = [part.values() if isinstance(part, dict) else part for part in level if isinstance(part, dict | list)]
        level = [inner for part in parts for inner in part]
        if not level:
            return
    raise BadInput(source, f"nested more than {MAX_DEPTH} deep")


def validated(kind: type[R], document: Any, source: str) -> R:
    """`document` as a `kind`; the first violation becomes a BadInput with its JSON pointer.

    A validator that sees a whole record says which part of it is wrong by beginning its message with a pointer
    relative to that record, such as `/nodes/1: no core at all`.
    """
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        first, rest = error.errors()[0], error.error_count() - 1
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            message = "unknown field"
        place = pointer(first["loc"])
        if pointed := _POINTED.fullmatch(message):
            place, message = place + pointed[1], pointed[2]
        more = f" ({rest} more problem{'s' if rest > 1 else ''} in the file)" if rest else ""
        raise BadInput(source, message + more, place=place) from None


def pointer(loc: tuple[int | str, ...]) -> str:
    """The JSON pointer (RFC 6901) of a pydantic location."""
    named = (str(part) for part in loc if part != "[key]")
    return "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in named)


def read_record(kind: type[R], path: Path, schema: str) -> R:
    """The record in `path`, whose `schema` field must name `schema` in the same major version."""
    document = read_json(path)
    require_schema(document, schema, str(path))
    return validated(kind, document, str(path))


def require_schema(document: Any, schema: str, source: str) -> None:
    """Refuses a `document` whose `schema` field is not `schema` (such as `mapper-plan/1`)."""
    if not isinstance(document, dict):
        raise BadInput(source, f"a JSON object was expected, not {type(document).__name__}")
    given = document.get("schema")
    if given != schema:
        raise BadInput(
            source,
            f"schema is {given!r}, {schema!r} was expected",
            place="/schema",
            advice="A file of another major version needs the mapper that wrote it.",
        )


def plain(record: BaseModel) -> Any:
    """`record` as what `json` can write; optional fields that are not set are left out."""
    return record.model_dump(mode="json", exclude_none=True, by_alias=True)


def dumps(document: Any) -> str:
    """JSON text for files: keys in the order given, one level of indentation for what people read."""
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def canonical(document: Any) -> bytes:
    """JSON bytes for hashing: sorted keys, no white space."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


def sha256(document: Any) -> str:
    """The SHA-256 of `document` in canonical form."""
    return hashlib.sha256(canonical(document)).hexdigest()


def write_text(path: Path, text: str) -> None:
    """Writes `text` to `path`: all of it, or nothing and an error. An old file stays whole until then."""
    with replacing(path) as out:
        out.write(text.encode())


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file to write that takes the place of `path` when the block ends well, and vanishes otherwise.

    A link stays and what it points to is replaced; a device or pipe is written to as it is. What a process that was
    killed has left of an earlier attempt is taken away.

    Raises: SystemRefused when the folder is absent, read-only or full, or `path` is a folder.
    """
    temporary = None
    try:
        if path.exists() and not stat.S_ISREG(path.stat().st_mode):
            with path.open("wb") as device:
                yield device
            return
        target = Path(os.path.realpath(path))
        _sweep(target)
        handle, temporary = _begun(target)
        with os.fdopen(handle, "wb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, target)  # while it is locked: nobody takes it for one that was left
            temporary = None
    except OSError as error:
        raise SystemRefused(f"{path} cannot be written: {error.strerror}") from error
    finally:
        if temporary is not None:
            os.unlink(temporary)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """A new folder that takes the place of `path` when the block ends well, and vanishes otherwise. An old folder there
    stays whole until then.

    Raises: SystemRefused when the folder cannot be written.
    """
    temporary = None
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        _replace(temporary, path)
    except OSError as error:
        raise SystemRefused(f"{path} cannot be written: {error.strerror}") from error
    finally:
        if temporary is not None and temporary.exists():
            shutil.rmtree(temporary)


def _replace(new: Path, path: Path) -> None:
    """Puts the folder `new` in the place of `path`."""
    if not path.exists():
        new.rename(path)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{path.name}.old.", dir=path.parent))
    path.rename(old / "before")
    try:
        new.rename(path)
    except OSError:
        (old / "before").rename(path)
        raise
    finally:
        shutil.rmtree(old)


def _begun(target: Path) -> tuple[int, str]:
    """A new file beside `target`, and its name. It is locked as long as it is open, so that others see whether who
    writes it is alive; where the file system has no locks, nobody takes it away."""
    while True:
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=UNFINISHED, dir=target.parent)
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.path.exists(name):  # else another process swept it before it was locked
            return handle, name
        os.close(handle)


def _sweep(target: Path) -> None:
    """Takes away what processes that are gone have left of files that were to become `target`."""
    for left in target.parent.glob(f".{glob.escape(target.name)}.????????{UNFINISHED}"):
        with contextlib.suppress(OSError):
            fd = os.open(left, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(left)
            finally:
                os.close(fd)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
