"""`mapper explore`: what it prints and writes, and what it refuses."""

from __future__ import annotations

import csv
import json
import shlex
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.cli.commands import TINY, Result, mapper

SMALL = "numa:2 group:2 core:2"
GRID = ("--topo", SMALL, "--vary", "strategy=optimal,scatter", "--vary", "stages=1,2,any", "--vary", "threads=1,2,16",
        "--processes", 1)  # fmt: skip


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def explore(*more: object) -> Result:
    return mapper("explore", "--model", TINY, *GRID, *more)


@cache
def rows() -> tuple[dict[str, object], ...]:
    result = explore("--json")
    assert (result.code, result.err) == (0, "")
    return tuple(json.loads(result.out))


def test_json_gives_one_row_a_point() -> None:
    assert len(rows()) == 2 * 3 * 3
    made = [row for row in rows() if row["status"] != "impossible"]
    assert len(made) == 2 * 3 * 2 and all(row["reason"] for row in rows() if row not in made)
    assert {row["reason"] for row in rows() if row["status"] == "impossible"} == {
        "no team of this size on the machine (16 threads)"
    }


@pytest.mark.parametrize("number", [0, 3, 7])
def test_the_options_of_a_row_make_its_plan(number: int) -> None:
    row = rows()[number]
    result = mapper("plan", *shlex.split(str(row["options"])), "--json")
    assert result.code == 0, result.err
    plan = json.loads(result.out)
    for name in ("throughput_per_s", "latency_s", "period_s", "cores_used"):
        assert plan["predicted"][name] == row[name]
    assert (plan["solver"]["gap"], plan["solver"]["status"]) == (row["gap"], row["status"])


def test_files_by_their_endings(tmp_path: Path) -> None:
    names = ("rows.csv", "rows.parquet", "rows.json", "page.html", "front.svg")
    result = explore(*(part for name in names for part in ("-o", tmp_path / name)))
    assert result.code == 0, result.err
    assert result.out.splitlines()[0].startswith("attention on ")
    assert result.out.splitlines()[2].startswith("Best throughput: ")
    assert result.out.splitlines()[-1] == f"Written to {', '.join(str(tmp_path / name) for name in names)}."
    with (tmp_path / "rows.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(rows())
    assert json.loads((tmp_path / "rows.json").read_text()) == list(rows())
    assert all((tmp_path / name).stat().st_size for name in names)


@pytest.mark.parametrize("name", ["rows.txt", "rows"])
def test_another_ending_is_refused_before_anything_is_done(tmp_path: Path, name: str) -> None:
    result = explore("-o", tmp_path / name)
    assert (result.code, result.out) == (2, "") and "rows are written as .csv" in result.err


@pytest.mark.parametrize(("package", "name"), [("pyarrow", "a.parquet"), ("matplotlib", "a.png")])
def test_what_is_not_installed_is_said_first(package: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [module for module in sys.modules if module.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    result = explore("-o", name)
    assert result.code == 8 and f"pip install '{package}>=" in result.err


def test_nothing_possible_is_infeasible(tmp_path: Path) -> None:
    result = mapper("explore", "--model", TINY, "--topo", SMALL, "--vary", "threads=16", "-o", tmp_path / "rows.csv")
    assert result.code == 4 and "no point has a plan" in result.err
    assert "1 points: 0 plans" in result.out and (tmp_path / "rows.csv").read_text().count("\n") == 2


def test_what_cannot_be_varied() -> None:
    result = mapper("explore", "--model", TINY, "--topo", SMALL, "--vary", "colour")
    assert result.code == 2 and "there is nothing called 'colour' to vary" in result.err


def test_what_if_machines_on_one_line_each() -> None:
    result = mapper("explore", "--model", TINY, "--vary", "topo=sg2042,sg2044", "--vary", "topo.l2_bytes=1MiB,4MiB",
                    "--processes", 1, "--json")  # fmt: skip
    found = [(row["machine"], row["topo"], row["topo.l2_bytes"]) for row in json.loads(result.out)]
    assert found == [
        (f"{name}+l2_bytes={size}MiB", name, size * 2**20) for name in ("sg2042", "sg2044") for size in (1, 4)
    ]
