"""`mapper explain`: what it prints, its JSON, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.commands import TINY, mapper

TOPO = "numa:2 group:2 core:2"


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plan with a limit."""
    path = tmp_path_factory.mktemp("plan") / "plan.json"
    assert mapper("plan", "--model", TINY, "--topo", TOPO, "--max-stages", 2, "-o", path).code == 0
    return path


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A graph file of our own with times: a (1 ms) ─1 ms─▶ b (2 ms)."""
    path = tmp_path_factory.mktemp("graph") / "two.json"
    ops = [{"name": name, "kind": "other", "proc_s": seconds} for name, seconds in (("a", 1e-3), ("b", 2e-3))]
    tensors = [{"name": "t", "producer": "a", "readers": ["b"], "bytes": 1, "comm_s": 1e-3}]
    path.write_text(json.dumps({"schema": "mapper-graph/1", "name": "two", "ops": ops, "tensors": tensors}))
    return path


def test_the_answer_comes_first(planned: Path) -> None:
    result = mapper("explain", planned, "--model", TINY)
    assert (result.code, result.err) == (0, "")
    first, second, *rest = result.out.splitlines()
    assert "bind" in first and "period" in first
    assert " takes " in second or " serves " in second
    text = "\n".join(rest)
    for part in ("slack", "--max-stages 2", "one more group in each node", "against the best period", "Why not"):
        assert part in text
    assert "Not tried: " in text or all("cache" not in line or "period" not in line for line in rest)
    assert max(map(len, rest)) < 200


def test_one_document_with_every_section(planned: Path) -> None:
    result = mapper("explain", planned, "--model", TINY, "--json")
    found = json.loads(result.out)
    assert (result.code, result.err) == (0, "")
    assert {"binding", "limits", "marginal", "alternatives"} <= found.keys()
    plan = json.loads(planned.read_text())
    assert found["period_s"] == plan["predicted"]["period_s"]
    (stage,) = found["binding"]["stages"][:1]
    assert sum(stage["parts_s"].values()) == pytest.approx(plan["stages"][0]["load"]["total_s"])
    assert {op["name"] for s in found["binding"]["stages"] for op in s["ops"]} == {
        op for s in plan["stages"] for op in s["ops"]
    }
    (limit,) = found["limits"]
    assert (limit["name"], limit["value"]) == ("max_stages", 2) and len(limit["trials"]) == 2
    for trial in found["marginal"]:
        assert ("why_not" in trial) != ("change" in trial)
    assert [a["name"] for a in found["alternatives"]] == [a["name"] for a in plan["alternatives"]]
    assert all(a["reason"] for a in found["alternatives"])


@pytest.mark.parametrize(("only", "empty"), [("binding", ("limits", "marginal", "alternatives")),
                                             ("limits,alternatives", ("marginal",))])  # fmt: skip
def test_some_sections(planned: Path, only: str, empty: tuple[str, ...]) -> None:
    found = json.loads(mapper("explain", planned, "--model", TINY, "--json", "--only", only).out)
    assert [name for name in ("limits", "marginal", "alternatives") if not found[name]] == list(empty)
    assert found["binding"]["names"]


def test_a_plan_of_a_graph_file(graph: Path, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    assert mapper("plan", "--graph", graph, "--topo", "uniform:2", "-o", path).code == 0
    named = mapper("explain", path, "--graph", graph)
    assert (named.code, named.err) == (0, "")
    assert named.out.startswith("Stage ") and "tensors moved 10 % faster" in named.out
    unnamed = mapper("explain", path)
    assert unnamed.code == 2 and "mapper explain PLAN --graph FILE" in unnamed.err


def test_another_graph_is_refused(graph: Path, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    assert mapper("plan", "--graph", graph, "--topo", "uniform:2", "-o", path).code == 0
    document: dict[str, Any] = json.loads(graph.read_text())
    document["ops"][0]["proc_s"] = 5e-3
    other = tmp_path / "other.json"
    other.write_text(json.dumps(document))
    refused = mapper("explain", path, "--graph", other)
    assert refused.code == 3 and "is not the graph that the plan was made for" in refused.err


def test_code_that_only_the_plan_names_is_not_run(planned: Path) -> None:
    refused = mapper("explain", planned)
    assert refused.code == 2 and "--trust" in refused.err
    assert mapper("explain", planned, "--trust", "--only", "binding").code == 0


def test_a_plan_that_is_not_what_it_says(planned: Path, tmp_path: Path) -> None:
    document = json.loads(planned.read_text())
    document["stages"][0]["load"]["compute_s"] *= 0.5
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(document))
    refused = mapper("explain", path, "--model", TINY)
    assert refused.code == 9 and "mapper check" in refused.err


def test_usage(planned: Path, tmp_path: Path) -> None:
    wrong = mapper("explain", planned, "--only", "weather")
    assert wrong.code == 2 and "binding, limits, marginal, alternatives" in wrong.err
    assert mapper("explain", tmp_path / "none.json").code == 3
    assert mapper("explain").code == 2


def test_an_interruption_prints_what_there_is(planned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mapper.solver.explanation import explain

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(explain, "solved", interrupted)
    result = mapper("explain", planned, "--model", TINY)
    assert result.code == 130
    assert "Interrupted: what was found until then." in result.out and "slack" in result.out
