"""Who may spin: only who shares its PUs with nobody."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mapper.execution.rings.ring import FEEDER_ID
from mapper.execution.rings.spin import SPIN_NS, spins

FEEDER = (FEEDER_ID, 0)


def test_all_spin_where_each_has_its_own() -> None:
    assert set(spins((((0,), (1,)), ((2, 3),)), range(5)).values()) == {SPIN_NS}


def test_nobody_spins_where_the_feeder_has_no_pu_of_its_own() -> None:
    assert spins((((0,),), ((1,),)), [0, 1]) == {(0, 0): 0, (1, 0): 0, FEEDER: 0}


def test_workers_that_share_do_not_spin_and_others_do() -> None:
    assert spins((((0, 1),), ((1, 2),), ((3,),)), range(8)) == {
        (0, 0): 0, (1, 0): 0, (2, 0): SPIN_NS, FEEDER: SPIN_NS,
    }  # fmt: skip


@given(
    st.lists(st.lists(st.sets(st.integers(0, 5), min_size=1), min_size=1, max_size=3), min_size=1, max_size=4),
    st.sets(st.integers(0, 6)),
)
def test_whoever_spins_shares_with_nobody(places: list[list[set[int]]], more: set[int]) -> None:
    everyone = {(s, r): pus for s, stage in enumerate(places) for r, pus in enumerate(stage)}
    allowed = set().union(more, *everyone.values())
    found = spins(tuple(tuple(tuple(sorted(pus)) for pus in stage) for stage in places), allowed)
    assert found.keys() == everyone.keys() | {FEEDER}
    for who, pus in everyone.items():
        others = [other for name, other in everyone.items() if name != who]
        assert found[who] in (0, SPIN_NS)
        assert not found[who] or (
            not any(pus & other for other in others) and allowed - set().union(*everyone.values())
        )
    assert bool(found[FEEDER]) == bool(allowed - set().union(*everyone.values()))
