"""Costs that come with a graph: one time an op, on one unit, and one an output, that both sides pay (problem.md with
a single configuration and no residency; the published max-load problem).

    t(v)    proc_s of the op
    comm(t) comm_s of the tensor, or its bytes / bandwidth where the file gives bytes only
"""

from __future__ import annotations

import math

import numpy as np

from mapper.cost.configurations import Config
from mapper.cost.residency import DRAM, PACKAGE, Caches
from mapper.cost.table import GIVEN, CostTable
from mapper.cost.transfer import nearest, transfer_s
from mapper.errors import UsageError
from mapper.graph.model import Graph
from mapper.machine.model import Machine

UNIT = Config(1, 1)
"""The only configuration: one unit."""
NO_CACHES = Caches(math.inf, math.inf, ("-", "-", "-"))
"""Of units to which caches make no difference."""


def given_costs(graph: Graph, bandwidth_bytes_per_s: float | None = None) -> CostTable:
    """The cost table of a graph whose ops bring their times.

    `bandwidth_bytes_per_s` prices tensors that have bytes only. Tensors whose cost is given keep it.

    Raises: UsageError when a tensor has neither a cost nor a bandwidth to derive it from; BadInput when no op takes
    any time, so that any plan is as good as another.
    """
    assert graph.costed
    moved = {tensor.name: tensor.comm_s for tensor in graph.tensors}
    if bandwidth_bytes_per_s is not None and bandwidth_bytes_per_s <= 0:
        raise UsageError("--bandwidth must be more than 0")
    derived = any(seconds is None for seconds in moved.values())
    if derived and bandwidth_bytes_per_s is None:
        raise UsageError(f"{graph.name} gives bytes of tensors, but no time to move them",
                         advice="Say at what rate they move: --bandwidth 16GB/s.")  # fmt: skip
    if derived:
        assert bandwidth_bytes_per_s is not None
        moved = {t.name: t.bytes / bandwidth_bytes_per_s if t.comm_s is None else t.comm_s for t in graph.tensors}
    ops = len(graph.ops)
    seconds = np.array([op.proc_s for op in graph.ops], dtype=float)
    table = CostTable(
        configs=(UNIT,),
        caches=NO_CACHES,
        compute_s=np.repeat(seconds[:, None, None], 3, axis=2),
        dispatch_s=np.zeros(ops),
        fork_join_s=np.zeros((ops, 1)),
        dram_bytes=np.zeros((ops, 1)),
        source=GIVEN,
        comm_s={name: value for name, value in moved.items() if value},
        options={"bandwidth_bytes_per_s": repr(bandwidth_bytes_per_s)} if derived else {},
    )
    table.require_time(graph.name)
    return table


def costed(graph: Graph, machine: Machine, table: CostTable) -> Graph:
    """`graph` with the times of one core of `machine`, for other planners.

    Weights are in the package's cache where it holds them all, else in DRAM. A tensor costs each side what it does
    between neighbouring cores.
    """
    column = table.index(UNIT.name)
    residency = PACKAGE if table.caches.holds_model(graph.weight_bytes) else DRAM
    ops = tuple(
        op.model_copy(update={"proc_s": float(table.seconds[v, column, residency])}) for v, op in enumerate(graph.ops)
    )
    distance = nearest(machine, outside_group=machine.cores_per_group == 1)
    tensors = tuple(t.model_copy(update={"comm_s": transfer_s(machine, t.bytes, distance)}) for t in graph.tensors)
    return graph.model_copy(update={"ops": ops, "tensors": tensors})


def priced(graph: Graph, bandwidth_bytes_per_s: float) -> Graph:
    """`graph` with a cost for every tensor that has bytes only, for formats that hold costs."""
    moved = given_costs(graph, bandwidth_bytes_per_s).comm_s
    return graph.model_copy(
        update={"tensors": tuple(t.model_copy(update={"comm_s": moved.get(t.name, 0.0)}) for t in graph.tensors)}
    )
