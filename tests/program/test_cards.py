"""Where models come from: cards, card files, callables of the working folder, and files with weights."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from mapper.errors import BadInput, MissingFeature, UnknownName
from mapper.program.cards import ModelCard, card_names, is_bundled, load_card
from mapper.program.items import InputSpec, random_items
from mapper.program.realise import realise
from tests.program.modules import Tied

CARD = """
schema = "mapper-model/1"
name = "mine"
class = "torch.nn:Linear"
options = {in_features = 3, out_features = 2}
[[inputs]]
name = "input"
shape = ["batch", 3]
dtype = "float32"
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test works in an empty folder of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_bundled_cards() -> None:
    names = card_names()
    assert len(names) >= 20 and names == sorted(names)
    assert set(names) > {"bert", "gpt2", "mobilenetv2", "resnet50", "vgg16", "vit"}


@pytest.mark.parametrize("name", card_names())
def test_a_bundled_card_is_whole(name: str) -> None:
    card = load_card(name)
    assert card.name == name
    assert card.title and card.source.startswith("https://") and is_bundled(name)
    assert all(spec.high for spec in card.inputs if spec.dtype == "int64")


def test_a_card_of_the_working_folder_comes_first(folder: Path) -> None:
    (folder / "models").mkdir()
    (folder / "models" / "vit.toml").write_text(CARD)
    (folder / "models" / "other.toml").write_text(CARD)
    assert load_card("vit").name == "mine"
    assert "other" in card_names() and "bert" in card_names()
    assert not is_bundled("vit") and not is_bundled("other") and not is_bundled("../models/bert")
    (folder / "models" / "vit.toml").write_bytes((resources.files("mapper.models") / "vit.toml").read_bytes())
    assert is_bundled("vit"), "a copy of the bundled card is no other card"


def test_a_card_file_by_its_path(folder: Path) -> None:
    (folder / "elsewhere.toml").write_text(CARD)
    made = realise("elsewhere.toml", {"batch": 4})
    assert isinstance(made.module, nn.Linear) and not made.module.training
    assert made.kwargs["input"].shape == (4, 3)
    assert (made.name, made.weights, made.item) == ("mine", "seed:0", "item")


def test_an_unknown_name_is_told_the_near_ones() -> None:
    with pytest.raises(UnknownName, match="no model is called 'resnet5'\nDid you mean resnet50") as caught:
        load_card("resnet5")
    assert caught.value.exit_code == 3
    with pytest.raises(UnknownName, match="\nOne of albert, bert, bert_large"):
        load_card("zzz")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("schema =", "schema"), "mine.toml: not TOML: .*line 2"),
        (("mapper-model/1", "mapper-model/2"), "mine.toml, /schema: schema is 'mapper-model/2'"),
        (('name = "mine"', 'name = "mine"\ncolour = "red"'), "mine.toml, /colour: unknown field"),
        (('name = "input"', 'name = "input"\nunit = "m"'), "mine.toml, /inputs/0/unit: unknown field"),
        (("float32", "float31"), "mine.toml, /inputs/0/dtype: 'float31' is no dtype"),
        (("torch.nn:Linear", "torch.nn"), "mine.toml, /class: String should match"),
        (("torch.nn:Linear", "os.system('x'):y"), "mine.toml, /class: String should match"),
        (('["batch", 3]', '["batch", -3]'), "mine.toml, /inputs/0/shape: sizes must be at least 1"),
        (('["batch", 3]', '["bitch", 3]'), "mine.toml, /inputs/0/shape/0"),
    ],
)
def test_a_broken_card_is_refused_with_the_place(folder: Path, change: tuple[str, str], message: str) -> None:
    text = CARD.replace(*change)
    assert text != CARD
    (folder / "mine.toml").write_text(text)
    with pytest.raises(BadInput, match=message):
        load_card("mine.toml")


def test_a_card_that_is_not_text_is_refused(folder: Path) -> None:
    (folder / "mine.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(BadInput, match="not UTF-8"):
        load_card("mine.toml")
    with pytest.raises(BadInput, match="no such file"):
        load_card("absent.toml")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (("torch.nn:Linear", "torch.nn:Lineal"), BadInput, "model mine: torch.nn has no Lineal"),
        (("torch.nn:Linear", "torch.nope:Linear"), BadInput, "model mine: importing torch.nope fails"),
        (("torch.nn:Linear", "nolibrary.models:Net"), MissingFeature, "pip install nolibrary"),
        (("in_features = 3", "in_feature = 3"), BadInput, "model mine: building the model fails: TypeError"),
    ],
)
@pytest.mark.parametrize("fake", [False, True])
def test_a_card_whose_class_cannot_be_built(
    folder: Path, change: tuple[str, str], error: type[Exception], message: str, fake: bool
) -> None:
    (folder / "mine.toml").write_text(CARD.replace(*change))
    with pytest.raises(error, match=message) as caught:
        realise("mine.toml", fake=fake)
    assert caught.value.exit_code == (8 if error is MissingFeature else 3)  # type: ignore[attr-defined]


