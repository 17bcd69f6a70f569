"""From a model source to its graph, and to how a plan refers to it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mapper.cost.table import GIVEN
from mapper.errors import UsageError
from mapper.graph.measure import graph_of
from mapper.graph.model import Graph
from mapper.graph.trace import trace
from mapper.plans.model import ModelRef, Plan, TensorSpec
from mapper.plans.reference import reference_of
from mapper.program.cards import is_bundled
from mapper.program.columns import with_columns
from mapper.program.realise import COLUMNS, TrustedSource, realise


def graph_of_source(
    source: str, options: Mapping[str, Any] | None = None, *, trust: bool = False
) -> tuple[Graph, ModelRef]:
    """The graph of the model that `source` names, traced without memory for its weights, and its reference.

    `options` as for `realise`: batch, length, seed, weights, columns. `trust` allows a source that is opened by running
    code.

    Raises: what `realise` and `trace` raise.
    """
    if source.endswith(".onnx"):
        return _graph_of_onnx(source, dict(options or {}))
    realised = realise(TrustedSource(source) if trust else source, options, fake=True)
    whole = trace(realised.module, realised.kwargs or realised.args, name=realised.name)
    given = dict(options or {})
    columns = given.pop(COLUMNS, {})
    return in_columns(whole, reference_of(whole, source, realised, given), columns)


def in_columns(graph: Graph, reference: ModelRef, columns: Mapping[str, int]) -> tuple[Graph, ModelRef]:
    """`graph`, with each op of `columns` split into so many columns, and its reference.

    Raises: UsageError for an op that cannot be, and where the graph has no program.
    """
    if not columns:
        return graph, reference
    if graph.program is None:
        raise UsageError("only the ops of a traced model can be split into columns")
    split = graph_of(with_columns(graph.program, columns))
    options = {**reference.options, COLUMNS: dict(columns)}
    return split, reference.model_copy(update={"options": options, "graph_sha256": split.sha256})


def _graph_of_onnx(source: str, options: dict[str, Any]) -> tuple[Graph, ModelRef]:
    from mapper.graph.importers.onnx_model import load_onnx

    if other := sorted(options.keys() - {"batch", "length"}):
        raise UsageError(f"an ONNX model brings its own weights: it takes no {' or '.join(other)}")
    path = Path(source)
    made = load_onnx(path, options)
    item = tuple(TensorSpec(name=name, shape=v.shape, dtype=v.dtype) for name, v in made.inputs.items())
    reference = ModelRef(
        name=path.stem, title=path.name, source=source, options=options, graph_sha256=made.graph.sha256,
        weights=f"sha256:{made.sha256}", dtype=made.graph.dtype, item=item,
    )  # fmt: skip
    return made.graph, reference


def trusted(plan: Plan, *, model: str | None = None, trust: bool = False) -> Plan:
    """`plan` with a model source that may be run.

    A plan is data, so code that only the plan names is not run: a bundled card is, other sources need `model` (the
    user naming it) or `trust`; a `.pt2` file, which can run code when it is opened, always needs `trust`. An ONNX file
    is data.

    Raises: UsageError saying which option to give.
    """
    source = model or plan.model.source
    if plan.request.costs.get("source") == GIVEN:
        raise UsageError(
            f"the plan is of a graph file ({source}), which has times but no model",
            advice="Such a plan can be checked, with the file: mapper check PLAN --graph FILE.",
        )
    if not source:
        raise UsageError("the plan does not say where its model comes from", advice="Name it: --model SOURCE.")
    if source.endswith(".pt2") and not trust:
        raise UsageError(
            f"the model is in {source!r}, which is code: opening it can run what its maker put into it",
            advice="Say that you trust where it comes from (--trust).",
        )
    if model is None and not trust and not is_bundled(source) and not source.endswith(".onnx"):
        raise UsageError(
            f"the plan names the model {source!r}, which is code outside mapper; reading a plan does not run code",
            advice=f"Name it yourself (--model {source}) or trust the plan (--trust).",
        )
    source = TrustedSource(source) if trust else source
    return plan.model_copy(update={"model": plan.model.model_copy(update={"source": source})})
