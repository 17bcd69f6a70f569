"""The target `csv`: one table with a row for each op and a row for each worker (docs/exporters.md has its columns).

Names stand as they are, quoted as RFC 4180 has it. A name that a spreadsheet would take for a formula has an
apostrophe before it, as spreadsheets do it themselves (OWASP, *CSV injection*); so has one that begins with an
apostrophe, so that it can be read back (`csv_mapping`).
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

from mapper import jsonio
from mapper.exporters.registry import Export
from mapper.exporters.workers import workers_of
from mapper.plans.dram import is_spread
from mapper.plans.model import Plan

COLUMNS = ("row", "stage", "op", "replica", "host", "threads", "cores", "pus", "weights")
OP, WORKER = "op", "worker"
"""What `row` says of a row."""
OWN, ALL = "own", "all"
"""What `weights` says: they lie on the NUMA nodes of the worker's cores, or on all nodes of the machine."""
FORMULA = tuple("=+-@\t\r\n＝＋－＠'")
"""With what a cell must not begin that is no formula; and the mark itself."""


def write(export: Export, path: Path) -> None:
    """Writes the table, ops in the order of their stages."""
    jsonio.write_text(path, csv_text(export.plan))


def csv_text(plan: Plan) -> str:
    """The table of `plan`."""
    out = io.StringIO(newline="")
    table = csv.DictWriter(out, COLUMNS, restval="")
    table.writeheader()
    for stage in plan.stages:
        table.writerows({"row": OP, "stage": stage.id, "op": guarded(op)} for op in stage.ops)
    for worker in workers_of(plan):
        table.writerow({
            "row": WORKER, "stage": worker.stage, "replica": worker.replica, "host": worker.host,
            "threads": worker.threads, "cores": _listed(worker.cores), "pus": _listed(worker.pus),
            "weights": ALL if is_spread(plan.stages[worker.stage], plan.machine) else OWN,
        })  # fmt: skip
    return out.getvalue()


def guarded(name: str) -> str:
    """`name` as a cell that no spreadsheet computes."""
    return f"'{name}" if name.startswith(FORMULA) else name


def unguarded(cell: str) -> str:
    """The name that `guarded` made `cell` of."""
    return cell.removeprefix("'")


def _listed(numbers: tuple[int, ...]) -> str:
    """Numbers with spaces between: spreadsheets take `1-3` for a date, and `1,234` for a thousand."""
    return " ".join(map(str, numbers))
