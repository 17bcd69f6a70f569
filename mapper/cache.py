"""The cache folder: what mapper can do without, but would take long to make again.

All of it may be deleted at any time. `MAPPER_CACHE_SIZE` limits what grows in it (compiled stages).
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from mapper.errors import SystemRefused, UsageError
from mapper.units import parse_bytes

ADVICE = "XDG_CACHE_HOME names another folder."
SIZE = "MAPPER_CACHE_SIZE"
MOST_BYTES = 20 * 2**30
MOST_OF_DISK = 0.1


def cache_folder() -> Path:
    """Where it is: `$XDG_CACHE_HOME/mapper`, else `~/.cache/mapper` (XDG base directories; relative paths are ignored).

    Raises: SystemRefused where there is no home folder either.
    """
    given = os.environ.get("XDG_CACHE_HOME", "")
    try:
        base = Path(given) if os.path.isabs(given) else Path.home() / ".cache"
    except RuntimeError as error:
        raise SystemRefused("there is no home folder, so no cache folder either", advice=ADVICE) from error
    return base / "mapper"


def refused(folder: Path, error: OSError) -> SystemRefused:
    """The error for a cache folder that cannot be written."""
    return SystemRefused(f"the cache folder {folder} cannot be written: {error.strerror}", advice=ADVICE)


def limit_bytes(folder: Path) -> int:
    """What may be kept in `folder`: what `MAPPER_CACHE_SIZE` says (such as 5GB; 0: nothing that is not in use), else
    20 GiB, or a tenth of its disk where that is less.

    Raises: UsageError where the variable is no size.
    """
    given = os.environ.get(SIZE, "").strip()
    if given:
        try:
            return int(parse_bytes(given))
        except UsageError as error:
            raise UsageError(f"{SIZE}={given}: {error.what}", advice="A size such as 5GB or 500MiB.") from None
    there = next((path for path in (folder, *folder.parents) if path.exists()), Path("/"))
    return min(MOST_BYTES, int(MOST_OF_DISK * shutil.disk_usage(there).total))
