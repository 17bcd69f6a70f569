"""The C++ export: one build of its program runs every export, bit by bit as the unsplit model, on the plan's PUs."""

from __future__ import annotations

import os
import re
import shutil
import zipfile
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch

from mapper import jsonio
from mapper.execution.run import sampled
from mapper.exporters.export import export
from mapper.exporters.pipelines.cpp import TEXT
from mapper.graph.measure import graph_of
from mapper.plans.file import save_plan
from mapper.program.model import Program
from mapper.sources.source import Source
from tests.cli.commands import mapper
from tests.exporters.pipelines.programs import PLANS, built, exported, model_called, planned, ran, require_right
from tests.program.modules import convex
from tests.tracing import Traced, cuts, machine_of, plan_for

FEW = ("--items", "7", "--json")
HERE = sorted(os.sched_getaffinity(0))


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model, plan = planned("mlp")
    return built(exported(plan, model, "cpp", tmp_path_factory.mktemp("cpp") / "export"))


@pytest.mark.slow
@pytest.mark.parametrize("name", PLANS)
def test_outputs_are_those_of_the_unsplit_model(name: str, program: Path, tmp_path: Path) -> None:
    model, plan = planned(name)
    folder = exported(plan, model, "cpp", tmp_path / "export")
    require_right(ran(program, folder, "--oversubscribe", *FEW), plan)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(1, 12))])
def test_any_partition_runs(seed: int, program: Path, tmp_path: Path) -> None:
    random = Random(seed)
    model = model_called(random.choice(["strides", "skip", "attention"]))
    stages = convex(model.graph, random.randint(2, 5), random)
    replicas = [random.randint(1, 3) for _ in stages]
    plan = plan_for(model, stages, replicas=replicas, slots=random.randint(1, 3), window=random.randint(1, 9))
    folder = exported(plan, model, "cpp", tmp_path / "export")
    require_right(ran(program, folder, "--oversubscribe", *FEW), plan)


@pytest.mark.slow
def test_each_thread_has_the_pus_of_the_plan(program: Path, tmp_path: Path) -> None:
    model = model_called("mlp")
    ops = [op.name for op in model.graph.ops]
    pus = HERE[-2:]
    if len(pus) == 2:
        pairs = plan_for(model, [ops[:4], ops[4:]], machine=machine_of([[pus[1], pus[0]]]))
        folder = exported(pairs, model, "cpp", tmp_path / "pairs")
        found = ran(program, folder, *FEW)
        require_right(found, pairs)
        assert [w["thread_pus"] for w in found.document["workers"]] == [[[pus[1]]], [[pus[0]]]]
        assert [other["what"] for other in found.document["others"]] == ["feeds and collects"]
    team = plan_for(model, [ops], threads=[len(pus)], machine=machine_of([pus]))
    found = ran(program, exported(team, model, "cpp", tmp_path / "team"), *FEW)
    require_right(found, team)
    assert [w["thread_pus"] for w in found.document["workers"]] == [[pus] * len(pus)]


@pytest.mark.slow
def test_a_wrong_weight_and_a_changed_byte_are_found(program: Path, tmp_path: Path) -> None:
    model, plan = planned("mlp")
    name = next(weight.name for weight in model.program.weights if len(weight.type.shape) == 2)
    wrong = {**model.weights, name: model.weights[name] * 1.01}
    found = ran(program, exported(plan, model, "cpp", tmp_path / "wrong", weights=wrong), "--oversubscribe", *FEW)
    assert found.code == 9 and found.document["within_tolerance"] is False
    assert "output 0 of item 0 is not the sample's" in found.err
    folder = exported(plan, model, "cpp", tmp_path / "export")
    (changed,) = [path for path in (folder / "tensors").iterdir() if path.name != "0.bin"]
    data = bytearray(changed.read_bytes())
    data[4] ^= 1
    changed.write_bytes(data)
    assert ran(program, folder, "--oversubscribe", *FEW).code == 9
    assert "Outputs differ" in ran(program, folder, "--oversubscribe", "--items", "1", "--warmup", "0").out


@pytest.mark.slow
def test_what_is_amiss_is_said(program: Path, tmp_path: Path) -> None:
    model, plan = planned("mlp")
    whole = exported(plan, model, "cpp", tmp_path / "export")

    def damaged(change: str) -> Path:
        folder = tmp_path / re.sub(r"\W", "", change)
        shutil.copytree(whole, folder, ignore=shutil.ignore_patterns("src"))
        if change == "cut off":
            (folder / TEXT).write_text((folder / TEXT).read_text()[:-5])
        elif change == "another word":
            (folder / TEXT).write_text((folder / TEXT).read_text().replace("drops", "keeps", 1))
        elif change == "too long":
            (folder / "tensors" / "0.bin").write_bytes(b"0" * 9)
        else:
            (folder / change).unlink()
        return folder

    for change, text in {
        "cut off": "cut off", "another word": "'drops' was expected", "too long": "9 bytes", TEXT: "cannot be read",
        "tensors/0.bin": "cannot be read", "stages/1.pt": "is not there",
    }.items():  # fmt: skip
        found = ran(program, damaged(change), "--oversubscribe", *FEW)
        assert (found.code, found.out) == (3, "") and text in found.err, change
    for options, environment, code, text in [
        (["--itmes", "3"], {}, 2, "no option is called --itmes"), (["--items", "0"], {}, 2, "at least 1"),
        (["--items"], {}, 2, "takes a number"), ([], {"OMP_PROC_BIND": "true"}, 2, "OMP_PROC_BIND is set"),
    ]:  # fmt: skip
        found = ran(program, whole, *options, **environment)
        assert found.code == code and text in found.err
    absent = plan_for(model, [[op.name for op in model.graph.ops]],
                      machine=machine_of([[HERE[-1] + 500]]))  # fmt: skip
    found = ran(program, exported(absent, model, "cpp", tmp_path / "absent"), *FEW)
    assert found.code == 6 and f"PUs {HERE[-1] + 500}" in found.err


