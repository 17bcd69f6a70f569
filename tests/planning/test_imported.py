"""Plans of graphs that bring their own times: the published max-load problem."""

from __future__ import annotations

import itertools
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mapper.cost.imported import given_costs
from mapper.errors import BadInput, Infeasible
from mapper.graph.importers.draft import Output, assembled
from mapper.graph.importers.load import load_graph
from mapper.graph.model import Graph, Op
from mapper.machine.files import load_machine
from mapper.plans.check import check
from mapper.plans.file import load_plan
from mapper.plans.model import Plan
from mapper.solver.explanation.levers import unit_levers
from mapper.solver.plan import plan
from mapper.solver.problem import Limits, problem_of
from mapper.solver.reductions.coarsen import coarsen
from mapper.solver.reductions.reduce import reduce
from mapper.solver.search import bounds
from tests.cli.commands import mapper
from tests.graph.files import DNN, FOLDER, OPTIMA, PIPEDREAM, costed_graphs

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
OPEN = [name for name in OPTIMA if "nasnet" in name]
"""Too many ideals, and too many operations for a proof in seconds."""


def solved(graph: Graph, units: int, limits: Limits | None = None) -> Plan:
    table = given_costs(graph, 16e9)
    one_each = limits or Limits(max_replicas=1)
    return plan(graph, load_machine(f"uniform:{units}"), costs=table, limits=one_each, near_optimal=0.0)


def load_of(graph: Graph, stage: set[str]) -> float:
    """The definition: Σ proc + Σ comm of tensors that enter, once a producer, + Σ comm of tensors that leave, once."""
    total = sum(op.proc_s or 0.0 for op in graph.ops if op.name in stage)
    for tensor in graph.tensors:
        enters = tensor.producer not in stage and stage & set(tensor.readers)
        leaves = tensor.producer in stage and set(tensor.readers) - stage
        total += (tensor.comm_s or 0.0) if enters or leaves else 0.0
    return total


def least_load(graph: Graph, stages: int, most_ops: int | None = None) -> float:
    """By brute force over all ways to number the ops with stages along which no tensor flows backwards; of at most
    `most_ops` ops each."""
    names, best = [op.name for op in graph.ops], float("inf")
    for labels in itertools.product(range(stages), repeat=len(names)):
        home = dict(zip(names, labels, strict=True))
        if any(home[r] < home[t.producer] for t in graph.tensors for r in t.readers):
            continue
        if most_ops is not None and max(labels.count(s) for s in range(stages)) > most_ops:
            continue
        if any(a.together == b.together is not None and home[a.name] != home[b.name] for a, b in
               itertools.combinations(graph.ops, 2)):  # fmt: skip
            continue
        best = min(best, max(load_of(graph, {n for n in names if home[n] == s}) for s in range(stages)))
    return best


@QUICK
@given(costed_graphs(most_ops=6), st.integers(1, 4))
def test_the_least_load_is_that_of_brute_force(graph: Graph, stages: int) -> None:
    if not any(op.proc_s for op in graph.ops):
        with pytest.raises(BadInput, match="no op takes any time"):
            solved(graph, stages)
        return
    known = least_load(graph, stages)
    made = solved(graph, stages)
    assert made.predicted.period_s == pytest.approx(known, rel=1e-9)
    assert made.solver.status == "optimal" and made.solver.bound <= known * (1 + 1e-9)
    assert len(made.stages) <= stages and all(len(stage.replicas) == 1 for stage in made.stages)
    for stage in made.stages:
        assert stage.load.total_s == pytest.approx(load_of(graph, set(stage.ops)), rel=1e-9, abs=1e-15)
    assert check(made, graph, given_costs(graph, 16e9)).violations == ()


@QUICK
@given(costed_graphs(most_ops=6), st.integers(1, 4))
def test_the_cheapest_stage_around_an_op_is_a_bound(graph: Graph, stages: int) -> None:
    graph = graph.model_copy(update={"ops": (graph.ops[0].model_copy(update={"proc_s": 0.01}), *graph.ops[1:])})
    problem = reduce(problem_of(graph, load_machine(f"uniform:{stages}"), given_costs(graph, 1e9))).problem
    limits = Limits(max_replicas=1)
    area, found = bounds.area(problem, limits), bounds.around(problem, limits, 0.0)
    assert bounds.around(problem, limits, area) == max(area, bounds.around(problem, limits, area))
    assert max(area, found) <= least_load(graph, stages) * (1 + 1e-12)


