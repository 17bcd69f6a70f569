"""Files in memory without a name in any folder: nothing is left behind, whatever dies."""

from __future__ import annotations

import os
import tempfile

from mapper.errors import SystemRefused


def anonymous_file(name: str, size: int = 0) -> int:
    """A descriptor of a new file in memory without a name in any folder; `name` shows in /proc only.

    Where the kernel lacks such files, an unlinked temporary file takes the place. Raises: SystemRefused.
    """
    reasons = []
    try:
        fd = os.memfd_create(name, os.MFD_CLOEXEC)
        return _sized(fd, size, reserve=False)
    except OSError as error:
        reasons.append(f"memfd_create: {error.strerror}")
    for folder in ("/dev/shm", tempfile.gettempdir()):
        try:
            fd, path = tempfile.mkstemp(prefix="mapper-", dir=folder)
            os.unlink(path)
            return _sized(fd, size, reserve=True)
        except OSError as error:
            reasons.append(f"{folder}: {error.strerror}")
    raise SystemRefused(f"no shared memory of {size} bytes ({'; '.join(reasons)})",
                        advice="Free memory, allow memfd_create, or enlarge /dev/shm.")  # fmt: skip


def _sized(fd: int, size: int, *, reserve: bool) -> int:
    """`fd` with `size` bytes. A file on a mount of limited size reserves them: a full mount is an error now, not a
    SIGBUS later; memory without a mount stays untouched, so that whoever uses a page first has it on its node."""
    try:
        os.ftruncate(fd, size)
        if reserve and size:
            os.posix_fallocate(fd, 0, size)
    except OSError:
        os.close(fd)
        raise
    return fd
