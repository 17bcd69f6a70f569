"""Rows as files: CSV, Parquet or JSON, by the ending of the file's name."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from mapper import jsonio
from mapper.errors import MissingFeature, UsageError
from mapper.study.exploration.explore import Exploration
from mapper.study.exploration.rows import columns_of

ENDINGS = (".csv", ".parquet", ".json")


def require_table(path: Path) -> None:
    """Raises UsageError for an ending that is none of a table's, MissingFeature where what writes it is missing."""
    if path.suffix.lower() not in ENDINGS:
        raise UsageError(f"{path}: rows are written as {', '.join(ENDINGS)}, by the ending of the file's name")
    if path.suffix.lower() == ".parquet":
        _pyarrow()


def save_table(found: Exploration, path: Path) -> None:
    """Writes one row a point to `path`: whole, or not at all. Raises: as `require_table`; SystemRefused."""
    require_table(path)
    kind = path.suffix.lower()
    if kind == ".json":
        jsonio.write_text(path, jsonio.dumps(document(found)))
        return
    with jsonio.replacing(path) as out:
        out.write(csv_text(found).encode() if kind == ".csv" else _parquet(found))


def document(found: Exploration) -> list[dict[str, Any]]:
    """The rows for JSON; values that there are not are left out."""
    return [{name: value for name, value in row.flat().items() if value is not None} for row in found.rows]


def csv_text(found: Exploration) -> str:
    """A line a row, under a line with the names of the columns; a value that there is not is empty."""
    out = io.StringIO()
    lines = csv.DictWriter(out, list(columns_of(found.dimensions)), lineterminator="\n")
    lines.writeheader()
    lines.writerows(row.flat() for row in found.rows)
    return out.getvalue()


def _parquet(found: Exploration) -> bytes:
    pyarrow, parquet = _pyarrow()
    kinds = {int: pyarrow.int64(), float: pyarrow.float64(), str: pyarrow.string(), bool: pyarrow.bool_()}
    schema = pyarrow.schema([(name, kinds[kind]) for name, kind in columns_of(found.dimensions).items()])
    out = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist([row.flat() for row in found.rows], schema=schema), out)
    return out.getvalue()


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] != "pyarrow":
            raise
        raise MissingFeature(
            "Parquet files need the package pyarrow, which is not installed",
            advice="python -m pip install 'pyarrow>=17'",
        ) from None
    return pyarrow, parquet
