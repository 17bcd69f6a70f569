"""`mapper plan`, `model` and `schema` as processes and in this one: what they print and write."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from mapper.cli.schema import Kind, schema_of
from mapper.jsonio import plain
from mapper.machine.files import load_machine, machine_text
from mapper.program.cards import card_names
from tests.cli.commands import TINY, mapper
from tests.program.modules import case

SCRIPT = Path(sys.executable).parent / "mapper"
GOLDEN = Path(__file__).parents[1] / "golden"
STEPS = """
schema = "mapper-model/1"
name = "steps"
class = "torch.nn:Linear"
options = {in_features = 8, out_features = 8}
length = 4
[[inputs]]
name = "input"
shape = ["batch", "length", 8]
dtype = "float32"
"""
"""A card of a model that takes sequences of any length."""


def test_help_and_drawing_import_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom mapper.cli.main import _code\n"
        "for arguments in (['--help'], ['plan', '--help'], ['topo', 'show', 'sg2042']):\n"
        "    sys.argv = ['mapper', *arguments]\n    assert _code() == 0\n"
        "sys.exit(str({'torch', 'ortools', 'transformers', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.stderr == "set()\n"
    assert "Exit codes: 0 done" in done.stdout and "node 3" in done.stdout


def test_the_console_script(tmp_path: Path) -> None:
    done = subprocess.run([SCRIPT, "topo", "show", "sg2042"], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "(64 cores: 4 NUMA nodes × 4 groups × 4 cores)" in done.stdout.splitlines()[0]


def test_a_reader_that_has_seen_enough_and_a_full_disk() -> None:
    with subprocess.Popen([SCRIPT, "schema", "topology"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0
    with open("/dev/full", "w") as full:
        done = subprocess.run([SCRIPT, "topo", "show", "sg2042"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 10
    assert done.stderr == "mapper: stdout cannot be written: no space left on the device\n"


def test_the_same_request_gives_the_same_bytes(tmp_path: Path) -> None:
    """Another process with another seed of hashes, and this one, which prints JSON as well. Larger models and other
    requests: tests/planning/test_determinism.py."""
    command = ["plan", "--model", "unet", "--topo", "sg2042.json", "-o"]
    other = subprocess.Popen(
        [SCRIPT, *command, "7.json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
        env={**os.environ, "PYTHONHASHSEED": "7"},
    )  # fmt: skip
    here = mapper(*command, tmp_path / "0.json", "--json")
    assert (other.communicate()[1], other.returncode, here.err, here.code) == ("", 0, "", 0)
    text = (tmp_path / "0.json").read_text()
    assert (tmp_path / "7.json").read_text() == text
    assert here.out == text, "one JSON document and nothing else"
    document = json.loads(text)
    jsonschema.Draft202012Validator(json.loads(mapper("schema", "plan").out)).validate(document)
    assert document["solver"]["status"] == "optimal"
    assert str(tmp_path) not in text, "no path of the output in it"
    checked = mapper("check", tmp_path / "7.json")
    assert (checked.code, checked.err) == (0, "")


@pytest.mark.parametrize("kind", Kind)
def test_schemas_are_schemas(kind: Kind) -> None:
    result = mapper("schema", kind)
    schema = json.loads(result.out)
    assert schema == schema_of(kind)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["properties"]["schema"]["const"] == f"mapper-{kind}/1" if kind != "problem" else True


def examples() -> dict[str, Any]:
    return {
        "topology": json.loads(machine_text(load_machine("sg2042"))),
        "program": plain(case("attention").program),
        "graph": plain(case("attention").graph),
    }


@pytest.mark.parametrize("kind", ["topology", "program", "graph"])
def test_files_are_valid_by_their_schema_and_changed_ones_are_not(kind: str) -> None:
    document, validator = examples()[kind], jsonschema.Draft202012Validator(schema_of(Kind(kind)))
    validator.validate(document)
    for change in ({"schema": "mapper-other/1"}, {"colour": "red"}, {"name": 7}):
        assert not validator.is_valid({**document, **change})


def test_model_show_gives_totals_and_ops() -> None:
    document = json.loads(mapper("model", "show", TINY, "--batch", 3, "--json").out)
    assert document["model"]["options"] == {"batch": 3}
    assert document["model"]["item"][0]["shape"] == [3, 5, 16]
    assert document["flop"] == sum(op["flop"] for op in document["ops"])
    assert sum(document["kinds"].values()) == len(document["ops"])
    lines = mapper("model", "show", TINY).out.splitlines()
    assert lines[0].startswith("attention: 6 ops, ")
    assert any(line.split()[:2] == ["matmul", "2"] for line in lines)


def test_model_list_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All bundled models, and one of the working folder whose library is not installed."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "absent.toml").write_text(
        'schema = "mapper-model/1"\nname = "absent"\nclass = "nolibrary:Net"\n'
        '[[inputs]]\nname = "x"\nshape = ["batch"]\ndtype = "float32"\n'
    )
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in set(card_names()) - {"vgg16", "absent"}:
        (tmp_path / "models" / f"{name}.toml").write_text((tmp_path / "models" / "absent.toml").read_text())
    rows = {row["name"]: row for row in json.loads(mapper("model", "list", "--json").out)}
    assert (rows["vgg16"]["parameters"], rows["vgg16"]["ops"], rows["vgg16"]["item"]) == (138_357_544, 38, "image")
    assert rows["absent"]["parameters"] is None and "pip install nolibrary" in rows["absent"]["missing"]
    lines = mapper("model", "list").out.splitlines()
    assert len(lines) == 1 + len(rows)
    assert next(line for line in lines if line.startswith("vgg16")).split() == [
        "vgg16", "VGG-16", "138", "M", "38", "31.0", "G", "image",
    ]  # fmt: skip


def test_the_plan_of_vit_reads_as_it_did(tmp_path: Path) -> None:
    """Write it anew with MAPPER_WRITE_GOLDEN=1 after a change that is meant, and read the difference."""
    out = mapper("plan", "--model", "vit", "--topo", "sg2042.json").out
    file = GOLDEN / "plan_vit_sg2042.txt"
    if os.environ.get("MAPPER_WRITE_GOLDEN"):
        file.write_text(out)
    assert out == file.read_text()


def test_a_table_whose_reader_has_left_is_no_error() -> None:
    with subprocess.Popen([SCRIPT, "doctor"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert (process.wait(), process.stderr.read() if process.stderr else b"") == (0, b"")


def test_one_plan_a_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Longer sequences take longer; each plan is for its length, in a file of its own, and checks."""
    monkeypatch.chdir(tmp_path)
    Path("steps.toml").write_text(STEPS)
    done = mapper("plan", "--model", "steps.toml", "--topo", "uniform:2", "--lengths", "64,16", "-q", "-o", "plan.json")
    assert done.code == 0, done.err
    made = {n: json.loads(Path(f"plan.{n}.json").read_text()) for n in (16, 64)}
    assert not Path("plan.json").exists()
    assert made[16]["predicted"]["period_s"] < made[64]["predicted"]["period_s"]
    for n, plan in made.items():
        assert plan["model"]["options"] == {"length": n}
        assert {tuple(item["shape"]) for item in plan["model"]["item"]} == {(1, n, 8)}
        assert f"plan.{n}.json" in done.out
    assert mapper("check", "plan.16.json", "--trust").code == 0


