from __future__ import annotations

from functools import cache

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mapper
from mapper.cost.configurations import configurations
from mapper.cost.roofline import roofline
from mapper.errors import Infeasible
from mapper.graph.model import Graph
from mapper.machine.files import load_machine
from mapper.machine.model import Machine
from mapper.machine.vary import vary
from mapper.solver.alternatives import COARSE
from mapper.solver.problem import Limits, problem_of
from mapper.solver.search.least_period import throughput
from mapper.solver.search.space import Space
from mapper.study.where.dense import dense, width_for
from mapper.study.where.splitting import LATENCY_LIMIT, Compared, compared, held
from tests.planning.graphs import graphs, machines

FEW = settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.too_slow])


def best_of_counts(graph: Graph, machine: Machine, latency_s: float | None) -> float:
    """Items a second of the best mapping with two stages, with three, ...: each number asked for by itself."""
    table, found = roofline(graph, machine, configurations(machine)), 0.0
    space = Space(problem_of(graph, machine, table), idle=False)
    for stages in range(2, len(graph.ops) + 1):
        try:
            solution = throughput(space, Limits(stages=stages, max_latency_s=latency_s), tolerance=COARSE / 10)
        except Infeasible:
            continue
        found = max(found, 1 / solution.period_s)
    return found


@FEW
@given(graph=graphs(most_ops=6), machine=machines())
def test_the_best_of_two_stages_or_more_is_the_best_of_every_number_of_stages(graph: Graph, machine: Machine) -> None:
    found = compared(graph, machine)
    for splitting, latency_s in ((found.free, None), (found.limited, LATENCY_LIMIT * found.native_s)):
        best = best_of_counts(graph, machine, latency_s)
        if splitting.split is None:
            assert not (best and found.exact)
            continue
        assert splitting.split.stages > 1 and splitting.split.per_s <= best * (1 + 2 * COARSE)
        assert splitting.split.bound_per_s >= best * (1 - 1e-9)
        if found.exact:
            assert splitting.split.per_s >= best * (1 - 2 * COARSE)


@FEW
@given(rows=st.integers(1, 64), width=st.integers(8, 700), machine=machines())
def test_a_limit_is_kept_and_never_brings_more(rows: int, width: int, machine: Machine) -> None:
    found = compared(dense(5, rows, width), machine)
    assert found.exact and found.free.whole is not None
    for kind in ("whole", "split"):
        free, limited = getattr(found.free, kind), getattr(found.limited, kind)
        if free is None:  # a single core
            assert limited is None
        elif limited is not None:
            assert limited.per_s <= free.per_s * (1 + 2 * COARSE)
            assert limited.latency_s <= LATENCY_LIMIT * found.native_s * (1 + 1e-9)
    assert found.limited.whole is not None, "native itself keeps the limit"


@cache
def at(machine: str, share: float, rows: int, layers: int = 96) -> Compared:
    there = load_machine(machine)
    return compared(dense(layers, rows, width_for(share * held(there).bytes, layers)), there)


def test_the_rates_are_those_of_plans_before_they_are_placed() -> None:
    """A placed plan is no faster than the search's, and on a machine without nodes and distances not slower either."""
    machine = load_machine("sg2044")
    found, graph = compared(dense(12, 8, 400), machine), dense(12, 8, 400)
    ends = ((graph.ops[0].name, graph.ops[-1].name),)
    for best, limits in ((found.free.whole, Limits(stages=1)), (found.free.split, Limits(apart=ends))):
        placed = mapper.plan(graph, machine, limits=limits, near_optimal=0.0).predicted.throughput_per_s
        assert best is not None and placed == pytest.approx(best.per_s, rel=2 * COARSE)


def test_it_pays_where_divided_caches_hold_what_one_does_not() -> None:
    """EPYC's caches a group: weights between one and all of them, little work a byte."""
    inside, one, beyond = (at("epyc-9684x", share, 1).free.ratio or 0.0 for share in (0.5, 0.04, 16.0))
    assert inside > 4 and one < 1 and beyond == pytest.approx(1, abs=0.02)
    assert (at("epyc-9684x", 0.5, 128).free.ratio or 0.0) == pytest.approx(1, abs=0.02), "work enough a byte"


def test_it_does_not_where_copies_share_a_cache_of_the_whole_chip() -> None:
    """SG2042's: weights that sixteen L2 hold together, and the one L3 as well."""
    assert (at("sg2042", 0.2, 1).free.most or 9.0) < 1.05
    bare = vary(load_machine("sg2042"), {"/caches/L3/bytes": 1.0})
    graph = dense(96, 1, width_for(0.2 * held(load_machine("sg2042")).bytes, 96))
    assert (compared(graph, bare).free.ratio or 0.0) > 1.5, "without that cache it would"


def test_one_op_cannot_be_split() -> None:
    found = compared(dense(1, 4, 64), load_machine("sg2042"))
    assert found.free.split is None and found.free.ratio is None and found.free.whole is not None


@pytest.mark.parametrize(
    ("machine", "group", "package"),
    [("epyc-9684x", 12 * 100663296 * 0.8, 0.0), ("altra-q80-30", 80 * 2**20 * 0.8, 2**25 * 0.8)],
)
def test_what_caches_hold_are_the_usable_bytes_of_the_file(machine: str, group: float, package: float) -> None:
    found = held(load_machine(machine))
    assert (found.groups_bytes, found.package_bytes) == pytest.approx((group, package))
    assert found.bytes == max(found.groups_bytes, found.package_bytes)
