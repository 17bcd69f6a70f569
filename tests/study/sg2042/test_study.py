"""The study on a model that takes no time, its bands and its tables."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from mapper.machine.files import load_machine
from mapper.plans.model import Plan
from mapper.reports.study import study_text
from mapper.solver.plan import plan
from mapper.study.sg2042.bands import PUBLISHED, bands, bands_of
from mapper.study.sg2042.cases import Case
from mapper.study.sg2042.mappings import PLACED
from mapper.study.sg2042.native import Native, native_s
from mapper.study.sg2042.parameters import mechanisms
from mapper.study.sg2042.study import Gain, Knockout, Row, Settings, Study, spread, study
from tests.cli.commands import TINY, mapper

SMALL = Settings(models=(TINY,), items=(1, 2), calls=(1,), samples=4, processes=1)


@cache
def small() -> Study:
    return study(load_machine("pack:1 numa:2 group:2 core:2"), SMALL)


def test_every_row_has_what_is_compared() -> None:
    found = small()
    assert [(row.model, row.item) for row in found.rows] == [(TINY, 1), (TINY, 2)]
    row = found.rows[0]
    names = [gain.name for gain in row.gains]
    assert {"8 copies × 1", "4 copies × 2", "4 stages × 2", "2 stages × 4", "one pipeline, any teams", "planner",
            "planner, latency limit"} <= set(names)  # fmt: skip
    assert any(name.startswith("a pipeline a node: 2 × 2 × 2") for name in names)
    assert row.best_pipeline is not None and row.best_pipeline.ratio == max(
        gain.ratio for gain in row.gains if gain.kind == "pipeline"
    )
    assert row.best_native_ratio >= max(1.0, row.interleaved)
    for gain in row.gains:
        assert gain.ratio == pytest.approx(gain.per_s * row.native_s)
    machine = load_machine("pack:1 numa:2 group:2 core:2")
    assert [k.mechanism for k in found.knockouts] == [m.name for m in mechanisms(machine)], "of items of one"
    assert len(found.influences) > 10


def test_the_same_request_gives_the_same_study() -> None:
    machine = load_machine("pack:1 numa:2 group:2 core:2")
    again = study(machine, SMALL)
    assert again == small()


def test_mappings_are_searched_to_their_end_however_busy_the_computer_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a limit of ten seconds the planner's choice was below copies where others used the cores."""
    limits: list[object] = []

    def noted(*args: Any, **options: Any) -> Plan:
        limits.append(options.get("time_limit_s"))
        return plan(*args, **options)

    monkeypatch.setattr("mapper.study.sg2042.mappings.plan", noted)
    study(load_machine("pack:1 numa:2 group:2 core:2"), replace(SMALL, items=(1,), samples=0))
    assert set(limits) == {None}


def test_placements_are_those_of_the_papers_pipeline() -> None:
    placed = [gain.name for gain in small().rows[0].gains if gain.kind == PLACED]
    assert {"4 stages × 2, compact", "4 stages × 2, scatter", "4 stages × 2, per-group"} <= set(placed)


def gain(ratio: float, name: str = "16 stages × 4", kind: str = "pipeline") -> Gain:
    return Gain(name=name, kind=kind, per_s=1, calls_of=1, latency_s=1, ratio=ratio, low=ratio * 0.8, high=ratio * 1.2)


def row(model: str, item: int, ratio: float, copies: float) -> Row:
    gains = (gain(ratio), gain(copies, "64 copies × 1", "copies"))
    return Row(model=model, item=item, native_s=1, interleaved=1, best_native="native, 64 threads", best_native_ratio=1,
               best_pipeline=gains[0], gains=gains)  # fmt: skip


