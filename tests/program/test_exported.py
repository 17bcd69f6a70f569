"""Files of torch.export.save: planned and run where they are trusted, and not even opened where they are not."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mapper.errors import BadInput, UsageError
from mapper.plans.file import load_plan
from mapper.plans.source import graph_of_source, trusted
from mapper.program.realise import TrustedSource, realise
from mapper.program.rebuild import rebuild
from mapper.program.trace import trace_program
from tests.cli.commands import mapper
from tests.program.modules import NAMES, case, same


class Keywords(nn.Module):
    """Inputs by position and by name, a tied weight, all sorts of buffers, named outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(50, 8), nn.Linear(8, 50, bias=False)
        self.head.weight = self.embedding.weight
        self.register_buffer("scale", torch.tensor([2.0]))
        self.register_buffer("passing", torch.tensor([3.0]), persistent=False)
        self.constant = torch.tensor([0.5])

    def forward(self, ids: torch.Tensor, *, add: torch.Tensor) -> dict[str, torch.Tensor]:
        x = self.head(self.embedding(ids)) * self.scale + add * self.passing
        return {"logits": x, "halves": x * self.constant}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test works in an empty folder of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def save(path: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None, **more: Any) -> str:
    """Writes `module` as `path`."""
    torch.export.save(torch.export.export(module.eval(), args, kwargs, **more), path)
    return path


@pytest.mark.parametrize("name", NAMES)
def test_a_file_is_the_model_that_it_was_made_from(name: str) -> None:
    known = case(name)
    made = realise(TrustedSource(save("m.pt2", known.module, known.inputs)))
    program, weights = trace_program(made.module, made.args, made.kwargs, name=name)
    assert [op.target for op in program.ops] == [op.target for op in known.program.ops]
    assert [weight.name for weight in program.weights] == [weight.name for weight in known.program.weights]
    with torch.no_grad():
        assert same(list(rebuild(program, weights)(*known.inputs)), known.expected())
        returned = made.module(*known.inputs)
    assert same([returned] if isinstance(returned, torch.Tensor) else list(returned), known.expected())


def test_inputs_by_name_shared_weights_and_buffers() -> None:
    torch.manual_seed(0)
    module, ids, add = Keywords().eval(), torch.randint(0, 50, (2, 6)), torch.ones(1)
    made = realise(TrustedSource(save("m.pt2", module, (ids,), {"add": add})))
    assert [(i.name, i.shape, i.dtype, i.high) for i in made.inputs] == [
        ("ids", (2, 6), "int64", int(ids.max()) + 1), ("add", (1,), "float32", None),
    ]  # fmt: skip
    program, weights = trace_program(made.module, made.args, made.kwargs, name="m")
    assert program.output_names == ("logits", "halves")
    assert sorted(weight.name for weight in program.weights) == ["constant", "embedding.weight", "passing", "scale"]
    with torch.no_grad():
        expected = module(ids, add=add)
        assert same(list(rebuild(program, weights)(ids, add)), list(expected.values()))
        assert same(list(made.module(ids, add).values()), list(expected.values()))


class Bomb:
    """What runs code when a pickle of it is read."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (Path("exploded"),)


def test_a_file_that_is_not_trusted_is_not_opened(folder: Path) -> None:
    (folder / "bomb.pt2").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(UsageError, match=r"bomb\.pt2 is code.*\n.*--trust"):
        realise("bomb.pt2")
    for command in (["model", "show", "bomb.pt2"], ["plan", "--model", "bomb.pt2", "--topo", "sg2042"],
                    ["bench", "--model", "bomb.pt2"]):  # fmt: skip
        done = mapper(*command)
        assert (done.code, done.out) == (2, "") and "--trust" in done.err
    assert not (folder / "exploded").exists()


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 no archive", b"nothing of the sort"])
def test_a_file_that_is_none_is_refused(folder: Path, content: bytes | None) -> None:
    if content is not None:
        (folder / "bad.pt2").write_bytes(content)
    with pytest.raises(BadInput, match=r"bad\.pt2: (no such file|torch .* cannot load it)"):
        realise(TrustedSource("bad.pt2"))


def test_a_file_cut_off_is_refused(folder: Path) -> None:
    save("m.pt2", case("mlp").module, case("mlp").inputs)
    data = (folder / "m.pt2").read_bytes()
    (folder / "m.pt2").write_bytes(data[: len(data) // 2])
    with pytest.raises(BadInput, match=r"m\.pt2: torch .* cannot load it"):
        realise(TrustedSource("m.pt2"))


def test_dynamic_shapes_are_refused_with_the_dimension() -> None:
    items = torch.export.Dim("items", min=2, max=32)
    source = save("m.pt2", nn.Linear(3, 2), (torch.ones(4, 3),), dynamic_shapes=({0: items},))
    with pytest.raises(BadInput, match=r"m: dimension 0 of the input 'input' is dynamic \(s\d+, 2 to 32\)\nExport"):
        graph_of_source(source, trust=True)


def test_an_input_that_is_no_tensor_is_refused() -> None:
    class Scaled(nn.Module):
        def forward(self, x: torch.Tensor, factor: int) -> torch.Tensor:
            return x * factor

    with pytest.raises(BadInput, match=r"m\.pt2: the input 'factor' is a int, no tensor"):
        graph_of_source(save("m.pt2", Scaled(), (torch.ones(3), 2)), trust=True)


def test_a_file_that_draws_random_numbers_is_refused() -> None:
    program = torch.export.export(nn.Sequential(nn.Linear(3, 3), nn.Dropout()).train(), (torch.ones(4, 3),))
    torch.export.save(program, "m.pt2")
    with pytest.raises(BadInput, match=r"dropout\.default draws random numbers"):
        graph_of_source("m.pt2", trust=True)


@pytest.mark.parametrize("options", [{"batch": 2}, {"seed": 1}, {"length": 3}, {"weights": "w.safetensors"}])
def test_a_file_has_its_own_shapes_and_weights(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"cannot be given another {next(iter(options))}"):
        realise(TrustedSource("m.pt2"), options)


def test_a_plan_from_a_file_names_it_and_needs_trust_again(folder: Path) -> None:
    save("m.pt2", case("attention").module, case("attention").inputs)
    done = mapper("plan", "--model", "m.pt2", "--trust", "--topo", "host", "--stages", 1, "-o", "plan.json")
    assert (done.code, done.err) == (0, "")
    plan = load_plan(folder / "plan.json")
    assert (plan.model.source, plan.model.name) == ("m.pt2", "m") and plan.model.weights.startswith("sha256:")
    for command in ("check", "run"):
        for more in ((), ("--model", "m.pt2")):
            refused = mapper(command, "plan.json", *more)
            assert refused.code == 2 and "--trust" in refused.err, refused
    checked = mapper("check", "plan.json", "--trust")
    assert checked.code == 0, checked.err
    ran = mapper("run", "plan.json", "--trust", "--items", 3, "--json")
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["outputs_identical"]
    with pytest.raises(UsageError):
        trusted(plan, model="m.pt2")
