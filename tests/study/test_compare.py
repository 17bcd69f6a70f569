"""Two results side by side: what stands together, what is compared, and what is refused."""

from __future__ import annotations

import itertools
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mapper
from mapper.errors import BadInput, UsageError
from mapper.jsonio import dumps, plain
from mapper.plans.file import save_plan
from mapper.plans.model import Plan
from mapper.plans.problem_file import read_problem
from mapper.plans.problem_plan import save_problem_plan
from mapper.solver.problem import Limits
from mapper.solver.problem_plan import plan_of_file
from mapper.study.compare import SideBySide, _by_ops, compare
from mapper.study.sides import StageFigures
from tests.cost.profiles import profile_with
from tests.reports import scenes
from tests.reports.reported import chain, cut
from tests.reports.test_terminal import comparison, measurement

PROBLEM = Path(__file__).parents[1] / "golden" / "problem_small.json"


@cache
def cuts(stages: int) -> Plan:
    return cut(chain(12), stages)


def stage(number: int, ops: tuple[str, ...]) -> StageFigures:
    return StageFigures(id=number, ops=ops, replicas=1, load_s=1.0, predicted_load_s=1.0)


@st.composite
def cut_ops(draw: st.DrawFn) -> list[StageFigures]:
    """Up to five stages of some of nine ops, in any order of theirs."""
    names = draw(st.permutations([f"op{i}" for i in range(9)]))[: draw(st.integers(1, 9))]
    places = sorted(draw(st.sets(st.integers(1, len(names)), max_size=4)) | {len(names)})
    return [stage(i, tuple(names[a:b])) for i, (a, b) in enumerate(itertools.pairwise([0, *places]))]


def shared(a: StageFigures, b: StageFigures) -> int:
    return len(set(a.ops) & set(b.ops))


@given(cut_ops(), cut_ops())
def test_stages_that_share_most_ops_stand_together(a: list[StageFigures], b: list[StageFigures]) -> None:
    pairs = list(_by_ops(a, b))
    assert [pair.a for pair in pairs if pair.a] == a and [pair.b for pair in pairs if pair.b] == b
    together = [(pair.a, pair.b) for pair in pairs if pair.a and pair.b]
    assert all(pair.shared_ops == shared(pair.a, pair.b) > 0 for pair in pairs if pair.a and pair.b)
    best = max(
        sum(shared(x, y) for x, y in zip(left, right, strict=True))
        for count in range(min(len(a), len(b)) + 1)
        for left in itertools.combinations(a, count)
        for right in itertools.combinations(b, count)
    )
    assert sum(shared(x, y) for x, y in together) == best


def test_a_plan_is_equal_to_itself() -> None:
    found = compare(cuts(3), cuts(3))
    assert (found.throughput_ratio, found.latency_ratio, found.same_plan, found.paired_by) == (1.0, 1.0, True, "ops")
    assert not found.differences and not found.machine_differences
    assert [(pair.load_ratio, pair.shared_ops) for pair in found.stages] == [(1.0, 4)] * 3


@pytest.mark.parametrize(("one", "other"), [(1, 4), (3, 4), (2, 6), (5, 5)])
def test_the_other_way_round_is_the_inverse(one: int, other: int) -> None:
    there, back = compare(cuts(one), cuts(other)), compare(cuts(other), cuts(one))
    assert there.throughput_ratio is not None and back.throughput_ratio is not None
    assert there.throughput_ratio * back.throughput_ratio == pytest.approx(1)
    assert [(each.name, each.a, each.b) for each in there.differences] == \
        [(each.name, each.b, each.a) for each in back.differences]  # fmt: skip
    assert {pair.a.id for pair in there.stages if pair.a} == set(range(one))
    assert sum(pair.shared_ops or 0 for pair in there.stages) == sum(pair.shared_ops or 0 for pair in back.stages)


def test_loads_of_other_ops_are_not_divided() -> None:
    found = compare(cuts(1), cuts(4))
    assert [pair.load_ratio for pair in found.stages] == [None] * 4
    assert [pair.a is not None for pair in found.stages].count(True) == 1
    assert found.machine_differences, "one has a unit, the other four"


