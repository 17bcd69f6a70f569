"""What measuring takes at most, and that a part for which there is no memory is not begun."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapper.backends.registry import backend_called
from mapper.cost.configurations import configurations
from mapper.graph.model import Graph
from mapper.machine.discover import discover
from mapper.measure.memory import TEAM_BYTES, NoRoom, free_bytes, need_bytes
from mapper.measure.profile import Chain, PartTimer
from mapper.sources.source import Source
from tests.planning.graphs import graphs
from tests.program.modules import case


@given(graphs(), st.integers(1, 9), st.sampled_from(["eager", "openvino"]))
def test_each_team_takes_its_own_and_what_is_larger_takes_more(graph: Graph, teams: int, name: str) -> None:
    backend, whole = backend_called(name), tuple(range(len(graph.ops)))
    need = need_bytes(graph, [whole], teams, backend)
    assert need == teams * need_bytes(graph, [whole], 1, backend) >= teams * TEAM_BYTES
    assert need_bytes(graph, [whole], teams, backend, sweep_bytes=7) == need + 7
    weights = sum({w.name: w.bytes for op in graph.ops for w in op.weights}.values())
    largest = max((op.footprint_bytes for op in graph.ops), default=0)
    assert need >= teams * (largest + (weights if name == "openvino" else 0))
    assert need_bytes(graph, [(v,) for v in whole], teams, backend) >= need


def test_what_is_free_is_within_the_machine() -> None:
    assert 0 < free_bytes() < os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def test_parts_that_do_not_fit_are_refused_before_anything_starts() -> None:
    tiny = case("attention")
    config = configurations(discover())[0]
    chain = Chain(config, (tuple(range(len(tiny.graph.ops))),), "cold", "segment")
    source = Source(tiny.program, tiny.weights)
    with PartTimer(tiny.graph, discover(), source, tiny.inputs, free=lambda: 10**6) as parts:
        with pytest.raises(NoRoom, match=rf"1 part with {config.name} is not measured: .* 0\.0 GB are free") as caught:
            parts.measure(chain)
        assert parts._process.pid is None and "--cores" in caught.value.advice
