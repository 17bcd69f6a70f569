"""An exploration in words, as a picture and as a page."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from mapper.errors import UsageError
from mapper.reports.explore import MOST_ROWS, explored_text
from mapper.reports.explore_html import document, page, save_page
from mapper.reports.explore_picture import draw_explored, explored_sheet
from mapper.reports.sheet import Box, Words
from mapper.study.exploration.explore import Exploration
from tests.study.exploration.small import FEW, explored

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>&\"'"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@cache
def few() -> Exploration:
    return explored(FEW.model_copy(update={"batches": (1, 4)}))


def named(name: str) -> Exploration:
    """The same of a model and machines with this name."""
    found = few()
    rows = tuple(row.model_copy(update={"machine": name, "strategy": name}) for row in found.rows)
    variants = tuple(replace(v, machine=v.machine.model_copy(update={"title": name})) for v in found.variants)
    return replace(found, rows=rows, variants=variants, model=found.model.model_copy(update={"title": name}))


def without_plans() -> Exploration:
    rows = tuple(row.model_copy(update={"made": None, "reason": "no (1)", "front": False}) for row in few().rows)
    return replace(few(), rows=rows)


# words


def test_the_answer_comes_first() -> None:
    lines = explored_text(few())
    usable = [row for row in few().rows if row.made]
    best = max(usable, key=lambda row: row.elements_per_s or 0.0)
    assert lines[0] == "chain on numa:2 group:2 core:2"
    assert lines[2].startswith("Best throughput: ") and " images/s" in lines[2]
    told = float(lines[2].split()[2])
    assert told == pytest.approx(best.elements_per_s, rel=0.01)
    assert lines[3].removeprefix("  mapper plan ") in {row.options for row in usable}
    assert lines[4].startswith("Least latency: ")


def test_the_front_is_a_short_table() -> None:
    lines = explored_text(few())
    start = next(i for i, line in enumerate(lines) if line.startswith("No point is better in throughput, latency, "))
    front = [row for row in few().rows if row.front]
    shown = lines[start + 2 : lines.index("", start)]
    assert len(shown) == min(len(front), MOST_ROWS)
    rates = [float(line.split()[0]) for line in shown]
    assert rates == sorted(rates, reverse=True)


def test_what_could_not_be_is_counted() -> None:
    lines = explored_text(few())
    usable = sum(row.made is not None for row in few().rows)
    assert lines[-2] == f"{few().points} points: {usable} plans from {few().searches} searches"
    assert lines[-1].startswith(f"{few().points - usable} have none: ") and "more cores than there are" in lines[-1]


def test_an_interrupted_one_says_what_is_missing() -> None:
    part = replace(few(), rows=few().rows[:10], interrupted=True)
    assert f"{few().points - 10} points were not reached" in "\n".join(explored_text(part))
    assert explored_text(replace(few(), rows=()))[-1].startswith(f"{few().points} points: 0 plans")


# picture


def test_every_plan_of_the_front_is_a_ringed_dot() -> None:
    sheet, width, height = explored_sheet(few())
    front = sum(row.front for row in few().rows)
    rings = [mark for mark in sheet.marks if isinstance(mark, Box) and mark.edge != "none"]
    assert len(rings) == 2 * front, "over latency and over cores"
    words = [mark.text for mark in sheet.marks if isinstance(mark, Words)]
    assert {"latency of an item", "cores used", "images a second"} <= set(words)
    for mark in sheet.marks:
        if isinstance(mark, Box):
            assert 0 <= mark.x <= width - mark.width and 0 <= mark.y <= height - mark.height


def test_machines_have_colours_and_energy_its_own_panel() -> None:
    grid = FEW.model_copy(update={"topos": ("sg2042", "sg2044"), "stages": (1,), "threads": (4,)})
    sheet, _, _ = explored_sheet(explored(grid))
    words = [mark.text for mark in sheet.marks if isinstance(mark, Words)]
    assert {"sg2042", "sg2044", "energy of one image, all packages at full power"} <= set(words)


def test_the_same_rows_give_the_same_picture(tmp_path: Path) -> None:
    for name in ("a.svg", "b.svg", "c.png"):
        draw_explored(few(), tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")


def test_nothing_to_draw_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no point has a plan"):
        draw_explored(without_plans(), tmp_path / "a.png")
    with pytest.raises(UsageError, match=r"written as \.svg or"):
        draw_explored(few(), tmp_path / "a.gif")


# page


def scripts(text: str) -> list[str]:
    """What would run."""
    return re.findall(r"<script>(.*?)</script>", text, re.DOTALL)


def rows_in(text: str) -> Any:
    found = re.search(r'<script type="application/json" id="rows">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def test_only_its_own_script_and_style_apply_and_nothing_is_loaded() -> None:
    text = page(few())
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)
    assert policy is not None and style is not None and len(scripts(text)) == 1
    parts = dict(part.strip().split(" ", 1) for part in policy[1].split(";"))
    hashes = [f"'sha256-{base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()}'"
              for part in (scripts(text)[0], style[1])]  # fmt: skip
    assert [parts["script-src"], parts["style-src"]] == hashes
    assert parts["default-src"] == "'none'" and "unsafe" not in policy[1]
    frame = re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
    assert not re.search(r"\b(src|href|style|onclick)\s*=|url\(|@import", frame)


def test_the_page_has_every_plan_with_its_command() -> None:
    found, usable = rows_in(page(few())), [row for row in few().rows if row.made]
    assert found["options"] == [row.options for row in usable]
    assert found["front"] == [row.front for row in usable]
    fields = {field["key"]: field for field in found["fields"]}
    assert fields["elements_per_s"]["values"] == pytest.approx([row.elements_per_s for row in usable], rel=1e-5)
    assert fields["cores_used"]["values"] == [row.made.cores_used for row in usable if row.made]
    assert "element_energy_j" not in fields, "the machine states no power"
    assert all(len(field["values"]) == len(usable) for field in found["fields"])
    assert found["stages"] == [[list(pair) for pair in zip(row.made.replicas, row.made.threads, strict=True)]
                               for row in usable if row.made]  # fmt: skip
    assert all("×" in name or "whole model" in name for name in found["names"])


def test_hostile_names_stay_text() -> None:
    text = page(named(HOSTILE))
    assert "alert(1)" not in "".join(scripts(text)) and len(scripts(text)) == 1
    assert "<img" not in text
    assert HOSTILE in rows_in(text)["names"][0]
    assert "<h1>&lt;/script&gt;&lt;script&gt;" in text


def test_a_page_is_the_same_again_and_written_whole(tmp_path: Path) -> None:
    save_page(few(), tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text() == page(few())
    assert document(without_plans())["names"] == []
