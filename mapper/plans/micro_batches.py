"""Items in micro-batches: what calls of the program come to, as items of several calls (problem.md, *latency L*).

The m micro-batches of an item enter the pipeline one behind the other: an item takes m periods, and its last
micro-batch is done m - 1 periods after the first.
"""

from __future__ import annotations

from mapper.errors import UsageError
from mapper.graph.model import Graph
from mapper.plans.model import Predicted


def in_items(call: Predicted, micro_batches: int) -> Predicted:
    """What is predicted of items, from what is predicted of the calls of the program, `micro_batches` of which make
    one item. Items in flight stay calls in flight."""
    behind = (micro_batches - 1) * call.period_s
    return call if micro_batches == 1 else call.model_copy(update={
        "period_s": call.period_s * micro_batches,
        "throughput_per_s": call.throughput_per_s / micro_batches,
        "latency_s": call.latency_s + behind,
        "critical_path_s": call.critical_path_s + behind,
        "dram_bytes_per_item": call.dram_bytes_per_item * micro_batches,
    })  # fmt: skip


def in_calls(item: Predicted, micro_batches: int) -> Predicted:
    """What `in_items` was made from."""
    period = item.period_s / micro_batches
    behind = (micro_batches - 1) * period
    return item if micro_batches == 1 else item.model_copy(update={
        "period_s": period,
        "throughput_per_s": item.throughput_per_s * micro_batches,
        "latency_s": item.latency_s - behind,
        "critical_path_s": item.critical_path_s - behind,
        "dram_bytes_per_item": item.dram_bytes_per_item / micro_batches,
    })  # fmt: skip


def require_batched(graph: Graph, elements: int) -> None:
    """Refuses a model whose items cannot be split: the first dimension of every input and output must be the batch.

    `graph` is of calls of `elements` elements. Raises: UsageError.
    """
    if graph.program is None:
        raise UsageError("only items of a traced model can be split into micro-batches")
    named = [(given.name, given.type) for given in graph.program.inputs]
    outputs = zip(graph.program.output_names, graph.program.outputs, strict=True)
    named += [(name, graph.program.type_of(reference)) for name, reference in outputs]
    for name, kind in named:
        if not kind.shape or kind.shape[0] != elements:
            raise UsageError(
                f"items of {graph.name} cannot be split into micro-batches: {name} is {kind.dtype}{list(kind.shape)}, "
                f"whose first dimension is not the batch of {elements}"
            )
