"""The report as a file: what is in it, that nothing gets out of it or into it, and that its figures are the plan's."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapper import jsonio
from mapper.execution.measurement import Measurement
from mapper.measure.profile import recorded
from mapper.plans.file import save_plan
from mapper.plans.model import Plan
from mapper.reports import style
from mapper.reports.page.alternatives import placed_by_strategies
from mapper.reports.page.charts import Bar, Bars, Mark, Missing, Roof, Segment
from mapper.reports.page.contents import Model
from mapper.reports.page.drawing.bars import bars_sheet
from mapper.reports.page.drawing.roof import roof_sheet
from mapper.reports.page.modules import MOST_BLOCKS, folded, module_tree, shares_of
from mapper.reports.page.page import page
from mapper.reports.page.report import pictures_of, report, shown, write_pictures
from mapper.reports.page.sections import NARROW, WIDE
from mapper.units import format_seconds
from tests.cli.commands import TINY, mapper
from tests.reports.overlaps import outside, overlapping
from tests.reports.reported import HOSTILE, chain, contents, copies, cut, pipeline

MOST_BYTES = 3_000_000
SECTIONS = ["machine", "model", "loads", "gantt", "roofline", "traffic", "measured", "alternatives", "explained",
            "provenance"]  # fmt: skip
VOID = {"meta", "link", "br", "img", "input"}


class Parsed(HTMLParser):
    """A page taken apart: its elements with their attributes, and the texts outside of script and style."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.inside: dict[str, str] = {}
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("style", "script"):
            self.inside[self.open[-1]] = self.inside.get(self.open[-1], "") + data
        else:
            self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module", params=["pipeline", "copies", "hostile"])
def parsed(request: pytest.FixtureRequest) -> Parsed:
    return Parsed(page(contents(request.param)))


def test_every_section_is_there_in_its_order_with_names_for_who_cannot_see(parsed: Parsed) -> None:
    assert [section["id"] for section in parsed.all("section")] == SECTIONS
    ids = [attributes["id"] for _, attributes in parsed.elements if "id" in attributes]
    assert max(Counter(ids).values()) == 1
    for svg in parsed.all("svg"):
        assert svg.get("aria-hidden") == "true" or all(one in ids for one in svg["aria-labelledby"].split())
    for section in parsed.all("section"):
        assert section["aria-labelledby"] in ids
    assert all(button.get("aria-label") for button in parsed.all("button"))


def test_nothing_is_loaded_and_only_its_own_script_and_style_apply(parsed: Parsed) -> None:
    for name in ("link", "img", "iframe", "object", "embed", "base", "form", "image", "use", "foreignobject"):
        assert not parsed.all(name)
    for _, attributes in parsed.elements:
        assert not [name for name in attributes if name.startswith("on") or name in ("style", "src", "srcdoc")]
        assert all(attributes[name].startswith("#") for name in attributes if name.endswith("href"))
    (policy,) = [meta["content"] for meta in parsed.all("meta") if "http-equiv" in meta]
    for kind in ("style", "script"):
        (element,) = parsed.all(kind)
        assert element == {}
        digest = base64.b64encode(hashlib.sha256(parsed.inside[kind].encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
        assert not re.search(r"https?:|//[a-z]+\.|url\(|@import", parsed.inside[kind])
    assert policy.startswith("default-src 'none'") and "unsafe" not in policy


def test_hostile_names_are_shown_as_they_are() -> None:
    text = page(contents("hostile"))
    parsed = Parsed(text)
    shown = "".join(parsed.texts)
    assert "\x00" not in text and "\x1b" not in text
    visible = HOSTILE.replace("\x00", " ").replace("\x1b", " ")
    assert shown.count(visible) > 10
    allowed = {"html", "head", "meta", "title", "style", "script", "body", "a", "header", "p", "h1", "h2", "dl", "dt",
               "dd", "div", "span", "button", "svg", "desc", "rect", "text", "polyline", "main", "section", "figure",
               "figcaption", "details", "summary", "code", "table", "thead", "tbody", "tr", "th", "td", "pre",
               "strong", "noscript"}  # fmt: skip
    assert {tag for tag, _ in parsed.elements} <= allowed
    assert "49" not in re.findall(r"\b49\b", shown) and "{{ 7 * 7 }}" in shown


@pytest.mark.parametrize("kind", ["pipeline", "copies", "hostile"])
def test_a_stage_has_one_colour_in_all_pictures(kind: str) -> None:
    found = contents(kind)
    coloured: dict[str, set[int]] = {}
    for picture in pictures_of(found):
        for width in (WIDE, NARROW):
            for mark in picture.draw(width)[0].marks:
                stage, fill = getattr(mark, "stage", None), getattr(mark, "fill", None)
                if stage is not None and fill != style.CORE:  # what is not computing is pale
                    assert fill == style.stage_colour(stage), picture.name
                    coloured.setdefault(picture.name, set()).add(stage)
    stages = {stage.id for stage in found.plan.stages}
    assert {"machine", "model", "loads", "gantt"} <= coloured.keys()
    assert all(seen == stages for seen in coloured.values())


def test_64_stages_have_64_colours_that_differ_to_the_eye() -> None:
    colours = [_lab(style.stage_colour(stage)) for stage in range(64)]
    nearest = min(sum((a - b) ** 2 for a, b in zip(one, other, strict=True)) ** 0.5
                  for one, other in itertools.combinations(colours, 2))  # fmt: skip
    assert nearest > 3  # 2.3 is what one can just see, Mahy, Van Eycken and Oosterlinck (1994)


def _lab(colour: str) -> tuple[float, float, float]:
    """CIE 1976 L*a*b*, white D65."""
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
               for c in (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)))  # fmt: skip
    xyz = ((0.4124 * r + 0.3576 * g + 0.1805 * b) / 0.9505, 0.2126 * r + 0.7152 * g + 0.0722 * b,
           (0.0193 * r + 0.1192 * g + 0.9505 * b) / 1.089)  # fmt: skip
    x, y, z = (t ** (1 / 3) if t > 0.008856 else 7.787 * t + 16 / 116 for t in xyz)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def test_the_page_is_the_same_for_the_same_plan() -> None:
    graph = chain(32)
    plan = cut(graph, 8)
    assert report(plan, graph, only=("binding",)) == report(plan, graph, only=("binding",))


