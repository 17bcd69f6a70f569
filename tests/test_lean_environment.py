"""The half that runs plans works where neither the solver nor transformers nor safetensors are installed.

So it is on a RISC-V board: a bundle is made here and run there. The second environment is a folder of links to the
packages installed here, only those that torch, numpy, pydantic, networkx, typer and rich need.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import mapper as package
from tests.cli.commands import TINY, mapper

BASE = ("torch", "numpy", "pydantic", "networkx", "typer", "rich")
ABSENT = ("ortools", "transformers", "safetensors", "hypothesis", "pytest")


def closure(names: Sequence[str]) -> dict[str, metadata.Distribution]:
    """The distributions called `names` and all that they need here, without extras."""
    found: dict[str, metadata.Distribution] = {}
    pending = list(names)
    while pending:
        distribution = metadata.distribution(pending.pop())
        if distribution.name not in found:
            found[distribution.name] = distribution
            needed = map(Requirement, distribution.requires or ())
            pending += [r.name for r in needed if r.marker is None or r.marker.evaluate({"extra": ""})]
    return found


def link_packages(site: Path) -> None:
    """Links what the closure of `BASE` installed into `site`, and mapper with its data."""
    for distribution in closure(BASE).values():
        tops = {file.parts[0] for file in distribution.files or () if file.parts[0] not in ("..", "__pycache__")}
        for top in tops:
            if not (site / top).exists():
                (site / top).symlink_to(Path(str(distribution.locate_file(top))).resolve())
    (site / "mapper").mkdir()
    home = Path(str(package.__file__)).parent
    for entry in home.iterdir():
        if entry.name != "__pycache__":
            (site / "mapper" / entry.name).symlink_to(entry)
    for data in ("models", "topologies"):
        (site / "mapper" / data).symlink_to(home.parent / data)


@pytest.fixture(scope="module")
def lean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of the second environment."""
    folder = tmp_path_factory.mktemp("lean")
    venv.create(folder, with_pip=False, symlinks=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    link_packages(folder / "lib" / version / "site-packages")
    return folder / "bin" / "python"


def run(python: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the second environment's Python in its own folder, with nothing of this one's."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))}
    return subprocess.run(
        [python, *arguments], capture_output=True, text=True, cwd=python.parent, timeout=200,
        env=environment | {"PYTHONNOUSERSITE": "1"},
    )  # fmt: skip


def test_a_bundle_made_here_runs_there(lean: Path, tmp_path: Path) -> None:
    stages = min(2, len(os.sched_getaffinity(0)))
    plan, bundle = tmp_path / "plan.json", tmp_path / "tiny.bundle"
    made = mapper("plan", "--model", TINY, "--topo", "host", "--stages", stages, "--replicas", 1, "-o", plan)
    assert (made.code, made.err) == (0, "")
    assert mapper("bundle", plan, "--trust", "-o", bundle).code == 0
    done = run(lean, "-m", "mapper", "run", str(bundle), "--items", "5")
    assert (done.returncode, done.stderr) == (0, "")
    assert "outputs identical to those of" in done.stdout.splitlines()[0]
    assert [line.split()[0] for line in done.stdout.splitlines()[-stages:]] == [str(s) for s in range(stages)]


def test_a_bundle_is_checked_and_simulated_there(lean: Path, tmp_path: Path) -> None:
    """Its program is all that its plan is checked against: neither the model nor its library is there."""
    plan, bundle = tmp_path / "plan.json", tmp_path / "tiny.bundle"
    made = mapper("plan", "--model", TINY, "--topo", "sg2042", "--stages", 2, "--replicas", 1, "-o", plan)
    assert (made.code, made.err) == (0, "")
    assert mapper("bundle", plan, "--trust", "-o", bundle).code == 0
    checked = run(lean, "-m", "mapper", "check", str(bundle), "--json")
    assert (checked.returncode, checked.stderr) == (0, "")
    assert any("stages cover the graph" in promise for promise in json.loads(checked.stdout)["verified"])
    refused = run(lean, "-m", "mapper", "check", str(plan), "--trust")
    assert (refused.returncode, refused.stdout) == (8, "")  # the package of its model is not there
    simulated = run(lean, "-m", "mapper", "simulate", str(bundle), "--json")
    assert (simulated.returncode, json.loads(simulated.stdout)["throughput_per_s"] > 0) == (0, True)


def test_what_is_not_there_is_said(lean: Path) -> None:
    code = "import importlib.util as u, sys; print([n for n in sys.argv[1:] if u.find_spec(n)])"
    assert run(lean, "-c", code, *ABSENT, "mapper", "torch").stdout == "['mapper', 'torch']\n"
    done = run(lean, "-m", "mapper", "plan", "--model", "vgg16", "--topo", "sg2042")
    assert (done.returncode, done.stdout) == (8, "")
    assert done.stderr.startswith("mapper: this command needs the package ortools, which is not installed\n")
    done = run(lean, "-m", "mapper", "model", "show", "vit")
    assert done.returncode == 8
    assert "python -m pip install transformers" in done.stderr
