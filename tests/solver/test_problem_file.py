"""Problem files as arrays and back: what the format can say comes back, the rest is named and makes no plan dearer."""

from __future__ import annotations

import json
import math
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mapper.cost.imported import given_costs
from mapper.cost.residency import Caches
from mapper.graph.model import Graph
from mapper.machine.files import load_machine
from mapper.plans.problem_file import read_problem
from mapper.solver.covers.ideals import ideals
from mapper.solver.covers.intervals import intervals
from mapper.solver.problem import Limits, Problem, TensorArc, problem_of
from mapper.solver.problem_file import left_out_of_machine, load_problem, problem_of_file, problem_text
from mapper.solver.problem_plan import plan_of_file
from mapper.solver.search.least_period import throughput
from mapper.solver.search.space import Space
from tests.graph.files import costed_graphs
from tests.solver import brute
from tests.solver.problem_files import REFERENCE, Document, documents, file_of
from tests.solver.problems import problems

TABLES = Path(__file__).parents[3] / "shared" / "reference" / "planner" / "tables"
TIMED = ("bytes of tensors: written is what takes their seconds at 1.07 GB/s",)
QUICK = settings(max_examples=80, deadline=None)


def written(problem: Problem, limits: Limits | None = None) -> tuple[Document, tuple[str, ...]]:
    """The document that `problem_text` writes, and what it left out."""
    names = [f"op {v}" for v in range(problem.ops)]
    text, left_out = problem_text(problem, names, ["any"] * problem.ops, name="small", limits=limits)
    document: Document = json.loads(text)
    return document, left_out


def assert_same(a: Problem, b: Problem) -> None:
    """Equal in every field: arrays exactly, weights in any order, and caches whatever they are called."""
    for field in fields(Problem):
        x, y = getattr(a, field.name), getattr(b, field.name)
        if isinstance(x, np.ndarray):
            assert np.array_equal(x, y), field.name
        elif field.name == "weights":
            assert sorted((w.users, w.bytes) for w in x) == sorted((w.users, w.bytes) for w in y)
        elif field.name == "caches":
            assert (x.group_bytes, x.package_bytes) == (y.group_bytes, y.package_bytes)
        else:
            assert x == y, field.name


@QUICK
@given(documents(most_ops=6))
def test_what_was_read_is_written_and_read_again(document: Document) -> None:
    problem = problem_of_file(file_of(document))
    again, left_out = written(problem)
    assert left_out == ()
    assert_same(problem_of_file(file_of(again)), problem)


def test_a_table_is_that_of_the_file_in_running_order() -> None:
    document: Document = json.loads((Path(__file__).parents[1] / "golden" / "problem_small.json").read_text())
    problem = problem_of_file(file_of(document))
    assert [op["name"] for op in document["ops"]] == ["out", "in", "left", "right"]
    assert problem.seconds[:, 0, :].tolist() == [[8, 16, 32], [16, 32, 64], [32, 64, 128], [8, 16, 32]]
    assert [(t.producer, t.readers) for t in problem.tensors] == [(0, (1, 2)), (1, (3,)), (2, (3,))]
    assert sorted((w.users, w.bytes) for w in problem.weights) == [((0, 1), 4), ((2,), 16)]
    assert (problem.caches.group_bytes, problem.caches.package_bytes) == (32, 1024)


def sayable(problem: Problem) -> Problem:
    """`problem` without what the format cannot say."""
    return replace(
        problem,
        dram_bytes=np.zeros_like(problem.dram_bytes),
        link_bytes_per_s=(max(problem.link_bytes_per_s),) * len(problem.configs),
    )


@QUICK
@given(problems())
def test_what_the_format_can_say_costs_the_same(problem: Problem) -> None:
    assume(problem.seconds.any())
    problem = sayable(problem)
    document, left_out = written(problem)
    assert left_out == ()
    again = problem_of_file(file_of(document))
    for stages in brute.partitions(problem):
        for stage in stages:
            for c in range(len(problem.configs)):
                assert brute.load(problem, stage, c, False) == brute.load(again, stage, c, False)


