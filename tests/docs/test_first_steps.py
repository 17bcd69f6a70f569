"""A newcomer gets from nothing to a measured plan of an own model on the own machine, by docs/first_steps.md."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.docs.blocks import PYTHON, ROOT, SHELL, blocks
from tests.docs.runs import environment, run_command, run_python

PAGE = ROOT / "docs/first_steps.md"
AT_MOST = 10


def save_model(folder: Path) -> None:
    """Saves the model file that the page shows."""
    shown = next(block for block in blocks(PAGE) if block.kind == PYTHON and "def build" in block.text)
    (folder / "net.py").write_text(shown.text + "\n")


def commands() -> list[str]:
    """What the page says to type, in order."""
    return [command for block in blocks(PAGE) if block.kind == SHELL for command in block.run]


@pytest.mark.machine
def test_own_model_on_own_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    save_model(tmp_path)
    told = {command: run_command(command) for command in commands()}
    for command, result in told.items():
        assert result.code == 0, f"{command}\n{result.err}"
    assert any(
        "outputs identical" in result.out for command, result in told.items() if command.startswith("mapper run")
    )
    assert {"machine.json", "plan.json", "net.bundle"} <= set(os.listdir())
    assert json.loads((tmp_path / "plan.json").read_text())["solver"]["status"] == "optimal"
    (code,) = (block for block in blocks(PAGE) if block.kind == PYTHON and "Executor" in block.text)
    assert len(run_python(code)["outputs"]) == 5


@pytest.mark.soak
@pytest.mark.machine
def test_own_model_on_own_machine_in_a_shell(tmp_path: Path) -> None:
    save_model(tmp_path)
    own = environment()
    del own["PYTHONPATH"]
    script = "set -e\n" + "\n".join(commands())
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=own, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "outputs identical" in done.stdout


def test_ten_commands_at_most_with_those_of_the_readme() -> None:
    readme = 1  # make demo, which installs
    assert 5 <= len(commands()) + readme <= AT_MOST
    assert "make demo" in (ROOT / "README.md").read_text()
    assert "`make demo`" in PAGE.read_text()
