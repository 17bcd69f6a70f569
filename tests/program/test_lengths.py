"""The length of sequences: of cards that have one, and of those that do not."""

from __future__ import annotations

from pathlib import Path

import pytest

from mapper.errors import BadInput, UsageError
from mapper.program.cards import card_names, load_card
from mapper.program.realise import realise
from tests.cli.commands import TINY, mapper

CARD = """
schema = "mapper-model/1"
name = "mine"
title = "{length} steps of {batch}"
class = "torch.nn:LSTM"
options = {input_size = 3, hidden_size = 2}
item = "row of {length}"
length = 4
max_length = 9
[[inputs]]
name = "input"
shape = ["length", "batch", 3]
dtype = "float32"
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test works in an empty folder of its own."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").write_text(CARD)
    return tmp_path


def test_a_length_is_in_the_shape_the_title_and_the_item() -> None:
    made = realise("mine.toml", {"batch": 2}, fake=True)
    assert (made.inputs[0].shape, made.title, made.item) == ((4, 2, 3), "4 steps of {batch}", "row of 4")
    made = realise("mine.toml", {"length": 7}, fake=True)
    assert (made.inputs[0].shape, made.title, made.item) == ((7, 1, 3), "7 steps of {batch}", "row of 7")
    assert made.kwargs["input"].shape == (7, 1, 3)


def test_a_length_may_be_an_argument_of_the_model(folder: Path) -> None:
    text = CARD.replace("hidden_size = 2", 'hidden_size = "{length}", num_layers = "{batch}", bias = true')
    (folder / "mine.toml").write_text(text)
    module = realise("mine.toml", {"length": 7, "batch": 3}, fake=True).module
    assert (module.hidden_size, module.num_layers, module.bias) == (7, 3, True)


def test_a_length_beyond_the_last_position_is_refused() -> None:
    assert realise("mine.toml", {"length": 9}, fake=True)
    with pytest.raises(UsageError, match=r"a length of 10 is too long for the model mine, .*positions for 9\nChoose"):
        realise("mine.toml", {"length": 10}, fake=True)
    with pytest.raises(BadInput, match="options of the model, /length"):
        realise("mine.toml", {"length": 0}, fake=True)


def test_a_model_without_a_length_says_what_its_input_is() -> None:
    with pytest.raises(UsageError, match=r"vgg16 has no length to choose: its input is x \[batch, 3, 224, 224\]"):
        realise("vgg16", {"length": 7}, fake=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("length = 4\nmax_length = 9", ""), "/length: missing, but the card has a size called length"),
        (("length = 4\n", ""), "/length: missing"),
        (('["length", ', "[7, "), '/length: no input has a size "length"'),
        (("length = 4", "length = 10"), "/length: more than max_length"),
        (("length = 4", "length = 0"), "/length"),
    ],
)
def test_a_card_whose_lengths_do_not_fit_is_refused(folder: Path, change: tuple[str, str], message: str) -> None:
    text = CARD.replace(*change)
    assert text != CARD
    (folder / "mine.toml").write_text(text)
    with pytest.raises(BadInput, match=f"mine.toml, {message}"):
        load_card("mine.toml")


def test_every_card_with_tokens_has_a_length() -> None:
    for name in card_names():
        card = load_card(name)
        assert (card.length is not None) == (card.inputs[0].dtype == "int64"), name
        assert "{" not in card.worded(card.title + card.item, card.length or 1), name
        assert "128" not in card.title + card.item, name


@pytest.mark.parametrize("name", ["bert", "gpt2_decode"])
def test_a_plan_for_a_length_says_so(name: str) -> None:
    done = mapper("model", "show", name, "--length", 32)
    assert (done.code, done.err) == (0, "")
    assert "32" in done.out.splitlines()[0] and "128" not in done.out.splitlines()[0]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("bert", "--length", 513), 2, "positions for 512"),
        (("mixer", "--length", 16), 2, "the model mixer has no length"),
        ((TINY, "--length", 16), 3, "length"),
        (("bert", "--length", 0), 2, "--length"),
    ],
)
def test_a_length_that_cannot_be(arguments: tuple[object, ...], code: int, message: str) -> None:
    done = mapper("model", "show", *arguments)
    assert (done.code, done.out) == (code, "")
    assert message in done.err
