"""The loop of planning and measuring, with a measurer whose costs are others than the model's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mapper.cost.configurations import configurations
from mapper.cost.profile import MeasuredOps
from mapper.cost.roofline import roofline
from mapper.cost.table import CostTable
from mapper.graph.model import Graph
from mapper.machine.files import load_machine
from mapper.machine.model import Machine
from mapper.measure.memory import NoRoom
from mapper.measure.profile import Chain, teams_of
from mapper.plans.check import mapping_of
from mapper.plans.evaluate import evaluate
from mapper.plans.model import Plan
from mapper.solver.plan import plan
from mapper.solver.problem import Limits, problem_of
from mapper.study.profiling import Profiling, fill, segments
from tests.cost.profiles import measured, profile_with, truth_of
from tests.planning.graphs import graphs
from tests.planning.test_machines import block_chain
from tests.solver.brute import outcomes

MACHINE = load_machine("pack:1 numa:1 group:2 core:2")


class Fake:
    """Measures with a truth, ops a fifth too long, and counts; after `most` chains it ends as with Ctrl-C."""

    def __init__(self, graph: Graph, machine: Machine, truth: CostTable, most: int = 10**6) -> None:
        self.graph, self.machine, self.truth, self.most = graph, machine, truth, most
        self.chains: list[Chain] = []

    def __call__(self, chain: Chain) -> list[MeasuredOps]:
        if len(self.chains) >= self.most:
            raise KeyboardInterrupt
        self.chains.append(chain)
        factor = 1.2 if chain.source == "op" else 1.0
        how = (chain.config, chain.residency, chain.source, factor)
        return [measured(self.graph, self.machine, self.truth, part, *how) for part in chain.parts]


def planner(graph: Graph) -> object:
    return lambda table, limits: plan(graph, MACHINE, costs=table, limits=limits, near_optimal=0.0)


def filled(graph: Graph, truth: CostTable, profiling: Profiling, fake: Fake, budget_s: float = 1e9) -> Plan:
    """The plan with the costs that come out."""
    clock = iter(np.arange(10**6, dtype=float))
    fit = fill(profiling, graph, MACHINE, fake, budget_s=budget_s, planner=planner(graph),  # type: ignore[arg-type]
               clock=lambda: next(clock))  # fmt: skip
    return plan(graph, MACHINE, costs=fit.table, near_optimal=0.0)


def truly(made: Plan, graph: Graph, truth: CostTable) -> float:
    """The period that the mapping of `made` really has."""
    return evaluate(graph, MACHINE, truth, mapping_of(made)).predicted.period_s


def true_costs(graph: Graph, seed: int, columns: float = 0.5) -> CostTable:
    """Costs that are off by op, and by configuration."""
    base, rng = roofline(graph, MACHINE), np.random.default_rng(seed)
    ops, configs, _ = base.seconds.shape
    by_op = rng.normal(0, 0.4, (ops, 1, 1))
    return truth_of(base, np.exp(by_op + rng.normal(0, columns, (1, configs, 1))))


@settings(max_examples=12, deadline=None)
@given(graphs(most_ops=4), st.integers(0, 99))
def test_the_plan_is_what_brute_force_finds_with_the_true_costs(graph: Graph, seed: int) -> None:
    truth = true_costs(graph, seed)
    assume(bool((truth.seconds.sum(axis=0) > 0).all()))
    fake = Fake(graph, MACHINE, truth)
    made = filled(graph, truth, Profiling(profile_with(graph, MACHINE)), fake)
    best = min(out.period_s for out in outcomes(problem_of(graph, MACHINE, truth), Limits()))
    assert truly(made, graph, truth) <= best * 1.05


@pytest.mark.parametrize("seed", range(6))
def test_a_back_end_with_segments_only_comes_near_the_best(seed: int) -> None:
    graph = block_chain(10)
    truth = true_costs(graph, seed)
    profiling = Profiling(profile_with(graph, MACHINE, backend="openvino"))
    fake = Fake(graph, MACHINE, truth)
    made = filled(graph, truth, profiling, fake)
    assert all(chain.source == "segment" for chain in fake.chains)
    best = plan(graph, MACHINE, costs=truth, near_optimal=0.0).predicted.period_s
    first = truly(plan(graph, MACHINE, near_optimal=0.0), graph, truth)
    assert truly(made, graph, truth) <= min(first, best * 1.15) * (1 + 1e-9)


def test_it_ends_when_the_stages_of_the_plan_are_measured() -> None:
    graph = block_chain(8)
    truth = true_costs(graph, 1)
    profiling = Profiling(profile_with(graph, MACHINE))
    fake = Fake(graph, MACHINE, truth)
    made = filled(graph, truth, profiling, fake)
    assert profiling.ended == "the plan and its near rivals are measured"
    assert profiling.turns[-1].unmeasured == 0 and profiling.turns[-1].stages == len(made.stages)
    known = {(row.ops, row.configuration) for row in profiling.profile.measurements}
    position = graph.position
    for stage in made.stages:
        first, last = position[stage.ops[0]], position[stage.ops[-1]]
        assert (((first, last + 1),), stage.replicas[0].configuration.name) in known
    assert len(profiling.known) == len(profiling.profile.measurements)  # nothing twice


def test_a_budget_that_is_over_ends_it_with_one_measurement_at_least() -> None:
    graph = block_chain(6)
    profiling = Profiling(profile_with(graph, MACHINE))
    fake = Fake(graph, MACHINE, roofline(graph, MACHINE))
    filled(graph, fake.truth, profiling, fake, budget_s=0.0)
    assert len(fake.chains) == 1 and profiling.ended == "the time was over"


@pytest.mark.parametrize("room", [True, False])
def test_what_there_is_no_memory_for_is_skipped_and_asked_for_once(room: bool) -> None:
    graph = block_chain(6)
    profiling = Profiling(profile_with(graph, MACHINE))
    fake = Fake(graph, MACHINE, roofline(graph, MACHINE))
    whole, refused = configurations(MACHINE)[-1].name, list[object]()

    def measure(chain: Chain) -> Sequence[MeasuredOps]:
        if not room or chain.config.name == whole:
            refused.extend(chain.keys())
            raise NoRoom("4 teams at once would need too much")
        return fake(chain)

    made = fill(profiling, graph, MACHINE, measure, budget_s=1e9, clock=lambda: 0.0)
    assert profiling.ended == "the plan and its near rivals are measured"
    assert refused and len(refused) == len(set(refused)) and set(refused) == profiling.skipped
    assert bool(profiling.profile.measurements) == room and made.table.seconds.min() > 0


def test_interrupted_it_goes_on_where_it_was_and_comes_to_the_same() -> None:
    graph = block_chain(6)
    truth = true_costs(graph, 2)
    whole = Profiling(profile_with(graph, MACHINE))
    once = Fake(graph, MACHINE, truth)
    expected = filled(graph, truth, whole, once)
    parts = Profiling(profile_with(graph, MACHINE))
    chains = 0
    for _ in range(len(once.chains) + 1):
        fake = Fake(graph, MACHINE, truth, most=1)
        try:
            made = filled(graph, truth, parts, fake)
            break
        except KeyboardInterrupt:
            chains += len(fake.chains)
    assert made.stages == expected.stages
    assert {row.what for row in parts.profile.measurements} == {row.what for row in whole.profile.measurements}


@settings(max_examples=40, deadline=None)
@given(graphs(), st.integers(1, 6))
def test_segments_are_a_partition_in_order(graph: Graph, count: int) -> None:
    found = segments(graph, roofline(graph, MACHINE), count)
    assert [v for part in found for v in part] == list(range(len(graph.ops)))
    assert 1 <= len(found) <= count


@pytest.mark.parametrize(
    ("groups", "each", "teams"),
    [(1, 1, ((0,), (1,), (2,), (3,))), (1, 2, ((0, 1), (2, 3))), (2, 2, ((0, 1, 2, 3),))],
)
def test_teams_take_every_core_at_once(groups: int, each: int, teams: Sequence[Sequence[int]]) -> None:
    config = next(
        c for c in roofline(block_chain(1), MACHINE).configs if (c.groups, c.cores_per_group) == (groups, each)
    )
    assert teams_of(MACHINE, config) == teams