@pytest.mark.parametrize("stages", [16, pytest.param(64, marks=pytest.mark.soak)])
def test_the_largest_page_is_small_still(stages: int) -> None:
    graph = chain(1984)
    text = report(cut(graph, stages), graph, only=("binding",))
    assert f"stage {stages - 1}" in text and "op1983" in text
    assert len(text.encode()) < MOST_BYTES


def test_a_graph_beyond_all_limits_gives_a_small_page_that_says_what_it_leaves_out() -> None:
    graph = chain(5000)
    text = report(cut(graph, 2), graph, only=("binding",))
    assert len(text.encode()) < MOST_BYTES
    assert "5000 ops are too many to list here" in text


# what is shown is what the plan says


def test_loads_and_traffic_add_up() -> None:
    for found in (contents("pipeline"), contents("copies")):
        plan = found.plan
        for bar, stage in zip(found.loads.bars, plan.stages, strict=True):
            assert bar.value == pytest.approx(stage.load.total_s / len(stage.replicas))
        assert found.loads.marks[0].value == pytest.approx(plan.predicted.period_s)
        if not isinstance(found.traffic, Missing):
            drawn = sum(bar.value for bar in found.traffic.bars)
            assert drawn == pytest.approx(plan.predicted.dram_bytes_per_item)


def test_points_lie_under_the_highest_ceiling_and_stages_among_their_ops() -> None:
    roof = contents("pipeline").roof
    assert isinstance(roof, Roof)
    highest = max(ceiling.flop_per_s or 0 for ceiling in roof.ceilings)
    assert all(0 < dot.flop_per_s <= highest for dot in (*roof.ops, *roof.stages))
    assert {dot.stage for dot in roof.stages} == set(range(16))


def test_placements_by_other_strategies_take_as_long_as_they_compute_at_least() -> None:
    found = contents("pipeline")
    assert isinstance(found.model, Model)
    plan, graph = pipeline()
    from mapper.plans.costs import costs_of

    table = costs_of(plan, graph)
    assert table is not None
    placed = placed_by_strategies(plan, graph, table)
    assert placed[0].throughput_per_s == plan.predicted.throughput_per_s
    known = [one for one in placed if one.throughput_per_s is not None]
    loads = [stage.load for stage in plan.stages]
    computing_s = max(load.compute_s + load.dispatch_s + load.fork_join_s for load in loads)
    assert len(known) > 3
    for one in known:
        assert one.throughput_per_s is not None and one.simulated_per_s is not None
        assert one.throughput_per_s * computing_s <= 1 + 1e-6
        assert one.simulated_per_s <= one.throughput_per_s * (1 + 1e-6)


def test_blocks_hold_every_op_once_and_open_the_repeated_layers_together() -> None:
    plan, graph = pipeline()
    flow = folded(graph, plan.stage_of, shares_of(graph, None))
    assert [block.name for block in flow.blocks] == ["first", *(f"blocks.{i}" for i in range(12)), "last"]
    assert [int(block.told.split()[0]) for block in flow.blocks] == [1, *[5] * 12, 1]
    assert {(a, b) for a, b, _ in flow.arrows} == {(i, i + 1) for i in range(13)}


@given(st.lists(st.sampled_from(["", "a", "a.x", "a.y", "b.0.x", "b.0.y", "b.1.x", "b.1.y", "c"]), min_size=1,
                max_size=40), st.integers(1, 20))  # fmt: skip
