"""Each diff of CONTRIBUTING.md applies to the tree, and what it adds works there."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT, blocks
from tests.docs.runs import environment
from tests.docs.test_first_steps import save_model

PAGE = ROOT / "CONTRIBUTING.md"
DIFFS = [block.text + "\n" for block in blocks(PAGE) if block.language == "diff"]
CHECKED = """
import json

import torch

import mapper
from mapper.backends.registry import backend_called
from mapper.cost.forms import forms
from tests.cli.commands import mapper as command

machine = mapper.load_machine("raspberry-pi-5")
model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Mish()).eval()
inputs = (torch.randn(2, 8),)
graph = mapper.trace(model, inputs)
seconds = machine.compute.seconds_per_element["transcendental.mish"]
plan = ["plan", "--model", "net:build"]
pipeline = [*plan, "--topo", "sg2042", "--stages", "2", "--replicas", "1", "--configurations", "1x4"]
commands = [
    [*pipeline, "--placement", "from-the-end", "-o", "placed.json"],
    ["export", "placed.json", "--to", "markdown", "-o", "placed.md"],
    [*plan, "--topo", "raspberry-pi-5", "-o", "pi.json"],
    ["topo", "check", "raspberry-pi-5"],
    [*plan, "--topo", "pack:1 core:4", "--backend", "interpreter", "-o", "interpreted.json"],
    ["plan", "--model", "net:build", "--topo", "sg2042", "--placement", "nowhere"],
    ["doctor"],
]
done = [command(*each) for each in commands]
loaded = backend_called("interpreter").load(graph.program, dict(model.named_parameters()), 1, None)
with torch.no_grad():
    same = torch.equal(loaded.compute(*inputs)[0], model(*inputs))
print(json.dumps({
    "mapper": mapper.__file__, "sorts": [form.sort for form in forms(graph)], "mish_s": seconds.value,
    "codes": [each.code for each in done], "told": [each.out + each.err for each in done], "same": same,
}))
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree with all diffs applied, beside a folder with a model of one's own."""
    copy = tmp_path_factory.mktemp("copy")
    for name in ("mapper", "models", "topologies", "tests/cli"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "tests/__init__.py", copy / "tests")
    for name in ("models", "topologies"):  # where an installation has them
        (copy / "mapper" / name).symlink_to(Path("..") / name)
    alone = os.environ | {"GIT_CEILING_DIRECTORIES": str(copy.parent)}
    for diff in DIFFS:
        applied = subprocess.run(
            ["git", "apply", "-"], input=diff, cwd=copy, env=alone, capture_output=True, text=True, check=False
        )
        assert applied.returncode == 0, f"{applied.stderr}\n{diff}"
    save_model(copy)
    return copy


@pytest.fixture(scope="module")
def told(tree: Path) -> dict[str, object]:
    """What the tree says once changed."""
    own = environment() | {"PYTHONPATH": str(tree)}
    done = subprocess.run(
        [sys.executable, "-c", CHECKED], cwd=tree, env=own, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    assert str(found["mapper"]).startswith(str(tree))
    return found


def test_there_is_a_diff_for_each() -> None:
    headings = re.findall(r"^## (.*)", PAGE.read_text(), re.MULTILINE)
    assert headings[:5] == ["The cost of an op", "A strategy", "A back end", "An exporter", "A machine"]
    assert len(DIFFS) == 5


def test_commands_end_well(told: dict[str, object]) -> None:
    assert told["codes"] == [0, 0, 0, 0, 0, 2, 0], told["told"]


def test_the_op_has_its_own_cost(told: dict[str, object]) -> None:
    assert told["sorts"][1] == "transcendental.mish" and told["mish_s"] == 4e-9  # type: ignore[index]


def test_the_strategy_is_listed_and_planned_with(told: dict[str, object], tree: Path) -> None:
    assert "from-the-end" in told["told"][5]  # type: ignore[index]
    placed = json.loads((tree / "placed.json").read_text())
    assert placed["request"]["placement"] == "from-the-end"
    assert [stage["replicas"][0]["cores"] for stage in placed["stages"]] == [[60, 61, 62, 63], [56, 57, 58, 59]]


def test_the_back_end_computes_and_is_listed(told: dict[str, object], tree: Path) -> None:
    assert told["same"] is True
    assert "back end interpreter" in told["told"][6]  # type: ignore[index]
    assert json.loads((tree / "interpreted.json").read_text())["request"]["backend"] == "interpreter"


def test_the_exporter_exports(told: dict[str, object], tree: Path) -> None:
    lines = (tree / "placed.md").read_text().splitlines()
    assert len(lines) == 4 and "| 60-63 |" in lines[2]


def test_the_machine_is_planned_for(told: dict[str, object], tree: Path) -> None:
    assert json.loads((tree / "pi.json").read_text())["machine"]["title"] == "Raspberry Pi 5"


def test_the_changed_tree_is_clean(tree: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "ruff", "check", "--quiet", "--config", str(ROOT / "pyproject.toml"),
                           "mapper/backends", "mapper/exporters", "mapper/solver/placement"],
                          cwd=tree, capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout
