"""Points, the searches that find their plans, and which of them are made."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from mapper.machine.files import load_machine
from mapper.study.exploration.dimensions import Dimensions, Variant
from mapper.study.exploration.families import Families
from mapper.study.exploration.outcomes import Made, Outcome
from mapper.study.exploration.points import Point, Search, options_of, points_of, search_of, why_not

SG2042 = load_machine("sg2042")
LIMITS = st.lists(st.one_of(st.none(), st.integers(1, 20)), min_size=1, unique=True)


def point(stages: int | None, threads: int | None, replicas: int | None) -> Point:
    return Point(0, 0, 1, stages, threads, replicas, "optimal")


def made(replicas: int) -> Made:
    return Made(
        period_s=1, throughput_per_s=1, latency_s=1, cores_used=1, dram_bytes_per_item=0, limited_by="", bound_s=1,
        gap=0, status="optimal", replicas=(1, replicas), threads=(1, 1),
    )  # fmt: skip


def test_points_are_the_product_of_all_values() -> None:
    found = points_of(Dimensions(stages=(1, 2), threads=(1, 4, 8), strategies=("optimal", "compact")))
    assert [p.number for p in found] == list(range(12))
    assert [(p.stages, p.threads, p.strategy) for p in found] == list(
        itertools.product((1, 2), (1, 4, 8), ("optimal", "compact"))
    )


def test_what_cannot_be_by_its_numbers() -> None:
    assert why_not(point(16, 4, 1), SG2042, 100) == ""
    assert why_not(point(16, 8, 1), SG2042, 100).startswith("more cores than there are (16 stages × 8 threads")
    assert why_not(point(16, 4, 1), SG2042, 15).startswith("more stages than ops (16 of 15)")
    assert why_not(point(1, 3, 1), SG2042, 100).startswith("no team of this size on the machine (3 threads)")


def test_a_limit_on_replicas_beyond_all_cores_is_none() -> None:
    assert search_of(point(16, 2, 16), SG2042).replicas == 16
    assert search_of(point(16, 2, 17), SG2042).replicas is None
    assert search_of(point(None, None, 64), SG2042).replicas is None


def test_options_are_those_of_mapper_plan() -> None:
    variant, search = Variant("sg2042", (("l2_bytes", "2 MiB"),), SG2042), Search(0, 4, 2, 8, 3)
    assert options_of("my model.toml", ("--length", "32"), variant, search, "compact") == (
        "--model 'my model.toml' --length 32 --topo sg2042+l2_bytes=2MiB --batch 4 --stages 2 --configurations 2x4 "
        "--replicas 3 --placement compact --near-optimal 0"
    )
    free = options_of("vit", (), Variant("sg2042", (), SG2042), Search(0, 1, None, None, None), "optimal")
    assert free == "--model vit --topo sg2042 --near-optimal 0"


@given(LIMITS, st.integers(1, 20), st.booleans())
def test_searches_that_are_made_serve_every_limit(limits: list[int | None], wanted: int, possible: bool) -> None:
    """Of a model that best has `wanted` replicas, as far as its limit allows; also gone on with from any search."""
    families = Families(Search(0, 1, 2, 4, limit) for limit in limits)
    found: dict[str, tuple[Outcome, ...]] = {}
    made_: list[Search] = []
    while left := families.left(found):
        (search,) = left
        assert search not in made_
        made_.append(search)
        plan = made(min(wanted, search.replicas or wanted)) if possible else None
        found[search.key] = (Outcome(strategy="per-group", reason="no room"), Outcome(strategy="optimal", made=plan))
    assert {search.replicas for search in made_} <= set(limits)
    for limit in limits:
        source = families.source(Search(0, 1, 2, 4, limit), found)
        assert source in made_
        outcome = found[source.key][1]
        if outcome.made is None:
            assert source.replicas == limit
        else:
            assert max(outcome.made.replicas) == min(wanted, limit or wanted)
    if possible and None in limits:
        assert len(made_) == 1 + sum(limit is not None and limit < wanted for limit in limits)
