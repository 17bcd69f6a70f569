"""Fronts on machines: placed plans, checked, that their options give again."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

import jsonschema
import pytest

from mapper.cli.limits import limits_of
from mapper.cli.schema import Kind, schema_of
from mapper.errors import Infeasible, UsageError
from mapper.graph.model import Graph
from mapper.jsonio import plain
from mapper.machine.files import load_machine
from mapper.plans.front import Front, FrontPoint, front_csv, front_json, load_front, save_front
from mapper.plans.model import Plan
from mapper.reports.front import front_text, kind_of
from mapper.solver.front import front, front_with_plans
from mapper.solver.plan import plan
from mapper.solver.problem import Limits
from mapper.solver.stop import Stop
from tests.planning.test_machines import block_chain

SMALL = "numa:2 group:2 core:2"
CHAIN = block_chain(6)


def made(graph: Graph, machine: str, limits: Limits, precision: float = 0.1) -> tuple[Front, tuple[Plan | None, ...]]:
    return front_with_plans(
        graph, load_machine(machine), costs=None, limits=limits, precision=precision, near_optimal=0.01, model=None,
        batch=1, progress=lambda message: None, stop=Stop(),
    )  # fmt: skip


def limits_in(options: str) -> Limits:
    """The limits that the options of a point set."""
    words = options.split()
    given = dict(zip(words[::2], words[1::2], strict=True))
    cores = given.pop("--max-cores", None)
    latency = given.pop("--max-latency")
    assert not given
    return limits_of(
        stages=None, max_stages=None, replicas=None, max_cores=int(cores) if cores else None, max_latency=latency,
        min_throughput=None, memory=None, together=None, apart=None,
    )  # fmt: skip


@pytest.mark.parametrize("machine", [SMALL, "sg2042", "epyc-7763"])
def test_options_give_a_plan_as_good(machine: str) -> None:
    points = made(CHAIN, machine, Limits(), 0.3)[0].points
    for point in points[:: max(1, len(points) // 5)]:
        again = plan(CHAIN, load_machine(machine), limits=limits_in(point.options), near_optimal=0.0).predicted
        assert again.period_s <= point.period_s * (1 + 1e-3)
        assert again.latency_s <= point.latency_s * 1.002
        assert again.cores_used <= point.cores_used
        assert again.period_s >= point.bound_s * (1 - 1e-3)


@pytest.mark.parametrize(
    "limits", [Limits(), Limits(max_stages=2), Limits(stages=2, max_replicas=2), Limits(node_memory_bytes=5e8)]
)
def test_points_are_plans_of_which_none_is_better_than_another(limits: Limits) -> None:
    found, plans = made(CHAIN, SMALL, limits)
    if limits.node_memory_bytes is None:  # not all plans found fit the nodes
        assert (found.proved.status, found.proved.precision) == ("complete", 0.1)
    assert found.proved.before_distances == 0.1
    assert [point.period_s for point in found.points] == sorted(point.period_s for point in found.points)
    for point, one in zip(found.points, plans, strict=True):
        assert one is not None and point.placed
        assert (point.period_s, point.latency_s) == (one.predicted.period_s, one.predicted.latency_s)
        assert point.cores_used >= one.predicted.cores_used
        assert sum(stage.ops for stage in point.stages) == len(CHAIN.ops)
        assert [stage.replicas for stage in point.stages] == [len(stage.replicas) for stage in one.stages]
        assert point.bound_s <= point.period_s
        assert limits.stages in (None, len(point.stages))
        assert max(one.predicted.node_memory_bytes) <= (limits.node_memory_bytes or math.inf)
        assert not any(better(other, point) for other in found.points if other is not point)


def better(a: FrontPoint, b: FrontPoint) -> bool:
    return a.period_s <= b.period_s and a.latency_s <= b.latency_s and a.cores_used <= b.cores_used


def test_ends_are_those_of_the_single_objectives() -> None:
    machine = load_machine(SMALL)
    found = front(CHAIN, machine)
    fastest = plan(CHAIN, machine).predicted
    soonest = plan(CHAIN, machine, objective="latency").predicted
    assert found.points[0].period_s <= fastest.period_s * 1.02
    assert min(point.latency_s for point in found.points) <= soonest.latency_s * 1.02
    assert min(point.cores_used for point in found.points) == 1


def test_limits_hold_for_every_point() -> None:
    machine = load_machine(SMALL)
    free = front(CHAIN, machine).points
    limits = Limits(
        max_latency_s=sorted(x.latency_s for x in free)[len(free) // 2], max_cores=6,
        min_throughput_per_s=free[-1].throughput_per_s * 1.5,
    )  # fmt: skip
    found = front(CHAIN, machine, limits=limits)
    assert limits.max_latency_s is not None and limits.min_throughput_per_s is not None
    for point in found.points:
        assert point.latency_s <= limits.max_latency_s * (1 + 1e-6) and point.cores_used <= 6
        assert point.throughput_per_s >= limits.min_throughput_per_s * (1 - 1e-6)
    assert found.request.limits == limits.as_options()


def test_limits_that_nothing_keeps() -> None:
    with pytest.raises(Infeasible) as caught:
        front(CHAIN, load_machine(SMALL), limits=Limits(max_latency_s=1e-9, max_cores=3))
    assert any("--max-latency" in lever for lever in caught.value.levers)


@pytest.mark.parametrize("precision", [0.0, -0.1, 1.5])
def test_a_precision_that_is_none(precision: float) -> None:
    with pytest.raises(UsageError, match="a precision of"):
        front(CHAIN, load_machine(SMALL), precision=precision)


def test_more_stages_than_ops() -> None:
    with pytest.raises(UsageError, match="7 stages were asked for"):
        front(CHAIN, load_machine(SMALL), limits=Limits(stages=7))


def test_the_time_is_up_at_once() -> None:
    """The least period and the ends are found in any case; nothing is placed, and less is proved."""
    found = front(CHAIN, load_machine("sg2042"), precision=0.01, time_limit_s=0.0)
    assert not any(point.placed for point in found.points)
    assert found.proved.status == "incomplete"
    assert found.proved.precision is not None and found.proved.precision > 0.01
    assert any(line.startswith("~") for line in front_text(found))


@pytest.mark.parametrize("message", ["periods looked at", "placing plan 3"])
def test_interrupted(message: str) -> None:
    """What was found by then is the front."""
    stop = Stop()

    def progress(said: str) -> None:
        if message in said and not stop.interrupted:
            raise KeyboardInterrupt

    found = front(CHAIN, load_machine(SMALL), progress=progress, stop=stop)
    assert stop.interrupted
    assert found.points and not all(point.placed for point in found.points)


def test_files(tmp_path: Path) -> None:
    found = front(CHAIN, load_machine(SMALL), precision=0.5)
    jsonschema.validate(plain(found), schema_of(Kind.front))
    for name in ("a.json", "a.csv"):
        save_front(found, tmp_path / name)
    assert load_front(tmp_path / "a.json") == found
    assert (tmp_path / "a.json").read_text() == front_json(found)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "a.csv").read_text())))
    assert [float(row["period_s"]) for row in rows] == [point.period_s for point in found.points]
    assert front_csv(found).splitlines()[0].startswith("throughput_per_s,period_s,latency_s,cores_used")
    with pytest.raises(UsageError, match=r"\.json or \.csv"):
        save_front(found, tmp_path / "a.txt")


def test_kinds_of_plan() -> None:
    stage = front(CHAIN, load_machine(SMALL), precision=0.5).points[-1].stages[0]

    def kind(*shapes: tuple[int, int]) -> str:
        return kind_of(tuple(stage.model_copy(update={"replicas": r, "threads": t}) for r, t in shapes))

    assert kind((1, 64)) == "the whole model, 64 threads"
    assert kind((4, 1)) == "4 copies × 1 thread"
    assert kind((3, 16), (1, 2)) == "2 stages: 3 × 16, 1 × 2 threads"
    assert kind(*[(1, 4)] * 6) == "6 stages: 1 × 4, 1 × 4, 1 × 4, … threads"
