"""`mapper simulate`, its timeline and its chart."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from mapper.plans.file import load_plan
from mapper.plans.model import Plan
from mapper.plans.timeline import Doing, Span, Timeline, trace_events
from mapper.reports.gantt import gantt_text, steady_part
from tests.cli.commands import TINY, mapper


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plans") / "plan.json"
    words = ["--stages", 2, "--replicas", 2, "--trust", "-o", path]
    ended = mapper("plan", "--model", TINY, "--topo", "pack:1 numa:2 group:2 core:2", *words)
    assert ended.code == 0, ended.err
    return path


def test_the_first_line_is_the_answer(file: Path) -> None:
    ended = mapper("simulate", file)
    assert ended.code == 0
    assert "items/s" in ended.out.splitlines()[0] and "simulated" in ended.out.splitlines()[0]
    assert "waits for room" in ended.out and "Cores at work" in ended.out


def test_json_is_the_whole_result_and_the_same_again(file: Path, tmp_path: Path) -> None:
    words = ["simulate", file, "--arrivals", "100/s", "--jitter", "10%", "--seed", 3, "--items", 50, "--json"]
    found = json.loads(mapper(*words, "-o", tmp_path / "out.json").out)
    assert found == json.loads(mapper(*words).out) == json.loads((tmp_path / "out.json").read_text())
    assert found["items"] == 50 and found["arrivals"] == "Poisson, 100 a second" and found["spread"] == 0.1
    assert set(found["latency_s"]) == {"p50", "p90", "p99"} and len(found["utilisation"]["cores"]) == 8
    assert found["throughput_per_s"] == pytest.approx(100, rel=0.5)


def test_items_come_when_a_file_says(file: Path, tmp_path: Path) -> None:
    times = tmp_path / "times.txt"
    times.write_text("0\n1.5\n\n2\n")
    assert "a trace of 3 items" in mapper("simulate", file, "--arrivals", times).out
    times.write_text("0\nsoon\n")
    ended = mapper("simulate", file, "--arrivals", times)
    assert ended.code == 3 and "line 2" in ended.err and "'soon'" in ended.err
    times.write_text("\n")
    assert mapper("simulate", file, "--arrivals", times).code == 3


@pytest.mark.parametrize("words", [
    ("--arrivals", "often"), ("--jitter", "much"), ("--jitter", "-5%"), ("--items", 0), ("--arrivals", "0"),
    ("--trace", "timeline.txt"),
])  # fmt: skip
def test_what_makes_no_sense_is_a_usage_error(file: Path, words: tuple[object, ...]) -> None:
    ended = mapper("simulate", file, *words)
    assert ended.code == 2 and ended.err


def test_a_chart_has_a_line_a_replica_and_is_the_same_again(file: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    assert mapper("simulate", file, "--trace", tmp_path / "a.svg").code == 0
    assert mapper("simulate", file, "--trace", tmp_path / "b.svg").code == 0
    drawn = (tmp_path / "a.svg").read_bytes()
    assert drawn == (tmp_path / "b.svg").read_bytes()
    texts = ["".join(node.itertext()) for node in ElementTree.fromstring(drawn).iter() if node.tag.endswith("text")]
    plan = load_plan(file)
    for stage in plan.stages:
        many = len(stage.replicas) > 1
        for r in range(len(stage.replicas)):
            assert f"stage {stage.id}" + (f", copy {r}" if many else "") in texts


def made_of(plan: Plan, *spans: Span) -> Timeline:
    return Timeline.of(plan, spans, "measured")


def test_text_shows_what_took_most_of_each_letter(file: Path) -> None:
    plan = load_plan(file)
    start = 100.0
    timeline = made_of(
        plan,
        Span(0, 0, 12, Doing.READING, start, start + 2), Span(0, 0, 12, Doing.COMPUTING, start + 2, start + 6),
        Span(0, 0, 12, Doing.BLOCKED, start + 6, start + 7), Span(0, 0, 12, Doing.WRITING, start + 7, start + 8),
        Span(0, 0, 13, Doing.WAITING, start + 8, start + 10),
    )  # fmt: skip
    line = gantt_text(timeline, columns=20 + len("stage 0.0") + 2, part=(0.0, 10.0))[0]
    assert line.split()[-1] == "<<<<22222222::>>...."


def test_the_part_that_is_shown_is_the_end(file: Path) -> None:
    plan = load_plan(file)
    late = 1000 * plan.predicted.latency_s
    start, end = steady_part(made_of(plan, Span(0, 0, 0, Doing.WAITING, 0.0, late)))
    assert end == late and start == pytest.approx(late - plan.predicted.latency_s - 4 * plan.predicted.period_s)


def test_items_of_several_calls_show_no_longer_a_part(file: Path) -> None:
    """What is predicted is of items already, however many calls they take."""
    plan = load_plan(file)
    several = plan.model_copy(update={"request": plan.request.model_copy(update={"micro_batches": 4})})
    late = 1000 * plan.predicted.latency_s
    parts = [steady_part(made_of(of, Span(0, 0, 0, Doing.WAITING, 0.0, late))) for of in (plan, several)]
    assert parts[0] == parts[1]


def test_trace_events_have_a_process_a_stage_and_microseconds(file: Path) -> None:
    plan = load_plan(file)
    spans = [Span(1, 0, 7, Doing.WAITING, 5.0, 5.5, -1), Span(1, 0, 7, Doing.COMPUTING, 5.5, 6.0)]
    events = trace_events(made_of(plan, *spans))["traceEvents"]
    slices = [event for event in events if event["ph"] == "X"]
    assert [(e["name"], e["pid"], e["tid"], e["ts"], e["dur"]) for e in slices] == [
        ("waits for an item", 2, 1, 0.0, 500_000.0), ("computes item 7", 2, 1, 500_000.0, 500_000.0),
    ]  # fmt: skip
    assert slices[0]["args"]["for"] == "the feeder"
    named: Callable[[str], list[str]] = lambda kind: [e["args"]["name"] for e in events if e["name"] == kind]  # noqa: E731
    assert len(named("process_name")) == len(plan.stages)
    assert len(named("thread_name")) == sum(len(stage.replicas) for stage in plan.stages)
