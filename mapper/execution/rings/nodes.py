"""On which NUMA node the memory of each ring is: where the plan says, if the kernel lets us, else where it is touched.

Shared memory keeps its policy itself: it is set once, in the parent, before anybody touches a page, and holds for all
processes. Refused (in a container), pages are on the node of who writes them first: `Producer.touch`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

from mapper.execution.place import Places
from mapper.execution.rings.layout import Layout
from mapper.execution.rings.memory import Memory
from mapper.execution.rings.ring import FEEDER_ID, Channel
from mapper.host.memory import Call, Mode, Policy, bind, node_of, nodes_here, policy_of, system_call
from mapper.machine.pus import format_pus
from mapper.plans.model import FEEDER, Plan

NodeOf = Callable[[int], int | None]
"""The NUMA node of a PU, both as the OS numbers them."""
Known = Mapping[int, Mapping[tuple[int, int], Collection[int]]]
"""By the plan's number of a node, and by stage and replica: nodes as the OS numbers them."""


def ring_nodes(plan: Plan, layout: Layout, places: Places, of: NodeOf = node_of) -> list[tuple[int, ...]]:
    """For each channel of `layout` the nodes of this machine, as the OS numbers them, that the plan's rings name.

    A plan counts the nodes of the machine that it was made for. What the OS calls them here is found by the cores: a
    ring's node is that of a core of its owner, or of another core of the plan, and that core's PU is known.
    """
    known = nodes_by_number(plan, places, of)
    found = []
    for channel in layout.channels:
        nodes_found: set[int] = set()
        for owner, planned in _rings(plan, channel):
            nodes_found.update(nodes_for(known, owner, planned))
        found.append(tuple(sorted(nodes_found)))
    return found


def nodes_by_number(plan: Plan, places: Places, of: NodeOf = node_of) -> Known:
    """For each of the plan's numbers of nodes, and each replica with a core there, the nodes that its PUs are on."""
    known: dict[int, dict[tuple[int, int], set[int]]] = {}
    for s, (stage, here) in enumerate(zip(plan.stages, places, strict=True)):
        for r, (replica, pus) in enumerate(zip(stage.replicas, here, strict=True)):
            for core, pu in zip(replica.cores, pus, strict=False):  # fewer PUs than cores where cores wrap around
                if (node := of(pu)) is not None:
                    known.setdefault(plan.machine.cores[core].node, {}).setdefault((s, r), set()).add(node)
    return known


def nodes_for(known: Known, owner: tuple[int, int], number: int) -> Collection[int]:
    """The nodes here that the plan's `number` means for the replica `owner`: those of its own cores there, else those
    of other cores."""
    replicas = known.get(number, {})
    return replicas.get(owner) or {node for nodes in replicas.values() for node in nodes}


def _rings(plan: Plan, channel: Channel) -> Iterable[tuple[tuple[int, int], int]]:
    """Each ring of `channel`: the stage and replica whose memory it is, and the plan's number of its node. What the
    feeder hands in is the memory of who reads it."""
    source = FEEDER if channel.stage == FEEDER_ID else channel.stage
    for edge in plan.edges:
        for ring in edge.rings if edge.source == source else ():
            if source == FEEDER and edge.target != FEEDER:
                yield (int(edge.target), ring.to_replica), ring.node
            elif ring.from_replica == channel.replica:
                yield (channel.stage, channel.replica), ring.node


def place_rings(
    memory: Memory, plan: Plan, layout: Layout, places: Places, here: Collection[int] | None = None,
    of: NodeOf = node_of, call: Call = system_call,
) -> str | None:  # fmt: skip
    """Asks for the memory of each channel on the nodes of its rings: on the node if it is one and has room, page by
    page over several. Returns what the user should know where that was not granted. On one node nothing is asked.

    The node is preferred, not required: a full one must not end the run. `here` are the nodes of this machine.
    """
    if len(nodes_here() if here is None else here) < 2:
        return None
    for channel, wanted in zip(layout.channels, ring_nodes(plan, layout, places, of), strict=True):
        if not wanted:
            continue
        address, mode = memory.address(channel.base), Mode.PREFERRED if len(wanted) == 1 else Mode.INTERLEAVE
        refused = bind(address, channel.slots * channel.slot_bytes, wanted, mode, call=call)
        if refused is None and (got := policy_of(address, call)) != Policy(mode, wanted):
            refused = got if isinstance(got, str) else f"the kernel has nodes {format_pus(got.nodes)} instead"
        if refused is not None:
            return (f"the rings could not be put on node {format_pus(wanted)} ({refused}): their memory is on the node "
                    "of who writes it first")  # fmt: skip
    return None