@QUICK
@given(problems(most_ops=3), st.booleans(), st.booleans())
def test_what_is_left_out_makes_no_plan_dearer(problem: Problem, slow: bool, reserved: bool) -> None:
    assume(problem.seconds.any())
    if slow:
        problem = replace(problem, tensors=tuple(replace(t, seconds=0.75) for t in problem.tensors))
    if reserved and problem.cores > 1:
        problem = replace(problem, cores=problem.cores - 1)
    document, left_out = written(problem)
    again = problem_of_file(file_of(document))
    assert brute.least_period(again, Limits()) <= brute.least_period(problem, Limits()) * (1 + 1e-9)
    assert document["machine"]["link_bytes_per_s"] == max(problem.link_bytes_per_s)
    said = " ".join(left_out)
    assert ("activations in DRAM" in said) == bool(problem.dram_bytes.any())
    assert ("links that differ" in said) == (len(set(problem.link_bytes_per_s)) > 1)
    assert ("seconds that tensors cost" in said) == (slow and bool(problem.tensors))
    assert ("cores that are not there" in said) == (problem.cores < problem.groups * problem.cores_per_group)


@QUICK
@given(problems(most_ops=3), st.floats(0.01, 2.0), st.sampled_from([2.0, math.inf]))
def test_where_no_cache_counts_seconds_of_tensors_are_kept(problem: Problem, seconds: float, link: float) -> None:
    """As of graphs with times of their own: what a tensor costs is written as bytes over the link."""
    assume(problem.seconds.any())
    problem = replace(
        sayable(problem),
        caches=Caches(math.inf, math.inf, ("-", "-", "-")),
        tensors=tuple(TensorArc(t.producer, t.readers, t.bytes, seconds) for t in problem.tensors),
        link_bytes_per_s=(link,) * len(problem.configs),
        dram_bytes_per_s=math.inf,
    )
    document, left_out = written(problem)
    assert left_out == (TIMED if problem.tensors else ())
    again = problem_of_file(file_of(document))
    before, after = (intervals(p, ideals(p)) for p in (problem, again))
    assert before.load_s == pytest.approx(after.load_s, rel=1e-12)


def test_what_is_left_out_is_named() -> None:
    problem = problem_of_file(file_of(small()))
    problem = replace(
        problem, dram_bytes=problem.dram_bytes + 1e6, link_bytes_per_s=(1e9, 2e9, math.inf), cores=6,
        together=((0, 1),), apart=((0, 2), (1, 3)),
        tensors=tuple(replace(tensor, seconds=2e-3) for tensor in problem.tensors),
    )  # fmt: skip
    limits = Limits(max_latency_s=0.5, max_replicas=1, together=(("in", "left"),))
    assert written(problem, limits)[1] == (
        "activations in DRAM, up to 4.00 MB an item",
        "links that differ by configuration, 1.00 GB/s to no limit: the fastest is written",
        "seconds that tensors cost besides their bytes, up to 2.00 ms",
        "2 cores that are not there or taken: the file has all 8 of its groups",
        "ops that must share a stage: 1 sets",
        "ops that must not share a stage: 2 sets",
        "limits of the request: max_latency_s 0.5, max_replicas 1",
    )


def small() -> Document:
    document: Document = json.loads((Path(__file__).parents[1] / "golden" / "problem_small.json").read_text())
    return document


def test_of_a_machine_nodes_are_named() -> None:
    (line,) = left_out_of_machine(load_machine("sg2042"))[:1]
    assert line.startswith("the 4 NUMA nodes: distances between them")
    assert left_out_of_machine(load_machine("uniform:4")) == ()


@QUICK
@given(costed_graphs(), st.integers(1, 4))
def test_the_instance_of_a_graph_with_times_has_its_optimum(graph: Graph, units: int) -> None:
    """The published problem: units, one replica a stage, a time for every tensor."""
    assume(any(op.proc_s for op in graph.ops))
    problem = problem_of(graph, load_machine(f"uniform:{units}"), given_costs(graph, 16e9))
    document, left_out = written(replace(problem, together=()))
    assert left_out == (TIMED if graph.tensors else ())
    ours = throughput(Space(replace(problem, together=())), Limits(max_replicas=1))
    theirs = plan_of_file(file_of(document), REFERENCE, Limits(max_replicas=1))
    assert theirs.predicted.period_s == pytest.approx(ours.best_period_s, rel=1e-4)


@pytest.mark.skipif(not TABLES.is_dir(), reason="the reference instances are not beside this checkout")
@pytest.mark.parametrize("name", ["vgg16.sg2042", "gpt2_decode_fp32.epyc"])
def test_reference_instances_come_back(name: str, tmp_path: Path) -> None:
    problem = load_problem(TABLES / f"{name}.json")
    document, left_out = written(problem)
    assert left_out == ()
    (tmp_path / "p.json").write_text(json.dumps(document))
    assert_same(problem_of_file(read_problem(tmp_path / "p.json")[0]), problem)