def test_the_seed_decides_the_weights_and_nothing_outside_changes(folder: Path) -> None:
    (folder / "mine.toml").write_text(CARD)
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    first, second, other = (realise("mine.toml", {"seed": seed}).module.weight for seed in (1, 1, 2))
    assert torch.equal(first, second) and not torch.equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sead": 1}, "options of the model, /sead: unknown field"),
        ({"batch": 0}, "/batch"),
        ({"batch": "many"}, "/batch"),
        ({"seed": -1}, "/seed"),
        ({"weights": 3}, "/weights"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        realise("vgg16", options, fake=True)


MINE = """
import torch
from torch import nn

def build(batch=1):
    return nn.Linear(3, 2).train(), torch.ones(batch, 3)

def named():
    return nn.Embedding(9, 2), {"input": torch.tensor([[4, 7]])}

def alone():
    return nn.Linear(3, 2)

def number():
    return nn.Linear(3, 2), (torch.ones(3), 2)

def failing():
    raise RuntimeError("no luck")

class inner:
    @staticmethod
    def build():
        return nn.Linear(3, 2), (torch.ones(3),)
"""


@pytest.fixture
def own(folder: Path, request: pytest.FixtureRequest) -> str:
    """A package of the working folder with callables; its name is new for each test."""
    name = f"own_{abs(hash(request.node.name))}"
    (folder / name).mkdir()
    (folder / name / "models.py").write_text(MINE)
    (folder / name / "broken.py").write_text("import this_is_not_there")
    (folder / name / "wrong.py").write_text("1 +")
    return name


def test_a_callable_of_the_working_folder(own: str) -> None:
    made = realise(f"{own}.models:build", {"batch": 5})
    assert (made.name, made.weights, made.module.training) == ("build", "seed:0", False)
    assert made.inputs == (InputSpec("arg0", (5, 3), "float32"),)
    assert torch.equal(made.module.weight, realise(f"{own}.models:inner.build").module.weight), (
        "weights come from the seed"
    )


def test_a_callable_says_how_large_integers_may_be(own: str) -> None:
    made = realise(f"{own}.models:named")
    assert made.inputs == (InputSpec("input", (1, 2), "int64", high=8),)
    assert list(made.kwargs) == ["input"] and made.args == ()


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("models:absent", BadInput, "models has no absent"),
        ("models:alone", BadInput, r"must return \(module, example inputs\)"),
        ("models:number", BadInput, "the example input 'arg1' is a int, no tensor"),
        ("models:failing", BadInput, "building the model fails: RuntimeError: no luck"),
        ("models:named", BadInput, "building the model fails: TypeError: .*batch"),
        ("models:", BadInput, "is not of the form package.module:name"),
        ("absent:build", BadInput, "importing .*absent fails"),
        ("broken:build", BadInput, "importing .*broken fails: No module named 'this_is_not_there'"),
        ("wrong:build", BadInput, "importing .*wrong fails: SyntaxError"),
    ],
)
def test_a_callable_that_gives_no_model(own: str, name: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        realise(f"{own}.{name}", {"batch": 2} if name == "models:named" else None)


@pytest.mark.parametrize("source", [":build", ":", "..:x", "a b:c", "os:"])
def test_a_source_of_no_form_is_refused(source: str) -> None:
    with pytest.raises(BadInput, match=r"is not of the form package\.module:name"):
        realise(source)


def test_weights_from_a_file_change_the_outputs(folder: Path) -> None:
    (folder / "mine.toml").write_text(CARD)
    given = {"weight": torch.full((2, 3), 2.0), "bias": torch.tensor([1.0, -1.0])}
    save_file(given, folder / "w.safetensors")
    made = realise("mine.toml", {"weights": "w.safetensors"})
    assert torch.equal(made.module(torch.ones(1, 3)), torch.tensor([[7.0, 5.0]]))
    assert made.weights.startswith("sha256:")
    save_file(given | {"bias": torch.zeros(2)}, folder / "w.safetensors")
    assert realise("mine.toml", {"weights": "w.safetensors"}).weights != made.weights
    assert realise("mine.toml", {"weights": "w.safetensors"}, fake=True).weights != made.weights


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": torch.ones(3, 2)}, r"'weight' has shape \[3, 2\], the model's has \[2, 3\]"),
        ({"bias": None}, "1 weights of the model are not in it, such as 'bias'"),
        ({"wieght": torch.ones(1)}, "the model has no weight 'wieght'\nDid you mean weight?"),
        ({"weight": torch.ones(2, 3).int()}, "'weight' is torch.int32, the model's is torch.float32"),
    ],
)
@pytest.mark.parametrize("fake", [False, True])
def test_weights_that_do_not_match_are_refused(
    folder: Path, change: dict[str, torch.Tensor | None], message: str, fake: bool
) -> None:
    (folder / "mine.toml").write_text(CARD)
    given = {"weight": torch.ones(2, 3), "bias": torch.ones(2)} | change
    save_file({name: tensor for name, tensor in given.items() if tensor is not None}, folder / "w.safetensors")
    with pytest.raises(BadInput, match=message) as caught:
        realise("mine.toml", {"weights": "w.safetensors"}, fake=fake)
    assert caught.value.exit_code == 3