@pytest.mark.parametrize("given", ["64,", "a", "64,0", "-3"])
def test_lengths_that_are_none(given: str) -> None:
    done = mapper("plan", "--model", "distilbert", f"--lengths={given}")
    assert done.code == 2 and "numbers such as 32,128,512 were expected" in done.err


def test_an_onnx_file_is_planned_for_onnx_runtime_and_checked_and_eager_does_not_run_it(tmp_path: Path) -> None:
    from tests.graph.test_onnx import small

    file, plan = small(tmp_path), tmp_path / "plan.json"
    done = mapper("plan", "--model", file, "--topo", "sg2042", "--batch", 2, "-q", "-o", plan)
    assert done.code == 0, done.err
    written = json.loads(plan.read_text())
    assert written["model"]["item"][0]["shape"] == [2, 3, 8, 8]
    assert written["model"]["weights"].startswith("sha256:")
    checked = mapper("check", plan)
    assert (checked.code, checked.err) == (0, "") and "every load, byte and edge" in checked.out
    assert written["request"]["backend"] == "onnxruntime"
    ran = mapper("run", plan, "--backend", "eager")
    assert ran.code == 2 and "ONNX" in ran.err and "--backend onnxruntime" in ran.err
    refused = mapper("plan", "--model", file, "--topo", "sg2042", "--seed", 1)
    assert refused.code == 2 and "takes no seed" in refused.err
