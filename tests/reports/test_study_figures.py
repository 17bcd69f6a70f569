from __future__ import annotations

import random
from pathlib import Path

import pytest

from mapper.errors import SystemRefused, UsageError
from mapper.machine.files import load_machine
from mapper.reports import study_figures
from mapper.reports.scale import Scale
from mapper.reports.sheet import Box, Words
from mapper.reports.study_figures import (
    HIGH_END,
    LOW_END,
    WITHOUT,
    gains_sheet,
    sensitivity_sheet,
    write_figures,
)
from mapper.study.sg2042.cases import ITEMS, MODELS
from mapper.study.sg2042.parameters import MECHANISMS, parameters
from mapper.study.sg2042.study import Gain, Influence, Knockout, Row, Shape, Study
from tests.reports.overlaps import outside, overlapping

NAMES = (
    ("best", "pipeline"),
    ("64 copies × 1", "copies"),
    ("planner", "planner"),
    ("planner, latency limit", "planner"),
)


def gain(name: str, kind: str, rng: random.Random) -> Gain:
    ratio = rng.uniform(0.8, 60)
    return Gain(name=name, kind=kind, per_s=1, calls_of=1, latency_s=1, ratio=ratio, low=ratio * 0.7, high=ratio * 1.5)


def study(seed: int = 0, models: tuple[str, ...] = MODELS) -> Study:
    rng, rows, influences, knockouts = random.Random(seed), [], [], []
    for model in models:
        for item in ITEMS:
            gains = tuple(gain(name, kind, rng) for name, kind in NAMES)
            rows.append(Row(model=model, item=item, native_s=1, interleaved=1, best_native="native, 8 threads",
                            best_native_ratio=rng.uniform(1, 2), best_pipeline=gains[0], gains=gains))  # fmt: skip
        for item in (1, 8):
            central = rng.uniform(1, 30)
            influences += [
                Influence(model=model, item=item, parameter=p.name, central=central,
                          low=central * rng.uniform(0.3, 1.5), high=central * rng.uniform(0.6, 2))
                for p in parameters(load_machine("sg2042"))
            ]  # fmt: skip
            knockouts += [
                Knockout(model=model, item=item, mechanism=m.name, central=central,
                         without=central * rng.uniform(0.1, 2))
                for m in MECHANISMS
            ]  # fmt: skip
    shape = Shape(cores=64, cores_per_group=4, groups=16, nodes=4)
    return Study(
        machine="sg2042", shape=shape, path="native-aten", ranged=25, unranged=(), samples=20, seed=0, rows=tuple(rows),
        influences=tuple(influences), knockouts=tuple(knockouts),
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
def test_no_text_covers_another_or_leaves_the_paper(seed: int) -> None:
    found = study(seed)
    for sheet, width, height in (gains_sheet(found), *(sensitivity_sheet(found, model) for model in MODELS)):
        assert list(overlapping(sheet)) == [] and outside(sheet, width, height) == []


def test_bars_reach_from_the_central_gain_to_the_gain_at_each_end() -> None:
    found = study(models=("vit",))
    sheet, _, _ = sensitivity_sheet(found, "vit")
    bars = [mark for mark in sheet.marks if isinstance(mark, Box)]
    for item, left in ((1, 0.0), (8, 5.5)):
        mine = [i for i in found.influences if i.item == item]
        most = max(mine, key=lambda i: max(abs(i.low - i.central), abs(i.high - i.central)))
        here = [bar for bar in bars if left <= bar.x < left + 6]
        first = [next(bar for bar in here if bar.fill == colour) for colour in (LOW_END, HIGH_END)]
        lengths = [abs(value - most.central) for value in (most.low, most.high)]
        assert first[0].width * lengths[1] == pytest.approx(first[1].width * lengths[0])
        without = [k.without - k.central for k in found.knockouts if k.item == item]
        drawn = [bar.width for bar in here if bar.fill == WITHOUT]
        assert [d * abs(without[0]) for d in drawn] == pytest.approx([drawn[0] * abs(w) for w in without])


def test_gains_show_every_model_their_ranges_and_the_published_figure() -> None:
    sheet, _, _ = gains_sheet(study())
    words = [mark.text for mark in sheet.marks if isinstance(mark, Words)]
    assert set(MODELS) <= set(words) and any("8.4" in text for text in words)
    bands = [mark for mark in sheet.marks if isinstance(mark, Box) and mark.fill == study_figures.BAND]
    assert len(bands) == len(MODELS) * len(ITEMS)
    other, _, _ = gains_sheet(study().model_copy(update={"machine": "sg2044"}))
    assert not any("8.4" in mark.text for mark in other.marks if isinstance(mark, Words)), "that is the SG2042's"


def test_ticks_are_round_and_within() -> None:
    assert Scale(0.5, 60, 0, 1, logarithmic=True).ticks() == [0.5, 1, 2, 5, 10, 20, 50]
    assert Scale(1.17, 1.49, 0, 1).ticks() == pytest.approx([1.2, 1.3, 1.4])


def test_one_file_for_gains_and_one_a_model(tmp_path: Path) -> None:
    found = study(models=("vit", "bert"))
    written = write_figures(found, tmp_path / "new" / "folder", "png")
    assert [path.name for path in written] == ["gains.png", "sensitivity_vit.png", "sensitivity_bert.png"]
    assert all(path.read_bytes()[:4] == b"\x89PNG" for path in written)
    with pytest.raises(UsageError, match=r"svg or \.png"):
        write_figures(found, tmp_path, "pdf")
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemRefused, match="cannot be made"):
        write_figures(found, tmp_path / "file")


def test_a_study_without_samples_or_sensitivities_is_drawn_too(tmp_path: Path) -> None:
    bare = study(models=("vit",)).model_copy(update={"influences": (), "knockouts": ()})
    assert [path.name for path in write_figures(bare, tmp_path)] == ["gains.svg"]
