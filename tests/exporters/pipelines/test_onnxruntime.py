"""Exports to ONNX Runtime, run where neither mapper nor torch can be imported."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from mapper.execution.run import sampled
from mapper.exporters.export import export
from mapper.machine.discover import discover
from mapper.plans.source import graph_of_source
from mapper.solver.plan import plan as planned
from mapper.solver.problem import Limits
from mapper.sources.source import realised_source
from tests.backends.stages import need
from tests.exporters.pipelines.exported import (
    ABSENT,
    change_byte,
    cnn_in_two_stages,
    exported,
    launched,
    on_these_pus,
    own_program,
    plan_of,
    planned_pus,
    with_backend,
)

WITHOUT = (*ABSENT, "torch")
BRIEF = ("--items", "9", "--warmup", "3")


@pytest.fixture(scope="module")
def cnn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need("onnxruntime")
    return cnn_in_two_stages("onnxruntime", 3, tmp_path_factory.mktemp("cnn") / "out")


def test_a_cnn_runs_without_mapper_and_torch(cnn: Path, tmp_path: Path) -> None:
    ran = launched(cnn, tmp_path, *BRIEF, absent=WITHOUT)
    found = ran.document
    assert (ran.code, ran.err) == (0, "") and found["items"] == 9 and found["within_tolerance"]
    assert found["outputs"] == "identical" or found["outputs"] <= 1e-4
    assert found["throughput_per_s"] == pytest.approx(9 / found["seconds"])
    plan = plan_of("cnn", [3, 99], replicas=[1, 2], threads=[2, 1])
    assert ran.pus == planned_pus(plan) and [w["threads"] for w in found["workers"]] == [2, 1, 1]
    first = found["workers"][0]
    assert all([pu] in first["thread_pus"] for pu in first["pus"])  # its team; ONNX Runtime starts another thread
    assert not list(cnn.rglob("manifest.json")) and (cnn / "stages" / "0" / "stage.onnx").is_file()


def test_a_wrong_output_and_pus_that_are_not_there_end_it(cnn: Path, tmp_path: Path) -> None:
    document = json.loads((cnn / "pipeline.json").read_text())
    output = cnn / "tensors" / f"{document['outputs'][0]}.bin"
    before, text = output.read_bytes(), (cnn / "pipeline.json").read_text()
    try:
        change_byte(output)
        ran = launched(cnn, tmp_path, *BRIEF, absent=WITHOUT)
        assert ran.code == 9 and "from the sample's" in ran.err and not ran.document["within_tolerance"]
        output.write_bytes(before)
        document["stages"][1]["workers"][0]["pus"] = [4095]
        (cnn / "pipeline.json").write_text(json.dumps(document))
        ran = launched(cnn, tmp_path, *BRIEF, absent=WITHOUT)
        assert (ran.code, ran.out) == (6, "") and "PU 4095 may not be used" in ran.err
        ran = launched(cnn, tmp_path, *BRIEF, "--oversubscribe", absent=WITHOUT)
        assert ran.code == 0 and ran.pus[1] == [sorted(os.sched_getaffinity(0))[4095 % len(os.sched_getaffinity(0))]]
        (cnn / document["stages"][0]["file"]).rename(tmp_path / "away")
        ran = launched(cnn, tmp_path, *BRIEF, "--oversubscribe", absent=WITHOUT)
        assert (ran.code, ran.out) == (7, "") and "stage.onnx" in ran.err
        (tmp_path / "away").rename(cnn / document["stages"][0]["file"])
    finally:
        output.write_bytes(before)
        (cnn / "pipeline.json").write_text(text)


OWN = """
import threading
import numpy as np
from run import Pipeline
rng = np.random.default_rng(0)
items = [[rng.standard_normal((2, 3, 16, 16), np.float32)] for _ in range(7)]
with Pipeline(FOLDER) as pipeline:
    one = [next(iter(pipeline.map([item])))[0] for item in items]
    many = [outputs[0] for outputs in pipeline.map(items)]
    assert len({array.tobytes() for array in many}) == 7
    assert all((a == b).all() for a, b in zip(one, many, strict=True))
    for number, outputs in enumerate(pipeline.map(iter(items * 100))):
        if number == 5:
            break
    assert (list(pipeline.map([{"x": items[3][0]}]))[0][0] == one[3]).all()
    for wrong in ([items[0][0][0]], [items[0][0].astype(np.float64)], []):
        try:
            list(pipeline.map([items[0], wrong]))
        except ValueError as error:
            print(error)
    def broken():
        yield items[0]
        raise KeyError("mine")
    try:
        list(pipeline.map(broken()))
    except KeyError:
        print("mine")
    stream = pipeline.map(items)
    first = next(stream)
    try:
        next(pipeline.map(items))
    except RuntimeError as error:
        print(error)
assert threading.active_count() == 1
try:
    list(pipeline.map(items))
except RuntimeError as error:
    print(error)
