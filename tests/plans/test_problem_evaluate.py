"""What a plan of a problem file costs: by hand, and against the enumeration that knows nothing of files."""

from __future__ import annotations

import copy
import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mapper.plans.problem_evaluate import Proposed, evaluate_problem
from mapper.plans.problem_file import ProblemFile
from mapper.solver.problem_file import problem_of_file
from tests.plans.test_problem_file import SMALL
from tests.solver import brute
from tests.solver.problem_files import Document, documents, file_of

FILE = file_of(SMALL)


def test_two_stages_by_hand() -> None:
    """The tensor of `in` crosses once into each reading stage and leaves once; u is 32 bytes a group."""
    made = evaluate_problem(FILE, [Proposed((0,), "1c", 2, True), Proposed((1, 2, 3), "8c", 1)])
    first, second = made.stages
    # W 4, private 4: not in a quarter of 32, but 4 + 4·4 ≤ 32 in a group of its own
    assert (first.residency, first.weight_bytes, first.private_bytes, first.dram_bytes) == ("group", 4, 4, 0)
    assert first.load_s == 8 + 0.25 + 8 / 32
    # W 20, private 4 + 2·8 = 20: within two caches
    assert (second.residency, second.weight_bytes, second.private_bytes) == ("group", 20, 20)
    assert second.load_s == (16 + 32 + 8) / 4 + 0.25 + 8 / 32
    assert made.period_s == second.load_s
    assert made.latency_s == first.load_s + second.load_s
    assert (made.cores_used, made.limited_by) == (4 + 8, "stage 1: its ops")


def test_what_no_cache_holds_is_drawn_from_dram() -> None:
    document = copy.deepcopy(SMALL)
    document["machine"]["chip_cache"] = {"bytes": 19, "fill": 1}
    document["machine"]["dram_bytes_per_s"] = 0.125
    made = evaluate_problem(file_of(document), [Proposed((0, 1, 2, 3), "1c", 8)])
    assert (made.stages[0].residency, made.stages[0].dram_bytes) == ("dram", 20)
    assert made.stages[0].load_s == 4 * (8 + 16 + 32 + 8)
    assert (made.period_s, made.limited_by) == (160, "DRAM")
    document["machine"]["chip_cache"]["bytes"] = 20
    made = evaluate_problem(file_of(document), [Proposed((0, 1, 2, 3), "1c", 8)])
    assert (made.stages[0].residency, made.dram_bytes_per_item) == ("chip", 0)


@settings(max_examples=150, deadline=None)
@given(documents(), st.data())
def test_loads_are_those_of_the_enumeration(document: Document, data: st.DataObject) -> None:
    file = file_of(document)
    problem = problem_of_file(file)
    chosen = data.draw(st.sampled_from(list(brute.partitions(problem))))
    config = data.draw(st.integers(0, len(file.configs) - 1))
    part = file.configs[config].cores < file.machine.cores_per_group
    alone = data.draw(st.booleans()) if part else False
    if any(brute.load(problem, stage, config, alone) is None for stage in chosen):
        alone = False
    made = evaluate_problem(file, [_proposed(file, stage, config, alone) for stage in chosen])
    for stage, derived in zip(chosen, made.stages, strict=True):
        cost = brute.load(problem, stage, config, alone)
        assert cost is not None
        assert (derived.load_s, derived.dram_bytes) == pytest.approx(cost, rel=1e-12, abs=1e-15)


def _proposed(file: ProblemFile, stage: tuple[int, ...], config: int, alone: bool) -> Proposed:
    return Proposed(tuple(sorted(file.order[v] for v in stage)), file.configs[config].name, 1, alone)


def test_replicas_shorten_the_period_only() -> None:
    one, three = (evaluate_problem(FILE, [Proposed((0, 1, 2, 3), "1c", r)]) for r in (1, 3))
    assert dataclasses.replace(three, stages=(), period_s=0, cores_used=0) == dataclasses.replace(
        one, stages=(), period_s=0, cores_used=0
    )
    assert (three.period_s, three.cores_used) == (one.period_s / 3, 3)
