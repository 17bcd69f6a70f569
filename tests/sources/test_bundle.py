"""Bundles: what is written is read back, and nothing that does not belong there is."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from mapper.errors import BadInput, SystemRefused
from mapper.program.rebuild import rebuild
from mapper.sources.bundle import Sample, open_bundle, write_bundle
from tests.execution.models import mlp, strides
from tests.tracing import cuts, plan_for

MODEL = strides()
PLAN = plan_for(MODEL, cuts(MODEL.graph, [3, 99]))
ITEM = {"x": torch.randn(5, 6), "mask": torch.tensor([True, False, True])}


def sample() -> Sample:
    with torch.inference_mode():
        return Sample(ITEM, tuple(t.clone() for t in rebuild(MODEL.program, MODEL.weights)(*ITEM.values())))


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = tmp_path / "m.bundle"
    write_bundle(path, MODEL.program, MODEL.weights, PLAN, sample())
    return path


def test_it_comes_back_as_it_was(bundle: Path) -> None:
    opened = open_bundle(bundle)
    assert (opened.program, opened.plan) == (MODEL.program, PLAN)
    assert opened.program.sha256 == MODEL.program.sha256
    for name, weight in MODEL.weights.items():
        assert torch.equal(opened.weights[name], weight) and opened.weights[name].stride() == weight.stride()
    with torch.inference_mode():
        outputs = rebuild(opened.program, opened.weights)(*(opened.sample.inputs[n] for n in ("x", "mask")))
    assert all(torch.equal(a, b) for a, b in zip(outputs, opened.sample.outputs, strict=True))


def test_writing_replaces_a_bundle_and_nothing_else(bundle: Path) -> None:
    before = {file.name: file.read_bytes() for file in bundle.iterdir()}
    write_bundle(bundle, MODEL.program, MODEL.weights, PLAN, sample())
    assert {file.name: file.read_bytes() for file in bundle.iterdir()} == before
    assert [entry.name for entry in bundle.parent.iterdir()] == ["m.bundle"]
    other = bundle.parent / "precious"
    other.mkdir()
    (other / "thesis.txt").write_text("years")
    with pytest.raises(BadInput, match="is no bundle"):
        write_bundle(other, MODEL.program, MODEL.weights, PLAN, sample())
    with pytest.raises(SystemRefused, match="cannot be written"):
        write_bundle(bundle.parent / "absent" / "m.bundle", MODEL.program, MODEL.weights, PLAN, sample())
    with pytest.raises(BadInput, match="its plan maps the graph"):
        write_bundle(bundle, mlp().program, mlp().weights, PLAN, sample())


@pytest.mark.parametrize("name", ["program.json", "weights.safetensors", "plan.json", "sample.safetensors"])
def test_absent_files_links_and_pipes_are_refused(bundle: Path, name: str) -> None:
    file = bundle / name
    kept = file.read_bytes()
    file.unlink()
    with pytest.raises(BadInput, match=f"{name}: cannot be read: No such file"):
        open_bundle(bundle)
    (bundle.parent / "outside").write_bytes(kept)
    file.symlink_to(bundle.parent / "outside")
    with pytest.raises(BadInput, match=f"{name}: cannot be read: is a link"):
        open_bundle(bundle)
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(BadInput, match=f"{name}: is no plain file"):
        open_bundle(bundle)


def edited(bundle: Path, name: str, change: object) -> None:
    document = json.loads((bundle / name).read_text())
    change(document)  # type: ignore[operator]
    (bundle / name).write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("os.system.default", "not an operator of torch's own"),
        ("aten.save.default", "only computes tensors"),
        ("aten.from_file.default", "only computes tensors"),
        ("aten.add_.Tensor", "only computes tensors"),
        ("aten.__class__.mro", "only computes tensors"),
        ("aten.absent.default", "has no operator"),
    ],
)
def test_an_operator_that_does_more_than_compute_is_refused(bundle: Path, target: str, message: str) -> None:
    edited(bundle, "program.json", lambda d: d["ops"][0].update(target=target))
    edited(bundle, "plan.json", lambda d: d["model"].update(graph_sha256=hash_of(bundle)))
    with pytest.raises(BadInput, match=message):
        opened = open_bundle(bundle)
        rebuild(opened.program, opened.weights)


def test_names_are_never_code(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """torch.fx pastes the names of inputs into the source of what it compiles."""
    name = "x=print('executed')"
    text = (bundle / "program.json").read_text()
    document = json.loads(
        text.replace('"input": "x"', f'"input": "{name}"').replace('"name": "x"', f'"name": "{name}"')
    )
    (bundle / "program.json").write_text(json.dumps(document))
    from mapper.program.model import Program

    program = Program.model_validate(document)
    assert name in program.input
    outputs = rebuild(program, MODEL.weights)(*ITEM.values())
    assert capsys.readouterr().out == "" and len(outputs) == len(program.outputs)


def hash_of(bundle: Path) -> str:
    from mapper import jsonio

    return jsonio.sha256(json.loads((bundle / "program.json").read_text()))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000 + "]" * 100_000, "nested"),
        ('{"schema": "mapper-program/1", "x": ' + "[" * 900 + "]" * 900 + "}", "nested|field|missing|required"),
        ('{"schema": "mapper-program/2"}', "schema is"),
        ("not json", "not JSON"),
    ],
)
def test_a_hostile_program_is_refused(bundle: Path, text: str, message: str) -> None:
    (bundle / "program.json").write_text(text)
    with pytest.raises(BadInput, match=message):
        open_bundle(bundle)


def test_deep_arguments_are_refused(bundle: Path) -> None:
    deep = json.loads("[" * 700 + "]" * 700)
    edited(bundle, "program.json", lambda d: d["ops"][0].update(args=deep))
    with pytest.raises(BadInput):
        open_bundle(bundle)


def test_an_edited_program_or_a_wrong_sample_is_refused(bundle: Path) -> None:
    edited(bundle, "program.json", lambda d: d.update(name="other"))
    with pytest.raises(BadInput, match="its plan maps the graph"):
        open_bundle(bundle)
    wrong = Sample(ITEM | {"x": torch.zeros(2)}, sample().outputs)
    with pytest.raises(BadInput, match="input:x is not float32"):
        write_bundle(bundle, MODEL.program, MODEL.weights, PLAN, wrong)
