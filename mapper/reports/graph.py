"""Models and graphs as text: where the arithmetic, the weights and the bytes are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from mapper.graph.model import Graph
from mapper.graph.profile import best_cuts, critical_path, live_bytes, shared_weights, skip_edges, work_of
from mapper.plans.model import ModelRef
from mapper.reports.lines import sparkline
from mapper.reports.table import table
from mapper.units import format_bytes, format_count, format_seconds


def totals(graph: Graph) -> dict[str, Any]:
    """Sums over the graph: FLOP, distinct weight bytes, bytes between ops, number of ops by kind; and its shape.

    `live_bytes[i]` cross the cut after op i of the order.
    """
    kinds: dict[str, int] = {}
    path = critical_path(graph)
    for op in graph.ops:
        kinds[op.kind] = kinds.get(op.kind, 0) + 1
    return {
        "flop": graph.flop,
        "weight_bytes": graph.weight_bytes,
        "tensor_bytes": sum(tensor.bytes for tensor in graph.tensors),
        "kinds": kinds,
        "live_bytes": live_bytes(graph),
        "best_cuts": [asdict(cut) for cut in best_cuts(graph)],
        "critical_path": asdict(path) | {"parallelism": path.parallelism},
        "skip_edges": skip_edges(graph),
        "shared_weights": shared_weights(graph),
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
    """A table by kind of op, the ten ops with the most work, and what the shape of the graph says about splitting."""
    amount = format_seconds if graph.costed else format_count
    unit, total = ("time", sum(op.proc_s or 0.0 for op in graph.ops)) if graph.costed else ("FLOP", graph.flop)
    rows = []
    for kind in dict.fromkeys(op.kind for op in sorted(graph.ops, key=lambda op: -work_of(graph, op))):
        ops = [op for op in graph.ops if op.kind == kind]
        weights = {w.name: w.bytes for op in ops for w in op.weights}
        work = sum(work_of(graph, op) for op in ops)
        rows.append([kind, str(len(ops)), amount(work), f"{work / total if total else 0:.1%}",
                     format_bytes(sum(weights.values())), format_bytes(sum(op.write_bytes for op in ops))])  # fmt: skip
    most = sorted(graph.ops, key=lambda op: -work_of(graph, op))[:10]
    cells = [
        [op.name, op.kind, amount(work_of(graph, op)), format_bytes(sum(w.bytes for w in op.weights)),
         op.module or op.target]
        for op in most
    ]  # fmt: skip
    work_text = f"{amount(total)} an item" if graph.costed else f"{amount(total)} FLOP an item"
    dtype = f" ({graph.dtype})" if graph.dtype else ""
    return [
        f"{reference.title or graph.name}: {len(graph.ops)} ops, {work_text}, "
        f"{format_bytes(graph.weight_bytes)} of weights{dtype}",
        "",
        *table(["kind", "ops", unit, "", "weights", "written"], rows, right="12345"),
        "",
        *table(["most work", "kind", unit, "weights", "module"], cells, right="23"),
        "",
        *_shape(graph),
    ]


def _shape(graph: Graph) -> list[str]:
    """Where bytes are live, the critical path, skip edges and shared weights."""
    live, path = live_bytes(graph), critical_path(graph)
    lines = []
    if live:
        lines.append(f"Bytes between ops, along the order (at most {format_bytes(max(live))}, all cuts from 0):")
        lines += [f"  {sparkline(live)}", "", *_cuts(graph), ""]
    share = path.work / path.total if path.total else 1.0
    lines.append(f"Critical path: {len(path.ops)} of {len(graph.ops)} ops, {share:.1%} of the work; "
                 f"branches beside each other could gain a factor of {path.parallelism:.2f} at most")  # fmt: skip
    lines.append(f"Skip edges, which another path goes around: {len(skip_edges(graph))}")
    classes = Counter(op.together for op in graph.ops if op.together is not None)
    if tied := [count for count in classes.values() if count > 1]:
        lines.append(f"Classes of ops that must share a stage: {len(tied)}, with {sum(tied)} ops")
    shared = shared_weights(graph)
    named = ", ".join(f"{name} ({len(ops)} ops)" for name, ops in list(shared.items())[:3])
    more = f" and {len(shared) - 3} more" if len(shared) > 3 else ""
    lines.append(f"Weights that several ops share: {named}{more}" if shared else "No weight is shared by several ops")
    return lines


def _cuts(graph: Graph) -> list[str]:
    rows = [[graph.ops[cut.position - 1].name, format_bytes(cut.bytes), f"{cut.share:.1%}"] for cut in best_cuts(graph)]
    return table(["cheapest cuts: after", "bytes", "work before"], rows, right="12")
