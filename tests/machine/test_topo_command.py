from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mapper.cli.topo import app
from mapper.errors import BadInput, MachineMismatch
from mapper.machine.files import load_machine, machine_text
from mapper.machine.model import Machine
from mapper.plans.file import save_plan
from tests.execution.models import mlp
from tests.machines.trees import write_tree
from tests.tracing import cuts, machine_of, plan_for

SG2042 = load_machine("sg2042")
MLP = mlp()


def output_of(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_show_draws_and_names_the_kind_of_its_figures() -> None:
    lines = output_of("show", "sg2042").splitlines()
    assert lines[0].endswith("(64 cores: 4 NUMA nodes × 4 groups × 4 cores)")
    assert "node 0: PUs 0-7,16-23 · 32 GiB at DDR0" in lines
    line = next(line for line in lines if line.startswith("arithmetic of a core"))
    assert line.split()[4:7] == ["16.0", "GFLOP/s", "inferred"]


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


def test_discover_completes_from_a_machine_that_it_is_like(tmp_path: Path) -> None:
    board = SG2042.model_copy(update={"caches": SG2042.caches[:2]})
    tree = write_tree(tmp_path, board, cpuinfo="processor : 0\nisa : rv64imafdc\n")
    result = CliRunner().invoke(app, ["discover", "--root", str(tree)], catch_exceptions=False)
    assert "--like sg2042 completes what the system does not show" in result.stderr
    found = json.loads(output_of("discover", "--root", str(tree), "--like", "sg2042", "--json"))
    assert [cache["name"] for cache in found["caches"]] == ["L1d", "L2", "L3"]
    with pytest.raises(MachineMismatch, match="not like epyc-7763"):
        output_of("discover", "--root", str(tree), "--like", "epyc-7763")


def test_a_part_is_shown_and_written(tmp_path: Path) -> None:
    file = tmp_path / "part.json"
    output_of("show", "sg2042", "--groups", "8", "--reserve", "1/group", "-o", str(file))
    part = load_machine(file)
    assert part.counts["cores"] == 24
    assert part.part_of is not None and part.part_of.fingerprint == SG2042.fingerprint


def test_diff_tells_the_shape_and_the_places() -> None:
    assert output_of("diff", "sg2042", "sg2042.json") == "sg2042 and sg2042.json are equal.\n"
    assert output_of("diff", "sg2042", "sg2044").startswith(
        "sg2042 and sg2044 have the same shape: a plan for one fits"
    )
    found = json.loads(output_of("diff", "sg2042", "core:4", "--json"))
    assert (found["same_shape"], found["equal"]) == (False, False)
    assert {"place": "/nodes/3/pus", "a": "40-47,56-63", "b": None} in found["differences"]


def test_a_plan_colours_the_machine_that_it_is_for(tmp_path: Path) -> None:
    plan = plan_for(MLP, cuts(MLP.graph, [4, 4]), threads=[2, 1], machine=machine_of([[0, 1], [2, 3]]))
    save_plan(plan, tmp_path / "plan.json")
    lines = output_of("show", "--plan", str(tmp_path / "plan.json"), "-o", str(tmp_path / "m.svg")).splitlines()
    assert any("00 1·" in line for line in lines)
    assert "<svg" in (tmp_path / "m.svg").read_text()
    with pytest.raises(MachineMismatch, match="has another shape than sg2042"):
        output_of("show", "sg2042", "--plan", str(tmp_path / "plan.json"))


def test_an_hwloc_export_is_a_machine(tmp_path: Path) -> None:
    pus = "".join(
        f'<object type="Core" os_index="{n}" cpuset="{1 << n:#x}"><object type="PU" os_index="{n}" '
        f'cpuset="{1 << n:#x}"/></object>'
        for n in range(4)
    )
    (tmp_path / "board.xml").write_text(
        f'<topology version="2.0"><object type="Machine" cpuset="0xf" allowed_cpuset="0xf">{pus}</object></topology>'
    )
    assert "board.xml is right: board, 4 cores" in output_of("check", str(tmp_path / "board.xml"))
