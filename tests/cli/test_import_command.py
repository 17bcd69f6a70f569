"""`mapper import` as a command: tables and rankfiles become plans that the other commands take."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mapper.jsonio import dumps, plain
from mapper.plans.file import load_plan
from tests.cli.commands import TINY, mapper
from tests.planning.test_machines import block_chain

SMALL = "numa:2 group:2 core:2"
CSV = """row,stage,op,replica,cores
op,0,op0,,
op,0,op1,,
op,1,op2,,
op,1,op3,,
worker,0,,0,0 1
worker,0,,1,2 3
worker,1,,0,4-7
"""


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A graph of four products."""
    path = tmp_path_factory.mktemp("graph") / "chain.json"
    path.write_text(dumps(plain(block_chain(4))))
    return path


def file_of(text: str, folder: Path) -> Path:
    path = folder / "mapping"
    path.write_text(text)
    return path


def test_a_table_becomes_a_plan_that_other_commands_take(graph: Path, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    result = mapper("import", file_of(CSV, tmp_path), "--graph", graph, "--topo", SMALL, "-o", path)
    assert (result.code, result.err) == (0, "")
    assert "Planned by mapping: throughput" in result.out and "feasible" in result.out
    made = load_plan(path)
    assert [[r.cores for r in stage.replicas] for stage in made.stages] == [[(0, 1), (2, 3)], [(4, 5, 6, 7)]]
    assert (made.solver.status, made.solver.bound) == ("feasible", 0.0)
    for command in (("check",), ("explain",)):
        done = mapper(*command, path, "--graph", graph)
        assert (done.code, done.err) == (0, ""), done.err
    assert mapper("simulate", path, "--items", 8).code == 0
    assert json.loads(mapper("import", file_of(CSV, tmp_path), "--graph", graph, "--topo", SMALL, "--json").out) == (
        json.loads(path.read_text())
    )


def test_there_and_back(graph: Path, tmp_path: Path) -> None:
    """A plan of the planner, exported and imported, in both formats and with and without the plan beside it."""
    path, again = tmp_path / "plan.json", tmp_path / "again.json"
    assert mapper("plan", "--graph", graph, "--topo", SMALL, "--stages", 2, "-o", path).code == 0
    made = load_plan(path)
    assert mapper("export", path, "--to", "csv", "-o", tmp_path / "m.csv").code == 0
    assert mapper("export", path, "--to", "openmpi-rankfile", "-o", tmp_path / "mpi").code == 0
    for words in (
        (tmp_path / "m.csv", "--graph", graph, "--topo", SMALL),
        (tmp_path / "m.csv", "--graph", graph, "--of", path),
        (tmp_path / "mpi" / "rankfile", "--graph", graph, "--of", path),
    ):
        assert mapper("import", *words, "-o", again).code == 0
        found = load_plan(again)
        assert (found.stages, found.edges, found.predicted) == (made.stages, made.edges, made.predicted)
        assert mapper("check", again, "--graph", graph).code == 0


def test_ranks_are_copies_of_the_model(graph: Path, tmp_path: Path) -> None:
    file = file_of("rank 0=here slot=0,1\nrank 1=here slot=4,5\n", tmp_path)
    document = json.loads(mapper("import", file, "--graph", graph, "--topo", SMALL, "--json").out)
    (stage,) = document["stages"]
    assert [replica["cores"] for replica in stage["replicas"]] == [[0, 1], [4, 5]]
    assert len(stage["ops"]) == 4


def test_workers_of_a_plan_on_other_cores(graph: Path, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    options = ("--graph", graph, "--topo", SMALL, "--stages", 2, "--replicas", 1, "--configurations", "1x2")
    assert mapper("plan", *options, "-o", path).code == 0
    before = load_plan(path)
    file = file_of("rank 1=+n0 slot=2-3\nrank 0=+n0 slot=6,7\n", tmp_path)
    document = json.loads(mapper("import", file, "--of", path, "--graph", graph, "--json").out)
    assert [stage["replicas"][0]["cores"] for stage in document["stages"]] == [[6, 7], [2, 3]]
    assert [stage["ops"] for stage in document["stages"]] == [list(stage.ops) for stage in before.stages]


@pytest.mark.slow
def test_an_imported_plan_of_a_model_runs(tmp_path: Path) -> None:
    """The model of a source that is traced, on a core of this machine."""
    path = tmp_path / "plan.json"
    file = file_of("rank 0=here slot=0\n", tmp_path)
    assert mapper("import", file, "--model", TINY, "--topo", "host", "-o", path).code == 0
    assert mapper("check", path, "--trust").code == 0
    done = mapper("run", path, "--trust", "--items", 3, "--oversubscribe", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["outputs_identical"] is True


@pytest.mark.parametrize(
    ("text", "options", "code", "what"),
    [
        (CSV.replace("op,1,op3", "op,1,op9"), (), 3, "line 5: op0"),
        (CSV.replace("2 3", "1 2"), (), 3, "line 7: core 1 is taken already, in line 6"),
        ("rank 0=a slot=p0:1-3\n", (), 3, "line 1"),
        ("rank 0=a slot=8\n", (), 3, "core 8 is not on host 0"),
        (CSV, ("--from", "hostfile"), 2, "there is no format 'hostfile'"),
        (CSV, ("--from", "rankfile"), 3, "is no line of a rankfile"),
        (CSV, ("--model", "vit"), 2, "name what is mapped"),
        (CSV, ("--batch", 2), 2, "--batch is for models"),
        (CSV, ("--backend", "abacus"), 2, "abacus"),
    ],
)
def test_what_is_refused(
    text: str, options: tuple[object, ...], code: int, what: str, graph: Path, tmp_path: Path
) -> None:
    path = tmp_path / "plan.json"
    words = ("import", file_of(text, tmp_path), "--graph", graph, "--topo", SMALL, "-o", path)
    result = mapper(*words, *options)
    assert result.code == code, result.err
    if what != "line 5: op0":
        assert what in result.err
    else:
        assert "line 5" in result.err and "has no op 'op9'" in result.err
    assert not path.exists()


def test_ops_that_cost_nothing_are_nothing_to_map(tmp_path: Path) -> None:
    path, free = tmp_path / "free.json", block_chain(4)
    nothing = {"flop": 0.0, "elements": 0, "read_bytes": 0, "write_bytes": 0, "weights": ()}
    ops = tuple(op.model_copy(update=nothing) for op in free.ops)
    path.write_text(dumps(plain(free.model_copy(update={"ops": ops}))))
    units = CSV.replace("0 1", "0").replace("2 3", "1").replace("4-7", "2")
    for words in (("plan",), ("import", file_of(units, tmp_path))):
        result = mapper(*words, "--graph", path, "--topo", "uniform:4")
        assert result.code == 3 and "no op takes any time" in result.err


def test_what_a_plan_says_is_not_said_again(graph: Path, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    assert mapper("plan", "--graph", graph, "--topo", SMALL, "-o", path).code == 0
    file = file_of(CSV, tmp_path)
    for options, what in (
        (("--batch", 2), "--batch"), (("--cores", "0-3"), "--topo"), (("--bandwidth", "1GB/s"), "--bandwidth"),
    ):  # fmt: skip
        result = mapper("import", file, "--of", path, "--graph", graph, *options)
        assert result.code == 2 and what in result.err
    lacking = mapper("import", file, "--of", path)
    assert lacking.code == 2 and "--graph FILE" in lacking.err
    absent = mapper("import", tmp_path / "absent.csv", "--graph", graph, "--topo", SMALL)
    assert absent.code == 3 and "no such file" in absent.err
