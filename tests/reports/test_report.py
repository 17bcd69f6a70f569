"""The report as a file: what is in it, that nothing gets out of it or into it, and that its figures are the plan's."""

from __future__ import annotations

import base64
import hashlib
import itertools
import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapper.reports import style
from mapper.reports.page.alternatives import placed_by_strategies
from mapper.reports.page.charts import Bar, Bars, Mark, Missing, Roof, Segment
from mapper.reports.page.contents import Model
from mapper.reports.page.drawing.bars import bars_sheet
from mapper.reports.page.drawing.roof import roof_sheet
from mapper.reports.page.modules import MOST_BLOCKS, folded, module_tree, shares_of
from mapper.reports.page.page import page
from mapper.reports.page.report import pictures_of, report
from mapper.reports.page.sections import NARROW, WIDE
from mapper.units import format_seconds
from tests.reports.overlaps import outside, overlapping
from tests.reports.reported import HOSTILE, SECTIONS, Parsed, chain, contents, cut, pipeline

MOST_BYTES = 3_000_000


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
