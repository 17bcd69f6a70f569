from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mapper.cli.topo import app
from mapper.errors import BadInput
from mapper.machine.files import load_machine, machine_text
from mapper.machine.model import Machine
from tests.machines.trees import write_tree

SG2042 = load_machine("sg2042")


def output_of(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_show_draws_and_names_the_kind_of_its_figures() -> None:
    lines = output_of("show", "sg2042").splitlines()
    assert lines[0].endswith("(64 cores: 4 NUMA nodes × 4 groups × 4 cores)")
    assert "node 0               PUs 0-7,16-23" in lines
    assert next(line for line in lines if line.startswith("arithmetic")).split() == [
        "arithmetic", "16.0", "GFLOP/s", "a", "core", "inferred",
    ]  # fmt: skip


@pytest.mark.parametrize("command", ["show", "check"])
def test_json_is_the_machine_with_counts_and_fingerprint(command: str, tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text(machine_text(SG2042))
    found = json.loads(output_of(command, str(tmp_path / "m.json"), "--json"))
    assert found.pop("counts") == SG2042.counts
    assert found.pop("fingerprint") == SG2042.fingerprint
    assert Machine.model_validate(found) == SG2042


def test_discover_writes_a_file_that_check_accepts(tmp_path: Path) -> None:
    tree = write_tree(tmp_path / "tree", SG2042)
    file = tmp_path / "found.json"
    document = json.loads(output_of("discover", "--root", str(tree), "-o", str(file), "--json"))
    assert document["fingerprint"] == SG2042.fingerprint
    assert output_of("check", str(file)).endswith(
        f"is right: host, 64 cores: 4 NUMA nodes × 4 groups × 4 cores, fingerprint {SG2042.fingerprint}\n"
    )
    assert f"Written to {file}." in output_of("discover", "--root", str(tree), "-o", str(file))


def test_check_refuses_a_broken_file(tmp_path: Path) -> None:
    file = tmp_path / "m.json"
    file.write_text("{")
    with pytest.raises(BadInput, match=r"m.json, line 1, column 2: not JSON"):
        CliRunner().invoke(app, ["check", str(file)], catch_exceptions=False)