def test_an_idle_source_that_belongs_to_another_op_stays_with_that() -> None:
    """b does nothing but feed c, where it would go by itself; with a, it would take a along, and 1 ms would be 2."""
    ops = [Op(name="a", kind="other", proc_s=0.001, together="t"), Op(name="b", kind="other", proc_s=0.0, together="t"),
           Op(name="c", kind="other", proc_s=0.001)]  # fmt: skip
    graph = assembled("hand", "hand", ops, {"b": Output(0.0, 0.0, {}, ["c"])})
    made = solved(graph, 2)
    assert made.predicted.period_s == pytest.approx(least_load(graph, 2)) == pytest.approx(0.001)
    assert [set(stage.ops) for stage in made.stages] == [{"a", "b"}, {"c"}]


def test_the_cheapest_stage_around_an_op_of_a_chain() -> None:
    """a (1 ms) ─9─▶ b (5 ms) ─2─▶ c (1 ms): b alone costs 16, with a 8, with c 15, with both 7."""
    times = {"a": 0.001, "b": 0.005, "c": 0.001}
    outputs = {"a": Output(0.0, 0.009, {}, ["b"]), "b": Output(0.0, 0.002, {}, ["c"])}
    graph = assembled("hand", "hand", [Op(name=n, kind="other", proc_s=t) for n, t in times.items()], outputs)
    problem = problem_of(graph, load_machine("uniform:3"), given_costs(graph))
    assert bounds.around(problem, Limits(max_replicas=1), 0.0) == pytest.approx(0.007, rel=1e-6)
    assert bounds.around(problem, Limits(), 0.0) == 0.0, "copies would share it"


@pytest.mark.skipif(not OPTIMA, reason="the published workloads are not beside this checkout")
@pytest.mark.parametrize("units", ["4", "8", "16"])
@pytest.mark.parametrize("name", sorted(set(OPTIMA) - set(OPEN)))
def test_published_optima_are_reproduced_and_proved(name: str, units: str) -> None:
    known = OPTIMA[name]["max_stage_load"][units]
    made = solved(load_graph(FOLDER / name), int(units))
    assert made.solver.status == "optimal" and made.solver.gap <= 1e-6
    assert made.predicted.period_s * 1e3 == pytest.approx(known["best"], rel=1e-6)
    assert made.solver.bound * 1e3 <= known["best"] * (1 + 1e-9)


@pytest.mark.soak
@pytest.mark.skipif(not OPTIMA, reason="the published workloads are not beside this checkout")
@pytest.mark.parametrize("units", ["4", "8", "16"])
@pytest.mark.parametrize("name", OPEN)
def test_open_optima_are_approached_from_both_sides(name: str, units: str) -> None:
    """Ten seconds of search, however fast the machine is: near, and never below what is known to be a bound."""
    known = OPTIMA[name]["max_stage_load"][units]
    made = solved(load_graph(FOLDER / name), int(units))
    period, bound = made.predicted.period_s * 1e3, made.solver.bound * 1e3
    assert known["bound"] * (1 - 1e-6) <= period <= known["best"] * 1.12
    assert known["bound"] * 0.95 <= bound <= known["best"] * (1 + 1e-9)


def test_copies_win_where_they_are_allowed(tmp_path: Path) -> None:
    (tmp_path / "graph.txt").write_text(PIPEDREAM)
    graph = load_graph(tmp_path / "graph.txt")
    free = solved(graph, 4, Limits())
    assert len(free.stages) == 1 and len(free.stages[0].replicas) == 4
    assert free.predicted.period_s == pytest.approx(sum(op.proc_s or 0 for op in graph.ops) / 4)


def test_classes_share_a_stage_and_a_torn_one_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "tiny.json").write_text(json.dumps(DNN))
    graph = load_graph(tmp_path / "tiny.json")
    made = solved(graph, 4)
    assert made.stage_of["5"] == made.stage_of["4"]
    free = graph.model_copy(
        update={"ops": tuple(op.model_copy(update={"together": None}) for op in graph.ops), "name": "free"}
    )
    apart = solved(free, 4, Limits(max_replicas=1, stages=4))
    claimed = apart.model_copy(update={"model": made.model})
    assert any("must share a stage" in found for found in check(claimed, graph, given_costs(graph)).violations)


