"""Reports of plans of all kinds can be read: on a phone, a laptop, a wall and paper, by day and by night."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

import mapper
from mapper import jsonio
from mapper.graph.model import Graph
from mapper.machine.cluster import cluster, parse_link
from mapper.plans.model import Plan
from mapper.reports.page.report import report
from mapper.solver.problem import Limits
from mapper.study.bench import Bench
from tests.cli.commands import mapper as run
from tests.reports.chromium import PROGRAM, Page, browser
from tests.reports.legible import COVERED, FOLDED_OUT, LEAVING, PALE, SMALLEST, SPILT, WITHOUT_UNIT
from tests.reports.reported import chain, copies, hostile, on_groups, pipeline, units
from tests.reports.test_report_command import bench_document, measured

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="Chromium is not installed: apt-get install chromium")

SCREENS = {"phone": (390, 844), "laptop": (1366, 768), "wall": (3840, 2160)}
LEAST = {"phone": 6.5, "laptop": 7.5, "wall": 8.0}
"""Pixels of the smallest letters of pictures."""
PAPER = (718, 1000)
"""A page of A4 with margins of a centimetre, in CSS pixels."""
Made = tuple[Plan, Graph, list[Path]]


def _measured(folder: Path) -> Made:
    """A plan with a run and a comparison of it."""
    plan, graph = copies()
    files = [folder / "run.json", folder / "bench.json"]
    files[0].write_text(json.dumps(jsonio.plain(measured(plan, 1.5))))
    files[1].write_text(json.dumps(jsonio.plain(Bench.model_validate(bench_document(plan)))))
    return plan, graph, files


def _cluster(folder: Path) -> Made:
    """Four hosts of 64 cores."""
    return *on_groups(cluster([mapper.load_machine("sg2042")] * 4, parse_link("10Gbit,20us"))), []


def _times(folder: Path) -> Made:
    """A graph that brings its own times, on equal units."""
    graph = chain(40)
    return units(graph, 4), graph, []


def _micro_batches(folder: Path) -> Made:
    """A pipeline that cuts its items in four."""
    graph = copies()[1]
    limits = Limits(stages=2, max_replicas=1)
    return mapper.plan(graph, mapper.load_machine("numa:2 group:2 core:2"), limits=limits, batch=64,
                       micro_batches=4), graph, []  # fmt: skip


def _packages(folder: Path) -> Made:
    """Twelve groups of eight cores with two PUs each."""
    graph = copies()[1]
    return mapper.plan(graph, mapper.load_machine("epyc-9684x")), graph, []


KINDS: dict[str, Callable[[Path], Made]] = {
    "pipeline": lambda folder: (*pipeline(), []), "hostile": lambda folder: (*hostile(), []), "measured": _measured,
    "cluster": _cluster, "times": _times, "micro-batches": _micro_batches, "packages": _packages,
}  # fmt: skip


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("chromium")) as tab:
        yield tab


@pytest.fixture(scope="module")
def page_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("legible")

    @cache
    def made(kind: str) -> Path:
        plan, graph, files = KINDS[kind](folder)
        path = folder / f"{kind}.html"
        path.write_text(report(plan, graph, files, only=("binding",)))
        return path

    return made


def assert_legible(shown: Page, path: Path, screen: str, *, dark: bool) -> None:
    """Everything can be read there, and nothing goes wrong or is asked for."""
    shown.open(path, *SCREENS[screen], dark=dark)
    assert shown.complaints == [] and shown.requests == [path.as_uri()]
    shown.run(FOLDED_OUT)
    for broken in (COVERED, SPILT, LEAVING, PALE, WITHOUT_UNIT):
        assert shown.run(broken) == []
    assert shown.run(SMALLEST) >= LEAST[screen]


@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("kind", KINDS)
def test_plans_of_all_kinds_are_legible(shown: Page, page_of: Callable[[str], Path], kind: str, screen: str) -> None:
    assert_legible(shown, page_of(kind), screen, dark=screen == "laptop")


@pytest.mark.parametrize("kind", KINDS)
def test_paper_shows_whole_pictures(shown: Page, page_of: Callable[[str], Path], kind: str) -> None:
    shown.open(page_of(kind), *PAPER, media="print")
    shown.run(FOLDED_OUT)
    for broken in (COVERED, SPILT, LEAVING, PALE):
        assert shown.run(broken) == []
    highest = shown.run("Math.max(...Array.from(document.querySelectorAll('.paper svg'), (svg) => svg.clientHeight))")
    assert highest <= PAPER[1], "no picture is cut by the end of a page"


@pytest.mark.parametrize("kind", ["pipeline", "measured", "hostile"])
def test_screen_readers_are_told_what_there_is(shown: Page, page_of: Callable[[str], Path], kind: str) -> None:
    """By the browser's own accessibility tree: what can be focused has a name, pictures have one and say what is in
    them, and headings follow each other."""
    shown.open(page_of(kind), *SCREENS["laptop"])
    shown.ask("Accessibility.enable")
    nodes = shown.ask("Accessibility.getFullAXTree")["nodes"]
    seen = [node for node in nodes if not node.get("ignored")]

    def told(node: dict[str, object], key: str) -> str:
        value = node.get(key)
        return str(value.get("value", "")) if isinstance(value, dict) else ""

    def focusable(node: dict[str, object]) -> bool:
        properties = node.get("properties")
        assert isinstance(properties, list)
        return any(each["name"] == "focusable" and each["value"].get("value") for each in properties)

    reached = [node for node in seen if node.get("properties") and focusable(node)]
    assert len(reached) > 20
    assert [
        told(node, "role") for node in reached if not told(node, "name") and told(node, "role") != "RootWebArea"
    ] == []
    pictures = [node for node in seen if told(node, "role") in ("image", "img")]
    assert len(pictures) >= 5
    assert all(len(told(node, "name")) > 20 for node in pictures)
    headings = [node for node in seen if told(node, "role") == "heading"]
    assert len(headings) == 11 and all(told(node, "name") for node in headings)
    assert shown.run("document.documentElement.lang") == "en"


@pytest.mark.soak
@pytest.mark.parametrize(
    ("model", "topology", "options"),
    [
        ("vit", "sg2042", ["--stages", 16, "--replicas", 1, "--configurations", "1x4"]), ("vit", "sg2042", []),
        ("resnet50", "epyc-7763", []), ("resnet50", "epyc-9684x", []),
    ],
)  # fmt: skip
def test_what_people_plan_first_is_legible(
    shown: Page, tmp_path: Path, model: str, topology: str, options: list[object]
) -> None:
    plan, path = tmp_path / "plan.json", tmp_path / "report.html"
    assert run("plan", "--model", model, "--topo", topology, *options, "-o", plan).code == 0
    assert run("report", plan, "-o", path).code == 0
    assert path.stat().st_size < 3_000_000
    for screen in SCREENS:
        for dark in (False, True):
            assert_legible(shown, path, screen, dark=dark)
