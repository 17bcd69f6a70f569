"""Which op is split into columns, and whether it pays."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

import mapper
from mapper.cost.configurations import Config
from mapper.errors import Infeasible
from mapper.graph.measure import graph_of
from mapper.machine.files import load_machine
from mapper.machine.model import Machine
from mapper.machine.restrict import restrict
from mapper.program.columns import with_columns
from mapper.solver.columns import Columns, Split, best_columns, binding_op
from mapper.solver.problem import Limits
from tests.planning.test_machines import block_chain
from tests.tracing import traced

PART = restrict(load_machine("sg2042"), groups="0,1,4,5")
ONE_GROUP = Limits(max_replicas=1, configurations=(Config(1, 4),))


class Uneven(nn.Module):
    """One product that is most of the work, between small ones."""

    def __init__(self, wide: int) -> None:
        super().__init__()
        self.first, self.wide, self.last = nn.Linear(256, 256), nn.Linear(256, wide), nn.Linear(wide, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.relu(self.wide(torch.relu(self.first(x)))))  # type: ignore[no-any-return]


def planner(
    wide: int, machine: Machine = PART, limits: Limits | None = None
) -> tuple[list[Columns], Callable[[Columns], Split]]:
    """The columns that were tried, and what plans with them."""
    program, tried = traced(Uneven(wide), torch.randn(64, 256)).program, list[Columns]()
    one = limits or Limits(max_replicas=1)

    def plan_of(columns: Columns) -> Split:
        tried.append(columns)
        graph = graph_of(with_columns(program, columns))
        return Split(mapper.plan(graph, machine, limits=one, near_optimal=0.0), graph, columns)

    return tried, plan_of


def test_the_op_that_binds_is_split_and_the_plan_is_better() -> None:
    tried, plan_of = planner(4096, limits=ONE_GROUP)
    best = best_columns(plan_of)
    whole = plan_of({})
    assert set(best.columns) == {"linear_1"} and best.columns["linear_1"] > 1
    assert best.plan.predicted.period_s < 0.8 * whole.plan.predicted.period_s
    assert not any("linear" in columns for columns in tried), "what does not bind is left alone"


def test_where_copies_win_nothing_is_split() -> None:
    tried, plan_of = planner(512, limits=Limits())
    best = best_columns(plan_of)
    assert best.columns == {}
    assert len(tried) <= 3, "two numbers of columns that bring nothing are enough"


def test_columns_that_no_plan_can_have_are_passed_over() -> None:
    _, plan_of = planner(4096, limits=ONE_GROUP)

    def refusing(columns: Columns) -> Split:
        if columns:
            raise Infeasible("no")
        return plan_of({})

    assert best_columns(refusing).columns == {}


def test_it_ends_when_told() -> None:
    tried, plan_of = planner(4096, limits=ONE_GROUP)
    best_columns(plan_of, lambda: True)
    assert tried == [{}]


def test_a_graph_without_a_program_has_nothing_to_split() -> None:
    graph = block_chain(4)
    plan = mapper.plan(graph, PART, limits=Limits(max_replicas=1))
    assert binding_op(graph, mapper.explain(plan, graph, only=("binding",)).binding) is None


def test_explain_says_what_two_columns_bring() -> None:
    _, plan_of = planner(4096, limits=ONE_GROUP)
    whole = plan_of({})
    trials = mapper.explain(whole.plan, whole.graph, only=("marginal",)).marginal
    (split,) = [trial for trial in trials if trial.name == "columns linear_1"]
    assert "--columns linear_1=2" in split.what
    assert split.change is not None and split.change.certain
    two = plan_of({"linear_1": 2})
    change = two.plan.predicted.period_s / whole.plan.predicted.period_s - 1
    assert split.change.change == pytest.approx(change, abs=0.02)
