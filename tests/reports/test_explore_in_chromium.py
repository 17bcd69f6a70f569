"""The page of an exploration in a real browser: ten thousand plans, by mouse and by keys, and nothing is asked for."""

from __future__ import annotations

import io
import math
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mapper.reports.explore_html import save_page
from mapper.study.exploration.explore import Exploration
from mapper.study.exploration.rows import Row
from tests.reports.chromium import PROGRAM, Page, browser
from tests.reports.test_explore import HOSTILE, few, named

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="Chromium is not installed: apt-get install chromium")

PLANS = 10_000
DRAWN = """new Promise((done) => (function wait() {
  requestAnimationFrame(() => document.getElementById("lines").dataset.drawn === "all" ? done(true) : wait());
})())"""
COUNT = "Number(document.getElementById('count').textContent.split(' ')[0])"
HEAD = "document.querySelector('#point strong').textContent"
COMMAND = "document.querySelector('#point pre').textContent"


def many() -> Exploration:
    """So many plans as one has for a day's exploration, with the best of each number of cores on the front."""
    rng, usable, rows = random.Random(0), [row for row in few().rows if row.made], list[Row]()
    for number in range(PLANS):
        row = rng.choice(usable)
        assert row.made is not None and row.elements_per_s is not None
        made = row.made.model_copy(update={"latency_s": row.made.latency_s * rng.lognormvariate(0, 0.4)})
        rate = row.elements_per_s * rng.lognormvariate(0, 0.5)
        rows.append(row.model_copy(update={"number": number, "made": made, "elements_per_s": rate, "front": False}))
    best: dict[int, Row] = {}
    for row in sorted(rows, key=lambda row: row.elements_per_s or 0.0):
        best[row.made.cores_used if row.made else 0] = row
    front = {row.number for row in best.values()}
    return replace(few(), rows=tuple(row.model_copy(update={"front": row.number in front}) for row in rows))


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    found = {"many": many(), "few": few(), "hostile": named(HOSTILE)}
    for name, exploration in found.items():
        save_page(exploration, folder / f"{name}.html")
    return {name: folder / f"{name}.html" for name in found}


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("chromium")) as tab:
        yield tab


def opened(shown: Page, path: Path, width: int = 1280, *, dark: bool = False) -> Page:
    """The page, drawn."""
    shown.open(path, width, 1000, dark=dark)
    shown.run(DRAWN)
    return shown


def box(shown: Page, name: str) -> list[float]:
    """Left, top, width and height of an element."""
    script = f"(() => {{ const r = document.getElementById('{name}').getBoundingClientRect();"
    found: list[float] = shown.run(f"{script} return [r.left, r.top, r.width, r.height]; }})()")
    return found


def colours(png: bytes) -> Any:
    from matplotlib import image

    return image.imread(io.BytesIO(png), format="png")[..., :3]


@pytest.mark.parametrize("dark", [False, pytest.param(True, marks=pytest.mark.soak)])
@pytest.mark.parametrize("width", [390, 1280, pytest.param(3840, marks=pytest.mark.soak)])
@pytest.mark.parametrize("name", ["many", "few", "hostile"])
def test_it_is_drawn_without_complaint_and_asks_for_nothing(
    shown: Page, pages: dict[str, Path], name: str, width: int, dark: bool
) -> None:
    page = opened(shown, pages[name], width, dark=dark)
    assert page.complaints == [] and page.requests == [pages[name].resolve().as_uri()]
    seen = colours(page.screenshot())
    assert (seen[2, 2] < 0.2).all() if dark else (seen[2, 2] > 0.9).all()
    assert seen.reshape(-1, 3).std() > 0.02, "something is drawn"
    assert page.run("document.documentElement.scrollWidth <= innerWidth"), "nothing hangs over the side"
    for canvas in ("scatter", "lines"):
        left, top, wide, high = box(page, canvas)
        part = colours(page.screenshot(clip={"x": left, "y": top, "width": min(wide, width), "height": high}))
        assert abs(part - part[0, 0]).max() > 0.3, canvas


def test_all_plans_are_there_and_a_click_shows_the_command_of_one(shown: Page, pages: dict[str, Path]) -> None:
    page = opened(shown, pages["many"])
    assert page.run(COUNT) == PLANS
    left, top, wide, high = box(page, "scatter")
    before = page.run(HEAD)
    heads = set()
    for share in (0.3, 0.45, 0.6):
        page.point(left + wide * share, top + high / 2, click=True)
        heads.add(page.run(HEAD) + page.run(COMMAND))
    assert len(heads) == 3 and before not in heads
    assert page.run(COMMAND).startswith("mapper plan --model")
    page.point(left + 2, top + high - 2, click=True)
    assert page.run(HEAD) + page.run(COMMAND) in heads, "where there is nothing, nothing changes"


def within(page: Page, from_: float, to: float) -> int:
    """How many plans lie between two shares of the first axis."""
    rows = page.run("JSON.parse(document.getElementById('rows').textContent).fields[0]")
    assert rows["key"] == "elements_per_s"
    values = [math.log10(value) for value in rows["values"]]
    low, high = min(values), max(values)
    return sum(low + (high - low) * from_ <= value <= low + (high - low) * to for value in values)


def all_are_shown_again(page: Page) -> None:
    """Presses the button for it, and looks."""
    page.run("document.getElementById('all').click()")
    page.run(DRAWN)
    page.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert page.run(COUNT) == PLANS


