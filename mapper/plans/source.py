"""From a model source to its graph, and to how a plan refers to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mapper.errors import UsageError
from mapper.graph.model import Graph
from mapper.graph.trace import trace
from mapper.plans.model import ModelRef, Plan, TensorSpec
from mapper.program.cards import Realised, is_bundled, realise


def graph_of_source(source: str, options: Mapping[str, Any] | None = None) -> tuple[Graph, ModelRef]:
    """The graph of the model that `source` names, traced without memory for its weights, and its reference.

    `options` as for `realise`: batch, seed, weights.

    Raises: what `realise` and `trace` raise.
    """
    realised = realise(source, options, fake=True)
    graph = trace(realised.module, realised.kwargs or realised.args, name=realised.name)
    return graph, model_reference(realised, graph, source, dict(options or {}))


def model_reference(realised: Realised, graph: Graph, source: str, options: dict[str, Any]) -> ModelRef:
    """How a plan names `realised`, exactly enough to trace it again."""
    import torch

    item = tuple(TensorSpec(name=i.name, shape=i.shape, dtype=i.dtype, high=i.high) for i in realised.inputs)
    return ModelRef(
        name=realised.name,
        title=realised.title,
        source=source,
        options={key: value for key, value in options.items() if value is not None},
        graph_sha256=graph.sha256,
        weights=realised.weights,
        dtype=graph.dtype,
        item=item,
        item_name=realised.item,
        torch=torch.__version__,
    )


def trusted(plan: Plan, *, model: str | None = None, trust: bool = False) -> Plan:
    """`plan` with a model source that may be run.

    A plan is data, so code that only the plan names is not run: a bundled card is, other sources need `model` (the
    user naming it) or `trust`.

    Raises: UsageError saying which option to give.
    """
    source = model or plan.model.source
    if not source:
        raise UsageError("the plan does not say where its model comes from", advice="Name it: --model SOURCE.")
    if model is None and not trust and not is_bundled(source):
        raise UsageError(
            f"the plan names the model {source!r}, which is code outside mapper; reading a plan does not run code",
            advice=f"Name it yourself (--model {source}) or trust the plan (--trust).",
        )
    return plan.model_copy(update={"model": plan.model.model_copy(update={"source": source})})
