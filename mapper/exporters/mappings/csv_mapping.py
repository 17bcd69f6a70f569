"""A mapping in the format of the target `csv`, read: rows of ops with their stage, rows of workers with their cores.

What is read of a row: `row`, `stage`, and `op`, or `replica`, `cores`, `threads` and `weights`. `pus` counts only where
`cores` is empty. Other columns are for people.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mapper.errors import BadInput
from mapper.exporters.files.csv_file import ALL, OP, OWN, WORKER, unguarded
from mapper.exporters.mappings.mapping import MappedStage, Team
from mapper.graph.model import Graph
from mapper.jsonio import read_bytes
from mapper.machine.model import Machine
from mapper.machine.pus import parse_pus

NEEDED = ("row", "stage", "op", "replica")
"""Columns that have to be there; and one of `cores` and `pus`."""


@dataclass(frozen=True)
class Row:
    """A row of the table, and the line that it begins at."""

    source: str
    line: int
    cells: Mapping[str, str]

    def wrong(self, what: str, advice: str = "") -> BadInput:
        """The error that says what is wrong with it."""
        return BadInput(self.source, what, place=f"line {self.line}", advice=advice)

    def text(self, column: str) -> str:
        """What stands in `column`, without spaces around it; nothing where there is no such column."""
        return (self.cells.get(column) or "").strip()

    def number(self, column: str) -> int:
        """The number in `column`. Raises: BadInput."""
        text = self.text(column)
        if not text.isascii() or not text.isdecimal() or len(text) > 9:
            raise self.wrong(f"{column} is {text!r}, a number from 0 was expected")
        return int(text)

    def numbers(self, column: str) -> tuple[int, ...]:
        """The numbers in `column`, with spaces or commas between, and ranges such as 0-3. Raises: BadInput."""
        try:
            return parse_pus(",".join(self.text(column).split()))
        except ValueError as error:
            raise self.wrong(f"{column}: {error}") from None


@dataclass
class Draft:
    """A stage while its rows are read: the line of each op, and the row of each replica."""

    ops: dict[str, int] = field(default_factory=dict)
    workers: dict[int, Row] = field(default_factory=dict)


def read_csv(path: Path, graph: Graph, machine: Machine) -> list[MappedStage]:
    """The stages in `path`, which cover `graph` and flow forward.

    Raises: BadInput with the line of what is wrong: an unknown op, one that is in two stages or in none, a stage
    without ops or workers, a replica that is missing or there twice, a tensor that flows backward, ops that must share
    a stage, threads that are not one a core, weights neither on their own nodes nor on all.
    """
    stages: dict[int, Draft] = {}
    for row in rows(path):
        draft = stages.setdefault(row.number("stage"), Draft())
        kind = row.text("row").lower()
        if kind == OP:
            _add_op(row, draft, stages, graph)
        elif kind == WORKER:
            replica = row.number("replica")
            if (other := draft.workers.get(replica)) is not None:
                raise row.wrong(f"replica {replica} of stage {row.text('stage')} is in line {other.line} already")
            draft.workers[replica] = row
        else:
            raise row.wrong(f"row is {row.text('row')!r}, {OP} or {WORKER} was expected")
    _require_whole(stages, graph, str(path))
    _require_forward(stages, graph, str(path))
    return [_stage(stages[s], machine) for s in sorted(stages)]


def rows(path: Path) -> Iterator[Row]:
    """The rows of the table in `path` that have anything in them. Raises: BadInput where it is no such table."""
    source = str(path)
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise BadInput(source, "not UTF-8 text") from None
    table = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        head = [cell.strip().lower() for cell in next(table, [])]
        if missing := [name for name in NEEDED if name not in head]:
            raise BadInput(source, f"there is no column {missing[0]!r}", place="line 1",
                           advice="A table as mapper export --to csv writes it was expected.")  # fmt: skip
        if not {"cores", "pus"} & set(head):
            raise BadInput(source, "there is neither a column 'cores' nor 'pus'", place="line 1")
        before = table.line_num
        for cells in table:
            row = Row(source, before + 1, dict(zip(head, cells, strict=False)))
            if len(cells) > len(head):
                raise row.wrong(f"{len(cells)} cells, but there are {len(head)} columns")
            before = table.line_num
            if any(cell.strip() for cell in cells):
                yield row
    except csv.Error as error:
        raise BadInput(source, f"not CSV: {error}", place=f"line {table.line_num}") from None


def _add_op(row: Row, draft: Draft, stages: Mapping[int, Draft], graph: Graph) -> None:
    """Adds the op of `row` to `draft`."""
    op = unguarded(row.cells.get("op") or "")
    if op not in graph.position:
        near = [other.name for other in graph.ops if op and op in other.name][:5]
        raise row.wrong(f"{graph.name} has no op {op!r}",
                        f"Such as {', '.join(near or [other.name for other in graph.ops[:5]])}.")  # fmt: skip
    for number, other in stages.items():
        if op in other.ops:
            raise row.wrong(f"the op {op!r} is in stage {number} already, in line {other.ops[op]}")
    draft.ops[op] = row.line


def _require_whole(stages: Mapping[int, Draft], graph: Graph, source: str) -> None:
    """Raises BadInput where an op is in no stage, or a stage or one of its replicas is missing."""
    placed = {op for draft in stages.values() for op in draft.ops}
    if missing := [op.name for op in graph.ops if op.name not in placed]:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise BadInput(source, f"the op {missing[0]!r}{more} is in no stage")
    for number in range(max(stages) + 1):
        draft = stages.get(number, Draft())
        if not draft.ops:
            raise BadInput(source, f"stage {number} has no op; stages count from 0")
        for replica in range(max(draft.workers, default=0) + 1):
            if replica not in draft.workers:
                raise BadInput(source, f"stage {number} has no worker with replica {replica}; replicas count from 0")


def _require_forward(stages: Mapping[int, Draft], graph: Graph, source: str) -> None:
    """Raises BadInput where a stage reads what a later one makes, or ops that must share a stage do not."""
    home = {op: (number, line) for number, draft in stages.items() for op, line in draft.ops.items()}
    for tensor in graph.tensors:
        made, at = home[tensor.producer]
        for reader in tensor.readers:
            stage, line = home[reader]
            if stage < made:
                raise BadInput(
                    source, f"the op {reader!r} of stage {stage} reads what {tensor.producer!r} of stage {made} makes "
                    f"(line {at}): items flow from a stage to later ones", place=f"line {line}",
                )  # fmt: skip
    classes: dict[str, str] = {}
    for op in graph.ops:
        if op.together is not None:
            first = classes.setdefault(op.together, op.name)
            if home[first][0] != home[op.name][0]:
                raise BadInput(source, f"the ops {first!r} (line {home[first][1]}) and {op.name!r} must share a stage",
                               place=f"line {home[op.name][1]}")  # fmt: skip


def _stage(draft: Draft, machine: Machine) -> MappedStage:
    workers = [draft.workers[replica] for replica in sorted(draft.workers)]
    spread = {_is_spread(row): row for row in workers}
    if len(spread) > 1:
        raise spread[True].wrong(f"weights is {ALL!r} here, but {OWN!r} in line {spread[False].line} of the same stage")
    return MappedStage(tuple(draft.ops), tuple(_team(row, machine) for row in workers), spread.popitem()[0])


def _team(row: Row, machine: Machine) -> Team:
    """The cores of a worker's row, one thread each."""
    cores = row.numbers("cores") or _cores_of(row, machine)
    if not cores:
        raise row.wrong("a worker needs cores")
    if row.text("threads") and row.number("threads") != len(cores):
        raise row.wrong(f"{row.text('threads')} threads, but {len(cores)} cores: a worker has one thread a core")
    return Team(row.line, cores)


def _cores_of(row: Row, machine: Machine) -> tuple[int, ...]:
    """The cores of the PUs of a row, on the row's host."""
    host = row.number("host") if row.text("host") else 0
    known = {pu: core.logical for core in machine.cores if machine.nodes[core.node].host == host for pu in core.pus}
    pus = row.numbers("pus")
    if absent := [pu for pu in pus if pu not in known]:
        raise row.wrong(f"PU {absent[0]} is on no core of host {host} of {machine.name}")
    return tuple(known[pu] for pu in pus)


def _is_spread(row: Row) -> bool:
    text = row.text("weights").lower() or OWN
    if text not in (OWN, ALL):
        raise row.wrong(f"weights is {text!r}, {OWN} or {ALL} was expected")
    return text == ALL
