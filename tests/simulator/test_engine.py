"""The event loop against the recurrences that describe the same system, written independently."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapper.plans.timeline import Doing, Span
from mapper.simulator.engine import Simulation
from mapper.simulator.stations import OUTSIDE, Station, System
from tests.simulator.systems import drawing, systems

CALLS = 24


def by_recurrence(system: System, calls: int, due_s: list[float] | None = None) -> tuple[list[float], list[float]]:
    """When each call is taken by the first stage, and collected: every time is the latest of those that it waits for,
    call by call."""
    taken: list[float] = []
    done: dict[tuple[int, int], float] = {}
    fed: list[float] = []
    collected: list[float] = []

    def released(stage: int, call: int) -> float:
        readers = system.readers[stage]
        return max((collected[call] if t == OUTSIDE else done[t, call] for t in readers), default=0.0)

    for n in range(calls):
        most = system.window + system.ahead
        room = collected[n - most] if n >= most else 0.0
        fed.append(max(room, due_s[n] if due_s else 0.0, fed[-1] if fed else 0.0))
        for s, stage in enumerate(system.stations):
            station = stage[n % len(stage)]
            there = [fed[n] if p == OUTSIDE else done[p, n] for p in system.sources[s]]
            start = max([done.get((s, n - station.step), 0.0), *there])
            if s == 0:
                taken.append(start)
            before = n - station.slots * station.step
            free = released(s, before) if before >= 0 else 0.0
            done[s, n] = max(start + station.in_s + station.work_s, free) + station.out_s
        returned = max(done[s, n] for s in range(len(system.stations)) if OUTSIDE in system.readers[s])
        collected.append(max(returned, fed[n], collected[-1] if collected else 0.0))
    return taken, collected


@given(systems())
def test_calls_come_out_when_the_recurrences_say(system: System) -> None:
    simulation = Simulation(system, CALLS)
    simulation.run()
    taken, collected = by_recurrence(system, CALLS)
    assert simulation.collected_s == pytest.approx(collected)
    assert len(system.stations) > 1 or simulation.taken_s == pytest.approx(taken)


@given(systems(), st.lists(st.integers(0, 5).map(float), min_size=CALLS, max_size=CALLS))
def test_calls_that_are_due_later_are_put_in_later(system: System, gaps: list[float]) -> None:
    due = [sum(gaps[: i + 1]) for i in range(CALLS)]
    simulation = Simulation(system, CALLS, due_s=due)
    simulation.run()
    taken, collected = by_recurrence(system, CALLS, due)
    assert simulation.collected_s == pytest.approx(collected)
    assert len(system.stations) > 1 or simulation.taken_s == pytest.approx(taken)


@given(systems(), st.floats(0.1, 3.0))
def test_shared_bandwidth_only_delays_and_is_never_exceeded(system: System, capacity: float) -> None:
    alone, shared = Simulation(system, CALLS), Simulation(drawing(system, 1.0, capacity), CALLS)
    alone.run()
    shared.run()
    assert all(a <= b + 1e-9 for a, b in zip(alone.collected_s, shared.collected_s, strict=True))
    (served,) = shared.flow.served.values()
    assert served <= capacity * shared.now_s * (1 + 1e-9)


def test_all_that_is_computed_is_drawn() -> None:
    stage = tuple(Station(0, r, 3, 0.0, 2.0, 0.0, ((-1, 5.0),), 2) for r in range(3))
    system = System((stage,), ((OUTSIDE,),), ((OUTSIDE,),), 3, 1, {-1: 10.0})
    simulation = Simulation(system, 30)
    simulation.run()
    assert simulation.flow.served[-1] == pytest.approx(30 * 2.0 * 5.0)
    assert simulation.now_s == pytest.approx(30 * 10.0 / 10.0), "three want 15 a second, ten is what there is"


@given(systems(), st.integers(0, 3))
def test_spans_of_a_replica_follow_each_other_and_add_up(system: System, seed: int) -> None:
    spans: list[Span] = []
    simulation = Simulation(system, CALLS, spread=0.3, seed=seed, watch=spans.append)
    simulation.run()
    for replica in simulation.replicas:
        mine = [s for s in spans if (s.stage, s.replica) == (replica.station.stage, replica.station.replica)]
        assert all(a.end_s == b.start_s for a, b in itertools.pairwise(mine))
        for doing in Doing:
            took = sum(span.end_s - span.start_s for span in mine if span.doing is doing)
            assert took == pytest.approx(replica.tally.seconds[doing])
        assert sum(replica.tally.waited_for.values()) <= sum(replica.tally.seconds) + 1e-9


def test_jitter_is_drawn_with_the_seed_and_is_one_in_the_mean() -> None:
    system = System(((Station(0, 0, 1, 0.0, 1.0, 0.0, (), 2),),), ((OUTSIDE,),), ((OUTSIDE,),), 2, 1, {})
    ends = []
    for seed in (1, 1, 2):
        simulation = Simulation(system, 4000, spread=0.5, seed=seed)
        simulation.run()
        ends.append(simulation.now_s)
    assert ends[0] == ends[1] != ends[2]
    assert ends[0] == pytest.approx(4000, rel=4 * 0.5 / math.sqrt(4000))


def test_copies_that_find_their_next_call_wait_less_for_each_other() -> None:
    """Two copies whose times vary: without a call ahead, the faster one waits until the slower one is done."""
    stage = tuple(Station(0, r, 2, 0.0, 2.0, 0.0, (), 2) for r in range(2))
    periods = []
    for ahead in (0, 2):
        system = System((stage,), ((OUTSIDE,),), ((OUTSIDE,),), 2, 1, {}, ahead)
        simulation = Simulation(system, 4000, spread=0.3, seed=4)
        simulation.run()
        periods.append(simulation.now_s / 4000)
    assert periods[1] < 0.97 * periods[0] and periods[1] > 0.97, "two copies of 2 s: 1 s if they never waited"


def test_a_single_server_under_random_arrivals_waits_as_queueing_theory_says() -> None:
    """M/D/1: with load ρ and service time S, items wait ρ S / (2 (1 - ρ)) in the mean (Pollaczek and Khinchine)."""
    from mapper.simulator.arrivals import poisson

    calls, load = 40_000, 0.8
    system = System(((Station(0, 0, 1, 0.0, 1.0, 0.0, (), 2),),), ((OUTSIDE,),), ((OUTSIDE,),), 10**6, 1, {})
    due = poisson(load, calls, 3)
    simulation = Simulation(system, calls, due_s=due)
    simulation.run()
    waited = sum(out - at - 1.0 for out, at in zip(simulation.collected_s, due, strict=True)) / calls
    assert waited == pytest.approx(load / (2 * (1 - load)), rel=0.05)
