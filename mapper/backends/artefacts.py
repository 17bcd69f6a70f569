"""Compiled stages on disk: a folder each in the cache folder, called by the hash of all that they depend on.

A folder appears whole or not at all, and is checked before use. What is there may be deleted at any time; who uses a
folder holds it, so that `trim` leaves it alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mapper import jsonio
from mapper.cache import cache_folder
from mapper.errors import BadInput
from mapper.jsonio import Record
from mapper.machine import cpuinfo

if TYPE_CHECKING:
    import torch

    from mapper.backends.registry import Backend
    from mapper.program.model import Program

FORMAT = 2
"""Changes when back ends compile in another way, so that what is in the cache is no longer used."""
MANIFEST = "manifest.json"


class File(Record):
    """A file of a compiled stage."""

    bytes: int
    sha256: str


class Manifest(Record):
    """What is in a compiled stage's folder."""

    schema_: Literal["mapper-artefact/1"] = "mapper-artefact/1"
    backend: str
    stage: str
    files: dict[str, File]


def compiled_folder() -> Path:
    """Where compiled stages are. Raises: SystemRefused where there is no home folder."""
    return cache_folder() / "compiled"


def weight_hash(tensor: torch.Tensor) -> str:
    """The SHA-256 of the elements of `tensor` in order, whatever its strides."""
    import torch

    flat = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
    return hashlib.sha256(flat.numpy().data if flat.numel() else b"").hexdigest()


def key_of(backend: Backend, program: Program, hashes: Mapping[str, str], threads: int) -> str:
    """The name of the folder of `program`: a hash of it (not of its own name), of the weights that it reads, of what
    compiles, and of the processor that it is compiled for."""
    processor = cpuinfo.read(Path("/"))
    return jsonio.sha256({
        "format": FORMAT, "backend": backend.name, "versions": backend.versions(),
        "program": program.model_copy(update={"name": ""}).sha256,
        "weights": {weight.name: hashes[weight.name] for weight in program.weights},
        "threads": threads if backend.per_team else 0, "cpu": processor.model, "features": sorted(processor.features),
    })  # fmt: skip


def sound(folder: Path) -> bool:
    """Whether `folder` holds a whole compiled stage: every file is there, with the bytes that it was written with."""
    try:
        manifest = jsonio.validated(Manifest, jsonio.read_json(folder / MANIFEST), str(folder))
        return {path.name for path in folder.iterdir()} == {MANIFEST, *manifest.files} and all(
            _described(folder / name) == file for name, file in manifest.files.items()
        )
    except (BadInput, OSError):
        return False


def _described(path: Path) -> File:
    with path.open("rb") as file:
        return File(bytes=os.fstat(file.fileno()).st_size, sha256=hashlib.file_digest(file, "sha256").hexdigest())


def install(made: Path, path: Path, backend: str, stage: str) -> None:
    """Makes the folder `made`, with a manifest, `path`, which is not there. The caller holds the lock of `path`."""
    files = {file.name: _described(file) for file in sorted(made.iterdir())}
    manifest = Manifest(backend=backend, stage=stage, files=files)
    jsonio.write_text(made / MANIFEST, jsonio.dumps(jsonio.plain(manifest)))
    made.chmod(0o700)
    made.rename(path)


@contextlib.contextmanager
def lock(path: Path) -> Iterator[None]:
    """Holds the lock `path`, a file that is there only as long; waits while another process holds it."""
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            if _is(fd, path):
                break
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # before it is let go: who waits for it then sees that it is no longer this file
        os.close(fd)


def _is(fd: int, path: Path) -> bool:
    """Whether the open file `fd` is the one that `path` names now."""
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def work_folder(folder: Path) -> Iterator[Path]:
    """A new folder in `folder`, removed at the end, and by who comes next where this process is killed before that."""
    for old in folder.glob(".work-*"):
        with contextlib.suppress(OSError):
            fd = os.open(old, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(old, ignore_errors=True)
            finally:
                os.close(fd)
    while True:
        new = Path(tempfile.mkdtemp(prefix=".work-", dir=folder))
        fd = -1
        try:
            fd = os.open(new, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(fd, fcntl.LOCK_EX)
            if new.exists():  # else another process swept it before it was locked
                yield new
                return
        except FileNotFoundError:
            if new.exists():
                raise
        finally:
            shutil.rmtree(new, ignore_errors=True)
            if fd >= 0:
                os.close(fd)


class Artefacts(dict[tuple[int, int], Path]):
    """The folders of compiled stages by stage and number of threads, held as long as this is there."""

    def __init__(self) -> None:
        super().__init__()
        self._held: list[int] = []
        weakref.finalize(self, _close, self._held)

    def take(self, stage: int, threads: int, path: Path) -> bool:
        """Takes in the folder `path` if it is there and whole; what is damaged is not held."""
        fd = hold(path)
        if fd is None:
            return False
        if not sound(path):
            os.close(fd)
            return False
        self._held.append(fd)
        self[stage, threads] = path
        return True


def _close(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)


def hold(path: Path) -> int | None:
    """A descriptor that keeps the folder `path` from being taken away while it is open; None where it is not there.
    The folder counts as used now."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        if _is(fd, path):
            with contextlib.suppress(OSError):
                os.utime(path)
            return fd
    except OSError:
        pass
    os.close(fd)
    return None


def kept(folder: Path) -> dict[Path, int]:
    """The compiled stages in `folder` with their bytes, those that were used longest ago first."""
    found: list[tuple[int, Path, int]] = []
    with contextlib.suppress(FileNotFoundError):
        for path in folder.iterdir():
            with contextlib.suppress(OSError):
                if not path.name.startswith(".") and path.is_dir():
                    found.append((path.stat().st_mtime_ns, path, sum(file.stat().st_size for file in path.iterdir())))
    return {path: size for _, path, size in sorted(found)}


def trim(folder: Path, limit: int) -> None:
    """Takes compiled stages out of `folder` until the rest has at most `limit` bytes: first those that were used
    longest ago, never one that is held or being made. Raises: OSError."""
    with lock(folder / ".trim.lock"), work_folder(folder) as work:
        stages = kept(folder)
        total = sum(stages.values())
        for path, size in stages.items():
            if total <= limit:
                return
            if not (folder / f".{path.name}.lock").exists() and _moved(path, work / path.name):
                total -= size


def _moved(path: Path, to: Path) -> bool:
    """Whether `path` could be moved: nobody holds it."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.rename(to)
        return True
    except OSError:
        return False
    finally:
        os.close(fd)
