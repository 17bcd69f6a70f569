"""The weights that workers map: one file for all of them, or, on several NUMA nodes, one on each node that needs some.

Replicas whose weights are on the same nodes share a file, with the weights of their stages only. Its memory is put
where the plan says before it is written; where the kernel refuses that, all map one file, which lies where this
process wrote it.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack

import torch

from mapper.errors import SystemRefused
from mapper.execution.place import Places
from mapper.execution.rings.memory import PAGE_BYTES
from mapper.execution.rings.nodes import Known, NodeOf, nodes_by_number, nodes_for
from mapper.host.anonymous import anonymous_file
from mapper.host.memory import Call, Mode, bind, node_of, nodes_here, system_call
from mapper.machine.pus import format_pus
from mapper.plans.model import Plan
from mapper.program.model import Program
from mapper.program.weights import laid_out, write_weights
from mapper.sources.source import Source

Files = Mapping[tuple[int, int], int]
"""The descriptor of the weights of each replica, by stage and replica."""
_HEADER_BYTES_A_WEIGHT = 512
Nodes = tuple[int, ...]


def placed_weights(
    plan: Plan, programs: Sequence[Program], source: Source, whole: int, places: Places, stack: ExitStack,
    here: Collection[int] | None = None, of: NodeOf = node_of, call: Call = system_call,
) -> tuple[Files, str | None]:  # fmt: skip
    """The file of each replica of `plan`, and what the user should know of it; `whole` is a file with all weights.

    New files are closed with `stack`. `here` are the nodes of this machine, as the OS numbers them; on one node
    everybody maps `whole`. Raises: SystemRefused when there is no memory for the files.
    """
    replicas = [(stage.id, r) for stage in plan.stages for r in range(len(stage.replicas))]
    if len(nodes_here() if here is None else here) < 2:
        return dict.fromkeys(replicas, whole), None
    known = nodes_by_number(plan, places, of)
    wanted = {at: _nodes(plan, at, known) for at in replicas}
    files: dict[Nodes, int] = {}
    for nodes in dict.fromkeys(wanted.values()):
        if not nodes:
            files[nodes] = whole  # nobody knows where its PUs are
            continue
        stages = sorted({s for (s, _), where in wanted.items() if where == nodes})
        weights: dict[str, torch.Tensor] = {}
        for s in stages:
            weights |= laid_out(programs[s], source.weights)
        fd, refused = _written(weights, nodes, call)
        stack.callback(os.close, fd)
        if refused is not None:
            note = f"weights could not be put on node {format_pus(nodes)} ({refused}): all workers share one copy"
            return dict.fromkeys(replicas, whole), note
        files[nodes] = fd
    return {at: files[nodes] for at, nodes in wanted.items()}, None


def _nodes(plan: Plan, at: tuple[int, int], known: Known) -> Nodes:
    """The nodes here, as the OS numbers them, that hold the weights of the replica `at`."""
    stage, replica = at
    numbers = plan.stages[stage].replicas[replica].weights.nodes
    return tuple(sorted({node for number in numbers for node in nodes_for(known, at, number)}))


def _written(weights: Mapping[str, torch.Tensor], nodes: Nodes, call: Call) -> tuple[int, str | None]:
    """A new file with `weights` whose pages are on `nodes` (over several page by page), or why they could not be."""
    size = sum(tensor.numel() * tensor.element_size() for tensor in weights.values())
    size += PAGE_BYTES + sum(_HEADER_BYTES_A_WEIGHT + len(name) for name in weights)
    fd = anonymous_file("mapper-weights", size)
    try:
        with mmap.mmap(fd, size) as view:
            # The policy belongs to the file, and outlives the mapping. Preferred: a full node must not end the run.
            start = ctypes.c_char.from_buffer(view)
            mode = Mode.PREFERRED if len(nodes) == 1 else Mode.INTERLEAVE
            refused = bind(ctypes.addressof(start), size, nodes, mode, call=call)
            del start
        if refused is None:
            with os.fdopen(os.dup(fd), "wb") as out:
                write_weights(out, weights)
                out.truncate()
    except OSError as error:
        os.close(fd)
        raise SystemRefused(f"the weights cannot be put into shared memory: {error.strerror}") from error
    return fd, refused
