"""PipeDream's objective as a cost table: training with replicated stages that exchange their weights.

    T(S, m) = ( Σ C_v + 4 (m - 1) Σ W_v / (B m) ) / m       seconds a minibatch of stage S on m units

with C_v the forward and backward seconds of op v, W_v its weight bytes and B the bandwidth (Narayanan et al.,
PipeDream, SOSP 2019, as published in msr-fiddle/pipedream, optimizer). It is linear in the ops, so a stage on m units
is a stage of one replica with the configuration of m units, and t(v, m) = C_v / m + 4 (m - 1) W_v / (B m²). Activations
that are handed over cost nothing, and ops called `Input` are not there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from mapper.cost.configurations import Config
from mapper.cost.imported import NO_CACHES
from mapper.cost.table import GIVEN, CostTable
from mapper.errors import BadInput, UsageError
from mapper.graph.model import Graph

OBJECTIVE = "pipedream"
"""`objective_model` among the options of such a table."""
_INPUT = re.compile(r"Input\d*(\W.*)?", re.DOTALL)


def training_costs(graph: Graph, units: int, bandwidth_bytes_per_s: float) -> CostTable:
    """The table for `graph` without its inputs (`without_inputs`), with configurations of 1 to `units` units.

    Raises: UsageError for a bandwidth of zero, a graph without times of a backward pass or with weights that two ops
    share (the formula then holds for no sum over ops); BadInput when no op takes any time.
    """
    if bandwidth_bytes_per_s <= 0:
        raise UsageError("--bandwidth must be more than 0")
    lacking = next((op.name for op in graph.ops if op.proc_s is None or op.backward_s is None), None)
    if lacking is not None:
        raise UsageError(f"{graph.name} gives no time of the backward pass of {lacking}",
                         advice="--objective-model pipedream is for PipeDream's graph.txt.")  # fmt: skip
    names = [weight.name for op in graph.ops for weight in op.weights]
    if len(set(names)) < len(names):
        raise UsageError(f"two ops of {graph.name} share a weight; PipeDream's objective knows weights of one op only")
    work = np.array([(op.proc_s or 0.0) + (op.backward_s or 0.0) for op in graph.ops])
    if not work.any():
        raise BadInput(graph.name, "no op takes any time, so there is nothing to plan")
    weights = np.array([sum(weight.bytes for weight in op.weights) for op in graph.ops], dtype=float)
    replicas = np.arange(1, units + 1)
    exchange = 4 * (replicas - 1) / (bandwidth_bytes_per_s * replicas**2)
    seconds = work[:, None] / replicas + weights[:, None] * exchange
    shape = seconds.shape
    return CostTable(
        configs=tuple(Config(int(m), 1) for m in replicas),
        caches=NO_CACHES,
        compute_s=np.repeat(seconds[:, :, None], 3, axis=2),
        dispatch_s=np.zeros(shape[0]),
        fork_join_s=np.zeros(shape),
        dram_bytes=np.zeros(shape),
        source=GIVEN,
        options={"objective_model": OBJECTIVE, "bandwidth_bytes_per_s": repr(bandwidth_bytes_per_s)},
    )


def planned_costs(graph: Graph, units: int, options: Mapping[str, str]) -> tuple[Graph, CostTable]:
    """The graph without its inputs and the table, as a plan for `units` units was made with `options` of a table.

    Raises: UsageError where the options have no bandwidth; what `training_costs` and `without_inputs` raise.
    """
    try:
        bandwidth = float(options["bandwidth_bytes_per_s"])
    except (KeyError, ValueError):
        raise UsageError("the plan under PipeDream's objective gives no bandwidth that is a number") from None
    work = without_inputs(graph)
    return work, training_costs(work, units, bandwidth)


def exchange_s(weight_bytes: float, replicas: int, bandwidth_bytes_per_s: float) -> float:
    """The part of a stage's seconds that its replicas exchange weights in."""
    return 4 * (replicas - 1) * weight_bytes / (bandwidth_bytes_per_s * replicas**2)


def without_inputs(graph: Graph) -> Graph:
    """`graph` without the ops that read nothing and are called or described as `Input`: the data loader.

    Raises: BadInput when nothing is left.
    """
    reading = {reader for tensor in graph.tensors for reader in tensor.readers}
    gone = {op.name for op in graph.ops
            if op.name not in reading and any(_INPUT.fullmatch(text) for text in (op.target, op.name))}  # fmt: skip
    if not gone:
        return graph
    kept = tuple(op for op in graph.ops if op.name not in gone)
    if not kept:
        raise BadInput(graph.name, "only inputs: there is nothing to plan")
    return Graph(
        name=graph.name,
        ops=kept,
        tensors=tuple(tensor for tensor in graph.tensors if tensor.producer not in gone),
        inputs=tuple(boundary for boundary in graph.inputs if gone.isdisjoint(boundary.ops)),
        outputs=tuple(boundary for boundary in graph.outputs if gone.isdisjoint(boundary.ops)),
        dtype=graph.dtype,
        given=graph.given,
    )
