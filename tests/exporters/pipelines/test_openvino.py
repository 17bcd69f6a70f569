"""Exports to OpenVINO, run where neither mapper nor torch can be imported. (`make test` has one of an ONNX model, in
test_onnxruntime.)"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.backends.stages import need
from tests.exporters.pipelines.exported import (
    ABSENT,
    change_byte,
    cnn_in_two_stages,
    exported,
    launched,
    own_program,
    plan_of,
    planned_pus,
    with_backend,
)

WITHOUT = (*ABSENT, "torch")
BRIEF = ("--items", "9", "--warmup", "3")


@pytest.fixture(scope="module")
def cnn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need("openvino")
    return cnn_in_two_stages("openvino", 2, tmp_path_factory.mktemp("cnn") / "out")


@pytest.mark.soak
def test_a_cnn_runs_without_mapper_and_torch(cnn: Path, tmp_path: Path) -> None:
    ran = launched(cnn, tmp_path, *BRIEF, absent=WITHOUT)
    found = ran.document
    assert (ran.code, ran.err) == (0, "") and found["items"] == 9 and found["within_tolerance"]
    assert found["outputs"] == "identical" or found["outputs"] <= 1e-4
    assert ran.pus == planned_pus(plan_of("cnn", [2, 99], replicas=[1, 2], threads=[2, 1]))
    assert [w["threads"] for w in found["workers"]] == [2, 1, 1]
    assert not list(cnn.rglob("manifest.json")) and (cnn / "stages" / "0" / "stage.bin").is_file()


@pytest.mark.soak
def test_a_wrong_output_ends_it(cnn: Path, tmp_path: Path) -> None:
    output = cnn / "tensors" / f"{json.loads((cnn / 'pipeline.json').read_text())['outputs'][0]}.bin"
    before = output.read_bytes()
    try:
        change_byte(output)
        ran = launched(cnn, tmp_path, *BRIEF, absent=WITHOUT)
        assert ran.code == 9 and "from the sample's" in ran.err and not ran.document["within_tolerance"]
    finally:
        output.write_bytes(before)


@pytest.mark.soak
def test_a_worker_that_is_killed_ends_the_stream_and_none_is_left(cnn: Path, tmp_path: Path) -> None:
    code = (
        "import os, signal\nimport numpy as np\nfrom itertools import repeat\nfrom run import Pipeline\n"
        f"pipeline = Pipeline({str(cnn)!r})\n"
        "every = [pid for task in os.listdir('/proc/self/task')\n"
        "         for pid in open(f'/proc/self/task/{task}/children').read().split()]\n"
        "print(len(every))\n"
        "item = [np.ones((2, 3, 16, 16), np.float32)]\n"
        "try:\n"
        "    for number, outputs in enumerate(pipeline.map(repeat(item))):\n"
        "        if number == 5: os.kill(int(every[0]), signal.SIGKILL)\n"
        "except RuntimeError as error: print(error)\n"
        "pipeline.close()\n"
        "print([pid for pid in every if os.path.exists(f'/proc/{pid}')])\n"
    )
    ran = own_program(cnn, tmp_path, code, absent=WITHOUT)
    assert (ran.code, ran.err) == (0, "")
    count, error, left = ran.out.splitlines()
    assert (count, left) == ("3", "[]") and "has ended: exit code -9" in error


@pytest.mark.soak
@pytest.mark.parametrize(
    ("name", "sizes", "changes"),
    [
        ("attention", [3, 99], {"replicas": [2, 1], "threads": [1, 2]}),
        ("ends", [2, 99], {}),
        ("tied", [3, 2, 99], {"replicas": [1, 3, 2]}),
        ("strides", [3, 99], {}),
        ("unlike", [2, 2, 99], {}),
    ],
)
def test_models_run(name: str, sizes: list[int], changes: dict[str, list[int]], tmp_path: Path) -> None:
    need("openvino")
    plan = with_backend(plan_of(name, sizes, **changes), "openvino")
    ran = launched(exported(name, plan, "openvino", tmp_path / "out"), tmp_path, *BRIEF, absent=WITHOUT)
    assert (ran.code, ran.err) == (0, "") and ran.document["within_tolerance"] and ran.pus == planned_pus(plan)