def test_any_modules_fold_into_few_blocks(modules: list[str], most: int) -> None:
    graph = chain(len(modules))
    ops = tuple(op.model_copy(update={"module": module}) for op, module in zip(graph.ops, modules, strict=True))
    graph = graph.model_copy(update={"ops": ops})
    stage_of = {op.name: i // 7 for i, op in enumerate(ops)}
    flow = folded(graph, stage_of, shares_of(graph, None), most)
    assert len(flow.blocks) <= max(most, 1)
    assert sum(int(block.told.split()[0]) for block in flow.blocks) == len(ops)
    assert all(sum(share for _, share in block.shares) == pytest.approx(1, abs=0.02) for block in flow.blocks)
    assert sorted(module_tree(graph).all_ops()) == sorted(op.name for op in ops)


def test_a_module_that_runs_between_others_is_a_block_each_time() -> None:
    graph = chain(6)
    modules = ["first", "pool", "second", "pool", "third", "pool"]
    ops = tuple(op.model_copy(update={"module": module}) for op, module in zip(graph.ops, modules, strict=True))
    flow = folded(graph.model_copy(update={"ops": ops}), {}, shares_of(graph, None))
    names = ["first", "pool (1 of 3)", "second", "pool (2 of 3)", "third", "pool (3 of 3)"]
    assert [block.name for block in flow.blocks] == names
    assert flow.arrows == tuple((i, i + 1, 1000) for i in range(5))


def test_a_module_with_too_many_parts_is_shown_in_runs() -> None:
    graph = chain(1000)
    flow = folded(graph, {op.name: 0 for op in graph.ops}, shares_of(graph, None))
    assert MOST_BLOCKS / 2 < len(flow.blocks) <= MOST_BLOCKS
    assert flow.blocks[0].name.startswith("m.0") and "…" in flow.blocks[0].name


# what does not fit


_VALUES = st.floats(1e-9, 1e12)


@given(st.lists(st.tuples(st.text(max_size=60), st.lists(_VALUES, max_size=4), st.booleans()), max_size=8),
       st.lists(_VALUES, max_size=2), st.sampled_from([WIDE, NARROW]))  # fmt: skip
def test_texts_of_bars_keep_apart(rows: list[tuple[str, list[float], bool]], marks: list[float], width: float) -> None:
    bars = tuple(
        Bar(name, tuple(Segment(v, "", i, i) for i, v in enumerate(values)), format_seconds(sum(values)), below=below)
        for name, values, below in rows
    )
    sheet, wide, high = bars_sheet(
        Bars("seconds", bars, format_seconds, tuple(Mark(v, f"at {v:g}") for v in marks)), width
    )
    assert list(overlapping(sheet)) == []
    assert outside(sheet, wide, high) == []


@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize("kind", ["pipeline", "copies", "hostile"])
def test_texts_of_pictures_keep_apart(kind: str, width: float) -> None:
    for picture in pictures_of(contents(kind)):
        sheet, wide, high = picture.draw(width)
        assert list(overlapping(sheet)) == [], picture.name
        assert outside(sheet, wide, high) == [], picture.name


def test_64_stages_at_one_point_of_the_roofline_are_legible() -> None:
    roof = contents("pipeline").roof
    assert isinstance(roof, Roof)
    from dataclasses import replace

    crowd = replace(roof, stages=tuple(replace(roof.stages[0], stage=stage) for stage in range(64)))
    sheet, _, _ = roof_sheet(crowd, WIDE)
    assert list(overlapping(sheet)) == []


# what was measured


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
    files = [write(tmp_path / "run.json", run.model_dump(mode="json")),
             write(tmp_path / "profile.json", jsonio.plain(recorded(plan, run, here=plan.machine)))]  # fmt: skip
    save_plan(plan, tmp_path / "plan.json")
    assert mapper("simulate", tmp_path / "plan.json", "-o", tmp_path / "simulated.json").code == 0
    text = report(plan, graph, [*files, tmp_path / "simulated.json"], only=("binding",))
    shown = "".join(Parsed(text).texts)
    assert "measured (run.json)" in shown and "profiled (profile.json)" in shown
    assert "simulated (simulated.json)" in shown and "× 1.50" in shown
    assert "Other processes took 25% of the plan's PUs" in shown


def test_a_comparison_has_a_bar_an_alternative_with_the_range_of_its_rounds(tmp_path: Path) -> None:
    plan, graph = copies()
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
    document = {
        "model": plan.model.name, "batch": 1, "machine": "here", "backend": "eager", "chosen": "plan", "rounds": 15,
        "seconds": 1.5, "items_per_round": {}, "alternatives": rows, "to_best": None, "best_other": "native",
        "at_least": None, "others_busy": 0.1, "torch": "2", "notes": ["a note"], "verdict": "the plan is faster",
    }  # fmt: skip
    found = shown(plan, graph, [write(tmp_path / "bench.json", document)], only=("binding",))
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
