"""The target `dot`: a box for each stage, an arrow for what flows between them, for Graphviz.

Text is in double quotes, where Graphviz has three special characters: the quote, the backslash (escapes of labels) and
the ampersand (entities of HTML). Source: graphviz.org/doc/info/lang.html and shapes.html#record, *escString*.
"""

from __future__ import annotations

from pathlib import Path

from mapper import jsonio
from mapper.exporters.readme import printable
from mapper.exporters.registry import Export
from mapper.machine.pus import format_pus
from mapper.plans.model import FEEDER, Plan, Stage
from mapper.units import format_bytes, format_seconds

LONGEST = 48
"""Characters of a name that are shown."""


def write(export: Export, path: Path) -> None:
    """Writes the graph."""
    jsonio.write_text(path, dot_text(export.plan))


def dot_text(plan: Plan) -> str:
    """The stages of `plan` and its feeder as a directed graph, edges with their bytes an item."""
    title = [f"{_shown(plan.model.name)} on {_shown(plan.machine.name)}",
             f"{plan.predicted.throughput_per_s:.3g} items/s predicted"]  # fmt: skip
    lines = [
        "digraph mapping {",
        f"  graph [rankdir=LR, label={quoted(*title)}];",
        "  node [shape=box];",
        f"  {FEEDER} [shape=ellipse, label={quoted(FEEDER)}];",
        *(f"  stage{stage.id} [label={quoted(*_label(stage))}];" for stage in plan.stages),
    ]
    for edge in plan.edges:
        ends = [FEEDER if end == FEEDER else f"stage{end}" for end in (edge.source, edge.target)]
        lines.append(f"  {ends[0]} -> {ends[1]} [label={quoted(format_bytes(edge.bytes))}];")
    return "\n".join([*lines, "}"]) + "\n"


def quoted(*lines: str) -> str:
    """A label of `lines`, in quotes."""
    escaped = (line.replace("&", "&amp;").replace("\\", "\\\\").replace('"', '\\"') for line in lines)
    return '"' + "\\n".join(escaped) + '"'


def _label(stage: Stage) -> list[str]:
    first, last = _shown(stage.ops[0]), _shown(stage.ops[-1])
    ops = first if len(stage.ops) == 1 else f"{len(stage.ops)} ops: {first} … {last}"
    workers = [
        f"cores {format_pus(replica.cores)}, {replica.configuration.threads} threads"
        for replica in stage.replicas
    ]  # fmt: skip
    return [f"stage {stage.id}", ops, f"{format_seconds(stage.load.total_s)} an item", *workers]


def _shown(name: str) -> str:
    """`name` on one line, cut where it is long."""
    text = printable(name)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
