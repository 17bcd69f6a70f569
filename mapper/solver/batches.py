"""How many elements an item should have: the batch that gives most elements a second."""

from __future__ import annotations

from collections.abc import Callable

from mapper.errors import Infeasible
from mapper.plans.model import Plan

MOST = 256
"""Elements an item at most."""
GAIN = 0.01
"""A larger batch must give this much more, relatively: it also takes longer."""


def best_batch(plan_of: Callable[[int], Plan]) -> Plan:
    """Of the plans for 1, 2, 4, … elements an item the one with the most elements a second.

    Ends when two batches in a row gain less than `GAIN`, or when the limits allow no plan of a batch: a larger one
    takes longer still. Raises: Infeasible where not even one element an item is possible.
    """
    best = plan_of(1)
    idle, batch = 0, 2
    while batch <= MOST and idle < 2:
        try:
            plan = plan_of(batch)
        except Infeasible:
            break
        if elements_per_s(plan) > elements_per_s(best) * (1 + GAIN):
            best, idle = plan, 0
        else:
            idle += 1
        batch *= 2
    return best


def elements_per_s(plan: Plan) -> float:
    """Elements a second: items times elements an item."""
    return plan.predicted.throughput_per_s * plan.request.batch
