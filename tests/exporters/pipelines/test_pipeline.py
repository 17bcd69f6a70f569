"""The pipeline that exports write: its numbers, what it drops, constants and aliases, and that it is the model."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mapper.backends.core import Core
from mapper.backends.eager import prepare
from mapper.backends.registry import Compute
from mapper.backends.threads import torch_threads
from mapper.errors import BadInput, UsageError
from mapper.execution.run import sampled
from mapper.exporters.export import export, require_exportable
from mapper.exporters.pipelines.pipeline import write_pipeline
from mapper.exporters.registry import TARGETS, target_called
from mapper.plans.file import save_plan
from mapper.plans.model import Plan
from mapper.sources.bundle import Sample
from tests.cli.commands import TINY, mapper
from tests.exporters.pipelines.exported import MODELS, change_byte, model, on_hosts, on_these_pus, plan_of, source_of
from tests.program.modules import partitions, same
from tests.tracing import plan_for

COMPUTING = [target.name for target in TARGETS.values() if target.computes]


def written(name: str, plan: Plan, folder: Path) -> tuple[dict[str, Any], dict[str, Compute], Sample]:
    """The pipeline of `plan` as it stands in its file, what computes each stage, and the sample."""
    source, computes = source_of(name), {}
    sample = sampled(plan, source)

    def write(core: Core, threads: int, path: Path) -> None:
        computes[str(path.relative_to(folder))] = prepare(core.program, source.weights, threads)
        assert path.parent.is_dir()

    write_pipeline(plan, source, sample, folder, ".x", write)
    return json.loads((folder / "pipeline.json").read_text()), computes, sample


def tensor(document: Mapping[str, Any], number: int, folder: Path) -> torch.Tensor:
    """A tensor of the sample, or a constant."""
    kind, data = document["tensors"][number], bytearray((folder / "tensors" / f"{number}.bin").read_bytes())
    dtype = getattr(torch, kind["dtype"])
    return (torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)).reshape(kind["shape"])


def interpreted(document: Mapping[str, Any], computes: Mapping[str, Compute], folder: Path) -> list[torch.Tensor]:
    """The outputs for the sample, stage by stage, by nothing but what the file says."""
    item = {number: tensor(document, number, folder) for number in document["inputs"]}
    kept = {*document["outputs"], *document["constants"]}
    for s, stage in enumerate(document["stages"]):
        if stage["file"]:
            with torch.inference_mode(), torch_threads(stage["workers"][0]["threads"]):
                results = computes[stage["file"]](*(item[number] for number in stage["inputs"]))
            item |= dict(zip(stage["outputs"], results, strict=True))
        for number in stage["drops"]:
            del item[number]
        read_later = {number for later in document["stages"][s + 1 :] for number in later["inputs"]}
        assert set(item) <= read_later | kept
    constants = {number: tensor(document, number, folder) for number in document["constants"]}
    return [item[number] if number in item else constants[number] for number in document["outputs"]]


@pytest.mark.parametrize("name", MODELS)
@given(data=st.data())
@settings(deadline=None, max_examples=5)
def test_interpreted_stage_by_stage_it_is_the_unsplit_model(name: str, data: st.DataObject) -> None:
    found = model(name)
    stages = data.draw(partitions(found.graph))
    with tempfile.TemporaryDirectory() as made:
        document, computes, sample = written(name, plan_for(found, stages), Path(made))
        assert same(interpreted(document, computes, Path(made)), list(sample.outputs))


def test_what_is_no_result_of_a_stage_is_handed_through_or_a_constant(tmp_path: Path) -> None:
    document, computes, sample = written("ends", plan_of("ends", [2, 99]), tmp_path)
    names = [kind["name"] for kind in document["tensors"]]
    assert document["schema"] == "mapper-pipeline/1" and names[:3] == ["x", "given", "unused"]
    doubled, given, z, weight, y, again = document["outputs"]
    assert set(document["constants"]) == {doubled, weight} and (given, z) == (1, again)
    assert tensor(document, doubled, tmp_path).tolist() == [0, 2, 4, 6, 8, 10]
    first, second = document["stages"]
    assert 2 in first["drops"] and 0 in second["drops"] and y in first["outputs"] and z in second["outputs"]
    assert {given, y, z, doubled, weight}.isdisjoint(first["drops"] + second["drops"])
    change_byte(tmp_path / "tensors" / "0.bin")
    assert not same(interpreted(document, computes, tmp_path), list(sample.outputs))


def test_a_stage_that_computes_nothing_has_no_file(tmp_path: Path) -> None:
    first, middle, last = plan_of("cnn", [2, 1, 99]).stages
    moved = {"ops": (*first.ops, *middle.ops)}
    stages = (first.model_copy(update=moved), middle.model_copy(update={"ops": ()}), last)
    plan = plan_of("cnn", [2, 1, 99]).model_copy(update={"stages": stages})
    document, computes, sample = written("cnn", plan, tmp_path)
    assert [stage["file"] for stage in document["stages"]] == ["stages/0.x", "", "stages/2.x"]
    assert document["stages"][1]["inputs"] == document["stages"][1]["drops"] == []
    assert same(interpreted(document, computes, tmp_path), list(sample.outputs))


def test_names_of_ops_and_models_are_in_no_name_of_a_file(tmp_path: Path) -> None:
    plan = plan_of("cnn", [2, 99])
    odd = 'a "b" $(touch x)\n../ü'
    plan = plan.model_copy(update={"model": plan.model.model_copy(update={"name": odd})})
    document, _, _ = written("cnn", plan, tmp_path)
    assert document["model"] == odd
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert all(re.fullmatch(r"pipeline\.json|tensors/\d+\.bin", file) for file in files)


def test_slots_threads_and_workers_are_the_plans(tmp_path: Path) -> None:
    plan = plan_for(model("cnn"), [["conv2d"], [op.name for op in model("cnn").graph.ops[1:]]], replicas=[2, 1],
                    threads=[1, 2], slots=5)  # fmt: skip
    document, _, _ = written("cnn", plan, tmp_path)
    assert [stage["slots"] for stage in document["stages"]] == [5, 5]
    assert [[w["pus"] for w in stage["workers"]] for stage in document["stages"]] == [[[0], [1]], [[2, 3]]]
    uneven = [plan.stages[0].replicas[0], plan.stages[1].replicas[0]]
    stages = (plan.stages[0].model_copy(update={"replicas": tuple(uneven)}), plan.stages[1])
    with pytest.raises(BadInput, match="different numbers of threads"):
        written("cnn", plan.model_copy(update={"stages": stages}), tmp_path / "other")


@pytest.mark.parametrize("target", COMPUTING)
def test_micro_batches_are_refused(target: str, tmp_path: Path) -> None:
    plan = plan_of("mlp", [2, 99])
    plan = plan.model_copy(update={"request": plan.request.model_copy(update={"batch": 8, "micro_batches": 4})})
    source = source_of("mlp")
    with pytest.raises(UsageError, match="4 micro-batches") as raised:
        export(plan, target, tmp_path / "out", source, Sample({}, ()))
    assert "--batch 2" in raised.value.advice and not (tmp_path / "out").exists()
    with pytest.raises(UsageError, match="takes the model along"):
        export(plan, target, tmp_path / "out")


def test_onnx_models_go_to_what_computes_them_only() -> None:
    plan = plan_of("mlp", [2, 99])
    plan = plan.model_copy(update={"model": plan.model.model_copy(update={"source": "m.onnx"})})
    for target in COMPUTING:
        if target in ("onnxruntime", "openvino"):
            require_exportable(plan, target_called(target))
        else:
            with pytest.raises(UsageError, match=f"m.onnx is an ONNX model, which {target} does not") as raised:
                require_exportable(plan, target_called(target))
            assert "--to onnxruntime or openvino" in raised.value.advice


@pytest.mark.parametrize("target", ["onnxruntime", "openvino"])
def test_several_hosts_are_refused_where_threads_of_one_program_run(target: str, tmp_path: Path) -> None:
    plan, source = plan_of("mlp", [2, 99]), source_of("mlp")
    with pytest.raises(UsageError, match="for 2 hosts"):
        export(on_hosts(plan, (0, 1)), target, tmp_path / "out", source, sampled(plan, source))


def test_the_command_refuses_before_it_builds_the_model(tmp_path: Path) -> None:
    plan = on_these_pus(plan_of("mlp", [2, 99], source=TINY))
    changed = {"model": plan.model.model_copy(update={"source": "absent.onnx"})}
    save_plan(plan.model_copy(update=changed), tmp_path / "plan.json")
    done = mapper("export", tmp_path / "plan.json", "--to", "torch-pipelining", "-o", tmp_path / "out")
    assert (done.code, done.out) == (2, "") and "absent.onnx is an ONNX model" in done.err
    split = {"request": plan.request.model_copy(update={"batch": 8, "micro_batches": 4})}
    save_plan(plan.model_copy(update=split), tmp_path / "plan.json")
    done = mapper("export", tmp_path / "plan.json", "--to", "openvino", "--model", TINY, "-o", tmp_path / "out")
    assert (done.code, done.out) == (2, "") and "4 micro-batches" in done.err and not (tmp_path / "out").exists()
