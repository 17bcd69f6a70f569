"""Plans of problem files: the best of all, the same each time, and what is refused."""

from __future__ import annotations

import copy
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mapper.errors import BadInput, Infeasible, MapperError, UsageError
from mapper.jsonio import plain, validated
from mapper.plans.problem_check import problem_violations
from mapper.plans.problem_file import ProblemFile, read_problem
from mapper.plans.problem_plan import load_problem_plan, problem_plan_text, save_problem_plan
from mapper.solver.problem import Limits, Objective
from mapper.solver.problem_file import problem_of_file
from mapper.solver.problem_plan import plan_of_file, plan_problem
from mapper.solver.stop import Stop
from tests.plans.test_problem_file import SMALL
from tests.solver import brute
from tests.solver.problem_files import REFERENCE, Document, documents, file_of, some_time

GOLDEN = Path(__file__).parents[1] / "golden"
TABLES = Path(__file__).parents[3] / "shared" / "reference" / "planner"


@settings(max_examples=100, deadline=None)
@given(documents(), st.sampled_from([Limits(), Limits(max_replicas=1), Limits(max_cores=2), Limits(max_stages=2)]))
def test_the_plan_is_the_best_of_the_whole_space(document: Document, limits: Limits) -> None:
    assume(some_time(document))
    file = file_of(document)
    best = brute.least_period(problem_of_file(file), limits)
    if math.isinf(best):
        with pytest.raises(Infeasible, match="--max-cores"):
            plan_of_file(file, REFERENCE, limits)
        return
    plan = plan_of_file(file, REFERENCE, limits)
    assert plan.solver.status == "optimal"
    assert best * (1 - 1e-9) <= plan.predicted.period_s <= best * (1 + 1e-4)
    assert plan.solver.bound <= best * (1 + 1e-9)


@settings(max_examples=60, deadline=None)
@given(documents(), st.randoms(use_true_random=False))
def test_the_order_of_the_ops_in_the_file_makes_no_difference(document: Document, random: Any) -> None:
    assume(some_time(document))
    other = copy.deepcopy(document)
    names = [op["name"] for op in other["ops"]]
    for tensor in other["tensors"]:
        tensor["producer"], *tensor["readers"] = (
            end if isinstance(end, str) else names[end] for end in (tensor["producer"], *tensor["readers"])
        )
    random.shuffle(other["ops"])
    plans = [plan_of_file(file_of(x), REFERENCE) for x in (document, other)]
    assert plans[0].solver.best_objective == pytest.approx(plans[1].solver.best_objective, rel=1e-4)
    assert problem_violations(plans[1], file_of(other)) == []


@settings(max_examples=60, deadline=None)
@given(documents(most_ops=3), st.sampled_from(["latency", "cores"]), st.floats(0.2, 1.0))
def test_the_least_latency_and_the_fewest_cores(document: Document, objective: Objective, share: float) -> None:
    """Subject to a rate that is a share of the best one."""
    assume(some_time(document))
    file = file_of(document)
    problem = problem_of_file(file)
    limits = Limits(min_throughput_per_s=share / brute.least_period(problem, Limits()))
    plan = plan_of_file(file, REFERENCE, limits, objective=objective)
    assert problem_violations(plan, file) == []
    assert plan.request.objective == objective
    kept = list(brute.outcomes(problem, limits))
    best = min(x.latency_s if objective == "latency" else float(x.cores) for x in kept)
    assert best * (1 - 1e-8) <= plan.predicted.value(objective) <= best * (1 + 1e-4) + 1e-12
    assert plan.solver.bound <= best * (1 + 1e-9)


def test_a_stopped_search_gives_what_it_has() -> None:
    stop = Stop()
    stop.now()
    plan = plan_of_file(file_of(SMALL), REFERENCE, Limits(max_replicas=1), stop=stop)
    assert plan.solver.bound <= plan.solver.objective
    assert problem_violations(plan, file_of(SMALL)) == []