"""


def test_it_serves_a_program_of_ones_own(cnn: Path, tmp_path: Path) -> None:
    code = OWN.replace("FOLDER", repr(str(cnn)))
    ran = own_program(cnn, tmp_path, code, absent=WITHOUT)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines() == [
        "x is float32[3, 16, 16], float32[2, 3, 16, 16] was expected",
        "x is float64[2, 3, 16, 16], float32[2, 3, 16, 16] was expected",
        "an item has 1 array(s), 0 were given",
        "mine",
        "another stream of items is under way",
        "the pipeline is closed",
    ]


def test_what_a_stage_raises_reaches_the_caller_and_ends_the_launcher(cnn: Path, tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    code = (
        "from run import Pipeline\nimport numpy as np\n"
        "class Broken(Pipeline):\n"
        "    def load(self, stage, worker):\n"
        "        compute, told = super().load(stage, worker)\n"
        "        def fails(given):\n"
        "            if given[0].max() > 5: raise ArithmeticError('too large')\n"
        "            return compute(given)\n"
        "        return (fails if stage.id == 1 else compute), told\n"
        f"with Broken({str(cnn)!r}) as pipeline:\n"
        "    items = [[np.full((2, 3, 16, 16), x, np.float32)] for x in (0, 0, 1e6, 0)]\n"
        "    seen = 0\n"
        "    try:\n"
        "        for outputs in pipeline.map(items): seen += 1\n"
        "    except ArithmeticError as error: print(seen, error)\n"
        "    print(len(list(pipeline.map(items[:2]))))\n"
    )
    ran = own_program(cnn, tmp_path / "broken", code, absent=WITHOUT)
    assert (ran.code, ran.err, ran.out) == (0, "", "2 too large\n2\n")


@pytest.mark.soak
@pytest.mark.parametrize(
    ("name", "sizes", "changes"),
    [
        ("attention", [3, 99], {"replicas": [2, 1], "threads": [1, 2]}),
        ("cnn", [2, 2, 99], {"replicas": [1, 3, 2], "threads": [1, 1, 2]}),
        ("ends", [2, 99], {}),
        ("tied", [3, 2, 99], {"replicas": [1, 3, 2]}),
        ("strides", [3, 99], {}),
        ("unlike", [2, 2, 99], {}),
    ],
)
def test_models_run(name: str, sizes: list[int], changes: dict[str, list[int]], tmp_path: Path) -> None:
    need("onnxruntime")
    plan = with_backend(plan_of(name, sizes, **changes), "onnxruntime")
    ran = launched(exported(name, plan, "onnxruntime", tmp_path / "out"), tmp_path, *BRIEF, absent=WITHOUT)
    assert (ran.code, ran.err) == (0, "") and ran.document["within_tolerance"] and ran.pus == planned_pus(plan)


@pytest.mark.parametrize("target", [pytest.param("onnxruntime", marks=pytest.mark.soak), "openvino"])
def test_a_plan_of_an_onnx_file_is_exported(target: str, tmp_path: Path) -> None:
    need(target)
    onnx = pytest.importorskip("onnx")
    h = onnx.helper
    weight = onnx.numpy_helper.from_array(torch.randn(4, 4).numpy(), "w")
    nodes = [
        h.make_node("MatMul", ["x", "w"], ["m"], name="mul"), h.make_node("Relu", ["m"], ["r"], name="relu"),
        h.make_node("Add", ["r", "x"], ["a"], name="add"), h.make_node("Softmax", ["a"], ["s"], name="softmax"),
    ]  # fmt: skip
    ends = [[h.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [3, 4])] for name in ("x", "s")]
    graph = h.make_graph(nodes, "g", *ends, [weight])
    path = tmp_path / "m.onnx"
    onnx.save(h.make_model(graph, opset_imports=[h.make_opsetid("", 20)], ir_version=10), path)
    made, reference = graph_of_source(str(path), {})
    plan = on_these_pus(planned(made, discover(), model=reference, limits=Limits(stages=2, max_replicas=1)))
    plan = with_backend(plan, target)
    source = realised_source(plan)
    export(plan, target, tmp_path / "out", source, sampled(plan, source))
    ran = launched(tmp_path / "out", tmp_path / "stop", *BRIEF, absent=WITHOUT)
    assert (ran.code, ran.err) == (0, "") and ran.document["within_tolerance"]


@pytest.mark.soak
@pytest.mark.parametrize(
    ("name", "backend"),
    [("attention", "onnxruntime:int8"), ("attention", "openvino:bfloat16"), ("cnn", "openvino:bfloat16")],
)
def test_fewer_bits_are_those_of_the_plan(name: str, backend: str, tmp_path: Path) -> None:
    """In the tolerance of the back end for this model, and further off than float32 would be."""
    need(backend)
    plan = with_backend(plan_of(name, [3, 99]), backend)
    folder = exported(name, plan, backend.partition(":")[0], tmp_path / "out")
    ran = launched(folder, tmp_path, *BRIEF, absent=WITHOUT)
    assert (ran.code, ran.err) == (0, "") and ran.document["within_tolerance"]
    assert 1e-4 < ran.document["outputs"] <= max(json.loads((folder / "pipeline.json").read_text())["tolerance"])
