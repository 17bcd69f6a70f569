"""Graphs for other programs: dnn-partitioning JSON, PipeDream `graph.txt`, GraphML and DOT.

The first two are for other planners and need a graph with times (`Graph.costed`): an imported one, or a traced one with
the times of a machine (`mapper.cost.imported.costed`). What they cannot hold is left out: several tensors of one op
become one, the sum of them. Files read by `load_graph` come back as an equal graph.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import networkx as nx

from mapper import jsonio
from mapper.errors import UsageError
from mapper.graph.model import Graph, Op, Tensor

FORMATS = ("mapper", "dnn-partitioning", "pipedream", "dot", "graphml")
BY_SUFFIX = {".json": "mapper", ".txt": "pipedream", ".dot": "dot", ".gv": "dot", ".graphml": "graphml"}
FOREIGN = ("dnn-partitioning", "pipedream")
"""Formats for other planners, which need times."""


def format_of(suffix: str, wanted: str | None) -> str:
    """The format to write: `wanted`, else by the file's suffix. Raises: UsageError naming the formats."""
    chosen = wanted or BY_SUFFIX.get(suffix)
    if chosen not in FORMATS:
        what = f"unknown format {wanted!r}" if wanted else f"the suffix {suffix!r} names no format"
        raise UsageError(what, advice=f"--format, one of {', '.join(FORMATS)}")
    return chosen


def export_text(graph: Graph, kind: str) -> str:
    """`graph` in the format `kind`, one of FORMATS.

    Raises: UsageError when the format needs times that the graph has not.
    """
    if kind in FOREIGN and not graph.costed:
        raise UsageError(f"{kind} holds times, and the ops of {graph.name} have none",
                         advice="The times of a machine: --topo.")  # fmt: skip
    writer: dict[str, Callable[[Graph], str]] = {
        "mapper": lambda g: jsonio.dumps(jsonio.plain(g)),
        "dnn-partitioning": dnn_partitioning,
        "pipedream": pipedream,
        "dot": dot,
        "graphml": graphml,
    }
    return writer[kind](graph)


def dnn_partitioning(graph: Graph) -> str:
    """dnn-partitioning JSON; see `importers.dnn_partitioning` for which field becomes which.

    Ops that are not named by integers are numbered in their order, and their names become the `name`.
    """
    numbered = all(op.name.isascii() and op.name.isdigit() and str(int(op.name)) == op.name for op in graph.ops)
    ids = {op.name: int(op.name) if numbered else i for i, op in enumerate(graph.ops)}
    colours = {c: i for i, c in enumerate(dict.fromkeys(op.together for op in graph.ops if op.together is not None))}
    if all(c.lstrip("-").isdecimal() for c in colours):
        colours = {c: int(c) for c in colours}
    nodes = [_node(op, ids[op.name], op.module if numbered else op.name, colours) for op in graph.ops]
    edges = [
        {"sourceId": ids[producer], "destId": ids[reader], "cost": milliseconds(seconds), "size": size}
        for producer, (tensors, readers) in _handed_over(graph).items()
        for seconds, size in [(_comm_s(graph, tensors), _bytes(tensors, "size"))]
        for reader in readers
    ]
    head = {"maxSizePerFPGA": 17185374208.0, "maxFPGAs": 6, "maxCPUs": 1} | (graph.given or {})
    return json.dumps({**head, "nodes": nodes, "edges": edges}, allow_nan=False)


def _node(op: Op, number: int, name: str, colours: dict[str, int]) -> dict[str, Any]:
    assert op.proc_s is not None
    time = milliseconds(op.proc_s)
    size = op.memory_bytes if op.memory_bytes is not None else float(sum(w.bytes for w in op.weights) + op.write_bytes)
    usual = {"supportedOnFpga": 1, "cpuLatency": time, "fpgaLatency": time, "isBackwardNode": 0}
    out = {**({"name": name} if name else {}), "id": number, **usual}
    if op.together is not None:
        out["colorClass"] = colours[op.together]
    return out | {"size": size} | {k: v for k, v in (op.given or {}).items() if k not in ("stage_id",)}


def pipedream(graph: Graph) -> str:
    """PipeDream `graph.txt`. Backward times that are not known are 0; an op's activation is all that it writes."""
    names = {op.name: op.name if " " not in op.name else op.name.replace(" ", "_") for op in graph.ops}
    handed = _handed_over(graph)
    lines = [_op_line(op, names[op.name], handed.get(op.name, ([], []))[0]) for op in graph.ops]
    lines += [f"\t{names[producer]} -- {names[reader]}" for producer, (_, readers) in handed.items()
              for reader in readers]  # fmt: skip
    return "\n".join(lines) + "\n"