def test_allowance_for_fewer_stages() -> None:
    """Two equal stages beat one worker by far less than the allowance."""
    file = file_of(SMALL)
    strict = plan_of_file(file, REFERENCE, Limits(max_replicas=1))
    loose = plan_of_file(file, REFERENCE, Limits(max_replicas=1), near_optimal=3.0)
    assert len(loose.stages) == 1 < len(strict.stages)
    assert loose.solver.objective > loose.solver.best_objective == pytest.approx(strict.solver.objective)
    assert loose.solver.status == "optimal" and loose.solver.near_optimal == 3.0


def test_configurations_are_named_by_the_file() -> None:
    file = file_of(SMALL)
    plan = plan_of_file(file, REFERENCE, configurations=["4c", "8c"])
    assert {stage.configuration.name for stage in plan.stages} <= {"4c", "8c"}
    assert plan.request.limits.configurations == ("4c", "8c")
    assert problem_violations(plan, file) == []
    with pytest.raises(UsageError, match="'1x4' is no configuration of small"):
        plan_of_file(file, REFERENCE, configurations=["1x4"])


def test_two_configurations_of_one_shape_are_two() -> None:
    """Kernels that split weights over the groups' caches against kernels that do not."""
    document = copy.deepcopy(SMALL)
    document["configs"].append({"name": "8c plain", "cores": 8, "groups": 2, "cache_shares": 1})
    for op in document["ops"]:
        op["seconds"].append([2 * x for x in op["seconds"][2]])
    file = file_of(document)
    plan = plan_of_file(file, REFERENCE, Limits(stages=1), configurations=["8c plain"])
    assert plan.stages[0].configuration.name == "8c plain"
    assert plan.stages[0].load_s == 2 * plan_of_file(file, REFERENCE, Limits(stages=1), configurations=["8c"]).stages[0].load_s  # fmt: skip # noqa: E501


def test_ops_that_the_request_keeps_together_or_apart() -> None:
    file = file_of(SMALL)
    plan = plan_of_file(file, REFERENCE, Limits(stages=2, together=(("in", "right"),)))
    assert any({0, 2} <= set(stage.ops) for stage in plan.stages)
    with pytest.raises(UsageError, match="has no op 'rigt'"):
        plan_of_file(file, REFERENCE, Limits(together=(("in", "rigt"),)))


def test_sizes_that_do_not_pack_are_an_assumption() -> None:
    document = copy.deepcopy(SMALL)
    document["configs"][0]["cores"] = 3
    (_, remark) = plan_of_file(file_of(document), REFERENCE).solver.proved.assumptions
    assert remark == "cores are counted, not placed: configurations of 3 cores do not divide groups of 4"


def test_what_makes_no_sense_is_refused() -> None:
    file = file_of(SMALL)
    with pytest.raises(UsageError, match="5 stages were asked for, but small has 4 ops"):
        plan_of_file(file, REFERENCE, Limits(stages=5))
    with pytest.raises(UsageError, match="no NUMA nodes"):
        plan_of_file(file, REFERENCE, Limits(node_memory_bytes=1e9))
    with pytest.raises(Infeasible, match="--max-latency"):
        plan_of_file(file, REFERENCE, Limits(max_latency_s=1e-3))


def test_nothing_to_plan() -> None:
    document = copy.deepcopy(SMALL)
    for op in document["ops"]:
        op["seconds"] = [[0, 0, 0]] * 3
    with pytest.raises(BadInput, match="the best period is 0 s"):
        plan_of_file(file_of(document), REFERENCE)


def test_a_plan_is_written_and_read_again(tmp_path: Path) -> None:
    plan = plan_of_file(file_of(SMALL), REFERENCE)
    save_problem_plan(plan, tmp_path / "plan.json")
    assert load_problem_plan(tmp_path / "plan.json") == plan
    document = plain(plan)
    document["stages"][0]["id"] = 1
    (tmp_path / "plan.json").write_text(json.dumps(document))
    with pytest.raises(BadInput, match="/stages/0/id: stage ids count from 0; 1 stands at position 0"):
        load_problem_plan(tmp_path / "plan.json")


