"""What the host must have before a machine can be emulated, and which packages bring it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
"""The keys that Debian signs its package lists with."""

PROGRAMS: Mapping[str, str] = {
    "apt-get": "apt",
    "gpgv": "gpgv",
    "dpkg": "dpkg",
    "dpkg-deb": "dpkg",
    "tar": "tar",
    "setpriv": "util-linux",
}
"""Programs of the host that building and booting start, and the Debian packages that they are in."""


class Unprepared(Exception):
    """Something is missing that only the user can bring; the message says what to do."""


def missing_packages(
    which: Callable[[str], str | None] = shutil.which, readable: Callable[[Path], bool] = lambda path: path.is_file()
) -> list[str]:
    """The packages that must be installed first, each once, in the order of `PROGRAMS`."""
    found = [package for program, package in PROGRAMS.items() if which(program) is None]
    if not readable(KEYRING):
        found.append("debian-archive-keyring")
    return list(dict.fromkeys(found))


def require_prerequisites(missing: list[str]) -> None:
    """Raises: Unprepared with the command that installs what is `missing`."""
    if missing:
        packages = " ".join(missing)
        raise Unprepared(
            f"the emulated machine needs packages that are not installed: {packages}\n"
            f"As root: apt-get install --no-install-recommends {packages}"
        )


def cache_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Where emulator, kernel and root file system are kept: MAPPER_EMU_CACHE, else below XDG_CACHE_HOME or ~/.cache."""
    if own := environment.get("MAPPER_EMU_CACHE"):
        return Path(own)
    above = environment.get("XDG_CACHE_HOME") or Path(environment.get("HOME", "/root")) / ".cache"
    return Path(above) / "mapper-emulated-sg2042"
