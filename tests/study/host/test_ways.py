"""The ways to run a model as plans: what is first touched where, and that they cost what the planner says."""

from __future__ import annotations

import sys

import pytest

from mapper.cost.configurations import Config, configurations
from mapper.cost.roofline import roofline
from mapper.machine.files import load_machine
from mapper.plans.check import mapping_of, violations
from mapper.plans.reference import reference_of
from mapper.solver.plan import plan
from mapper.solver.problem import Limits
from mapper.study.host.ways import NO_SOLVER, Traced, copies, natives, others, plan_of, traced
from mapper.study.sg2042.mappings import mappings
from tests.execution import models

MACHINE = load_machine("pack:1 numa:2 group:2 core:2")


def _traced() -> Traced:
    graph = models.mlp().graph
    return traced(graph, reference_of(graph), 8, MACHINE)


def test_native_comes_with_all_threads_first_and_with_pages_as_touched_and_interleaved() -> None:
    found = natives(_traced(), MACHINE, "eager")
    assert [entrant.name for entrant in found] == [
        "native, 8 threads", "native, 8 threads, interleaved", "native, 4 threads", "native, 4 threads, interleaved",
        "native, 2 threads", "native, 2 threads, interleaved", "native, 1 thread", "native, 1 thread, interleaved",
    ]  # fmt: skip
    for entrant in found:
        ((replica,),) = (stage.replicas for stage in entrant.plan.stages)
        assert len(replica.cores) == replica.configuration.threads
        assert replica.weights.nodes == ((0,) if entrant.pages == "first touch" else (0, 1))
        assert entrant.plan.request.batch == entrant.calls_of == 8 and entrant.period_s > 0


def test_on_one_node_there_is_nothing_to_interleave() -> None:
    machine = load_machine("pack:1 numa:1 group:2 core:1")
    graph = models.mlp().graph
    found = natives(traced(graph, reference_of(graph), 8, machine), machine, "eager")
    assert [entrant.name for entrant in found] == ["native, 2 threads", "native, 1 thread"]


def test_a_way_costs_what_the_planner_says() -> None:
    of = _traced()
    table = roofline(of.graph, MACHINE, configurations(MACHINE))
    limits = Limits(stages=1, max_replicas=1, configurations=(Config(4, 2),))
    planned = plan(of.graph, MACHINE, costs=table, limits=limits, near_optimal=0.0)
    again = plan_of(of, MACHINE, mapping_of(planned), "eager")
    assert again.predicted == planned.predicted and again.stages == planned.stages
    assert not violations(again, of.graph, table)


def test_the_other_ways_are_those_of_the_study() -> None:
    found, skipped = others(_traced(), MACHINE, "eager", lambda message: None)
    names = {entrant.name: entrant.kind for entrant in found}
    wanted = {"8 copies × 1": "copies", "2 copies × 4": "copies", "4 stages × 2": "pipeline", "planner": "planner",
              "planner, latency limit": "planner", "one pipeline, any teams": "pipeline"}  # fmt: skip
    assert wanted.items() <= names.items()
    assert not skipped
    best = min(found, key=lambda entrant: entrant.period_s)
    assert best.period_s == pytest.approx(next(e.period_s for e in found if e.name == "planner"))


def test_without_the_solver_native_and_copies_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ortools", None)
    found, skipped = others(_traced(), MACHINE, "eager", lambda message: None)
    assert {entrant.kind for entrant in found} == {"copies"} and [one.reason for one in skipped] == [NO_SOLVER]


def test_copies_are_those_of_the_study() -> None:
    graph = models.mlp().graph
    mine = {mapping.name: mapping.placed for mapping in copies(graph, MACHINE, 1)}
    theirs = {
        m.name: m.placed
        for m in mappings(graph, MACHINE, roofline(graph, MACHINE, configurations(MACHINE)), 1, kinds=("copies",))
        if "copies" in m.name
    }
    assert mine.keys() == theirs.keys()
    for name, placed in mine.items():
        assert placed[0].ops == theirs[name][0].ops and placed[0].config == theirs[name][0].config
        assert sorted(placed[0].replicas) == sorted(theirs[name][0].replicas)