def test_the_plan_of_a_small_file_is_as_it_was() -> None:
    """All but versions and where the bound came to lie, which is up to the steps of the search.

    Write it anew with MAPPER_WRITE_GOLDEN=1 after a change that is meant, and read the difference.
    """
    plan = plan_problem(GOLDEN / "problem_small.json", Limits(max_latency_s=60.0, max_replicas=1))
    document = plain(plan)
    for version in (document["solver"].pop("versions"), document.pop("provenance")):
        assert version["mapper"]
    assert 13 * (1 - 1e-4) <= document["solver"].pop("bound") <= 13 and document["solver"].pop("gap") <= 1e-4
    text, file = json.dumps(document, indent=1) + "\n", GOLDEN / "problem_small.plan.json"
    if os.environ.get("MAPPER_WRITE_GOLDEN"):
        file.write_text(text)
    assert text == file.read_text()


def test_the_same_file_gives_the_same_bytes_whatever_the_hash_seed() -> None:
    code = (
        "import sys; from pathlib import Path; from mapper.solver.problem_plan import plan_problem; "
        "from mapper.plans.problem_plan import problem_plan_text; "
        "sys.stdout.write(problem_plan_text(plan_problem(Path(sys.argv[1]))))"
    )
    file = GOLDEN / "problem_small.json"
    texts = {
        subprocess.run(
            [sys.executable, "-c", code, file], capture_output=True, text=True, check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert texts == {problem_plan_text(plan_problem(file))}


@pytest.mark.skipif(not TABLES.is_dir(), reason="the reference instances are not beside this checkout")
@pytest.mark.parametrize("name", ["vgg16.sg2042", "vit_b16.epyc"])
def test_plans_of_the_reference_instances_hold_and_meet_the_optimum(name: str) -> None:
    known = json.loads((TABLES / "optima.json").read_text())["tables"][name]
    path = TABLES / "tables" / f"{name}.json"
    for request in known[:2]:
        plan = plan_problem(path, Limits(max_latency_s=request["max_latency_s"]))
        assert plan.predicted.period_s <= request["period_s"] * 1.0001
        assert plan.solver.bound <= request["period_s"] * (1 + 1e-9)
        assert problem_violations(plan, read_problem(path)[0]) == []


def test_a_time_that_means_never_drowns_nothing() -> None:
    """An op that cannot run on a configuration, by a number beside which the others are rounding."""
    document = copy.deepcopy(SMALL)
    plain_file = file_of(document)
    for op in document["ops"][:2]:
        op["seconds"][2] = [1e17] * 3
    file = file_of(document)
    plan = plan_of_file(file, REFERENCE, Limits(max_latency_s=30.0))
    free = plan_of_file(plain_file, REFERENCE, Limits(max_latency_s=30.0), configurations=["1c", "4c"])
    assert plan.predicted.period_s == free.predicted.period_s and plan.solver.status == "optimal"
    for op, only in zip(document["ops"], (1, 2), strict=False):
        op["seconds"] = [[1.0] * 3 if row == only else [1e17] * 3 for row in range(3)]
    with pytest.raises(BadInput, match=r"/ops/./seconds: no plan within the limits but one with '(in|left)'"):
        plan_of_file(file_of(document), REFERENCE, Limits(stages=1))


def _places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value in a document."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(place for key, part in inner for place in _places(part, (*at, key)))]


ODD = (None, True, -1, 0, 1, 7, 0.5, 1e18, 10**400, "", "in", "1", [], {}, [[]], [1, 2, 3], {"name": "x"})


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(_places(SMALL)[1:]), st.sampled_from(ODD), st.booleans())
def test_any_document_is_planned_or_refused(place: tuple[Any, ...], odd: Any, drop: bool) -> None:
    """Whatever stands at one place of a file, the answer is a plan that holds, or a message."""
    document = copy.deepcopy(SMALL)
    at: Any = document
    for key in place[:-1]:
        at = at[key]
    if drop:
        del at[place[-1]]
    else:
        at[place[-1]] = odd
    try:
        file = validated(ProblemFile, document, "p.json")
        plan = plan_of_file(file, REFERENCE)
    except MapperError as error:
        assert isinstance(error, BadInput) and str(error).startswith(("p.json, /", "small"))
        return
    assert problem_violations(plan, file) == []
