"""`mapper plan` with the planners and placements of others, and under PipeDream's objective, as commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mapper.cost.pipedream import planned_costs
from mapper.errors import UsageError
from mapper.graph.importers.load import load_graph
from mapper.jsonio import dumps, plain
from mapper.plans.check import check
from mapper.plans.file import load_plan
from mapper.solver.peers.register import PLANNERS
from tests.cli.commands import TINY, mapper
from tests.graph.files import FOLDER, OPTIMA, PIPEDREAM
from tests.planning.test_machines import block_chain

SMALL = "numa:2 group:2 core:2"
PROFILE = """\
node1 -- Input -- forward_compute_time=22.0, backward_compute_time=0.0, activation_size=800.0, parameter_size=0.0
node2 -- Conv2d(3, 64) -- forward_compute_time=4000.0, backward_compute_time=8000.0, activation_size=10.0, \
parameter_size=0.0
node3 -- Linear(8, 8) -- forward_compute_time=1000.0, backward_compute_time=2000.0, activation_size=10.0, \
parameter_size=30.0
\tnode1 -- node2
\tnode2 -- node3
"""
"""Twelve seconds of work without weights, then three with 30 bytes of them."""


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> tuple[object, ...]:
    """`plan` with a graph of six products on a small machine."""
    path = tmp_path_factory.mktemp("graph") / "chain.json"
    path.write_text(dumps(plain(block_chain(6))))
    return ("plan", "--graph", path, "--topo", SMALL)


@pytest.mark.parametrize("name", ["native", "torchgpipe", "pipedream", "alpa"])
def test_a_plan_of_another_planner_is_a_plan_like_any_other(
    name: str, tmp_path: Path, work: tuple[object, ...]
) -> None:
    path = tmp_path / "plan.json"
    result = mapper(*work, "--planner", name, "-o", path)
    assert (result.code, result.err) == (0, "")
    assert f"Planned by {name}" in result.out and "Best throughput" not in result.out
    made = load_plan(path)
    assert made.request.model_extra == {"planner": name}
    assert made.solver.status == "feasible" and made.solver.proved.space.startswith(f"the plan of {name}")
    assert made.solver.bound <= made.solver.objective == made.solver.best_objective
    assert made.alternatives[0].name == "optimal"
    checked = mapper("check", path, *work[1:3])
    assert (checked.code, checked.err) == (0, "")


def test_the_plan_of_streams_does_not_say_that_splitting_does_not_pay(work: tuple[object, ...]) -> None:
    out = mapper(*work, "--planner", "streams").out
    assert "copies of the model" in out and "splitting" not in out


def test_a_placement_by_name(tmp_path: Path, work: tuple[object, ...]) -> None:
    path = tmp_path / "plan.json"
    options = (*work, "--stages", 2, "--replicas", 1, "--configurations", "1x2")
    assert mapper(*options, "--placement", "scatter", "-o", path).code == 0
    made = load_plan(path)
    assert made.request.model_extra == {"placement": "scatter"}
    assert [made.machine.cores[stage.replicas[0].cores[0]].node for stage in made.stages] == [0, 1]
    assert mapper("check", path, *work[1:3]).code == 0
    assert mapper(*options, "-o", path).code == 0
    assert load_plan(path).request.model_extra == {}, "what is ours is not named"
    refused = mapper(*work, "--placement", "mesh-neighbour")
    assert refused.code == 2 and "does not say where its groups lie" in refused.err


def test_all_planners_beside_ours(tmp_path: Path, work: tuple[object, ...]) -> None:
    path = tmp_path / "plan.json"
    options = (*work, "--against")
    result = mapper(*options, "all", "-o", path)
    assert result.code == 0 and "Planned by others" in result.out
    table = result.out.partition("Planned by others")[2]
    assert all(f"\n  {name} " in table for name in PLANNERS)
    document = json.loads(mapper(*options, "native,streams", "--json").out)
    assert [row["planner"] for row in document.pop("against")] == ["native", "streams"]
    assert document == json.loads(path.read_text()), "the plan's file has no more than the plan"


def test_no_planner_is_ahead_of_ours_and_those_beyond_a_limit_say_so(work: tuple[object, ...]) -> None:
    options = (*work, "--near-optimal", 0, "--json", "--against", "all")
    free = json.loads(mapper(*options).out)
    assert len(free["against"]) == len(PLANNERS)
    assert all(0 < row["of_ours"] <= 1 + 1e-4 for row in free["against"])
    latency = min(a["latency_s"] for a in free["against"])
    tight = json.loads(mapper(*options, "--max-latency", f"{latency * 1.01 * 1e3:.6f}ms").out)
    assert {row["note"] for row in tight["against"]} == {"", "breaks --max-latency"}
    assert all(row["of_ours"] <= 1 + 1e-4 for row in tight["against"] if not row["note"])


def test_graphs_with_times_have_the_same_planners(tmp_path: Path) -> None:
    (tmp_path / "graph.txt").write_text(PIPEDREAM)
    options = ("plan", "--graph", tmp_path / "graph.txt", "--topo", "uniform:2")
    for name in set(PLANNERS) - {"equal-flop"}:
        assert mapper(*options, "--planner", name, "-o", tmp_path / "plan.json").code == 0, name
        assert mapper("check", tmp_path / "plan.json", "--graph", tmp_path / "graph.txt").code == 0, name
    refused = mapper(*options, "--planner", "equal-flop")
    assert refused.code == 2 and "equal-time" in refused.err
    result = mapper(*options, "--against", "all")
    assert result.code == 0 and "no plan by equal-flop" in result.out


@pytest.mark.parametrize(
    ("options", "code", "text"),
    [
        (("--planner", "gpipe"), 2, "there is no planner 'gpipe'"),
        (("--placement", "close"), 2, "there is no placement 'close'"),
        (("--against", "native,gpipe"), 2, "there is no planner 'gpipe'"),
        (("--objective-model", "alpa"), 2, "there is no objective model 'alpa'"),
        (("--objective-model", "pipedream", "--planner", "native"), 2, "takes no --objective, --planner"),
        (("--planner", "native", "--stages", 2), 4, "--stages 1"),
        (("--planner", "native", "--max-latency", "1us"), 4, "--max-latency"),
    ],
)
def test_what_is_refused(options: tuple[object, ...], code: int, text: str, work: tuple[object, ...]) -> None:
    result = mapper(*work, *options)
    assert result.code == code and text in result.err, result.err


def test_pipedreams_objective_is_not_for_models() -> None:
    result = mapper("plan", "--model", TINY, "--topo", "uniform:2", "--objective-model", "pipedream")
    assert result.code == 2 and "--graph FILE" in result.err


def test_a_limit_that_a_planner_breaks_is_no_limit_that_none_keeps(work: tuple[object, ...]) -> None:
    """Native's latency is below that of a copy a core: a limit between them is infeasible for streams alone."""
    options = (*work, "--json")
    native, streams = (
        json.loads(mapper(*options, "--planner", name).out)["predicted"]["latency_s"] for name in ("native", "streams")
    )
    low, high = sorted((native, streams))
    between = ("--max-latency", f"{(low + high) / 2 * 1e3:.6f}ms")
    worse, better = ("streams", "native") if native < streams else ("native", "streams")
    assert mapper(*options, "--planner", better, *between).code == 0
    refused = mapper(*options, "--planner", worse, *between)
    assert refused.code == 4 and "--planner optimal" in refused.err


