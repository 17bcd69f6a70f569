"""What is missing is named with the packages that bring it, and where the cache is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.emulation import apt
from tests.emulation.build import Cache, built
from tests.emulation.modules import dependencies
from tests.emulation.prerequisites import (
    KEYRING,
    PROGRAMS,
    Unprepared,
    cache_folder,
    missing_packages,
    require_prerequisites,
)


def test_a_host_with_nothing_is_told_every_package_once() -> None:
    missing = missing_packages(lambda program: None, lambda path: False)
    assert missing == list(dict.fromkeys([*PROGRAMS.values(), "debian-archive-keyring"]))


@pytest.mark.parametrize("absent", sorted(PROGRAMS))
def test_one_missing_program_is_one_package(absent: str) -> None:
    missing = missing_packages(lambda program: None if program == absent else f"/usr/bin/{program}", lambda path: True)
    assert missing == [PROGRAMS[absent]]


def test_the_message_is_the_command_to_run() -> None:
    looked_at: list[Path] = []
    require_prerequisites(missing_packages(lambda program: program, lambda path: looked_at.append(path) or True))  # type: ignore[func-returns-value]
    assert looked_at == [KEYRING]
    with pytest.raises(Unprepared, match=r"apt-get install --no-install-recommends gpgv debian-archive-keyring$"):
        require_prerequisites(["gpgv", "debian-archive-keyring"])


def test_the_cache_is_outside_of_the_repository_unless_told_otherwise() -> None:
    assert cache_folder({"HOME": "/home/me"}) == Path("/home/me/.cache/mapper-emulated-sg2042")
    assert cache_folder({"HOME": "/home/me", "XDG_CACHE_HOME": "/fast"}) == Path("/fast/mapper-emulated-sg2042")
    assert cache_folder({"XDG_CACHE_HOME": "/fast", "MAPPER_EMU_CACHE": "/here"}) == Path("/here")


def test_an_empty_cache_says_how_it_is_filled(tmp_path: Path) -> None:
    with pytest.raises(Unprepared, match=r"lacks tools, kernel, root.ext4\nMake it: python -m tests.emulation build"):
        built(Cache(tmp_path))


def test_the_mirror_is_that_of_a_release() -> None:
    listed = "\n".join([
        "Other|stable|main|http://other.example/apt/",
        "Debian|bookworm-updates|main|http://updates.example/debian/",
        "Debian|bookworm|contrib|http://contrib.example/debian/",
        "Debian|bookworm|main|http://mirror.example/debian/",
    ])  # fmt: skip
    assert apt.mirror_in(listed) == "http://mirror.example/debian/"
    assert apt.mirror_in("Ubuntu|noble|main|http://mirror.example/ubuntu/") is None
    assert apt.mirror_in("") is None
    assert apt.mirror({apt.MIRROR: "http://named.example/"}) == "http://named.example/"


def test_a_module_names_what_it_needs() -> None:
    assert dependencies(b"\x7fELF\0license=GPL\0depends=mbcache,jbd2,crc-16\0intree=Y\0") == [
        "mbcache", "jbd2", "crc_16",
    ]  # fmt: skip
    assert dependencies(b"license=GPL\0depends=\0") == []
    assert dependencies(b"softdepends=no\0") == []
