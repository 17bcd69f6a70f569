"""The check of plans of problem files: it accepts what holds and names what does not."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from mapper.jsonio import plain
from mapper.plans.problem_check import check_problem_plan, problem_violations
from mapper.plans.problem_evaluate import evaluate_problem
from mapper.plans.problem_file import ProblemFile, ProblemRef
from mapper.plans.problem_plan import Objective, ProblemPlan
from mapper.solver.problem import Limits
from mapper.solver.problem_file import problem_of_file
from mapper.solver.problem_plan import plan_of_file
from tests.plans.changes import changed, named
from tests.plans.test_problem_file import SMALL
from tests.solver import brute
from tests.solver.problem_files import REFERENCE, documents, file_of, some_time

Document = dict[str, Any]
FILE = file_of(SMALL)


@pytest.fixture(scope="module")
def made() -> Document:
    """A plan of three stages, one of them with several replicas."""
    plan = plan_of_file(FILE, REFERENCE, Limits(stages=3))
    document: Document = plain(plan)
    assert len(document["stages"]) == 3 and max(stage["replicas"] for stage in document["stages"]) > 1
    return document


def found(document: Document, file: ProblemFile = FILE) -> list[str]:
    return problem_violations(ProblemPlan.model_validate(document), file)


def test_a_plan_as_it_was_made_holds(made: Document) -> None:
    report = check_problem_plan(ProblemPlan.model_validate(made), FILE, REFERENCE)
    assert report.violations == ()
    assert any("cover the ops" in line for line in report.verified)
    assert report.not_verified == ("that the bound is one: planning again is the only proof of it (mapper plan)",)


def test_without_the_file_the_rest_is_said(made: Document) -> None:
    report = check_problem_plan(ProblemPlan.model_validate(made))
    assert report.violations == ()
    assert any("--problem" in line for line in report.not_verified)


def put(pointer: str, value: Any) -> Callable[[Document], None]:
    """Sets what `pointer` names, to a value or to a function of the old one."""

    def apply(plan: Document) -> None:
        *parents, last = (int(part) if part.isdigit() else part for part in pointer.strip("/").split("/"))
        at: Any = plan
        for part in parents:
            at = at[part]
        at[last] = value(at[last]) if callable(value) else value

    return apply


def move_op(plan: Document) -> None:
    plan["stages"][1]["ops"].append(plan["stages"][0]["ops"].pop())


def swap_stages(plan: Document) -> None:
    stages = plan["stages"]
    stages[0], stages[2] = stages[2], stages[0]
    stages[0]["id"], stages[2]["id"] = 0, 2


def lose_stage(plan: Document) -> None:
    plan["stages"].pop()


def claim_period(plan: Document) -> None:
    period = plan["predicted"]["period_s"] * 0.9
    plan["predicted"] |= {"period_s": period, "throughput_per_s": 1 / period}
    plan["solver"] |= {"objective": period, "best_objective": period, "bound": period, "gap": 0.0}


def claim_optimal(plan: Document) -> None:
    plan["solver"] |= {"bound": plan["solver"]["best_objective"] * 0.9, "gap": 0.1}


def high_bound(plan: Document) -> None:
    """More than the best of all plans, though the figures agree with each other."""
    period = 1e3
    plan["request"]["limits"] = {}
    plan["predicted"] |= {"period_s": period, "throughput_per_s": 1 / period}
    plan["solver"] |= {"objective": period, "best_objective": period, "bound": period, "gap": 0.0}


CHANGES: dict[str, tuple[Callable[[Document], None], str]] = {
    "an op in another stage": (move_op, "/stages/"),
    "stages in a wrong order": (swap_stages, "which is in the later stage"),
    "a stage lost": (lose_stage, "is in no stage"),
    "an op twice": (lambda plan: plan["stages"][1]["ops"].append(plan["stages"][0]["ops"][0]), "already"),
    "an op that is none": (put("/stages/0/ops/0", 9), "/stages/0/ops/0: there is no op 9, the file has 4"),
    "a position before the ops": (put("/stages/0/ops/0", -1), "/stages/0/ops/0: there is no op -1"),
    "a configuration that is none": (put("/stages/1/configuration/name", "5c"), "/stages/1/configuration/name"),
    "another configuration": (put("/stages/1/configuration/name", "8c"), "/stages/1/"),
    "a replica more": (put("/stages/1/replicas", lambda r: r + 1), "/predicted/cores_used"),
    "replicas without cores": (put("/stages/1/replicas", 99), "but the machine has 8"),
    "another residency": (put("/stages/0/residency", "dram"), "/stages/0/residency: 'dram', but"),
    "a lighter load": (put("/stages/1/load_s", lambda x: x * 0.9), "/stages/1/load_s"),
    "lighter weights": (put("/stages/1/weight_bytes", 1.0), "/stages/1/weight_bytes"),
    "less from DRAM": (put("/stages/1/dram_bytes", 7.0), "/predicted/dram_bytes_per_item"),
    "less private": (put("/stages/1/private_bytes", 0.0), "/stages/1/private_bytes"),
    "a shorter period": (claim_period, "/predicted/period_s"),
    "more throughput": (put("/predicted/throughput_per_s", lambda x: x * 1.1), "not 1 / period_s"),
    "less latency": (put("/predicted/latency_s", lambda x: x * 0.9), "/predicted/latency_s"),
    "fewer cores": (put("/predicted/cores_used", 1), "/predicted/cores_used"),
    "another cause": (put("/predicted/limited_by", "DRAM"), "/predicted/limited_by"),
    "another objective": (put("/solver/objective", 1.0), "/solver/objective"),
    "a bound above the best": (put("/solver/bound", lambda x: x * 1.1), "/solver/bound"),
    "a bound below zero": (put("/solver/bound", -1.0), "/solver/bound"),
    "a bound that copies refute": (high_bound, "copies of everything"),
    "another gap": (put("/solver/gap", 0.5), "/solver/gap"),
    "optimal with a gap": (claim_optimal, "/solver/status: optimal, but the gap is 0.1"),
    "no plan": (put("/solver/status", "infeasible"), "/solver/status: infeasible, but there is a plan"),
    "a best that it is far from": (put("/solver/best_objective", lambda x: x * 0.9), "/solver/objective"),
    "a broken latency": (put("/request/limits/max_latency_s", 1.0), "/request/limits/max_latency_s"),
    "a broken rate": (put("/request/limits/min_throughput_per_s", 1e3), "/request/limits/min_throughput_per_s"),
    "another number of stages": (put("/request/limits/stages", 2), "/request/limits/stages: 3 stages, not 2"),
    "too many stages": (put("/request/limits/max_stages", 2), "/request/limits/max_stages"),
    "too many replicas": (put("/request/limits/max_replicas", 1), "/request/limits/max_replicas"),
    "too many cores": (put("/request/limits/max_cores", 2), "/request/limits/max_cores"),
    "a forbidden configuration": (put("/request/limits/configurations", ["8c"]), "/request/limits/configurations"),
    "ops apart": (put("/request/limits/together", [["in", "out"]]), "/request/limits/together/0"),
    "ops together": (put("/request/limits/apart", [["in", "in"]]), "/request/limits/apart/0: two ops or more"),
    "a limit to what is not there": (put("/request/limits/configurations", ["1c", "4c", "8c", "9c"]), "'9c'"),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_promise_is_found(name: str, made: Document) -> None:
    apply, message = CHANGES[name]
    document = copy.deepcopy(made)
    apply(document)
    assert any(message in line for line in found(document)), found(document)


def test_another_file_is_found(made: Document) -> None:
    other = ProblemRef(name="small", file="other.json", sha256="1" * 64)
    (line,) = check_problem_plan(ProblemPlan.model_validate(made), FILE, other).violations
    assert line.startswith("/problem/sha256: that of other.json is 111")


def test_a_limit_of_a_newer_version_is_not_vouched_for(made: Document) -> None:
    document = copy.deepcopy(made)
    document["request"]["limits"]["max_watts"] = 3
    report = check_problem_plan(ProblemPlan.model_validate(document), FILE)
    assert report.violations == () and "the limit max_watts" in report.not_verified


UNTOLD = {
    "problem/name": "a name; the file is told by its hash",
    "problem/file": "a name",
    "request/limits/max_latency_s": "a limit that is kept, whatever was asked; so are the others",
    "request/limits/min_throughput_per_s": "as above",
    "request/limits/max_replicas": "as above",
    "request/limits/max_cores": "as above",
    "request/limits/configurations": "as above",
    "request/limits/apart": "sets that are left out, or in another order; others are found",
    "request/limits/apart/*": "as above",
    "solver/near_optimal": "what was allowed; found where the plan is beyond it",
    "solver/proved/space": "what was searched: planning again is the only proof",
    "solver/proved/assumptions": "as above",
    "solver/proved/assumptions/*": "as above",
    "solver/tie_break": "as above",
    "solver/versions/mapper": "who made it",
    "solver/versions/ortools": "who made it",
    "stages/*/ops": "the order of ops within a stage, on which nothing depends",
    "provenance/mapper": "who made it",
}
"""Fields that can be changed by themselves with no promise broken, each with the reason."""


def test_any_single_change_is_found() -> None:
    limits = Limits(
        max_latency_s=1e3, min_throughput_per_s=1e-3, max_replicas=40, max_cores=8, stages=3, apart=(("in", "out"),)
    )
    made = plain(plan_of_file(FILE, REFERENCE, limits, configurations=["1c", "4c"]))
    missed = {}
    for place, other, document in changed(made):
        try:
            wrong = check_problem_plan(ProblemPlan.model_validate(document), FILE, REFERENCE).violations
        except ValidationError:
            continue
        if not wrong and named(place) not in UNTOLD:
            missed["/".join(map(str, place))] = other
    assert missed == {}


NUMBERS = ("load_s", "weight_bytes", "dram_bytes", "private_bytes")


@settings(max_examples=80, deadline=None)
@given(documents(), st.data())
def test_plans_hold_and_any_single_change_is_found(document: Document, data: st.DataObject) -> None:
    """And what is accepted has no period that the enumeration of all plans cannot have."""
    assume(some_time(document))
    file = file_of(document)
    plan = plan_of_file(file, REFERENCE)
    assert problem_violations(plan, file) == []
    best = brute.least_period(problem_of_file(file), Limits())
    assert plan.solver.bound <= best * (1 + 1e-9) and plan.predicted.period_s >= best * (1 - 1e-9)
    changed: Document = json.loads(json.dumps(plain(plan)))
    stage = data.draw(st.sampled_from(changed["stages"]))
    kind = data.draw(st.sampled_from([*NUMBERS, "residency", "replicas", "ops", "period"]))
    if kind in NUMBERS:
        stage[kind] = stage[kind] * 1.01 + 1e-3
    elif kind == "residency":
        stage[kind] = data.draw(st.sampled_from([r for r in ("group", "chip", "dram") if r != stage[kind]]))
    elif kind == "replicas":
        stage[kind] += 1
    elif kind == "ops":
        stage[kind] = [*stage[kind][1:], data.draw(st.sampled_from([-1, len(file.ops), *stage[kind][1:]]))]
    else:
        changed["predicted"]["period_s"] *= 1.01
    assert found(changed, file) != []


@settings(max_examples=60, deadline=None)
@given(documents(most_ops=3), st.floats(0.5, 3.0))
def test_a_bound_is_refuted_only_if_a_plan_is_better(document: Document, factor: float) -> None:
    """Whatever bound is claimed: what the check calls refuted is above the best of all plans."""
    assume(some_time(document))
    file = file_of(document)
    plan = plan_of_file(file, REFERENCE)
    best = brute.least_period(problem_of_file(file), Limits())
    claimed = plan.model_copy(update={"solver": plan.solver.model_copy(update={"bound": best * factor})})
    refuted = any("copies of everything" in line for line in problem_violations(claimed, file))
    assert not refuted or best * factor > best
    assert math.isfinite(evaluate_problem(file, []).period_s)


@pytest.mark.parametrize("objective", ["throughput", "latency", "cores"])
def test_copies_refute_a_bound_of_any_objective(objective: Objective) -> None:
    plan = plan_of_file(FILE, REFERENCE, Limits(min_throughput_per_s=0.05), objective=objective)
    assert problem_violations(plan, FILE) == []
    value = plan.predicted.value(objective)
    for factor, refuted in ((0.5, False), (20.0, True)):
        claimed = plan.model_copy(update={"solver": plan.solver.model_copy(update={"bound": value * factor})})
        assert any("copies of everything" in line for line in problem_violations(claimed, FILE)) is refuted


def test_groups_of_its_own_are_whole_ones_also_for_copies() -> None:
    """One op that only fits the cache of a group by itself: of 6 cores, 4 are such a group and 2 are of no use."""
    document = copy.deepcopy(SMALL)
    document["ops"] = [{"name": "only", "weights": [["a", 4]], "footprint": 6, "seconds": [[8, 80, 80]] * 3}]
    document["tensors"] = []
    file = file_of(document)
    plan = plan_of_file(file, REFERENCE, Limits(max_cores=6))
    assert plan.predicted.period_s == 2 and plan.predicted.cores_used == 4 and plan.stages[0].exclusive
    assert problem_violations(plan, file) == []
