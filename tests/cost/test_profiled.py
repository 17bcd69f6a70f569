"""From measurements to costs: sums match, nothing is negative, nothing depends on the order, and a truth is found."""

from __future__ import annotations

import dataclasses
import random
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mapper.cost.configurations import configurations
from mapper.cost.profile import MeasuredOps
from mapper.cost.profiled import profiled, residency_of
from mapper.cost.residency import DRAM, GROUP, PACKAGE
from mapper.cost.roofline import roofline
from mapper.errors import BadInput
from mapper.graph.model import Graph
from mapper.machine.files import load_machine
from mapper.machine.model import Machine
from mapper.plans.evaluate import Placed, evaluate
from tests.cost.profiles import measured, profile_with, truth_of
from tests.planning.graphs import graphs, machines
from tests.planning.test_machines import block_chain

SOME = settings(max_examples=60, deadline=None)


@cache
def chain(ops: int = 6) -> tuple[Graph, Machine]:
    return block_chain(ops), load_machine("pack:1 numa:1 group:2 core:2")


def test_without_measurements_the_costs_are_the_models() -> None:
    graph, machine = chain()
    base = roofline(graph, machine)
    found = profiled(profile_with(graph, machine), graph, machine, base)
    assert found.table.seconds == pytest.approx(base.seconds, rel=1e-9)
    assert found.table.source == "profile" and found.fitted_s == () and found.error == 0


@SOME
@given(graphs(), machines(), st.data())
def test_sums_come_out_as_measured_and_nothing_else_is_torn(
    graph: Graph, machine: Machine, data: st.DataObject
) -> None:
    base = roofline(graph, machine)
    shift = data.draw(st.floats(-1.5, 1.5))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    truth = truth_of(base, np.exp(shift + rng.normal(0, 0.2, base.seconds.shape[0]))[:, None, None])
    parts = [(v,) for v in range(len(graph.ops))] + [tuple(range(len(graph.ops)))]
    chosen = data.draw(st.lists(st.sampled_from(parts), min_size=1, unique=True))
    config = data.draw(st.sampled_from(base.configs))
    rows = [measured(graph, machine, truth, part, config) for part in chosen
            if base.seconds[list(part)].sum() > 0]  # fmt: skip
    found = profiled(profile_with(graph, machine, rows), graph, machine, base)
    seconds = found.table.seconds
    assert np.all(np.isfinite(seconds)) and np.all((seconds > 0) == (base.seconds > 0))
    assert np.all(seconds[:, :, GROUP] <= seconds[:, :, PACKAGE]) and np.all(
        seconds[:, :, PACKAGE] <= seconds[:, :, DRAM]
    )
    for m, fitted in found.fitted_s:
        assert fitted == pytest.approx(m.median_s, rel=0.05)


@SOME
@given(graphs(), machines(), st.randoms())
def test_the_order_of_measurements_makes_no_difference(graph: Graph, machine: Machine, rng: random.Random) -> None:
    base = roofline(graph, machine)
    truth = truth_of(base, np.random.default_rng(rng.randrange(99)).uniform(0.5, 2, base.seconds.shape))
    rows = [measured(graph, machine, truth, (v,), config, source="op")
            for v in range(len(graph.ops)) for config in base.configs[:2]]  # fmt: skip
    rows += [measured(graph, machine, truth, range(len(graph.ops)), config) for config in base.configs]
    one = profiled(profile_with(graph, machine, rows), graph, machine, base).table.seconds
    rng.shuffle(rows)
    other = profiled(profile_with(graph, machine, rows), graph, machine, base).table.seconds
    assert np.array_equal(one, other)


def test_what_is_not_measured_follows_what_is() -> None:
    graph, machine = chain()
    base = roofline(graph, machine)
    truth = truth_of(base, 3.0)
    rows = [measured(graph, machine, truth, range(6), base.configs[0])]
    found = profiled(profile_with(graph, machine, rows), graph, machine, base)
    ratios = found.table.seconds / base.seconds
    column = base.configs[0]
    rho = residency_of(graph, machine, base, range(6), column, hot=False)
    assert ratios[:, 0, rho] == pytest.approx(3.0, rel=0.01)
    assert np.all(ratios[:, 1:, rho] > 1.5) and np.all(ratios[:, 1:, rho] < 3.0)  # the model's ratio, less sure


