from __future__ import annotations

import json
from pathlib import Path

import pytest

from mapper.cli.study import study_command
from mapper.errors import UsageError
from mapper.machine.files import load_machine
from mapper.study.where.chart import Chart, Settings, chart, edges, row
from mapper.study.where.dense import flop_per_byte
from mapper.study.where.splitting import held

SMALL = Settings(rows=(1, 64), shares=(0.25, 1.5), layers=8, models=("vgg16",), processes=1)


@pytest.fixture(scope="module")
def found() -> Chart:
    return chart([load_machine(name) for name in ("sg2042", "epyc-9684x")], SMALL)


def test_a_panel_has_a_cell_for_every_share_and_row_in_order(found: Chart) -> None:
    assert [panel.machine for panel in found.panels] == ["sg2042", "epyc-9684x"]
    for panel in found.panels:
        machine = load_machine(panel.machine)
        assert [cell.rows for cell in panel.cells] == [1, 64, 1, 64]
        assert [cell.share for cell in panel.cells] == pytest.approx([0.25, 0.25, 1.5, 1.5], rel=0.01)
        assert panel.held == held(machine)
        assert panel.cells[2:] == tuple(row(machine, 1.5, SMALL)), "the same inputs give the same cells"


def test_a_model_is_at_its_own_place_with_its_own_ratio_and_that_of_its_cell(found: Chart) -> None:
    for panel in found.panels:
        (point,) = panel.points
        assert (point.model, point.weight_bytes) == ("vgg16", 4 * 138357544)
        assert point.flop_per_byte == pytest.approx(56, rel=0.01)
        assert point.found.free.ratio == pytest.approx(1, abs=0.02)
        inside = edges(SMALL.shares)[0] <= point.share < edges(SMALL.shares)[-1]
        line = point.share > edges(SMALL.shares)[1]
        assert point.cell == (panel.cells[2 * line + 1].found.free.ratio if inside else None)
    assert found.panels[0].points[0].cell is None and found.panels[1].points[0].cell is not None


def test_edges_lie_midway_between_centres_as_logarithms() -> None:
    assert edges([1.0, 4.0, 16.0]) == pytest.approx([0.5, 2.0, 8.0, 32.0])
    assert edges([flop_per_byte(2)]) == pytest.approx([2**-0.5, 2**0.5])


def test_the_command_prints_writes_and_draws(
    found: Chart, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[list[str], Settings]] = []

    def known(machines: list[object], settings: Settings, say: object) -> Chart:
        asked.append(([machine.name for machine in machines], settings))  # type: ignore[attr-defined]
        return found

    monkeypatch.setattr("mapper.study.where.chart.chart", known)
    out, folder = tmp_path / "map.json", tmp_path / "pictures"
    study_command("sg2042, epyc-9684x", ["vgg16"], processes=3, map_=True, figures=folder, output=out, quiet=True)
    told = capsys.readouterr().out
    assert "vgg16" in told and f"Written to {folder / 'where_limited.svg'}." in told and str(out) in told
    assert sorted(path.name for path in folder.iterdir()) == ["where.svg", "where_limited.svg"]
    study_command(map_=True, json=True, quiet=True)
    assert Chart.model_validate(json.loads(capsys.readouterr().out)) == Chart.model_validate_json(out.read_text())
    assert asked[0] == (["sg2042", "epyc-9684x"], Settings(models=("vgg16",), processes=3))
    assert asked[1] == (["sg2042", "sg2044", "epyc-9684x", "altra-q80-30"], Settings())
    with pytest.raises(UsageError, match="svg"):
        study_command(map_=True, figures=folder, figure_format="pdf", quiet=True)
