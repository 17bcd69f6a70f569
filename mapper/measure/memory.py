"""How much memory measuring parts of a model takes, and how much there is: the kernel kills what takes too much."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mapper.backends.registry import EAGER, Backend
from mapper.errors import SystemRefused
from mapper.graph.model import Graph
from mapper.graph.profile import live_bytes
from mapper.host.load import available_bytes
from mapper.machine.cgroup import memory_limit

TEAM_BYTES = 150 * 10**6
"""What a forked team takes besides weights and activations: its library, and what lives in a call (measured)."""
OTHER_COPIES = 2
"""Copies of the weights in each team, for back ends that lay them out anew: theirs, and the file's while they do that.
Eager in float32 and inductor read one file that all share."""
RESERVE_BYTES = 5 * 10**8
"""Left free."""


class NoRoom(SystemRefused):
    """Parts of a model need more memory than there is."""


def free_bytes(root: Path = Path("/")) -> int:
    """Memory that more processes may have, but for a reserve: what the kernel has available, at most what the control
    group may have."""
    limit, free = memory_limit(root), available_bytes(root)
    return (free if limit is None else min(free, limit)) - RESERVE_BYTES


def need_bytes(
    graph: Graph, parts: Sequence[Sequence[int]], teams: int, backend: Backend, *, sweep_bytes: int = 0
) -> int:
    """An upper estimate of what `teams` take that measure `parts` of `graph` (ops by number) at once with `backend`.

    Each computes the whole program once, for what enters the parts, so the most that is live in it, and the largest
    op, count for all.
    """
    ops = [graph.ops[v] for part in parts for v in part]
    inside = {op.name for op in ops}
    entering = sum(t.bytes for t in graph.tensors if t.producer not in inside and inside.intersection(t.readers))
    weights = sum({w.name: w.bytes for op in ops for w in op.weights}.values())
    copies = 0 if backend.name in (EAGER, "inductor") else OTHER_COPIES
    live = max(live_bytes(graph), default=0) + max((op.footprint_bytes for op in graph.ops), default=0)
    each = TEAM_BYTES + live + entering + copies * weights
    return teams * each + sweep_bytes
