"""`mapper import`: a file with somebody's mapping as a plan."""

from __future__ import annotations

from pathlib import Path

from mapper.cost.roofline import roofline
from mapper.cost.table import CostTable
from mapper.errors import UsageError, one_of
from mapper.exporters.mappings.csv_mapping import read_csv
from mapper.exporters.mappings.mapping import Work, imported_plan
from mapper.exporters.mappings.rankfile import is_rankfile, read_rankfile
from mapper.graph.model import Graph
from mapper.machine.model import Machine
from mapper.plans.model import ModelRef, Plan, Request

FORMATS = ("csv", "rankfile")


def import_mapping(
    path: Path, graph: Graph, machine: Machine, model: ModelRef, *, costs: CostTable | None = None,
    request: Request | None = None, kind: str | None = None, of: Plan | None = None,
) -> Plan:  # fmt: skip
    """The plan for `graph` on `machine` that the mapping in `path` comes to, with nothing proved of it.

    `kind` is one of FORMATS, without it what the file looks like. Ranks of a rankfile are copies of the whole model, or
    the workers of the plan `of`. `costs` are those of the machine where none are given.

    Raises: UsageError for an unknown format; BadInput with the line of what is wrong.
    """
    if kind is not None and kind not in FORMATS:
        raise UsageError(f"there is no format {kind!r} to import", advice=one_of(kind, FORMATS))
    if (kind or FORMATS[is_rankfile(path)]) == "csv":
        stages = read_csv(path, graph, machine)
    else:
        stages = read_rankfile(path, machine, [op.name for op in graph.ops], of)
    work = Work(graph, machine, costs or roofline(graph, machine), model, request or Request())
    return imported_plan(stages, work, str(path))