def test_pipedreams_objective(tmp_path: Path) -> None:
    graph, path = tmp_path / "graph.txt", tmp_path / "plan.json"
    graph.write_text(PROFILE)
    options = ("plan", "--graph", graph, "--topo", "uniform:4", "--bandwidth", 10, "--objective-model", "pipedream")
    result = mapper(*options, "-o", path)
    assert (result.code, result.err) == (0, "")
    assert "4 replicas in all" in result.out and "4.000000" in result.out
    made = load_plan(path)
    assert made.predicted.period_s == pytest.approx(4.0)
    assert made.request.costs["objective_model"] == "pipedream" and made.request.limits == {}
    assert check(made, *planned_costs(load_graph(graph), 4, made.request.costs)).violations == ()
    graph.write_text(PROFILE.replace("4000.0", "4001.0"))
    changed = check(made, *planned_costs(load_graph(graph), 4, made.request.costs))
    assert "hash" in changed.violations[0]
    graph.write_text(PROFILE)
    document = json.loads(path.read_text())
    document["stages"][0]["load"]["compute_s"] -= 0.5
    path.write_text(json.dumps(document))
    assert check(load_plan(path), *planned_costs(load_graph(graph), 4, made.request.costs)).violations
    with pytest.raises(UsageError, match="no bandwidth"):
        planned_costs(load_graph(graph), 4, {})
    assert json.loads(mapper(*options, "--replicas", 1, "--json").out)["predicted"]["period_s"] == pytest.approx(12.0)


