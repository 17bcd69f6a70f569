"""Debian packages of any architecture, downloaded and unpacked below a folder: nothing is installed or configured.

apt runs with lists, state and cache of its own, so neither root nor a user namespace is needed and the packages of the
host stay as they are. It checks the signatures of Debian.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.emulation.prerequisites import KEYRING, Unprepared

SUITE = "trixie"
"""The release of Debian that emulator and guest are from."""

MIRROR = "MAPPER_EMU_MIRROR"
"""The variable that names another mirror than that of the host's apt."""


def mirror(environment: Mapping[str, str] = os.environ) -> str:
    """The Debian mirror that the host's apt is configured with, or the one that MAPPER_EMU_MIRROR names.

    Raises: Unprepared where there is none.
    """
    if named := environment.get(MIRROR):
        return named
    wanted = "$(ORIGIN)|$(CODENAME)|$(COMPONENT)|$(REPO_URI)"
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", wanted, "Created-By: Packages"], capture_output=True, text=True
    )
    found = mirror_in(listed.stdout)
    if found is None:
        raise Unprepared(
            "apt knows no Debian mirror\n"
            f"As root: apt-get update; or name a mirror in {MIRROR} (needed where the host is not Debian)."
        )
    return found


def mirror_in(listed: str) -> str | None:
    """The first mirror of a Debian release (no update or security archive) in lines of origin, codename, component and
    address."""
    for line in listed.splitlines():
        origin, codename, component, address = (*line.split("|"), "", "", "")[:4]
        if origin == "Debian" and "-" not in codename and component == "main" and address:
            return address
    return None


def host_architecture() -> str:
    """Debian's name of the host's architecture, such as amd64."""
    return _run(["dpkg", "--print-architecture"]).strip()


def unpack(packages: Sequence[str], architecture: str, folder: Path, work: Path) -> list[str]:
    """Downloads `packages` and all that they depend on and unpacks them into `folder`; gives the archives' names.

    `work` is a folder for apt's lists and archives. Raises: Unprepared when apt cannot get them.
    """
    options = _configured(architecture, work)
    _run(["apt-get", *options, "update"])
    _run(["apt-get", *options, "install", "--download-only", "--yes", "--no-install-recommends", *packages])
    archives = sorted((work / "cache/archives").glob("*.deb"))
    # base-files comes first: it makes /bin, /lib and /sbin links into /usr.
    archives.sort(key=lambda archive: not archive.name.startswith("base-files_"))
    folder.mkdir(parents=True)
    for archive in archives:
        _unpack(archive, folder)
        archive.unlink()
    return [archive.name for archive in archives]


def _configured(architecture: str, work: Path) -> list[str]:
    """Options that give apt folders of its own in `work`, one mirror and one architecture."""
    for name in ("lists/partial", "cache/archives/partial", "etc"):
        (work / name).mkdir(parents=True, exist_ok=True)
    (work / "status").touch()
    (work / "sources.list").write_text(
        f"deb [arch={architecture} signed-by={KEYRING}] {mirror()} {SUITE} main\n", encoding="utf-8"
    )
    chosen = {
        "Dir::State": work,
        "Dir::State::status": work / "status",
        "Dir::State::lists": work / "lists",
        "Dir::Cache": work / "cache",
        "Dir::Etc::sourcelist": work / "sources.list",
        "Dir::Etc::sourceparts": "-",
        "Dir::Etc::preferences": "-",
        "Dir::Etc::preferencesparts": "-",
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "APT::Sandbox::User": "",
        "Acquire::Languages": "none",
        "Debug::NoLocking": "true",
    }
    return ["-qq", *(f"-o{name}={value}" for name, value in chosen.items())]


def _unpack(archive: Path, folder: Path) -> None:
    """Unpacks one archive as the user who calls, without device files."""
    read = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(archive)], stdout=subprocess.PIPE)
    options = ["--no-same-owner", "--keep-directory-symlink", "--exclude=./dev/*"]
    written = subprocess.run(["tar", "-x", "-C", str(folder), *options], stdin=read.stdout)
    assert read.stdout is not None
    read.stdout.close()
    if read.wait() or written.returncode:
        raise Unprepared(f"{archive.name} cannot be unpacked into {folder}")


def _run(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"LC_ALL": "C.UTF-8"})
    if done.returncode:
        raise Unprepared(f"{' '.join(command[:1])} failed ({done.returncode}): {done.stderr.strip()}")
    return done.stdout