def test_weights_of_another_precision_are_converted_and_counters_may_be_absent(folder: Path) -> None:
    (folder / "mine.toml").write_text(CARD.replace("torch.nn:Linear", "torch.nn:BatchNorm1d").replace(
        "in_features = 3, out_features = 2", "num_features = 3"))  # fmt: skip
    names = ("weight", "bias", "running_mean", "running_var")
    save_file({name: torch.full((3,), 0.5).half() for name in names}, folder / "w.safetensors")
    module = realise("mine.toml", {"weights": "w.safetensors"}).module
    assert torch.equal(module.running_var, torch.full((3,), 0.5))


@pytest.mark.parametrize("content", [None, b"", b"not weights at all"])
def test_a_file_without_weights_is_refused(folder: Path, content: bytes | None) -> None:
    (folder / "mine.toml").write_text(CARD)
    if content is not None:
        (folder / "w.safetensors").write_bytes(content)
    with pytest.raises(BadInput, match=r"w\.safetensors"):
        realise("mine.toml", {"weights": "w.safetensors"})


@pytest.mark.parametrize("name", ["embedding.weight", "head.weight"])
def test_tied_weights_may_be_given_once(folder: Path, name: str) -> None:
    (folder / "tied.toml").write_text(CARD.replace("torch.nn:Linear", "tests.program.modules:Tied").replace(
        "options = {in_features = 3, out_features = 2}", ""))  # fmt: skip
    given = {name: torch.full((50, 8), 3.0), "positions.weight": torch.zeros(6, 8)}
    save_file(given, folder / "w.safetensors")
    module = realise("tied.toml", {"weights": "w.safetensors"}).module
    assert isinstance(module, Tied) and module.head.weight is module.embedding.weight
    assert torch.equal(module.head.weight, given[name])


@given(
    st.lists(st.integers(1, 4), max_size=3).map(tuple),
    st.sampled_from(["float32", "float16", "bfloat16", "float64", "int64", "int32", "bool"]),
    st.integers(1, 1000),
    st.integers(0, 2**32),
)
def test_random_items_are_in_range_and_come_again(shape: tuple[int, ...], dtype: str, high: int, seed: int) -> None:
    specs = [InputSpec("a", shape, dtype, high), InputSpec("b", (2,), "float32")]
    items, again = random_items(specs, 3, seed), random_items(specs, 3, seed)
    for item, other in zip(items, again, strict=True):
        assert torch.equal(item["a"], other["a"]) and torch.equal(item["b"], other["b"])
        assert item["a"].shape == shape and item["a"].dtype == getattr(torch, dtype)
        if dtype in ("int64", "int32"):
            assert item["a"].min() >= 0 and item["a"].max() < high
    assert not torch.equal(items[0]["b"], items[1]["b"])
    assert not torch.equal(items[0]["b"], random_items(specs, 1, seed + 1)[0]["b"])


def test_the_schema_of_a_card_is_that_of_its_file() -> None:
    schema = json.loads(json.dumps(ModelCard.model_json_schema(by_alias=True)))
    assert {"schema", "class", "inputs"} <= set(schema["properties"])