def test_the_instance_under_pipedreams_objective_is_the_one_that_is_searched(tmp_path: Path) -> None:
    """Without inputs, with a configuration for each number of replicas; nothing is copied besides."""
    graph, file = tmp_path / "graph.txt", tmp_path / "problem.json"
    graph.write_text(PROFILE)
    options = ("plan", "--graph", graph, "--topo", "uniform:4", "--bandwidth", 10, "--objective-model", "pipedream")
    for more, configurations, period_s in (((), 4, 4.0), (("--replicas", 1), 1, 12.0)):
        result = mapper(*options, *more, "--problem-out", file)
        assert result.code == 0 and "limits of the request: max_replicas 1" in result.err
        document = json.loads(file.read_text())
        assert len(document["configs"]) == configurations
        assert len(document["ops"]) == len(planned_costs(load_graph(graph), 4, {"bandwidth_bytes_per_s": "10"})[0].ops)
        again = json.loads(mapper("plan", "--problem", file, "--replicas", 1, "--json").out)
        assert again["predicted"]["period_s"] == pytest.approx(period_s)


@pytest.mark.skipif(not OPTIMA, reason="the published workloads are not beside this checkout")
@pytest.mark.parametrize(("name", "published"), [("vgg16", 0.175733), ("resnet50", 0.111497)])
def test_the_published_commands(name: str, published: float, tmp_path: Path) -> None:
    graph, path = FOLDER / "pipedream" / name / "graph.txt", tmp_path / "plan.json"
    options = ("--topo", "uniform:4", "--bandwidth", "1e9", "--objective-model", "pipedream", "-o", path)
    result = mapper("plan", "--graph", graph, *options)
    assert result.code == 0 and f"{published:.6f}" in result.out
    made = load_plan(path)
    assert made.solver.status == "optimal" and made.predicted.period_s == pytest.approx(published, abs=5e-7)
    assert check(made, *planned_costs(load_graph(graph), 4, made.request.costs)).violations == ()


def test_the_check_command_knows_pipedreams_objective(tmp_path: Path) -> None:
    graph, path = tmp_path / "graph.txt", tmp_path / "plan.json"
    graph.write_text(PROFILE)
    assert mapper("plan", "--graph", graph, "--topo", "uniform:4", "--bandwidth", 10, "--objective-model", "pipedream",
                  "-o", path).code == 0  # fmt: skip
    assert mapper("check", path, "--graph", graph).code == 0
    explained = mapper("explain", path, "--graph", graph, "--only", "binding")
    assert (explained.code, explained.err) == (0, ""), "the plan is of the graph without its inputs"
