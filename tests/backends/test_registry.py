"""The back ends by name: what they need, what they take, and what is said where they cannot work."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner

from mapper.backends import registry
from mapper.backends.registry import BACKENDS, NOT_OFFERED, backend_called
from mapper.cli.doctor import doctor_command
from mapper.errors import BadInput, MissingFeature, UsageError
from mapper.execution.run import run
from mapper.plans.file import save_plan
from mapper.sources.backend import allowed, with_backend
from tests.backends.stages import MLP, need, two_stages
from tests.cli.commands import TINY, mapper
from tests.tracing import plan_for, traced

SOURCE = "tests.backends.stages:model"


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if no library of a back end, and no compiler, were installed."""
    found = importlib.util.find_spec
    absent = {"onnxruntime", "onnx", "onnxscript", "openvino"}
    monkeypatch.setattr(registry.util, "find_spec", lambda name: None if name in absent else found(name))
    monkeypatch.setattr(registry.shutil, "which", lambda name: None)


def test_unknown_names_are_told_with_near_ones() -> None:
    assert list(BACKENDS) == [
        "eager", "inductor", "onnxruntime", "openvino", "eager:aten", "eager:bfloat16", "inductor:bfloat16",
        "openvino:bfloat16", "onnxruntime:int8",
    ]  # fmt: skip
    with pytest.raises(UsageError, match="Did you mean onnxruntime"):
        backend_called("onnxruntme")
    with pytest.raises(UsageError, match="\nOne of eager, inductor"):
        backend_called("tpu")
    with pytest.raises(UsageError, match="no back end"):
        with_backend(two_stages(), "tpu")
    with pytest.raises(UsageError, match="Did you mean openvino:bfloat16"):
        backend_called("openvino:bf16")
    for name, reason in NOT_OFFERED.items():
        assert name not in BACKENDS
        with pytest.raises(UsageError, match=f"no back end '{name}': {reason}"):
            backend_called(name)


def test_only_eager_promises_bits() -> None:
    for backend in BACKENDS.values():
        assert (backend.allowed("float32") == 0) == (backend.name == "eager") == (not backend.reason)
        assert backend.allowed("int64") == 0
    plan = with_backend(two_stages(), "openvino")
    assert plan.request.backend == "openvino" and with_backend(plan, None) is plan
    assert allowed(plan, torch.zeros(1), None) == 1e-4 and allowed(plan, torch.zeros(1), 0.5) == 0.5


@pytest.mark.parametrize("name", ["inductor", "onnxruntime", "openvino", "onnxruntime:int8"])
def test_what_is_missing_is_named_with_what_adds_it(name: str, bare: None, tmp_path: Path) -> None:
    with pytest.raises(MissingFeature) as raised:
        run(two_stages(), MLP.module, backend=name, oversubscribe=True)
    message = str(raised.value)
    assert raised.value.exit_code == 8
    family = name.partition(":")[0]
    assert "C++ compiler" in message if name == "inductor" else f"python -m pip install '{family}>=" in message
    plan = tmp_path / "plan.json"
    save_plan(two_stages(source=SOURCE), plan)
    done = mapper("run", plan, "--trust", "--backend", name, "--oversubscribe")
    assert (done.code, done.out) == (8, "") and message.splitlines()[0] in done.err


