"""One cache folder for all tests of back ends: what one test compiled, others only load."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mapper.backends.artefacts import compiled_folder


@pytest.fixture(scope="package")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def cache(shared_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of compiled stages; nothing but these may be there after a test."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(shared_cache / "inductor"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(shared_cache))
    folder = compiled_folder()
    yield folder
    if folder.is_dir():
        assert not [path.name for path in folder.iterdir() if path.name.startswith(".")]


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache for one test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return compiled_folder()
