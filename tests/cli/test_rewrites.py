"""`mapper plan --micro-batches` and `--columns`: planned, checked and run as commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.commands import TINY, mapper

CARD = """
schema = "mapper-model/1"
name = "wide"
class = "torch.nn:Linear"
options = {in_features = 16, out_features = 64}
[[inputs]]
name = "input"
shape = ["batch", 16]
dtype = "float32"
"""


@pytest.fixture
def wide(tmp_path: Path) -> Path:
    (tmp_path / "wide.toml").write_text(CARD)
    return tmp_path


def test_items_in_micro_batches_are_planned_checked_and_run(wide: Path) -> None:
    plan = wide / "plan.json"
    asked = ("--model", wide / "wide.toml", "--topo", "host", "--batch", 8, "--micro-batches", 4, "-o", plan)
    told = mapper("plan", *asked)
    assert told.code == 0, told.err
    assert "items of 8 items in 4 micro-batches" in told.out
    assert "Loads are those of one of an item's 4 micro-batches" in told.out
    document = json.loads(plan.read_text())
    assert document["request"]["batch"] == 8 and document["request"]["micro_batches"] == 4
    assert document["model"]["item"][0]["shape"] == [2, 16]
    assert mapper("check", plan, "--trust").code == 0
    ran = mapper("run", plan, "--items", 5, "--json", "--trust", "--oversubscribe")
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["outputs_identical"]


def test_the_number_of_micro_batches_may_be_left_open(wide: Path) -> None:
    plan = wide / "plan.json"
    asked = ("--model", wide / "wide.toml", "--topo", "sg2042", "--batch", 4, "--micro-batches", "auto", "-o", plan)
    assert mapper("plan", *asked, "--objective", "latency").code == 0
    assert json.loads(plan.read_text())["request"]["micro_batches"] in (1, 2, 4)


def test_columns_are_planned_checked_and_run(wide: Path) -> None:
    plan = wide / "plan.json"
    told = mapper("plan", "--model", wide / "wide.toml", "--topo", "sg2042", "--columns", "linear=3", "-o", plan)
    assert told.code == 0, told.err
    document = json.loads(plan.read_text())
    assert document["model"]["options"] == {"columns": {"linear": 3}}
    assert [op for stage in document["stages"] for op in stage["ops"]] == [
        "linear_columns_0", "linear_columns_1", "linear_columns_2", "linear",
    ]  # fmt: skip
    assert mapper("check", plan, "--trust").code == 0
    here = wide / "here.json"
    asked = ("--model", wide / "wide.toml", "--columns", "linear=2", "--max-cores", 1, "-o", here)
    assert mapper("plan", *asked).code == 0
    ran = mapper("run", here, "--items", 3, "--json", "--trust", "--oversubscribe")
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["compared_with"] == "the unsplit program"


def test_columns_left_open(wide: Path) -> None:
    told = mapper("plan", "--model", wide / "wide.toml", "--topo", "sg2042", "--columns", "auto", "--json")
    assert told.code == 0 and json.loads(told.out)["stages"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--batch", 8, "--micro-batches", 3), "8 elements are not split into 3 equal"),
        (("--batch", 8, "--micro-batches", "some"), "--micro-batches some: a number from 1"),
        (("--batch", 8, "--micro-batches", 2, "--against", "all"), "know no micro-batches"),
        (("--columns", "linear"), "such as linear_48=2"),
        (("--columns", "linear=0"), "such as linear_48=2"),
        (("--columns", "other=2"), "no op 'other'"),
        (("--columns", "linear=65"), "has 64 columns"),
        (("--objective", "pareto", "--batch", 2, "--micro-batches", 2), "--micro-batches does not go with"),
    ],
)
def test_what_cannot_be_asked(wide: Path, options: tuple[object, ...], told: str) -> None:
    result = mapper("plan", "--model", wide / "wide.toml", "--topo", "sg2042", *options)
    assert result.code == 2 and told in result.err


def test_a_model_whose_first_dimension_is_no_batch() -> None:
    result = mapper("plan", "--model", TINY, "--topo", "sg2042", "--batch", 2, "--micro-batches", 2)
    assert result.code == 2 and "cannot be split into micro-batches" in result.err