def _op_line(op: Op, name: str, tensors: list[Tensor]) -> str:
    assert op.proc_s is not None
    given = op.given or {}
    activation = given.get("activation_size", _bytes(tensors, "activation_size") if tensors else float(op.write_bytes))
    parameters = given.get("parameter_size", float(sum(weight.bytes for weight in op.weights)))
    values = {
        "forward_compute_time": _decimal(milliseconds(op.proc_s)),
        "backward_compute_time": _decimal(milliseconds(op.backward_s or 0.0)),
        "activation_size": _decimal(float(activation)),
        "parameter_size": _decimal(float(parameters)),
    }
    fields = [name, op.target or op.module or op.kind, ", ".join(f"{k}={v}" for k, v in values.items())]
    fields += [f"stage_id={given['stage_id']}"] if "stage_id" in given else []
    return " -- ".join(fields)


def _decimal(value: float) -> str:
    """`value` with the three decimals of these files where they say it exactly."""
    return f"{value:.3f}" if float(f"{value:.3f}") == value else repr(value)


def milliseconds(seconds: float) -> float:
    """`seconds` in ms: of the numbers that read back as the same seconds the one with the fewest digits."""
    for digits in range(1, 17):
        value = float(f"{seconds * 1000:.{digits}g}")
        if value / 1000 == seconds:
            return value
    return seconds * 1000


def _handed_over(graph: Graph) -> dict[str, tuple[list[Tensor], list[str]]]:
    """For each op with readers what it hands over, and to whom."""
    out: dict[str, tuple[list[Tensor], list[str]]] = {}
    for tensor in graph.tensors:
        tensors, readers = out.setdefault(tensor.producer, ([], []))
        tensors.append(tensor)
        readers += [reader for reader in tensor.readers if reader not in readers]
    return out


def _comm_s(graph: Graph, tensors: list[Tensor]) -> float:
    found = [tensor.comm_s for tensor in tensors if tensor.comm_s is not None]
    if len(found) < len(tensors):
        raise UsageError(f"the tensors of {graph.name} have bytes, but no time to move them",
                         advice="Say at what rate they move: --bandwidth 16GB/s.")  # fmt: skip
    return sum(found)


def _bytes(tensors: list[Tensor], field: str) -> float:
    return sum(float((t.given or {}).get(field, t.bytes)) for t in tensors)


def graphml(graph: Graph) -> str:
    """GraphML with kind, work, bytes and times of ops, and names and bytes of what flows along edges."""
    buffer = io.BytesIO()
    nx.write_graphml(_flat(graph), buffer)
    return buffer.getvalue().decode() + "\n"


def dot(graph: Graph) -> str:
    """DOT for Graphviz, top to bottom; edges say how many bytes flow."""
    lines = [f"digraph {_quoted(graph.name)} {{", "  node [shape=box];"]
    for op in graph.ops:
        label = f"{op.name}\n{op.module or op.target or op.kind}"
        lines.append(f"  {_quoted(op.name)} [label={_quoted(label)}];")
    for a, b, data in _flat(graph).edges(data=True):
        lines.append(f"  {_quoted(a)} -> {_quoted(b)} [label={_quoted(str(data['bytes']))}];")
    return "\n".join([*lines, "}"]) + "\n"


def _flat(graph: Graph) -> nx.DiGraph:
    """The graph with plain attributes only."""
    out = nx.DiGraph(name=graph.name)
    for op in graph.ops:
        values = {"kind": op.kind, "target": op.target, "module": op.module, "flop": op.flop,
                  "weight_bytes": sum(w.bytes for w in op.weights), "write_bytes": op.write_bytes,
                  "proc_s": op.proc_s, "together": op.together}  # fmt: skip
        out.add_node(_text(op.name), **{k: _text(v) for k, v in values.items() if v is not None})
    for a, b, data in graph.digraph.edges(data=True):
        tensors = data["tensors"]
        names = " ".join(tensor.name for tensor in tensors)
        out.add_edge(_text(a), _text(b), tensors=_text(names), bytes=sum(tensor.bytes for tensor in tensors))
    return out


def _text(value: Any) -> Any:
    """Strings without the control characters that XML cannot hold."""
    return (
        "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in value)
        if isinstance(value, str)
        else value
    )


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