@pytest.fixture
def old_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the processor had no instructions for fewer bits."""
    seen = registry.cpuinfo.read(Path("/"))
    monkeypatch.setattr(registry.cpuinfo, "read", lambda root: replace(seen, features=frozenset({"avx2"})))


@pytest.mark.parametrize("name", ["onnxruntime:int8", "openvino:bfloat16"])
def test_a_processor_without_the_instructions_is_refused_with_its_reason(
    name: str, old_processor: None, tmp_path: Path
) -> None:
    need(name.partition(":")[0])
    plan = tmp_path / "plan.json"
    save_plan(two_stages(source=SOURCE), plan)
    done = mapper("run", plan, "--trust", "--backend", name, "--oversubscribe")
    assert (done.code, done.out) == (6, "")
    assert f"the back end {name} needs a processor with one of" in done.err and "computes in float32" in done.err


def test_what_is_only_slow_without_the_instructions_says_so(old_processor: None) -> None:
    measured = run(two_stages(), MLP.module, items=2, oversubscribe=True, backend="eager:bfloat16")
    assert any("no instructions for bfloat16: eager:bfloat16 is slower here" in note for note in measured.notes)
    facts = {fact["name"]: fact for fact in doctor_facts()}
    assert (facts["back end eager:bfloat16"]["state"], facts["back end openvino"]["state"]) == ("warn", "ok")


def doctor_facts() -> list[dict[str, str]]:
    app = typer.Typer()
    app.command()(doctor_command)
    found: list[dict[str, str]] = json.loads(CliRunner().invoke(app, ["--json"]).stdout)["facts"]
    return found


def test_doctor_tells_place_and_size_of_what_is_compiled(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (own_cache / "stage").mkdir(parents=True)
    (own_cache / "stage" / "file").write_bytes(bytes(3_000_000))
    monkeypatch.setenv("MAPPER_CACHE_SIZE", "5GB")
    fact = next(fact for fact in doctor_facts() if fact["name"] == "compiled stages")
    assert fact["value"] == f"3.00 MB of at most 5.00 GB in {own_cache}" and fact["state"] == "ok"
    monkeypatch.setenv("MAPPER_CACHE_SIZE", "5 elephants")
    fact = next(fact for fact in doctor_facts() if fact["name"] == "compiled stages")
    assert fact["state"] == "bad" and "MAPPER_CACHE_SIZE=5 elephants" in fact["value"]


def test_doctor_tells_what_each_back_end_lacks(bare: None) -> None:
    facts = {fact["name"]: fact for fact in doctor_facts()}
    assert facts["back end eager"]["state"] == "ok" and torch.__version__ in facts["back end eager"]["value"]
    for name in ("inductor", "onnxruntime", "openvino", "onnxruntime:int8"):
        fact = facts[f"back end {name}"]
        assert fact["state"] == "warn" and ("pip install" in fact["consequence"]) == (name != "inductor")
    assert (
        facts["back end openvino:int8"]["value"] == "not offered"
        and "nncf" in facts["back end openvino:int8"]["consequence"]
    )


def test_dtypes_that_a_back_end_lacks_are_refused_before_anything_is_compiled() -> None:
    class Wide(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x.double() * 2).float()

    wide = traced(Wide(), torch.zeros(3), name="wide")
    plan = plan_for(wide, [[op.name for op in wide.graph.ops]])
    if BACKENDS["openvino"].available() is not None:
        pytest.skip("openvino is not installed")
    with pytest.raises(BadInput, match=r"stage 0, \w+: openvino takes no float64") as raised:
        run(plan, wide.module, backend="openvino", oversubscribe=True)
    assert wide.graph.ops[0].name.split("_")[0] in raised.value.place


def test_a_plan_keeps_its_back_end_and_a_graph_has_none(tmp_path: Path) -> None:
    out = tmp_path / "plan.json"
    done = mapper("plan", "--model", TINY, "--topo", "host", "--stages", 1, "--backend", "openvino", "-o", out)
    assert (done.code, done.err) == (0, "")
    document = json.loads(out.read_text())
    assert document["request"]["backend"] == "openvino"
    assert mapper("check", out, "--trust").code == 0
    document["request"]["backend"] = "tpu"
    out.write_text(json.dumps(document))
    wrong = mapper("run", out, "--trust", "--oversubscribe")
    assert wrong.code == 3 and "/request/backend: no back end is called 'tpu'" in wrong.err
    assert mapper("plan", "--graph", "g.json", "--topo", "uniform:2", "--backend", "eager").code == 2
    assert mapper("plan", "--model", SOURCE, "--topo", "host", "--backend", "openvin").code == 2


def test_the_table_imports_no_library() -> None:
    heavy = ["torch", "onnxruntime", "openvino", "onnx"]
    code = f"import sys, mapper.backends.compile; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
