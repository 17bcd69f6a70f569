"""`mapper compare` as it is typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mapper.plans.file import save_plan
from tests.cli.commands import mapper
from tests.reports.reported import chain, cut, hostile


@pytest.fixture
def plans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two plans of one graph, and the simulation of the first."""
    monkeypatch.chdir(tmp_path)
    save_plan(cut(chain(12), 2), Path("two.json"))
    save_plan(cut(chain(12), 3), Path("three.json"))
    assert mapper("simulate", "two.json", "-o", "simulated.json").code == 0
    return tmp_path


def test_the_first_line_is_the_answer_and_stages_stand_side_by_side(plans: Path) -> None:
    done = mapper("compare", "two.json", "three.json")
    lines = done.out.splitlines()
    assert (done.code, lines[0]) == (0, "b is 1.333 times as fast as a: 111 against 83.3 items/s, predicted")
    assert "a  two.json: op, on 2 equal units, predicted" in lines
    head = next(i for i, line in enumerate(lines) if line.startswith("stage a"))
    assert [line.split()[:2] for line in lines[head + 1 : head + 4]] == [["0", "0"], ["1", "8.00"], ["1", "2"]]
    assert "Note: their machines differ in" in done.out


def test_a_simulation_beside_its_plan(plans: Path) -> None:
    done = mapper("compare", "two.json", "simulated.json")
    assert done.code == 0 and done.out.startswith("b (simulated) has the rate of a (predicted): ")
    assert "waits for items" in done.out and "Note:" not in done.out


def test_json_is_one_document(plans: Path) -> None:
    done = mapper("compare", "two.json", "three.json", "--json")
    found = json.loads(done.out)
    assert found["throughput_ratio"] == pytest.approx(4 / 3, rel=1e-3) and len(found["stages"]) == 3
    assert found["a"]["name"] == "two.json" and found["a"]["stages"][0]["ops"][0] == "op0"


@pytest.mark.parametrize("columns", ["", "60"])
def test_names_of_strangers_are_shown_and_not_obeyed(
    plans: Path, columns: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns) if columns else monkeypatch.delenv("COLUMNS", raising=False)
    save_plan(hostile()[0], plans / "hostile.json")
    for words in (("compare", "hostile.json", "two.json"), ("simulate", "hostile.json", "--gantt"),
                  ("check", "hostile.json", "--alone")):  # fmt: skip
        done = mapper(*words)
        assert done.code == 0 and done.out and not {"\x1b", "\x00", "\r"} & set(done.out)
    assert "<script>" in mapper("compare", "hostile.json", "two.json").out


def test_what_cannot_be_compared_is_told(plans: Path) -> None:
    (plans / "other.json").write_text("{}")
    for other, message in (("absent.json", "no such file"), ("other.json", "is neither a plan nor a measurement")):
        done = mapper("compare", "two.json", other)
        assert done.code == 3 and not done.out and message in done.err
