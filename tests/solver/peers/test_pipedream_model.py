"""PipeDream's objective as published: by hand, by brute force, and the figures that its own optimiser printed."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mapper.cost.pipedream import exchange_s, training_costs, without_inputs
from mapper.errors import BadInput, UsageError
from mapper.graph.importers.draft import Output, assembled
from mapper.graph.importers.load import load_graph
from mapper.graph.model import Graph, Op, WeightUse
from mapper.machine.files import load_machine
from mapper.plans.check import check
from mapper.plans.model import Plan
from mapper.reports.peers import replicas_text
from mapper.solver.covers.ideals import ideals
from mapper.solver.peers.pipedream import plan_pipedream
from mapper.solver.peers.programs import pipedream_program
from mapper.solver.problem import Limits, problem_of
from tests.graph.files import FOLDER, OPTIMA, PIPEDREAM

QUICK = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def op(name: str, forward: float, backward: float, weights: int, target: str = "") -> Op:
    used = (WeightUse(name=f"{name}.w", bytes=weights, touched_bytes=weights),) if weights else ()
    return Op(name=name, kind="other", target=target, proc_s=forward, backward_s=backward, weights=used)


@st.composite
def profiles(draw: st.DrawFn, most_ops: int = 5) -> Graph:
    """A random graph with times of both passes and weights, and some work in it."""
    n = draw(st.integers(1, most_ops))
    amount = st.integers(0, 9)
    ops = [op(f"n{v}", draw(amount) + (v == 0), draw(amount), draw(amount)) for v in range(n)]
    outputs = {}
    for v in range(n - 1):
        readers = draw(st.lists(st.integers(v + 1, n - 1), unique=True, max_size=2))
        if readers:
            outputs[f"n{v}"] = Output(100.0, None, {}, [f"n{r}" for r in readers])
    return assembled("random", "random", ops, outputs)


def least(graph: Graph, units: int, bandwidth: float, most: int) -> float:
    """The best of all partitions and replica counts that take at most `units` units, by enumeration."""
    names, best = [op.name for op in graph.ops], math.inf
    for labels in itertools.product(range(units), repeat=len(names)):
        home = dict(zip(names, labels, strict=True))
        count = max(labels) + 1
        if set(labels) != set(range(count)):
            continue
        if any(home[r] < home[t.producer] for t in graph.tensors for r in t.readers):
            continue
        work, size = [0.0] * count, [0.0] * count
        for op in graph.ops:
            work[home[op.name]] += (op.proc_s or 0) + (op.backward_s or 0)
            size[home[op.name]] += sum(w.bytes for w in op.weights)
        for counts in itertools.product(range(1, most + 1), repeat=count):
            if sum(counts) <= units:
                loads = [
                    (c + 4 * (m - 1) * p / (bandwidth * m)) / m for c, p, m in zip(work, size, counts, strict=True)
                ]
                best = min(best, max(loads))
    return best


def correct(made: Plan, graph: Graph, units: int, bandwidth: float) -> None:
    """It passes its check with costs derived from the file again."""
    work = without_inputs(graph)
    assert check(made, work, training_costs(work, units, bandwidth)).violations == ()


def test_a_hand_computed_graph() -> None:
    """a: 4 + 8 s, no weights; b: 1 + 2 s, 30 bytes. At 10 bytes/s on 4 units, three copies of a and one b: 4 s. Four
    copies of both would be (15 + 4 · 3 · 30 / 40) / 4 = 6 s; two and two (3 + 4 · 30 / 20) / 2 = 4.5 s for b."""
    graph = assembled("hand", "hand", [op("a", 4, 8, 0), op("b", 1, 2, 30)], {"a": Output(10.0, None, {}, ["b"])})
    made = plan_pipedream(graph, load_machine("uniform:4"), 10.0)
    assert [(s.ops, s.replicas[0].configuration.groups, len(s.replicas)) for s in made.stages] == [
        (("a",), 3, 1), (("b",), 1, 1)]  # fmt: skip
    assert made.predicted.period_s == pytest.approx(4.0) and made.solver.status == "optimal"
    assert [stage.load.total_s for stage in made.stages] == pytest.approx([4.0, 3.0])
    assert made.solver.proved.space == "all chains of ideals × 1..4 replicas a stage"
    others = {a.name: 1 / a.throughput_per_s for a in made.alternatives}
    assert others == pytest.approx({"no replication": 12.0, "data parallel": 6.0})
    correct(made, graph, 4, 10.0)
    two = plan_pipedream(graph, load_machine("uniform:4"), 10.0, most_replicas=2)
    assert two.predicted.period_s == pytest.approx(6.0) and two.request.limits == {"max_replicas": 2}
    assert exchange_s(30, 4, 10.0) * 4 == pytest.approx(9.0)


def test_the_report_says_replicas() -> None:
    graph = assembled("hand", "hand", [op("a", 4, 8, 0), op("b", 1, 2, 30)], {"a": Output(10.0, None, {}, ["b"])})
    lines = replicas_text(plan_pipedream(graph, load_machine("uniform:4"), 10.0))
    assert (
        lines[0]
        == "PipeDream's objective: 4 replicas in all, one a unit; those of a stage exchange its weights at 10 B/s"
    )
    assert [line.split() for line in lines[3:]] == [
        ["0", "3", "0", "B", "4.000000", "0.000000", "4.000000"],
        ["1", "1", "30", "B", "3.000000", "0.000000", "3.000000"],
    ]


def test_inputs_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "graph.txt").write_text(PIPEDREAM)
    graph = load_graph(tmp_path / "graph.txt")
    work = without_inputs(graph)
    assert [op.name for op in work.ops] == ["node2", "node3"] and [t.name for t in work.tensors] == ["node2"]
    made = plan_pipedream(graph, load_machine("uniform:1"), 1e9)
    assert made.predicted.period_s == pytest.approx((6.5 + 13.0 + 0.333) / 1e3)
    assert made.model.graph_sha256 == work.sha256
    assert without_inputs(work) is work
    reads = assembled("x", "x", [op("a", 1, 1, 0), op("b", 1, 1, 0, "Input")], {"a": Output(1.0, None, {}, ["b"])})
    assert without_inputs(reads) is reads, "an op that reads something is no input"
    named = [op("a", 1, 1, 0, "InputProjection(8)"), op("b", 1, 1, 0, "Input0")]
    assert [o.name for o in without_inputs(assembled("x", "x", named, {})).ops] == ["a"]
    with pytest.raises(BadInput, match="only inputs"):
        without_inputs(assembled("x", "x", [op("a", 1, 1, 0, "Input")], {}))


def test_what_the_objective_is_not_for() -> None:
    forward = assembled("f", "f", [Op(name="a", kind="other", proc_s=1.0)], {})
    with pytest.raises(UsageError, match="no time of the backward pass of a"):
        plan_pipedream(forward, load_machine("uniform:2"), 1e9)
    graph = assembled("g", "g", [op("a", 1, 1, 0)], {})
    with pytest.raises(UsageError, match="for equal units"):
        plan_pipedream(graph, load_machine("sg2042"), 1e9)
    with pytest.raises(UsageError, match="knows no latency"):
        plan_pipedream(graph, load_machine("uniform:2"), 1e9, limits=Limits(max_latency_s=1.0))
    with pytest.raises(UsageError, match="bandwidth"):
        plan_pipedream(graph, load_machine("uniform:2"), 0.0)
    with pytest.raises(BadInput, match="no op takes any time"):
        plan_pipedream(assembled("g", "g", [op("a", 0, 0, 0)], {}), load_machine("uniform:2"), 1e9)
    shared = [o.model_copy(update={"weights": (WeightUse(name="w", bytes=8, touched_bytes=8),)}) for o in
              (op("a", 1, 1, 0), op("b", 1, 1, 0))]  # fmt: skip
    with pytest.raises(UsageError, match="share a weight"):
        plan_pipedream(assembled("g", "g", shared, {}), load_machine("uniform:2"), 1e9)


@QUICK
@given(profiles(), st.integers(1, 3), st.sampled_from([1.0, 4.0]), st.sampled_from([None, 1, 2]))
def test_the_plan_is_the_best_of_all(graph: Graph, units: int, bandwidth: float, most: int | None) -> None:
    made = plan_pipedream(graph, load_machine(f"uniform:{units}"), bandwidth, most_replicas=most)
    best = least(graph, units, bandwidth, most or units)
    assert made.predicted.period_s == pytest.approx(best, rel=1e-6)
    assert made.solver.status == "optimal" and made.solver.bound <= best * (1 + 1e-9)
    correct(made, graph, units, bandwidth)
    seconds = np.array([(op.proc_s or 0) + (op.backward_s or 0) for op in graph.ops])
    weights = np.array([sum(w.bytes for w in op.weights) for op in graph.ops], dtype=float)
    found = ideals(problem_of(graph, load_machine(f"uniform:{units}"), training_costs(graph, units, bandwidth)))
    theirs, _ = pipedream_program(found, seconds, weights, units, bandwidth, most or units)
    assert made.predicted.period_s <= theirs * (1 + 1e-6), "theirs must use every unit, ours may"


@pytest.mark.skipif(not OPTIMA, reason="the published workloads are not beside this checkout")
@pytest.mark.parametrize(
    ("name", "most", "published", "replicas"),
    [("vgg16", None, 0.175733, [3, 1]), ("vgg16", 1, 0.216450, [1] * 4), ("resnet50", None, 0.111497, [1] * 4),
     ("resnet50", 1, 0.111497, [1] * 4)],
)  # fmt: skip
def test_published_figures(name: str, most: int | None, published: float, replicas: list[int]) -> None:
    graph = load_graph(FOLDER / "pipedream" / name / "graph.txt")
    made = plan_pipedream(graph, load_machine("uniform:4"), 1e9, most_replicas=most)
    assert made.predicted.period_s <= published + 5e-7, "published with six digits"
    assert made.predicted.period_s == pytest.approx(published, abs=5e-7), "and there is none better"
    assert made.solver.status == "optimal" and made.solver.gap <= 1e-6
    assert [stage.replicas[0].configuration.groups for stage in made.stages] == replicas
    correct(made, graph, 4, 1e9)
