"""What was measured beside what was predicted, and the command `mapper report`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from mapper import jsonio
from mapper.execution.measurement import Measurement
from mapper.measure.profile import recorded
from mapper.plans.file import save_plan
from mapper.plans.model import Plan
from mapper.reports.page.page import page
from mapper.reports.page.report import report, shown, write_pictures
from mapper.study.bench import Bench
from tests.cli.commands import TINY, mapper
from tests.reports.reported import HOSTILE, SECTIONS, Parsed, contents, copies, pipeline


def measured(plan: Plan, factor: float) -> Measurement:
    """As a run writes it, every stage `factor` times as long as predicted."""
    stages = [
        {"id": s.id, "replicas": len(s.replicas), "load_s": s.load.total_s * factor,
         "predicted_load_s": s.load.total_s, "compute_s": s.load.total_s * factor, "copy_s": 0.0, "wait_in_s": 0.0,
         "wait_out_s": 0.0}
        for s in plan.stages
    ]  # fmt: skip
    return Measurement.model_validate({
        "model": plan.model.name, "items": 10, "items_compared": 4, "warmup": 2, "window": 2,
        "throughput_per_s": plan.predicted.throughput_per_s / factor,
        "predicted_throughput_per_s": plan.predicted.throughput_per_s,
        "latency_s": {"p50": 1.0, "p90": 1.1, "p99": 1.2}, "predicted_latency_s": plan.predicted.latency_s,
        "outputs_identical": True, "outputs_within_tolerance": True, "max_abs_difference": 0.0,
        "max_relative_difference": 0.0, "tolerance": 0.0, "compared_with": "the original model", "backend": "eager",
        "torch": "2", "others_busy": 0.25, "stages": stages, "workers": [],
    })  # fmt: skip


def write(path: Path, document: object) -> Path:
    path.write_text(json.dumps(document))
    return path


def test_a_run_a_profile_and_a_simulation_stand_beside_the_prediction(tmp_path: Path) -> None:
    plan, graph = copies()
    run = measured(plan, 1.5)
    files = [write(tmp_path / "run.json", jsonio.plain(run)),
             write(tmp_path / "profile.json", jsonio.plain(recorded(plan, run, here=plan.machine)))]  # fmt: skip
    save_plan(plan, tmp_path / "plan.json")
    assert mapper("simulate", tmp_path / "plan.json", "-o", tmp_path / "simulated.json").code == 0
    text = report(plan, graph, [*files, tmp_path / "simulated.json"], only=("binding",))
    shown = "".join(Parsed(text).texts)
    assert "measured (run.json)" in shown and "profiled (profile.json)" in shown
    assert "simulated (simulated.json)" in shown and "× 1.50" in shown
    assert "Other processes took 25% of the plan's PUs" in shown


def bench_document(plan: Plan) -> dict[str, object]:
    """What a comparison of `plan` with native has found."""
    row = {
        "names": [], "backend": "eager", "runs_in": "mapper", "stages": 1, "workers": 2,
        "latency_s": {"p50": 1.0, "p90": 1.1, "p99": 1.2}, "chosen_over_this": None, "outputs_identical": True,
        "steady": True, "disturbed_rounds": 0, "repeated_rounds": 0, "ratio_disturbed": False, "rates_per_s": [],
        "others_busy": [],
    }  # fmt: skip
    rows = [
        row | {"name": "plan", "throughput_per_s": {"median": 9.0, "low": 8.0, "high": 9.5},
               "predicted_throughput_per_s": 10.0},
        row | {"name": "native", "throughput_per_s": {"median": 6.0, "low": 5.0, "high": 7.0},
               "predicted_throughput_per_s": None},
    ]  # fmt: skip
    return {
        "model": plan.model.name, "batch": 1, "machine": "here", "backend": "eager", "chosen": "plan", "rounds": 15,
        "seconds": 1.5, "items_per_round": {}, "alternatives": rows, "to_best": None, "best_other": "native",
        "at_least": None, "others_busy": 0.1, "torch": "2", "notes": ["a note"], "verdict": "the plan is faster",
    }  # fmt: skip


def test_a_comparison_has_a_bar_an_alternative_with_the_range_of_its_rounds(tmp_path: Path) -> None:
    plan, graph = copies()
    written = jsonio.plain(Bench.model_validate(bench_document(plan)))  # leaves out what is not known
    assert "chosen_over_this" not in written["alternatives"][0]
    found = shown(plan, graph, [write(tmp_path / "bench.json", written)], only=("binding",))
    ((name, bars),) = found.compared
    assert name == "bench.json"
    assert [(bar.label, bar.value, bar.span) for bar in bars.bars] == [
        ("plan", 9.0, (8.0, 9.5)), ("predicted", 10.0, None), ("native", 6.0, (5.0, 7.0)),
    ]  # fmt: skip
    text = "".join(Parsed(page(found)).texts)
    assert "the plan is faster" in text and "a note." in text and "Nothing that was measured" not in text


def test_what_is_no_measurement_of_the_plan_is_refused(tmp_path: Path) -> None:
    plan, _ = copies()
    other, _ = pipeline()
    path = tmp_path / "plan.json"
    save_plan(plan, path)
    cases = {
        "other.json": (measured(other, 1).model_dump(mode="json"), "of another plan"),
        "none.json": ({"schema": "mapper-nothing/1"}, "is no measurement"),
        "list.json": ([], "is no measurement"),
    }
    for name, (document, expected) in cases.items():
        found = mapper("report", path, write(tmp_path / name, document), "--without-model", "-o", tmp_path / "r.html")
        assert found.code == 3 and expected in found.err and name in found.err
    assert not (tmp_path / "r.html").exists()


# the command


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plan") / "plan.json"
    topology = "numa:2 group:2 core:2"
    assert mapper("plan", "--model", TINY, "--topo", topology, "--stages", 3, "-o", path).code == 0
    return path


def test_the_command_writes_a_page_and_pictures(planned: Path, tmp_path: Path) -> None:
    out, folder = tmp_path / "report.html", tmp_path / "pictures"
    result = mapper("report", planned, "--model", TINY, "--only", "binding", "-o", out, "--pictures", folder)
    assert (result.code, result.err) == (0, "")
    shown = "".join(Parsed(out.read_text()).texts)
    assert "Not shown. Nothing that was measured was given." in " ".join(shown.split())
    names = {path.stem for path in folder.iterdir()}
    assert {"machine", "model", "loads", "gantt", "roofline", "alternatives", "strategies"} <= names
    for name in names:
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        root = ElementTree.parse(folder / f"{name}.svg").getroot()
        assert root.tag.endswith("svg") and root[0].tag.endswith("title") and root[1].text


def test_without_matplotlib_there_are_svg_files_and_exit_code_8(
    planned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    result = mapper("report", planned, "--without-model", "--pictures", tmp_path / "p")
    assert result.code == 8 and "matplotlib" in result.err
    assert {path.suffix for path in (tmp_path / "p").iterdir()} == {".svg"}


def test_without_jinja2_the_command_says_how_to_get_it(
    planned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    result = mapper("report", planned, "--without-model", "-o", tmp_path / "r.html")
    assert result.code == 8 and "jinja2" in result.err and not (tmp_path / "r.html").exists()


def test_what_needs_the_model_says_that_it_is_not_there(planned: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    result = mapper("report", planned, "-o", out)  # the plan names code, which is run only where the user says so
    assert result.code == 0 and "without the model" in result.err and "--trust" in result.err
    parsed = Parsed(out.read_text())
    assert [section["id"] for section in parsed.all("section")] == SECTIONS
    assert "".join(parsed.texts).count("Not shown.") >= 4


@pytest.mark.parametrize("arguments", [[], ["--without-model", "--model", TINY, "-o", "r.html"]])
def test_contradictions_are_usage(planned: Path, arguments: list[str]) -> None:
    assert mapper("report", planned, *arguments).code == 2


def test_pictures_of_hostile_names_are_well_formed(tmp_path: Path) -> None:
    names = {}
    for path in write_pictures(contents("hostile"), tmp_path):
        if path.suffix == ".svg":
            names[path.stem] = "".join(ElementTree.parse(path).getroot().itertext())
    visible = HOSTILE.replace("\x00", " ").replace("\x1b", " ")
    assert {"machine", "model", "alternatives"} <= {name for name, text in names.items() if visible in text}