@QUICK
@given(costed_graphs(), st.integers(2, 6))
def test_blocks_are_a_plan_of_the_ops(graph: Graph, most: int) -> None:
    """Coarsening keeps every op once, and its order is one in which the blocks can run."""
    ops = tuple(op.model_copy(update={"proc_s": 1.0}) for op in graph.ops)
    graph = graph.model_copy(update={"ops": ops})
    exact = reduce(problem_of(graph, load_machine("uniform:2"), given_costs(graph, 1e9)))
    coarse = coarsen(exact, most)
    assert sorted(v for members in coarse.members for v in members) == list(range(len(graph.ops)))
    assert coarse.problem.ops <= max(most, 1)
    assert all(min(t.readers) > t.producer for t in coarse.problem.tensors)
    assert coarse.problem.seconds.sum() == pytest.approx(exact.problem.seconds.sum())


def test_the_command_plans_and_checks_a_graph_file(tmp_path: Path) -> None:
    path, out = tmp_path / "graph.txt", tmp_path / "plan.json"
    path.write_text(PIPEDREAM)
    made = mapper("plan", "--graph", path, "--topo", "uniform:2", "--bandwidth", "1MB/s", "-o", out)
    assert made.code == 0 and "items/s" in made.out and "images" not in made.out
    text = out.read_text()
    assert str(tmp_path) not in text, "the file's name, not its folder"
    saved = load_plan(out)
    assert saved.model.source == "graph.txt" and saved.request.limits == {"max_replicas": 1}
    assert saved.request.costs == {"source": "given", "bandwidth_bytes_per_s": "1000000.0"}
    assert mapper("check", out, "--graph", path).code == 0
    assert "its graph is not at hand" in mapper("check", out).out
    path.write_text(PIPEDREAM.replace("22.806", "22.807"))
    assert mapper("check", out, "--graph", path).code == 9, "another graph"
    again = mapper("plan", "--graph", path, "--topo", "uniform:2", "--json")
    assert json.loads(again.out)["request"]["costs"]["bandwidth_bytes_per_s"] == "16000000000.0"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--topo", "sg2042"), "equal units"),
        (("--topo", "uniform:2", "--batch", "2"), "--batch is for models"),
        (("--topo", "uniform:2", "--model", "vit"), "name a model, a graph or a problem file"),
        (("--topo", "uniform:2", "--replicas", "many"), "--replicas many"),
        (("--topo", "uniform:2", "--bandwidth", "0"), "more than 0"),
        (("--topo", "uniform:9", "--stages", "9"), "9 stages were asked for"),
    ],
)
def test_options_that_make_no_sense_for_a_graph(options: tuple[str, ...], message: str, tmp_path: Path) -> None:
    (tmp_path / "graph.txt").write_text(PIPEDREAM)
    result = mapper("plan", "--graph", tmp_path / "graph.txt", *options)
    assert result.code == 2 and message in result.err


def test_a_traced_graph_is_planned_from_its_file_as_from_the_model(tmp_path: Path) -> None:
    source, path = "tests.program.modules:attention", tmp_path / "a.json"
    assert mapper("model", "trace", source, "-o", path).code == 0
    assert mapper("plan", "--graph", path, "--topo", "sg2042", "-o", tmp_path / "g.json", "-q").code == 0
    assert mapper("plan", "--model", source, "--topo", "sg2042", "-o", tmp_path / "m.json", "-q").code == 0
    from_file, from_model = load_plan(tmp_path / "g.json"), load_plan(tmp_path / "m.json")
    assert from_file.stages == from_model.stages and from_file.model.graph_sha256 == from_model.model.graph_sha256
    assert mapper("check", tmp_path / "g.json", "--graph", path).code == 0
    for name, options in (("a.txt", ()), ("d.json", ("--format", "dnn-partitioning"))):
        out = tmp_path / name
        assert mapper("model", "trace", source, "-o", out, "--topo", "sg2042", *options).code == 0
        assert [op.proc_s for op in load_graph(out).ops] != [0.0] * len(load_graph(out).ops)
        assert mapper("plan", "--graph", out, "--topo", "uniform:2", "-q").code == 0


