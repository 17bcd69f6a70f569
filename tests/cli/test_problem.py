"""`mapper plan --problem`, `--problem-out` and `mapper check --problem`: what they print, write and refuse."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from mapper.cli.output import Progress
from mapper.cli.problem import write_problem
from mapper.cli.schema import Kind, schema_of
from mapper.machine.files import load_machine
from mapper.plans.problem_file import read_problem
from mapper.solver.problem import Limits
from tests.cli.commands import TINY, Result, mapper
from tests.graph.files import DNN
from tests.program.modules import case

Document = dict[str, Any]

PROBLEM = Path(__file__).parents[1] / "golden" / "problem_small.json"
GRAPH_OPTIONS = ("--topo", "uniform:2", "--bandwidth", "16GB/s")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.json").write_text(PROBLEM.read_text())
    return tmp_path


def planned(*options: object) -> Document:
    result = mapper("plan", "--problem", "p.json", *options, "--json", "-o", "plan.json")
    assert (result.code, result.err) == (0, "")
    assert Path("plan.json").read_text() == result.out, "one JSON document and nothing else"
    document: Document = json.loads(result.out)
    return document


def test_the_answer_comes_first_and_the_next_command_last() -> None:
    result = mapper("plan", "--problem", "p.json", "-o", "plan.json")
    lines = result.out.splitlines()
    assert (result.code, result.err) == (0, "")
    assert re.fullmatch(r"Best throughput: [\d.]+ items/s, [\d.]+ \w?s an item, \d of 8 cores", lines[0])
    assert lines[1].endswith("gap 0.00%: proved optimal for the numbers in the file")
    assert lines[2].startswith("small (4 ops, 2 groups of 4 cores): ")
    assert lines[-1] == "Written to plan.json. Next: mapper check plan.json --problem p.json"
    checked = mapper(*lines[-1].partition("Next: mapper ")[2].split())
    assert (checked.code, checked.err) == (0, "")
    assert "holds: the stages cover the ops" in checked.out


def test_the_plan_names_ops_by_position_and_configurations_by_name() -> None:
    document = planned()
    assert document["schema"] == "mapper-problem-plan/1"
    assert sorted(v for stage in document["stages"] for v in stage["ops"]) == [0, 1, 2, 3]
    assert {stage["configuration"]["name"] for stage in document["stages"]} <= {"1c", "4c", "8c"}
    assert all(isinstance(stage["replicas"], int) and "cores" not in stage for stage in document["stages"])
    assert document["solver"]["status"] == "optimal"
    jsonschema.Draft202012Validator(schema_of(Kind.problem_plan)).validate(document)
    jsonschema.Draft202012Validator(schema_of(Kind.problem)).validate(json.loads(PROBLEM.read_text()))


def test_limits_are_kept_and_said() -> None:
    document = planned("--replicas", 1, "--max-stages", 1, "--configurations", "4c")
    assert document["request"]["limits"] == {"max_stages": 1, "max_replicas": 1, "configurations": ["4c"]}
    assert [(s["configuration"]["name"], s["replicas"]) for s in document["stages"]] == [("4c", 1)]
    out = mapper("plan", "--problem", "p.json", "--replicas", 1, "--max-latency", "60s").out
    assert out.startswith("Best throughput with latency ≤ 60.0 s, one replica a stage: ")


def test_other_objectives_are_answered_first() -> None:
    out = mapper("plan", "--problem", "p.json", "--objective", "latency").out.splitlines()
    assert out[0].startswith("Least latency: ") and out[1].startswith("Latency ")
    out = mapper("plan", "--problem", "p.json", "--objective", "cores", "--min-throughput", "0.05").out.splitlines()
    assert out[0].startswith("Fewest cores with ≥ 0.05 items/s: ") and re.match(r"Cores \d, bound \d, gap", out[1])


def test_an_allowance_gives_fewer_stages() -> None:
    strict, loose = planned("--replicas", 1), planned("--replicas", 1, "--near-optimal", "300%")
    assert len(loose["stages"]) == 1 < len(strict["stages"])
    assert strict["solver"]["near_optimal"] == 0
    out = mapper("plan", "--problem", "p.json", "--replicas", 1, "--near-optimal", "300%").out
    assert "Fewest stages within 300.0% of the best period" in out


def test_a_changed_plan_is_told_with_its_place() -> None:
    document = planned()
    document["stages"][0]["load_s"] *= 0.5
    Path("plan.json").write_text(json.dumps(document))
    result = mapper("check", "plan.json", "--problem", "p.json")
    assert result.code == 9
    assert "plan.json breaks " in result.err and "/stages/0/load_s: " in result.err


def test_a_plan_of_another_file_is_told() -> None:
    planned()
    Path("p.json").write_text(PROBLEM.read_text() + "\n")
    result = mapper("check", "plan.json", "--problem", "p.json", "--json")
    assert result.code == 9 and "/problem/sha256" in result.err
    assert len(json.loads(result.out)["violations"]) == 1


def test_what_the_plan_alone_shows() -> None:
    document = planned()
    result = mapper("check", "plan.json")
    assert result.code == 0 and "not derived again: stages, loads" in result.out
    document["predicted"]["latency_s"] *= 2
    Path("plan.json").write_text(json.dumps(document))
    assert mapper("check", "plan.json").code == 9


def refusals() -> dict[str, tuple[tuple[object, ...], int, str]]:
    plan = ("plan", "--problem", "p.json")
    return {
        "a file that is absent": (("plan", "--problem", "absent.json"), 3, "absent.json: no such file"),
        "a model beside it": ((*plan, "--model", TINY), 2, "--problem"),
        "a graph beside it": ((*plan, "--graph", "g.json"), 2, "--problem"),
        "an unknown configuration": ((*plan, "--configurations", "1x4"), 2, "'1x4' is no configuration of p.json"),
        "more stages than ops": ((*plan, "--stages", 5), 2, "5 stages were asked for, but small has 4 ops"),
        "a latency that cannot be": ((*plan, "--max-latency", "1us"), 4, "--max-latency"),
        "a folder that is absent": ((*plan, "-o", "absent/plan.json"), 10, "absent/plan.json cannot be written"),
        "a machine, though the usual one": ((*plan, "--topo", "host"), 2, "--topo does not go with --problem"),
        "memory of nodes": ((*plan, "--memory-per-node", "1GiB"), 2, "p.json has no NUMA nodes"),
        "an objective that is none": ((*plan, "--objective", "joy"), 2, "there is no objective 'joy'"),
        "a batch": ((*plan, "--batch", 2), 2, "--batch"),
        "writing what was read": ((*plan, "--problem-out", "q.json"), 2, "--problem-out"),
        "a problem to check": (("check", "p.json", "--problem", "p.json"), 3, "schema is None"),
        "a plan for a problem": (("plan", "--problem", "plan.json"), 3, "'mapper-problem/1' was expected"),
        "a model to check it with": (("check", "plan.json", "--model", TINY), 2, "has no model and no graph"),
    }


@pytest.mark.parametrize("name", refusals())
def test_what_is_refused(name: str) -> None:
    planned()
    arguments, code, message = refusals()[name]
    result = mapper(*arguments)
    assert (result.code, result.out) == (code, "")
    assert message in result.err and "Traceback" not in result.err


def test_ctrl_c_writes_the_best_plan_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(self: Progress, message: str) -> None:
        if message.startswith("period"):
            raise KeyboardInterrupt

    monkeypatch.setattr(Progress, "say", interrupt)
    result = mapper("plan", "--problem", "p.json", "--replicas", 1, "-o", "plan.json")
    assert (result.code, result.err) == (130, "mapper: interrupted\n")
    assert mapper("check", "plan.json", "--problem", "p.json").code == 0
    assert json.loads(Path("plan.json").read_text())["solver"]["status"] == "feasible"


def test_several_lengths_are_several_files() -> None:
    for length in (8, 16):
        write_problem(
            Path("q.json"), case("attention").graph, load_machine("sg2042"), None, Limits(), Progress(), length
        )
    assert sorted(path.name for path in Path().glob("q*")) == ["q.16.json", "q.8.json"]


def instance_of(*request: object) -> tuple[Result, Document]:
    result = mapper("plan", *request, "--problem-out", "q.json")
    assert result.code == 0
    read_problem(Path("q.json"))
    document: Document = json.loads(Path("q.json").read_text())
    return result, document


def test_the_instance_of_a_model_is_written_and_what_it_lacks_is_named() -> None:
    result, document = instance_of("--model", TINY, "--topo", "sg2042", "--max-latency", "50ms")
    assert result.out.splitlines()[2].startswith("Best throughput"), "the plan as ever"
    said = result.err
    assert said.startswith("Problem written to q.json. Left out, as the format cannot say it:\n  ")
    assert "the 4 NUMA nodes: distances between them" in said and "limits of the request: max_latency_s 0.05" in said
    assert (document["machine"]["groups"], document["machine"]["cores_per_group"]) == (16, 4)
    assert len(document["ops"]) == 6 and document["ops"][0]["kind"]
    other = json.loads(mapper("plan", "--problem", "q.json", "--max-latency", "50ms", "--json").out)
    ours = json.loads(mapper("plan", "--model", TINY, "--topo", "sg2042", "--max-latency", "50ms", "--json").out)
    assert other["predicted"]["period_s"] <= ours["solver"]["best_objective"] * (1 + 1e-4)


def test_the_instance_of_a_graph_with_times_has_its_optimum() -> None:
    Path("g.json").write_text(json.dumps(DNN))
    result, _ = instance_of("--graph", "g.json", *GRAPH_OPTIONS, "--json")
    ours = json.loads(result.out)
    other = json.loads(mapper("plan", "--problem", "q.json", "--replicas", 1, "--json").out)
    assert other["predicted"]["period_s"] == pytest.approx(ours["predicted"]["period_s"], rel=1e-4)


def test_json_stays_one_document_beside_a_problem_that_is_written() -> None:
    result = mapper("plan", "--model", TINY, "--topo", "sg2042", "--problem-out", "q.json", "--json")
    assert result.code == 0
    assert json.loads(result.out)["schema"] == "mapper-plan/1"
    assert result.err.startswith("Problem written to q.json. Left out")


def test_the_plan_s_text_reads_as_it_did() -> None:
    """Write it anew with MAPPER_WRITE_GOLDEN=1 after a change that is meant, and read the difference."""
    out = mapper("plan", "--problem", "p.json", "--replicas", 1, "--max-latency", "60s").out
    file = PROBLEM.with_name("problem_small.plan.txt")
    if os.environ.get("MAPPER_WRITE_GOLDEN"):
        file.write_text(out)
    assert out == file.read_text()


@pytest.mark.parametrize(
    "command",
    [("run", "plan.json"), ("bundle", "plan.json", "-o", "x.bundle"), ("explain", "plan.json"),
     ("topo", "show", "--plan", "plan.json")],
)  # fmt: skip
def test_what_needs_cores_says_that_such_a_plan_has_none(command: tuple[str, ...]) -> None:
    planned()
    refused = mapper(*command)
    assert refused.code == 3 and not refused.out
    assert "plan.json: is the plan of a problem file: it has no model, no machine and no cores" in refused.err
    assert "mapper check plan.json --problem FILE" in refused.err


def test_a_plan_of_a_model_is_not_checked_with_a_problem_file() -> None:
    assert mapper("plan", "--model", TINY, "--topo", "uniform:2", "-o", "tiny.json").code == 0
    refused = mapper("check", "tiny.json", "--problem", "p.json")
    assert refused.code == 3
    assert "not of a problem file" in refused.err and "mapper check tiny.json." in refused.err