def test_a_bias_of_op_times_is_found_and_taken_out() -> None:
    graph, machine = chain()
    base = roofline(graph, machine)
    truth = truth_of(base, np.linspace(0.7, 1.6, 6)[:, None, None])
    rows = [measured(graph, machine, truth, (v,), base.configs[0], source="op", factor=1.4) for v in range(6)]
    rows += [measured(graph, machine, truth, range(a, a + 2), base.configs[0]) for a in (0, 2, 4)]
    found = profiled(profile_with(graph, machine, rows), graph, machine, base)
    rho = residency_of(graph, machine, base, range(6), base.configs[0], hot=False)
    assert found.bias["op", "1x1"] == pytest.approx(1.4, rel=0.05)
    assert found.table.seconds[:, 0, rho] == pytest.approx(truth.seconds[:, 0, rho], rel=0.1)


def test_a_noisy_measurement_gives_way_to_a_quiet_one() -> None:
    graph, machine = chain()
    base = roofline(graph, machine)
    quiet = measured(graph, machine, base, range(6), base.configs[0], "stream", "stage", factor=2.0)
    loud = measured(graph, machine, base, range(6), base.configs[0], factor=4.0).model_copy(update={"noisy": True})
    found = profiled(profile_with(graph, machine, [loud, quiet]), graph, machine, base)
    fitted = {m.source: s for m, s in found.fitted_s}
    assert fitted["stage"] == pytest.approx(quiet.median_s, rel=0.08)


def test_ops_that_the_model_gets_wrong_are_told_apart() -> None:
    """True costs that differ by op come out of op times and segments on the measured configuration."""
    graph, machine = chain(12)
    base = roofline(graph, machine)
    factors = np.exp(np.random.default_rng(3).normal(0.2, 0.3, (12, 1, 1)))
    truth = truth_of(base, factors)
    rows = [measured(graph, machine, truth, (v,), base.configs[1], source="op") for v in range(12)]
    rows += [measured(graph, machine, truth, range(12), base.configs[1])]
    found = profiled(profile_with(graph, machine, rows), graph, machine, base)
    rho = residency_of(graph, machine, base, range(12), base.configs[1], hot=False)
    before = np.abs(np.log(base.seconds / truth.seconds))[:, 1, rho].mean()
    after = np.abs(np.log(found.table.seconds / truth.seconds))[:, 1, rho].mean()
    assert after < before / 3


def test_configurations_that_the_machine_lacks_are_left_out_and_counted() -> None:
    graph, machine = chain()
    base = roofline(graph, machine)
    row = measured(graph, machine, base, range(6), base.configs[0])
    strange = MeasuredOps.model_validate(row.model_dump() | {"configuration": "7x3"})
    found = profiled(profile_with(graph, machine, [row, strange]), graph, machine, base)
    assert found.left_out == 1 and len(found.fitted_s) == 1


def test_a_profile_of_another_graph_is_refused() -> None:
    graph, machine = chain()
    with pytest.raises(BadInput):
        profiled(profile_with(block_chain(5), machine), graph, machine, roofline(graph, machine))


@SOME
@given(graphs(), machines(), st.data())
def test_residency_is_that_of_the_evaluation(graph: Graph, machine: Machine, data: st.DataObject) -> None:
    """A whole model by itself is where the evaluation of a plan finds it."""
    config = data.draw(st.sampled_from(configurations(machine)))
    base = roofline(graph, machine)
    groups = [list(cores)[: config.cores_per_group] for cores in machine.groups[: config.groups]]
    placed = Placed(tuple(op.name for op in graph.ops), config, (tuple(core for g in groups for core in g),))
    stage = evaluate(graph, machine, base, [placed]).stages[0]
    rho = residency_of(graph, machine, base, range(len(graph.ops)), config)
    names = dataclasses.replace(base).caches.names
    assert names[rho] == stage.residency or (config.cores < machine.cores_per_group and rho != GROUP)