CHAIN = """
import re, sys
from pathlib import Path
from mapper.cost.imported import given_costs
from mapper.graph.importers.load import load_graph
from mapper.machine.files import load_machine
from mapper.solver.plan import plan
from mapper.solver.problem import Limits
graph = load_graph(sys.argv[1])
made = plan(graph, load_machine("uniform:16"), costs=given_costs(graph, 16e9), limits=Limits(max_replicas=1),
            near_optimal=0.0)
# ru_maxrss would count what the parent had before exec
peak = re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1]
print(len(graph.ops), made.solver.status, made.solver.gap, peak)
"""


@pytest.mark.slow
@pytest.mark.parametrize("ops", [2_500, pytest.param(100_000, marks=pytest.mark.soak)])
def test_long_chains_are_planned_in_little_memory(ops: int, tmp_path: Path) -> None:
    pick, path = random.Random(0), tmp_path / "graph.txt"
    lines = [
        f"n{v} -- Op -- forward_compute_time={pick.uniform(0.01, 1):.3f}, backward_compute_time=0.0, "
        f"activation_size={pick.randrange(10**5, 10**6)}.0, parameter_size=0.0"
        for v in range(ops)
    ]
    path.write_text("\n".join([*lines, *(f"\tn{v} -- n{v + 1}" for v in range(ops - 1))]))
    result = subprocess.run(
        [sys.executable, "-c", CHAIN, str(path)], capture_output=True, text=True, check=True, timeout=250
    )
    count, status, gap, peak = result.stdout.split()
    assert int(count) == ops and status in ("optimal", "feasible")
    assert float(gap) < 0.02, "cutting between blocks instead of ops costs little"
    assert int(peak) < 1_500_000, "KiB"


def boxes() -> Graph:
    """Four ops of 1, 1, 1 and 3 s that take 1 kB each, one behind the other: best as three and one."""
    ops = [Op(name=f"n{v}", kind="other", proc_s=t, memory_bytes=1000.0) for v, t in enumerate((1.0, 1.0, 1.0, 3.0))]
    return assembled("g", "g", ops, {f"n{v}": Output(0.0, 0.0, {}, [f"n{v + 1}"]) for v in range(3)})


def test_every_unit_has_memory_of_its_own() -> None:
    graph = boxes()
    free = solved(graph, 2)
    assert [len(stage.ops) for stage in free.stages] == [3, 1] and len(free.machine.nodes) == 1
    made = solved(graph, 2, Limits(max_replicas=1, node_memory_bytes=2500.0))
    assert [len(stage.ops) for stage in made.stages] == [2, 2] and made.predicted.node_memory_bytes == (2000.0, 2000.0)
    assert made.solver.status == "optimal" and made.predicted.period_s == 4.0
    assert check(made, graph, given_costs(graph, 16e9)).violations == ()
    with pytest.raises(Infeasible, match="--memory-per-node"):
        solved(graph, 2, Limits(max_replicas=1, node_memory_bytes=1500.0))
    with pytest.raises(Infeasible, match="--memory-per-node"):
        solved(graph, 1, Limits(max_replicas=1, node_memory_bytes=3500.0))
    more, fewer = (lever.change(made.machine) for lever in unit_levers())
    assert [len(node.groups) for node in more.nodes] == [1, 1, 1] and len(fewer.groups) == 1


@QUICK
@given(costed_graphs(most_ops=5), st.integers(1, 3), st.sampled_from([1.5, 2.5]))
def test_the_least_load_within_the_memory_of_units_is_that_of_brute_force(
    graph: Graph, stages: int, room: float
) -> None:
    """Each op takes 1 GB beside its tensors, which are of bytes."""
    heavy = tuple(op.model_copy(update={"proc_s": 0.01 + (op.proc_s or 0), "memory_bytes": 1e9}) for op in graph.ops)
    graph = graph.model_copy(update={"ops": heavy})
    known = least_load(graph, stages, most_ops=int(room))
    limits = Limits(max_replicas=1, node_memory_bytes=room * 1e9)
    if known == float("inf"):
        with pytest.raises(Infeasible):
            solved(graph, stages, limits)
        return
    made = solved(graph, stages, limits)
    assert made.predicted.period_s == pytest.approx(known, rel=1e-9) and made.solver.status == "optimal"
