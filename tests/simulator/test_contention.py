"""Fair shares of bandwidth."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapper.simulator import contention
from mapper.simulator.contention import Draws, Flow, fair_speeds

CAPACITY = {0: 10.0, 1: 4.0, 2: 7.0}
sorts = st.dictionaries(
    st.dictionaries(st.sampled_from(sorted(CAPACITY)), st.floats(0.1, 20.0), max_size=3).map(
        lambda draws: tuple(sorted(draws.items()))
    ),
    st.integers(1, 4), max_size=4,
)  # fmt: skip


@given(sorts)
def test_speeds_are_max_min_fair(jobs: dict[Draws, int]) -> None:
    speeds = fair_speeds(jobs, CAPACITY)
    assert set(speeds) == set(jobs)
    used = {r: sum(dict(d).get(r, 0.0) * speeds[d] * n for d, n in jobs.items()) for r in CAPACITY}
    assert all(used[r] <= CAPACITY[r] * (1 + 1e-9) for r in CAPACITY)
    for draws, speed in speeds.items():
        assert 0 < speed <= 1
        if speed < 1 - 1e-9:  # somebody limits it, and nobody who draws from that one is faster
            full = [r for r, _ in draws if used[r] >= CAPACITY[r] * (1 - 1e-9)]
            assert any(all(speeds[other] <= speed + 1e-9 for other in jobs if r in dict(other)) for r in full)


def test_who_draws_little_is_not_slowed_by_who_is_limited_elsewhere() -> None:
    greedy, modest = ((0, 20.0),), ((1, 1.0),)
    assert fair_speeds({greedy: 1, modest: 2}, CAPACITY) == {greedy: 0.5, modest: 1.0}
    shared = ((0, 5.0), (1, 1.0))
    speeds = fair_speeds({greedy: 1, shared: 1}, CAPACITY)
    assert speeds[greedy] == speeds[shared] == pytest.approx(0.4)


def test_jobs_end_when_their_work_is_done_at_changing_speeds() -> None:
    flow, draws = Flow({0: 10.0}), ((0, 10.0),)
    flow.add(1, draws, 2.0)
    flow.advance(1.0)
    flow.add(2, draws, 2.0)  # from here on both have half
    assert flow.next_end() == (3.0, 1)
    flow.advance(3.0)
    flow.end(1)
    assert flow.next_end() == (4.0, 2)
    flow.advance(4.0)
    flow.end(2)
    assert flow.next_end() is None and flow.served[0] == pytest.approx(40.0)


def test_what_is_remembered_of_uneven_times_does_not_grow_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Speeds were kept for every set of jobs that was ever at work together."""
    monkeypatch.setattr(contention, "MOST_KNOWN", 8)
    flow = Flow({0: 10.0})
    for job in range(40):
        flow.add(job, ((0, 1.0 + job),), 1.0)
        end = flow.next_end()
        assert end is not None
        flow.advance(end[0])
        flow.end(job)
        assert len(flow._known) <= 8
    assert flow.served[0] == pytest.approx(sum(1.0 + job for job in range(40)))