EVIL = 'a"b\n$(touch x)`y`; */ #define é'


def hostile(model: Traced) -> Traced:
    """`model` with a name that would do harm for itself and for each op, input and weight."""

    def renamed(value: Any) -> Any:
        if isinstance(value, dict):
            named = len(value) == 1 and next(iter(value)) in ("op", "input", "weight")
            return {key: value[key] + EVIL if named else renamed(value[key]) for key in value}
        return [renamed(one) for one in value] if isinstance(value, list) else value

    document = renamed(jsonio.plain(model.program))
    for kind in ("ops", "inputs", "weights"):
        for one in document[kind]:
            one["name"] += EVIL
    document["name"] += EVIL
    document["output_names"] = [name + EVIL for name in document["output_names"]]
    program = Program.model_validate(document)
    weights = {name + EVIL: tensor for name, tensor in model.weights.items()}
    return Traced(model.module, program, weights, graph_of(program))


def contents(path: Path) -> bytes:
    """All that is in a file, unpacked."""
    if path.suffix != ".pt":
        return path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        return b"".join(name.encode() + archive.read(name) for name in archive.namelist())


@pytest.mark.slow
def test_names_get_into_no_code_and_the_program_depends_on_no_model(program: Path, tmp_path: Path) -> None:
    model = hostile(model_called("skip"))
    machine = machine_of([HERE]).model_copy(update={"name": EVIL, "cpu_model": EVIL})
    plan = plan_for(model, cuts(model.graph, [3, 3]), machine=machine)
    source = Source(model.program, model.weights)
    folder = export(plan, "cpp", tmp_path / "hostile", source, sampled(plan, source))
    other_model, other_plan = planned("tied")
    other = exported(other_plan, other_model, "cpp", tmp_path / "other")
    for path in [folder / "CMakeLists.txt", *(folder / "src").iterdir()]:
        assert path.read_bytes() == (other / path.relative_to(folder)).read_bytes()
    assert set(re.findall(r"[^\d\s.][\w./-]*", (folder / TEXT).read_text())) == {
        "mapper-pipeline-text/1", "backend", "eager", "window", "tensors", "float32", "inputs", "outputs", "constants",
        "tolerances", "stages", "computes", "drops", "slots", "threads", "replicas", "pus", "end",
    }  # fmt: skip
    for path in folder.rglob("*"):
        if path.is_file() and path.name not in ("README.md", "pipeline.json"):
            assert b"(touch x)" not in contents(path), path
        assert "touch" not in path.name
    assert "\n$(touch" not in (folder / "README.md").read_text()
    require_right(ran(program, folder, "--oversubscribe", *FEW), plan)


@pytest.mark.slow
def test_the_command_writes_an_export_that_runs(program: Path, tmp_path: Path) -> None:
    model = model_called("attention")
    ops = [op.name for op in model.graph.ops]
    plan = plan_for(model, [ops[:3], ops[3:]], source="tests.program.modules:attention")
    save_plan(plan, tmp_path / "plan.json")
    made = mapper("export", tmp_path / "plan.json", "--to", "cpp", "-o", tmp_path / "out", "--trust")
    assert made.code == 0, made.err
    require_right(ran(program, tmp_path / "out", "--oversubscribe", *FEW), plan)
    text = (tmp_path / "out" / "README.md").read_text()
    assert "cmake_prefix_path" in text and torch.__version__ in text


@pytest.mark.soak
@pytest.mark.parametrize("name", ["skip", "strides", "constant", "attention"])
def test_libraries_of_aotinductor_run(
    name: str, program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    model, plan = planned(name)
    folder = exported(plan, model, "cpp", tmp_path / "export", backend="inductor")
    require_right(ran(program, folder, "--oversubscribe", *FEW), plan, identical=False)


@pytest.mark.soak
@pytest.mark.parametrize("backend", ["eager", "inductor"])
@pytest.mark.parametrize("card", ["mobilenetv2", "bert"])
def test_cards_run(card: str, backend: str, program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "plan.json"
    made = mapper("plan", "--model", card, "--topo", "host", "--stages", "2", "-o", path)
    assert made.code == 0, made.err
    made = mapper("export", path, "--to", "cpp", "--backend", backend, "-o", tmp_path / "out")
    assert made.code == 0, made.err
    found = ran(program, tmp_path / "out", "--oversubscribe", *FEW)
    assert found.code == 0, found.err
    assert found.document["outputs"] == "identical" or backend != "eager"


def test_doctor_says_whether_it_can_be_built_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mapper.cli.doctor import build_facts

    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("FASTFLOW_ROOT", str(tmp_path))
    exports, fastflow = build_facts()
    assert (exports.value, exports.state) == ("untested here", "warn") and "cmake" in exports.consequence
    assert (fastflow.value, fastflow.state) == ("untested here", "warn") and str(tmp_path) in fastflow.consequence
    (tmp_path / "ff").mkdir()
    (tmp_path / "ff" / "ff.hpp").touch()
    assert (build_facts()[1].value, build_facts()[1].state) == (str(tmp_path), "ok")
    monkeypatch.delenv("FASTFLOW_ROOT")
    assert build_facts()[1].consequence == "FASTFLOW_ROOT is not set"
