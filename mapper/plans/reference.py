"""How a plan names the model or the graph that it is of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mapper.graph.model import Graph
from mapper.plans.model import ModelRef, TensorSpec

if TYPE_CHECKING:
    from mapper.program.realise import Realised


def reference_of(
    graph: Graph,
    source: str = "",
    realised: Realised | None = None,
    options: Mapping[str, Any] | None = None,
) -> ModelRef:
    """How a plan names `graph`: exactly enough to trace it again where `source` was `realised` with `options`.

    Otherwise only by its hash: a module that was traced, or a graph file (`source`: its name), has no more.
    """
    if realised is None:
        given = graph.program.inputs if graph.program is not None else ()
        item = tuple(TensorSpec(name=i.name, shape=i.type.shape, dtype=i.type.dtype) for i in given)
        return ModelRef(
            name=graph.name, source=source, graph_sha256=graph.sha256, weights="", dtype=graph.dtype, item=item
        )
    import torch

    return ModelRef(
        name=realised.name,
        title=realised.title,
        source=source,
        options={key: value for key, value in (options or {}).items() if value is not None},
        graph_sha256=graph.sha256,
        weights=realised.weights,
        dtype=graph.dtype,
        item=tuple(TensorSpec(name=i.name, shape=i.shape, dtype=i.dtype, high=i.high) for i in realised.inputs),
        item_name=realised.item,
        torch=torch.__version__,
    )
