"""The report in a real browser: nothing is asked for, nothing goes wrong, no text covers another, all of it answers."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mapper.reports import style
from mapper.reports.page.page import page
from tests.reports.chromium import PROGRAM, Page, browser
from tests.reports.legible import COVERED
from tests.reports.reported import chain, contents, cut

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="Chromium is not installed: apt-get install chromium")

PHONE, DESK, WALL = 390, 1280, 3840
SEEN = "Array.from(document.querySelectorAll('.paper svg')).filter((svg) => svg.clientWidth > 0).length"


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Pages by name."""
    folder, found = tmp_path_factory.mktemp("reports"), {}
    for kind in ("pipeline", "copies", "hostile"):
        found[kind] = folder / f"{kind}.html"
        found[kind].write_text(page(contents(kind)))
    graph = chain(192)
    found["many"] = folder / "many.html"
    from mapper.reports.page.report import report

    found["many"].write_text(report(cut(graph, 64), graph, only=("binding",)))
    return found


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("chromium")) as tab:
        yield tab


def pixels(png: bytes) -> Any:
    """Rows × columns × channels, from 0 to 1."""
    from matplotlib import image

    return image.imread(io.BytesIO(png), format="png")


@pytest.mark.parametrize("width", [PHONE, DESK, WALL])
@pytest.mark.parametrize("kind", ["pipeline", "copies", "hostile", "many"])
def test_nothing_is_asked_for_nothing_goes_wrong_and_no_text_covers_another(
    shown: Page, reports: dict[str, Path], kind: str, width: int
) -> None:
    shown.open(reports[kind], width, 1000)
    assert shown.complaints == []
    assert shown.requests == [reports[kind].as_uri()]
    assert shown.run(SEEN) >= 4
    assert shown.run(COVERED) == []
    assert shown.run("document.documentElement.scrollWidth") <= width
    seen = pixels(shown.screenshot())
    assert seen.shape[1] == width and seen.std() > 0.02


def test_letters_are_legible_on_a_phone_and_on_a_wall(shown: Page, reports: dict[str, Path]) -> None:
    smallest = """Math.min(...Array.from(document.querySelectorAll(".narrow text, .wide text"))
      .map((text) => text.getBoundingClientRect().height).filter((height) => height > 0))"""
    for width, least in ((PHONE, 7), (DESK, 8), (WALL, 11)):
        shown.open(reports["pipeline"], width, 1000)
        assert shown.run(smallest) > least


def test_dark_where_the_reader_wants_it_with_the_same_colours_of_stages(shown: Page, reports: dict[str, Path]) -> None:
    core = "getComputedStyle(document.querySelector('#machine rect[data-s=\"3\"]')).fill"
    found = {}
    for dark in (False, True):
        shown.open(reports["pipeline"], DESK, 1000, dark=dark)
        found[dark] = float(pixels(shown.screenshot())[..., :3].mean()), shown.run(core)
        assert shown.complaints == []
    assert found[False][0] > 0.8 and found[True][0] < 0.35
    red, green, blue = (int(style.stage_colour(3)[i : i + 2], 16) for i in (1, 3, 5))
    assert found[False][1] == found[True][1] == f"rgb({red}, {green}, {blue})"


LIT = "Array.from(document.querySelectorAll('[data-s].on')).map((mark) => mark.getAttribute('data-s'))"
LIT_IN = """Array.from(document.querySelectorAll('section')).filter((section) => section.querySelector(
  'svg [data-s].on')).map((section) => section.id)"""


def test_pointing_at_a_core_lights_its_stage_up_everywhere(shown: Page, reports: dict[str, Path]) -> None:
    shown.open(reports["pipeline"], DESK, 1000)
    place = shown.run("""(() => {
      const core = document.querySelector('#machine rect[data-s="5"]');
      core.scrollIntoView({ block: "center" });
      const box = core.getBoundingClientRect();
      return [box.x + box.width / 2, box.y + box.height / 2];
    })()""")
    shown.point(*place)
    assert set(shown.run(LIT)) == {"5"}
    assert {"machine", "model", "loads", "gantt", "roofline", "traffic"} - set(shown.run(LIT_IN)) <= {"traffic"}
    assert shown.run("document.getElementById('tip').textContent").startswith("core ")
    shown.point(*place, click=True)
    shown.point(2, 2)
    assert set(shown.run(LIT)) == {"5"}
    shown.key("Escape")
    assert shown.run(LIT) == []


def test_the_keyboard_reaches_stages_parts_of_pictures_and_zoom(shown: Page, reports: dict[str, Path]) -> None:
    shown.open(reports["pipeline"], DESK, 1000)
    shown.run("document.querySelector('#stages button').focus()")
    shown.key("ArrowRight")
    shown.key("ArrowRight")
    assert set(shown.run(LIT)) == {"2"}
    shown.run("document.querySelector('#loads .paper').focus()")
    shown.key("ArrowRight")
    assert shown.run("document.getElementById('tip').hidden") is False
    assert "stage 0" in shown.run("document.getElementById('tip').textContent")
    width = "document.querySelector('#loads .wide svg').getBoundingClientRect().width"
    before = shown.run(width)
    shown.key("+")
    assert shown.run(width) == pytest.approx(1.3 * before, rel=0.01)
    shown.key("0")
    assert shown.run(width) == pytest.approx(before, rel=0.01)


def test_the_policy_holds(shown: Page, reports: dict[str, Path]) -> None:
    shown.open(reports["copies"], DESK, 1000)
    assert shown.run("fetch('http://127.0.0.1:9/').then(() => 'went', () => 'refused')") == "refused"
    shown.run("""(() => {
      const script = document.createElement("script");
      script.textContent = "document.title = 'run'";
      document.body.append(script);
      const image = document.createElement("img");
      image.src = "data:image/gif;base64,R0lGODlhAQABAAAAACw=";
      document.body.append(image);
    })()""")
    assert shown.run("document.title") != "run"
    told = [event["params"]["entry"]["text"] for event in shown.events if event["method"] == "Log.entryAdded"]
    assert sum("Content Security Policy" in text for text in told) >= 2


def test_it_prints_with_everything_unfolded(shown: Page, reports: dict[str, Path]) -> None:
    shown.open(reports["pipeline"], DESK, 1000, media="")
    assert base64.b64decode(shown.ask("Page.printToPDF", printBackground=True)["data"]).startswith(b"%PDF")
    shown.run("window.dispatchEvent(new Event('beforeprint'))")
    folded = "document.querySelectorAll('section > details.more:not([open])').length"
    assert shown.run(folded) == 0
    shown.run("window.dispatchEvent(new Event('afterprint'))")
    assert shown.run(folded) > 5
