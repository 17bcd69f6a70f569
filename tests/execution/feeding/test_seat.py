"""Where the feeder runs."""

from __future__ import annotations

import os

import pytest

from mapper.execution.feeding.seat import bound, feeder_pus
from mapper.execution.place import Places
from mapper.plans.model import Plan
from tests.execution.models import mlp
from tests.tracing import cuts, plan_for

MLP = mlp()


def plan(loads: list[float], replicas: list[int]) -> Plan:
    made = plan_for(MLP, cuts(MLP.graph, [4, 4]), replicas=replicas)
    stages = tuple(
        stage.model_copy(update={"load": stage.load.model_copy(update={"total_s": load})})
        for stage, load in zip(made.stages, loads, strict=True)
    )
    period = max(load / r for load, r in zip(loads, replicas, strict=True))
    return made.model_copy(
        update={"stages": stages, "predicted": made.predicted.model_copy(update={"period_s": period})}
    )


def test_it_takes_the_pus_that_no_worker_has() -> None:
    assert feeder_pus(plan([1.0, 1.0], [1, 1]), (((0, 3),), ((5,),)), range(7)) == (1, 2, 4, 6)


@pytest.mark.parametrize(
    ("loads", "replicas", "places", "found"),
    [
        ([1.0, 0.5], [1, 1], (((0,),), ((2,),)), (2,)),
        ([0.5, 1.0], [1, 1], (((0,),), ((2,),)), (0,)),
        ([1.0, 0.9], [1, 1], (((0, 1),), ((2,),)), (0, 1, 2)),  # 10 % are too little
        ([2.0, 0.6], [2, 1], (((0,), (1,)), ((2,),)), (2,)),
        ([0.8, 1.0], [2, 1], (((0,), (1,)), ((2,),)), (0, 1)),
    ],
)
def test_without_a_free_one_it_takes_those_of_the_stage_that_waits_most(
    loads: list[float], replicas: list[int], places: Places, found: tuple[int, ...]
) -> None:
    allowed = {pu for stage in places for pus in stage for pu in pus}
    assert feeder_pus(plan(loads, replicas), places, allowed) == found


def test_the_calling_thread_is_bound_and_freed_again() -> None:
    before = os.sched_getaffinity(0)
    one = min(before)
    with pytest.raises(KeyError), bound([one]):
        assert os.sched_getaffinity(0) == {one}
        raise KeyError
    assert os.sched_getaffinity(0) == before
    with bound([10_000]):  # there is none
        assert os.sched_getaffinity(0) == before
