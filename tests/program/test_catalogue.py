"""The list of models: rows are kept from one listing to the next, and made anew when what they follow from changes."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mapper.errors import BadInput
from mapper.program.cards import load_card
from mapper.program.catalogue import Catalogue, Row

CARD = """
schema = "mapper-model/1"
name = "mine"
class = "torch.nn:Linear"
options = {in_features = 3}
[[inputs]]
name = "input"
shape = ["batch", 3]
dtype = "float32"
"""


class Counted:
    """Makes rows, and remembers for what."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, name: str) -> Row:
        self.asked.append(name)
        return Row(name=name, title=load_card(name).title, source="", item="item", parameters=len(name), ops=1, flop=1)


@pytest.fixture
def listing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Lists cards in an empty working folder, and says which had to be made."""
    monkeypatch.chdir(tmp_path)

    def listed(*names: str, folder: Path = tmp_path / "cache") -> list[str]:
        make, catalogue = Counted(), Catalogue(folder)
        rows = [catalogue.row(name, make) for name in names]
        assert [row.name for row in rows] == list(names)
        catalogue.save()
        return make.asked

    return listed


def test_a_row_is_made_once(listing: Callable[..., list[str]]) -> None:
    assert listing("vgg16", "bert") == ["vgg16", "bert"]
    assert listing("vgg16", "bert", "mixer") == ["mixer"]
    assert listing("bert") == []
    assert listing("vgg16", "bert") == ["vgg16"], "what was not listed is forgotten"


def test_another_card_is_another_row(listing: Callable[..., list[str]], tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    for name in ("mine", "twin"):
        (tmp_path / "models" / f"{name}.toml").write_text(CARD)
    assert listing("mine", "twin") == ["mine", "twin"]
    assert listing("mine", "twin") == []
    (tmp_path / "models" / "mine.toml").write_text(CARD.replace("3}", "3, bias = false}"))
    assert listing("mine", "twin") == ["mine"]


def test_another_version_is_another_row(listing: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    assert listing("vgg16", "bert") == ["vgg16", "bert"]
    version = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "9" if name == "transformers" else version(name))
    assert listing("vgg16", "bert") == ["bert"]
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "9" if name == "torch" else version(name))
    assert listing("vgg16", "bert") == ["vgg16", "bert"]


def test_code_that_may_change_unseen_is_traced_each_time(listing: Callable[..., list[str]], tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "own.toml").write_text(CARD.replace("torch.nn:", "own.code:"))
    assert listing("own") == listing("own") == ["own"]


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"schema": "mapper-models/2"}', '{"schema": "mapper-models/1", "rows": {"a": 1}}']
)
def test_a_damaged_file_is_made_anew(listing: Callable[..., list[str]], tmp_path: Path, content: str) -> None:
    listing("vgg16")
    (tmp_path / "cache" / "models.json").write_text(content)
    assert listing("vgg16") == ["vgg16"]
    assert listing("vgg16") == []
    assert len(json.loads((tmp_path / "cache" / "models.json").read_text())["rows"]) == 1


def test_a_folder_that_cannot_be_written_is_no_error(listing: Callable[..., list[str]], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert listing("vgg16", folder=tmp_path / "file" / "cache") == ["vgg16"]
    assert listing("vgg16", folder=Path("/proc/self/cache")) == ["vgg16"]


def test_a_broken_card_is_said(listing: Callable[..., list[str]], tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "bad.toml").write_text("name")
    with pytest.raises(BadInput, match=r"bad\.toml: not TOML"):
        listing("bad")
