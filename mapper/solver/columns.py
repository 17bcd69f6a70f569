"""Which large ops to split into columns, and into how many: where one op binds, no mapping of whole ops can do more."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mapper.cost.roofline import roofline
from mapper.errors import Infeasible
from mapper.graph.model import Graph
from mapper.plans.account import Binding, binding_of
from mapper.plans.check import value_of
from mapper.plans.evaluate import Evaluation
from mapper.plans.micro_batches import in_calls
from mapper.plans.model import Plan
from mapper.program.columns import most_columns

COUNTS = (2, 3, 4, 6, 8, 12, 16)
"""Numbers of columns that are tried."""
ROUNDS = 3
"""How many ops are split at most, the one that binds after each."""
SHARE = 0.5
"""An op binds that is at least this part of the load of a stage that does."""
GAIN = 0.01
"""More columns must be better by this, relatively: each is an op more."""

Columns = Mapping[str, int]
"""Into how many columns each op is split."""


@dataclass(frozen=True)
class Split:
    """A plan, of the graph whose ops are split as `columns` says."""

    plan: Plan
    graph: Graph
    columns: Columns


def best_columns(plan_of: Callable[[Columns], Split], stopped: Callable[[], bool] = lambda: False) -> Split:
    """Of the plans with ops split into columns the best by its objective, each split worth `GAIN`.

    The op that binds the plan is split into 2, 3, 4, … until two numbers in a row bring nothing; then the one that
    binds the plan found. Raises: Infeasible where nothing keeps the limits, even with that.
    """
    best = plan_of({})
    for _ in range(ROUNDS):
        name = binding_op(best.graph, _binding(best))
        if name is None or name in best.columns or stopped():
            break
        found = _best_count(plan_of, best, name, stopped)
        if found is best:
            break
        best = found
    return best


def _best_count(plan_of: Callable[[Columns], Split], best: Split, name: str, stopped: Callable[[], bool]) -> Split:
    """`best`, or a better plan with the op `name` split."""
    assert best.graph.program is not None, "only ops of a program bind (binding_op)"
    most, before, idle = most_columns(best.graph.program, name), best, 0
    for count in COUNTS:
        if count > most or idle == 2 or stopped():
            break
        try:
            found = plan_of({**before.columns, name: count})
        except Infeasible:
            idle += 1
            continue
        if _value(found) < _value(best) * (1 - GAIN):
            best, idle = found, 0
        else:
            idle += 1
    return best


def binding_op(graph: Graph, binding: Binding) -> str | None:
    """The op that can be split and is most of a stage that binds, or of what memory that binds serves; None where
    there is none."""
    found = [stage.ops[0] for stage in sorted(binding.stages, key=lambda stage: -stage.period_s)
             if stage.name in binding.names and stage.ops[0].seconds >= SHARE * stage.seconds]  # fmt: skip
    names = [op.name for op in found]
    if any(load.name in binding.names for load in binding.memory):
        drawing = [op.name for stage in binding.stages if stage.dram_bytes for op in stage.ops]
        largest = max(drawing, key=lambda op: _touched(graph, op), default=None)
        if largest is not None and _touched(graph, largest) >= SHARE * sum(s.dram_bytes for s in binding.stages):
            names.append(largest)
    return next((name for name in names if graph.program and most_columns(graph.program, name) > 1), None)


def _touched(graph: Graph, op: str) -> int:
    """Weight bytes that `op` reads for an item."""
    return graph.ops[graph.position[op]].touched_bytes


def _binding(found: Split) -> Binding:
    plan = found.plan
    made = Evaluation(plan.stages, plan.edges, in_calls(plan.predicted, plan.request.micro_batches))
    return binding_of(made, found.graph, plan.machine, roofline(found.graph, plan.machine))


def _value(found: Split) -> float:
    return value_of(found.plan.request.objective, found.plan.predicted)
