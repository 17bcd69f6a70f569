"""Rows as files."""

from __future__ import annotations

import csv
import json
import sys
from functools import cache
from pathlib import Path

import pytest

from mapper.errors import MissingFeature, SystemRefused, UsageError
from mapper.study.exploration.explore import Exploration
from mapper.study.exploration.tables import document, require_table, save_table
from tests.study.exploration.small import FEW, explored


@cache
def few() -> Exploration:
    return explored(FEW)


def test_csv_has_a_line_a_row(tmp_path: Path) -> None:
    save_table(few(), tmp_path / "rows.csv")
    with (tmp_path / "rows.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == len(few().rows)
    for line, row in zip(lines, few().rows, strict=True):
        flat = {name: "" if value is None else str(value) for name, value in row.flat().items()}
        assert line == flat


def test_json_and_parquet_have_the_same(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    save_table(few(), tmp_path / "rows.json")
    save_table(few(), tmp_path / "rows.parquet")
    rows = json.loads((tmp_path / "rows.json").read_text())
    read = parquet.read_table(tmp_path / "rows.parquet")
    assert rows == document(few())
    assert [{k: v for k, v in row.items() if v is not None} for row in read.to_pylist()] == rows
    assert str(read.schema.field("latency_s").type) == "double" and str(read.schema.field("stages").type) == "int64"


def test_without_pyarrow_only_parquet_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    require_table(Path("rows.csv"))
    with pytest.raises(MissingFeature, match="pip install 'pyarrow>=17'"):
        require_table(Path("rows.parquet"))


def test_what_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"rows.xlsx: rows are written as .csv, .parquet, .json"):
        save_table(few(), tmp_path / "rows.xlsx")
    with pytest.raises(SystemRefused, match="cannot be written"):
        save_table(few(), tmp_path / "nowhere" / "rows.csv")