def test_a_range_on_an_axis_leaves_the_plans_within(shown: Page, pages: dict[str, Path]) -> None:
    page = opened(shown, pages["many"])
    left, top, _, high = box(page, "lines")
    across, from_, to = left + 60, top + 62 + (high - 84) * 0.2, top + 62 + (high - 84) * 0.5
    page.point(across, from_)
    page.ask("Input.dispatchMouseEvent", type="mousePressed", x=across, y=from_, button="left", clickCount=1)
    page.ask("Input.dispatchMouseEvent", type="mouseMoved", x=across, y=to, button="left", buttons=1)
    page.ask("Input.dispatchMouseEvent", type="mouseReleased", x=across, y=to, button="left", clickCount=1)
    page.run(DRAWN)
    assert page.run(COUNT) == pytest.approx(within(page, 0.5, 0.8), rel=0.03) and 0 < page.run(COUNT) < PLANS
    all_are_shown_again(page)


def test_a_finger_on_an_axis_chooses_and_then_all_is_drawn(shown: Page, pages: dict[str, Path]) -> None:
    page = opened(shown, pages["many"], 390)
    page.run("document.getElementById('lines').scrollIntoView()")
    left, top, _, high = box(page, "lines")
    across, start, end = left + 60, top + 62, top + high - 22
    middle = (start + end) / 2

    def touch(kind: str, *y: float) -> None:
        page.ask("Input.dispatchTouchEvent", type=kind, touchPoints=[{"x": across, "y": each} for each in y])

    touch("touchStart", start)
    for step in range(1, 9):
        touch("touchMove", start + (middle - start) * step / 8)
    touch("touchEnd")
    page.run(DRAWN)
    assert page.run(COUNT) == pytest.approx(within(page, 0.5, 1.0), rel=0.03)
    all_are_shown_again(page)


@pytest.mark.parametrize("width", [390, 3840])
def test_a_click_rings_the_point_below_it_on_phones_and_walls(shown: Page, pages: dict[str, Path], width: int) -> None:
    from matplotlib.colors import to_rgb

    page = opened(shown, pages["many"], width)
    left, top, wide, high = box(page, "scatter")
    before = page.run(HEAD) + page.run(COMMAND)
    clicked = wide * 0.45, high * 0.5
    page.point(left + clicked[0], top + clicked[1], click=True)
    assert page.run(HEAD) + page.run(COMMAND) != before
    page.point(left + 1, top + 1)
    page.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    seen = colours(page.screenshot(clip={"x": left, "y": top, "width": wide, "height": high}))
    ring = (abs(seen - to_rgb("#0072B2")).max(axis=2) < 0.02).nonzero()
    assert abs(ring[1].mean() - clicked[0]) < 25 and abs(ring[0].mean() - clicked[1]) < 25


@pytest.mark.soak
@pytest.mark.machine
def test_ten_thousand_plans_stay_smooth_while_one_drags(shown: Page, pages: dict[str, Path]) -> None:
    """Frames are counted from the press of the button to its release: most come at least fifteen times a second,
    without a graphics card."""
    page = opened(shown, pages["many"])
    left, top, _, high = box(page, "lines")
    across, start, end = left + 60, top + 62, top + high - 22
    page.run("""(() => {
      window.frames_ = [];
      (function next(now) {
        window.frames_.push(now);
        window.going_ = requestAnimationFrame(next);
      })(performance.now());
    })()""")
    page.point(across, start)
    page.ask("Input.dispatchMouseEvent", type="mousePressed", x=across, y=start, button="left", clickCount=1)
    moves = 60
    for step in range(moves):
        y = start + (end - start) * 0.8 * step / moves
        page.ask("Input.dispatchMouseEvent", type="mouseMoved", x=across, y=y, button="left", buttons=1)
    page.ask("Input.dispatchMouseEvent", type="mouseReleased", x=across, y=end, button="left", clickCount=1)
    page.run("cancelAnimationFrame(window.going_)")
    gaps = page.run("window.frames_.slice(1).map((at, i) => at - window.frames_[i])")
    print(f"{len(gaps)} frames in {sum(gaps) / 1e3:.1f} s, the longest {max(gaps):.0f} ms")
    assert len(gaps) >= moves / 2 and sorted(gaps)[len(gaps) // 2] < 67


def test_keys_do_all_of_it(shown: Page, pages: dict[str, Path]) -> None:
    page = opened(shown, pages["few"])
    page.run("document.getElementById('scatter').focus()")
    heads = [page.run(HEAD) + page.run(COMMAND)]
    for _ in range(4):
        page.key("ArrowLeft")
        heads.append(page.run(HEAD) + page.run(COMMAND))
    assert len(set(heads)) >= 3, "one plan after the other"
    every = page.run(COUNT)
    page.key("f")
    page.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    front = page.run("JSON.parse(document.getElementById('rows').textContent).front.filter((each) => each).length")
    assert page.run(COUNT) == front < every
    page.run("document.getElementById('lines').focus()")
    page.key("Escape")
    page.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert page.run(COUNT) == every
    assert page.run("document.activeElement.id") == "lines"


def test_hostile_names_are_text(shown: Page, pages: dict[str, Path]) -> None:
    page = opened(shown, pages["hostile"])
    assert page.run("document.querySelectorAll('img, script:not([type])').length") == 1, "its own script"
    assert "<img src=x onerror=alert(2)>" in page.run(HEAD)
    assert page.run("document.querySelector('h1').textContent").startswith("</script>")
