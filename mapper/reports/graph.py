"""Models and graphs as text: where the arithmetic, the weights and the bytes are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mapper.graph.model import Graph
from mapper.plans.model import ModelRef
from mapper.reports.table import table
from mapper.units import format_bytes, format_count


def totals(graph: Graph) -> dict[str, Any]:
    """Sums over the graph: FLOP, distinct weight bytes, bytes between ops, number of ops by kind."""
    kinds: dict[str, int] = {}
    for op in graph.ops:
        kinds[op.kind] = kinds.get(op.kind, 0) + 1
    return {
        "flop": graph.flop,
        "weight_bytes": graph.weight_bytes,
        "tensor_bytes": sum(tensor.bytes for tensor in graph.tensors),
        "kinds": kinds,
        "graph_sha256": graph.sha256,
    }


def models_text(rows: Sequence[dict[str, Any]]) -> list[str]:
    """One line a model."""
    cells = [
        [r["name"], r["title"], *(["-"] * 3 if r["parameters"] is None else
         [format_count(r["parameters"]), str(r["ops"]), format_count(r["flop"])]), r["item"]]
        for r in rows
    ]  # fmt: skip
    return table(["model", "", "parameters", "ops", "FLOP", "an item is one"], cells, right="234", indent="")


def graph_text(graph: Graph, reference: ModelRef) -> list[str]:
    """A table by kind of op, and the ten ops with the most work."""
    rows = []
    for kind in dict.fromkeys(op.kind for op in sorted(graph.ops, key=lambda op: -op.flop)):
        ops = [op for op in graph.ops if op.kind == kind]
        weights = {w.name: w.bytes for op in ops for w in op.weights}
        share = sum(op.flop for op in ops) / graph.flop if graph.flop else 0.0
        rows.append([kind, str(len(ops)), format_count(sum(op.flop for op in ops)), f"{share:.1%}",
                     format_bytes(sum(weights.values())), format_bytes(sum(op.write_bytes for op in ops))])  # fmt: skip
    most = sorted(graph.ops, key=lambda op: -op.flop)[:10]
    cells = [
        [op.name, op.kind, format_count(op.flop), format_bytes(sum(w.bytes for w in op.weights)), op.module]
        for op in most
    ]
    return [
        f"{reference.title or graph.name}: {len(graph.ops)} ops, {format_count(graph.flop)} FLOP an item, "
        f"{format_bytes(graph.weight_bytes)} of weights ({graph.dtype})",
        "",
        *table(["kind", "ops", "FLOP", "", "weights", "written"], rows, right="12345"),
        "",
        *table(["most work", "kind", "FLOP", "weights", "module"], cells, right="23"),
    ]
