"""The nodes of rings: those of the plan, as the OS numbers them here, and what happens when they cannot be had."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from mapper.execution.place import Places
from mapper.execution.rings.layout import Layout, lay_out
from mapper.execution.rings.memory import PAGE_BYTES, Memory
from mapper.execution.rings.nodes import place_rings, ring_nodes
from mapper.host.memory import Mode, nodes_here, nodes_of, policy_error
from mapper.plans.model import Plan
from mapper.sources.stages import stage_programs
from tests.execution import models
from tests.tracing import cuts, machine_of, plan_for

MLP = models.mlp()
ONE = machine_of([[7], [9, 8]])
MACHINE = ONE.model_copy(
    update={"nodes": tuple(ONE.nodes[0].model_copy(update={"groups": (group,)}) for group in ONE.nodes[0].groups)}
)
"""Core 0 (PU 7) on node 0, cores 1 and 2 (PUs 9 and 8) on node 1."""
OS_NODES = {7: 4, 8: 0, 9: 0}
"""The nodes as the OS numbers them: not as the plan does."""
HERE: Places = (((7,), (9,)), ((8,),))


def planned(last: int = 1) -> tuple[Plan, Layout]:
    """Two copies of the first stage on cores 0 and 1, the second stage on core 2; its ring is on node `last`."""

    def edge(source: int | str, target: int | str, rings: list[tuple[int, int, int]]) -> dict[str, Any]:
        given = [{"from_replica": a, "to_replica": b, "node": node, "distance": "node"} for a, b, node in rings]
        return {"from": source, "to": target, "tensors": ["x"], "bytes": 0, "slots": 2, "rings": given}

    edges = [
        edge("feeder", 0, [(0, 0, 0), (0, 1, 1)]), edge(0, 1, [(0, 0, 0), (1, 0, 1)]), edge(1, "feeder", [(0, 0, last)])
    ]  # fmt: skip
    plan = plan_for(MLP, cuts(MLP.graph, [4, 4]), replicas=[2, 1], machine=MACHINE, edges=edges)
    return plan, lay_out(plan, MLP.program, stage_programs(plan, MLP.program))


@pytest.mark.parametrize(
    ("last", "places", "nodes"),
    [
        (1, HERE, [(0, 4), (4,), (0,), (0,)]),
        (0, HERE, [(0, 4), (4,), (0,), (4,)]),  # not the node of its own core
        (1, (((9,), (7,)), ((8,),)), [(0, 4), (0,), (4,), (0,)]),  # mapped anew: with the core
        (1, (((7,), (7,)), ((7,),)), [(4,), (4,), (4,), (4,)]),
    ],
)
def test_the_nodes_are_those_of_the_plan(last: int, places: Places, nodes: list[tuple[int, ...]]) -> None:
    plan, layout = planned(last)
    assert [(c.stage, c.replica) for c in layout.channels] == [(-1, 0), (0, 0), (0, 1), (1, 0)]
    assert ring_nodes(plan, layout, places, OS_NODES.get) == nodes


def test_without_nodes_in_the_kernel_there_are_none() -> None:
    plan, layout = planned()
    assert ring_nodes(plan, layout, HERE, lambda pu: None) == [()] * 4


class Kernel:
    """Keeps the policies that it is given."""

    def __init__(self) -> None:
        self.policies: dict[int, tuple[int, list[int]]] = {}
        self.bytes = 0

    def __call__(self, name: str, *arguments: Any) -> int:
        if name == "mbind":
            address, size, mode, mask = arguments[:4]
            self.policies[address.value] = (mode.value, list(mask))
            self.bytes += size.value
        else:
            mode, mask, _, address = arguments[:4]
            mode._obj.value, mask[:] = self.policies[address.value]
        return 0

    def nodes(self, address: int) -> tuple[int, int]:
        """Mode, and the first word of the set of nodes."""
        return self.policies[address][0], self.policies[address][1][0]


@contextmanager
def memory_of(layout: Layout) -> Iterator[Memory]:
    memory = Memory.create(layout.bytes)
    try:
        yield memory
    finally:
        os.close(memory.fd)


def test_each_channel_gets_its_node_or_is_spread_over_several() -> None:
    plan, layout = planned()
    kernel = Kernel()
    with memory_of(layout) as memory:
        assert place_rings(memory, plan, layout, HERE, (0, 4), OS_NODES.get, kernel) is None
        found = [kernel.nodes(memory.address(channel.base)) for channel in layout.channels]
    assert found == [
        (Mode.INTERLEAVE, 0b10001), (Mode.PREFERRED, 0b10000), (Mode.PREFERRED, 1), (Mode.PREFERRED, 1)
    ]  # fmt: skip
    assert kernel.bytes == sum(channel.slots * channel.slot_bytes for channel in layout.channels)


def test_what_is_refused_becomes_a_note() -> None:
    plan, layout = planned()
    with memory_of(layout) as memory:
        note = place_rings(memory, plan, layout, HERE, (0, 4), OS_NODES.get, lambda name, *rest: errno.EPERM)
        assert note == (
            "the rings could not be put on node 0,4 (Operation not permitted): their memory is on the node of who "
            "writes it first"
        )
        blind = Kernel()

        def other(name: str, *arguments: Any) -> int:
            blind(name, *arguments)
            blind.policies = {address: (Mode.INTERLEAVE, [1] + [0] * 15) for address in blind.policies}
            return 0

        note = place_rings(memory, plan, layout, HERE, (0, 4), OS_NODES.get, other)
        assert note is not None and "the kernel has nodes 0 instead" in note


def test_on_one_node_nothing_is_asked() -> None:
    plan, layout = planned()
    with memory_of(layout) as memory:
        for here in ((), (0,)):
            assert place_rings(memory, plan, layout, HERE, here, OS_NODES.get, lambda name, *rest: 1 // 0) is None


def test_pages_of_the_real_kernel_are_where_they_were_asked_for() -> None:
    if (reason := policy_error()) is not None:
        pytest.skip(f"no memory policy here: {reason}")
    node = nodes_here()[0]
    plan, layout = planned()
    with memory_of(layout) as memory:
        assert place_rings(memory, plan, layout, HERE, (0, 1), lambda pu: node) is None
        base = layout.channels[1].base
        memory.words[base // 8] = 1
        assert nodes_of(memory.address(base), PAGE_BYTES) == {node: 1}