def test_bands_can_be_met_and_refuted() -> None:
    rows = [row("mobilenetv2", 1, 20, 50), row("vgg16", 1, 1.3, 1.5), row("vgg16", 8, 3, 4), row("vgg16", 64, 1, 1)]
    knockout = Knockout(model="mobilenetv2", item=1, mechanism="group loops and batch split (as oneDNN)", central=20,
                        without=2)  # fmt: skip
    found = {band.name: band for band in bands(rows, [knockout])}
    assert found["A: convolutions, items of 1 to 16, largest gain"].met is True
    assert found[f"A: {PUBLISHED} within the range of some item size"].met is False
    assert found["A: convolutions, items of 64, largest gain"].found == 1
    assert found["A: as with oneDNN, items of 1, largest gain"].met is False
    assert found["B: vgg16, items of 1"].met is True
    assert found["C: vgg16, items of 1, copies over a pipeline"].met is True
    assert found["D: vgg16, items of 8, gain over 64 / 8"].met is False
    near = bands([row("mobilenetv2", 4, 8, 9)], [])
    assert next(b for b in near if b.name.startswith(f"A: {PUBLISHED}")).met is True
    assert all(band.met is None for band in bands([], [])), "no data, no verdict"


def test_the_range_is_that_of_the_middle_nine_tenths() -> None:
    assert spread([float(i) for i in range(101)]) == (5.0, 95.0)
    assert spread([3.0]) == (3.0, 3.0)


def test_text_has_the_gains_the_bands_and_the_mechanisms() -> None:
    found = small()
    text = "\n".join(study_text(found, bands(found.rows, found.knockouts)))
    assert TINY in text and "fork and join" in text and "expected" in text
    assert "all 8 threads" in text and "5th and 95th percentile of 4 samples" in text and "with oneDNN" in text
    assert bands_of(found) == () and "expected" not in "\n".join(study_text(found, ())), "nothing is expected there"


@pytest.mark.parametrize(("topo", "columns"), [
    ("pack:1 numa:2 group:2 core:2", "4 × 2 one pipeline 2 copies 4 copies 8 copies a node a group"),
    ("pack:1 group:3 core:4", "3 × 4 one pipeline 3 copies 12 copies a group"),
    ("pack:1 group:5 core:1", "5 × 1 one pipeline 5 copies"), ("pack:1 core:5", "best native one pipeline 5 copies"),
])  # fmt: skip
def test_columns_are_named_after_the_shape_of_the_machine(topo: str, columns: str) -> None:
    machine = load_machine(topo)
    found = study(machine, replace(SMALL, items=(1,), samples=0))
    head, *lines = study_text(found, ())[3:]
    assert " ".join(head.split()).endswith(f"{columns} planner planner, limit")
    assert " - " not in lines[0], "there is a mapping for every column"
    assert "no samples were asked for" in study_text(found, ())[0]


@pytest.mark.parametrize(("topo", "path"), [
    ("sg2042", "native-aten"), ("sg2044", "native-aten"), ("epyc-7763", "onednn"), ("altra-q80-30", "onednn"),
])  # fmt: skip
def test_native_is_what_pytorch_does_on_the_machine(topo: str, path: str) -> None:
    found = study(load_machine(topo), replace(SMALL, items=(1,), samples=0, calls=()))
    assert found.path == path and f"(path {path})" in study_text(found, ())[1]
    case, machine = Case(TINY, 1), load_machine(topo)
    all_threads = Native(len(machine.cores))
    assert found.rows[0].native_s == native_s(case.graph, machine, all_threads, path)  # type: ignore[arg-type]


def test_the_command_prints_one_document() -> None:
    words = ["study", "--topo", "pack:1 numa:2 group:2 core:2", "--model", TINY, "--items", "1,2", "--calls", 1]
    ended = mapper(*words, "--samples", 4, "--processes", 1, "--json")
    assert ended.code == 0, ended.err
    document = json.loads(ended.out)
    assert Study.model_validate({k: v for k, v in document.items() if k != "bands"}) == small()
    assert document["bands"] == [], "they are about the SG2042"


@pytest.mark.parametrize("words", [("--items", "1,two"), ("--calls", "0"), ("--samples", -1)])
def test_what_makes_no_sense_is_a_usage_error(words: tuple[object, ...]) -> None:
    assert mapper("study", "--model", TINY, *words).code == 2
