"""The cache folder: where it is, and how much may be kept there."""

from __future__ import annotations

from pathlib import Path

import pytest

from mapper import cache
from mapper.cache import MOST_BYTES, cache_folder, limit_bytes
from mapper.errors import SystemRefused, UsageError


def test_the_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "mapper"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # the specification says to ignore it
    monkeypatch.setenv("HOME", "/somewhere")
    assert cache_folder() == Path("/somewhere/.cache/mapper")


def test_without_a_home_there_is_no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(cache.Path, "home", homeless)
    with pytest.raises(SystemRefused, match="no home folder") as raised:
        cache_folder()
    assert "XDG_CACHE_HOME" in raised.value.advice


def test_the_limit_is_what_is_asked_else_a_tenth_of_the_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Disk:
        total = 50 * 2**30

    monkeypatch.delenv("MAPPER_CACHE_SIZE", raising=False)
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda path: Disk if path == tmp_path else None)
    assert limit_bytes(tmp_path / "not" / "there") == 5 * 2**30
    Disk.total = 2**50
    assert limit_bytes(tmp_path) == MOST_BYTES
    monkeypatch.setenv("MAPPER_CACHE_SIZE", "1.5GB")
    assert limit_bytes(tmp_path) == 1_500_000_000
    monkeypatch.setenv("MAPPER_CACHE_SIZE", "0")
    assert limit_bytes(tmp_path) == 0
    monkeypatch.setenv("MAPPER_CACHE_SIZE", "much")
    with pytest.raises(UsageError, match="MAPPER_CACHE_SIZE=much"):
        limit_bytes(tmp_path)