def test_a_measurement_takes_over_what_its_plan_tells() -> None:
    plan = cuts(3)
    run = scenes.measured(plan, measurement(), 1.2)
    for found in (compare(plan, run), compare(run, plan)):
        sides = {side.kind: side for side in (found.a, found.b)}
        assert found.same_plan and found.paired_by == "ops"
        assert [mine.ops for mine in sides["measured"].stages] == [mine.ops for mine in plan.stages]
        assert sides["measured"].cores_used == plan.predicted.cores_used
    assert [pair.load_ratio for pair in compare(plan, run).stages] == pytest.approx([1.2, 1.2, 1.3])


def test_what_was_measured_of_another_plan_is_paired_by_numbers() -> None:
    found = compare(cuts(3), scenes.measured(cuts(4), measurement(), 1.2))
    assert (found.same_plan, found.paired_by, len(found.stages)) == (False, "numbers", 4)
    assert found.stages[3].a is None and all(pair.load_ratio is None for pair in found.stages)


def test_two_runs_of_one_plan_are_compared_without_it() -> None:
    first, second = (scenes.measured(cuts(3), measurement(), factor) for factor in (1.0, 1.5))
    found = compare(first, second)
    assert (found.same_plan, found.paired_by, found.a.cores_used) == (True, "numbers", None)
    assert [pair.load_ratio for pair in found.stages] == pytest.approx([1.5, 1.5, 1.6 / 1.1])


def test_items_of_other_sizes_are_counted_in_elements() -> None:
    plan = cuts(2)
    larger = plan.model_copy(update={"request": plan.request.model_copy(update={"batch": 8})})
    found = compare(plan, larger)
    assert (found.counted_in, found.throughput_ratio) == ("elements", 8.0)
    assert [(each.name, each.a, each.b) for each in found.differences] == [("batch", 1, 8)]


def test_ways_of_two_comparisons_are_paired_by_name_and_noise_is_marked() -> None:
    found = compare(comparison(), scenes.slower(comparison()))
    assert [(pair.a is not None, pair.b is not None, pair.overlap) for pair in found.alternatives] == \
        [(True, True, False), (True, True, True), (True, False, None)]  # fmt: skip
    assert found.throughput_ratio == pytest.approx(101 / 110) and not found.stages and found.paired_by is None
    renamed = scenes.slower(comparison())
    rows = (renamed.alternatives[0].model_copy(update={"name": "mine"}), *renamed.alternatives[1:])
    renamed = renamed.model_copy(update={"chosen": "mine", "alternatives": rows})
    assert compare(comparison(), renamed).alternatives[0].b is not None, "the chosen plans belong together"


def test_files_of_all_kinds_in_any_combination(tmp_path: Path) -> None:
    plan = cuts(3)
    save_plan(plan, tmp_path / "plan.json")
    (tmp_path / "bundle").mkdir()
    save_plan(plan, tmp_path / "bundle" / "plan.json")
    results = {"run": scenes.measured(plan, measurement(), 1.2), "bench": comparison(), "sim": mapper.simulate(plan)}
    for name, result in results.items():
        (tmp_path / f"{name}.json").write_text(dumps(plain(result)))
    file, reference = read_problem(PROBLEM)
    save_problem_plan(plan_of_file(file, reference, Limits(), 0.0), tmp_path / "problem.json")
    names = ["plan.json", "bundle", *(f"{name}.json" for name in results), "problem.json"]
    for a, b in itertools.product(names, repeat=2):
        found = compare(tmp_path / a, str(tmp_path / b))
        assert (found.a.name, found.b.name) == (str(tmp_path / a), str(tmp_path / b))
        assert SideBySide.model_validate(found.model_dump(mode="json")) == found
        assert (found.throughput_ratio or 0) > 0
        if a == b:
            assert found.throughput_ratio == 1 and not found.differences


def test_other_files_are_refused(tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    save_plan(cuts(2), plan)
    machine, profile, bench = (tmp_path / f"{name}.json" for name in ("machine", "profile", "bench"))
    mapper.save_machine(mapper.load_machine("sg2042"), machine)
    profile.write_text(dumps(plain(profile_with(chain(4), mapper.load_machine("uniform:1")))))
    bench.write_text(dumps(plain(comparison().model_copy(update={"chosen": "nobody"}))))
    with pytest.raises(BadInput, match="neither a plan nor a measurement"):
        compare(plan, machine)
    with pytest.raises(UsageError, match=r"profile\.json is a profile"):
        compare(plan, profile)
    with pytest.raises(BadInput, match="/chosen: no alternative is called 'nobody'"):
        compare(bench, plan)
    with pytest.raises(BadInput, match="no such file"):
        compare(plan, tmp_path / "absent.json")
