"""What terminals of 60, 80 and 120 columns show, as golden files; and the same in colour, and without.

Write them anew with MAPPER_WRITE_GOLDEN=1 after a change that is meant, and read the difference.
"""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from mapper.cli.run import answer, stages_text
from mapper.execution.measurement import Latency, MeasuredStage, MeasuredWorker, Measurement
from mapper.graph.model import Graph
from mapper.jsonio import dumps
from mapper.jsonio import plain as plain_document
from mapper.machine.files import load_machine
from mapper.plans.file import save_plan
from mapper.plans.model import Plan
from mapper.plans.timeline import Span, Timeline
from mapper.reports.bench import bench_text
from mapper.reports.gantt import gantt_text
from mapper.reports.lines import fitted, plain
from mapper.reports.machine import machine_text
from mapper.reports.plan import plan_text
from mapper.reports.profile import profile_text
from mapper.reports.simulate import simulated_text
from mapper.reports.where import where_text
from mapper.simulator.simulate import simulate
from mapper.solver.plan import plan
from mapper.solver.problem import Limits
from mapper.study.bench import Bench, BenchRow, Ratio, Spread
from tests.cli.screen import all_of
from tests.planning.test_machines import block_chain
from tests.reports import scenes
from tests.reports.test_where import map_of

GOLDEN = Path(__file__).parent.parent / "golden" / "terminal"
WIDTHS = (60, 80, 120)
NAMES = ("embedding_convolution", "_native_layer_norm_no_training", "attention_scores", "scaled_dot_product",
         "projection", "_native_layer_norm_no_training_1", "fully_connected", "gelu")  # fmt: skip


@cache
def pipeline_graph() -> Graph:
    """Ops with names that are long."""
    text = re.sub(r"\bop(\d)\b", lambda found: NAMES[int(found[1])], dumps(plain_document(block_chain(len(NAMES)))))
    return Graph.model_validate_json(text)


@cache
def pipeline() -> Plan:
    """Three stages, the last one in copies."""
    limits = Limits(stages=3, max_replicas=5, max_cores=12)
    return plan(pipeline_graph(), load_machine("sg2042"), limits=limits)


@cache
def free() -> Plan:
    """The same ops as the planner likes them."""
    return plan(pipeline_graph(), load_machine("sg2042"), limits=Limits(max_cores=12))


def spread(rate: float) -> Spread:
    return Spread(median=rate, low=rate * 0.98, high=rate * 1.01)


def row(name: str, rate: float, ratio: Ratio | None) -> BenchRow:
    return BenchRow(
        name=name, names=(name,), backend="eager", runs_in="workers", stages=1, workers=2,
        throughput_per_s=spread(rate), predicted_throughput_per_s=rate * 1.05,
        latency_s=Latency(p50=2 / rate, p90=2.1 / rate, p99=2.2 / rate), chosen_over_this=ratio, outputs_identical=True,
        steady=True, disturbed_rounds=0, repeated_rounds=0, ratio_disturbed=False, rates_per_s=(rate,),
        others_busy=(0.0,),
    )  # fmt: skip


def comparison() -> Bench:
    ratio = Ratio(median=1.12, low=1.1, high=1.14, confidence=0.95)
    return Bench(
        model="MobileNetV2 1.0 224", batch=1, machine="AMD EPYC (2 cores)", backend="eager", chosen="plan", rounds=15,
        seconds=1.5, items_per_round={"plan": 150},
        alternatives=(row("plan", 110, None), row("native, 2 threads, as torch.set_num_threads", 98, ratio),
                      row("pipeline of two stages with one thread each, balanced by time", 101, ratio)),
        to_best=ratio, best_other="pipeline", at_least=1.08, others_busy=0.01, torch="2.13",
        notes=("others took 1 % of the cores meanwhile",),
        verdict="the plan is 12.0 % faster than the best of the others",
    )  # fmt: skip


def measurement() -> Measurement:
    stages = tuple(
        MeasuredStage(id=i, replicas=n, load_s=load, predicted_load_s=load * 0.9, compute_s=load, copy_s=0.0,
                      wait_in_s=0.001 * i, wait_out_s=0.0004)
        for i, (n, load) in enumerate([(1, 0.0093), (2, 0.0182)])
    )  # fmt: skip
    workers = tuple(
        MeasuredWorker(pid=100 + i, stage=stage, replica=r, pus=(2 * i, 2 * i + 1), threads=2, items=50, load_s=0.009)
        for i, (stage, r) in enumerate([(0, 0), (1, 0), (1, 1)])
    )  # fmt: skip
    return Measurement(
        model="MobileNetV2 1.0 224", items=100, items_compared=100, warmup=9, window=5, throughput_per_s=104.2,
        predicted_throughput_per_s=110.0, latency_s=Latency(p50=0.031, p90=0.034, p99=0.041), predicted_latency_s=0.027,
        outputs_identical=True, outputs_within_tolerance=True, max_abs_difference=0.0, max_relative_difference=0.0,
        tolerance=0.0, compared_with="the unsplit model", backend="eager", torch="2.13", others_busy=0.02,
        stages=stages, workers=workers,
        notes=("the load average was 3.1 before the run: what is measured is not to be relied on",),
    )  # fmt: skip


def simulated(width: int) -> list[str]:
    spans: list[Span] = []
    found = simulate(pipeline(), items=40, watch=spans.append)
    timeline = Timeline.of(pipeline(), spans, "simulated")
    return [*simulated_text(found), "", *gantt_text(timeline, width)]


SCENES = {
    "plan": lambda width: plan_text(pipeline(), width),
    "simulate": simulated,
    "bench": lambda width: bench_text(comparison()),
    "run": lambda width: [*answer(measurement()), "", *stages_text(measurement())],
    "topo": lambda width: machine_text(load_machine("sg2042"), {core: core // 4 for core in range(40)}, width),
    "compare": lambda width: scenes.compared(pipeline(), free()),
    "compare_run": lambda width: scenes.compared(pipeline(), scenes.measured(pipeline(), measurement(), 1.05)),
    "compare_bench": lambda width: scenes.compared(comparison(), scenes.slower(comparison())),
    "problem": lambda width: scenes.problem(),
    "check": lambda width: scenes.checked(),
    "profile": lambda width: profile_text(scenes.profiled()),
    "study": lambda width: scenes.study(),
    "study_host": lambda width: scenes.host_study(),
    "study_map": lambda width: where_text(map_of(2, 5)),
}


def without_addresses(lines: list[str]) -> list[str]:
    """URLs are not broken: they could not be followed any more."""
    return [line for line in lines if "://" not in line]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scene", SCENES)
def test_it_reads_as_it_did_and_keeps_to_the_width(scene: str, width: int) -> None:
    lines = plain(fitted(SCENES[scene](width), width))
    assert max(map(len, without_addresses(lines))) <= width
    file = GOLDEN / f"{scene}.{width}.txt"
    text = "\n".join(lines) + "\n"
    if os.environ.get("MAPPER_WRITE_GOLDEN"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    assert text == file.read_text()


@pytest.mark.parametrize("width", [40, *WIDTHS])
def test_all_figures_are_there_in_every_width(width: int) -> None:
    """What a narrow terminal has no room for in a row stands below it."""
    for scene, made in SCENES.items():
        wide, narrow = (" ".join("\n".join(plain(fitted(made(120), w))).split()) for w in (200, width))
        if scene not in ("simulate", "topo", "bench", "check"):  # drawn, cut or without figures
            figures = re.findall(r"\d[\d.]* (?:s|ms|µs|ns|MB|kB|B)\b", wide)
            assert figures and not [figure for figure in figures if figure not in narrow]


def on_a_terminal(*words: str, folder: Path, columns: int, **environment: str) -> str:
    """What `mapper WORDS` writes to a terminal of so many columns."""
    main, other = pty.openpty()
    variables = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS")}
    variables |= {"TERM": "xterm-256color", "COLORTERM": "truecolor", "COLUMNS": str(columns)} | environment
    with subprocess.Popen(
        [sys.executable, "-m", "mapper", *words], stdout=other, stdin=other, cwd=folder, env=variables
    ):
        os.close(other)
        written = all_of(main)
    return written.decode().replace("\r\n", "\n")


ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


def test_colours_are_for_terminals_and_say_nothing_that_the_text_does_not(tmp_path: Path) -> None:
    save_plan(pipeline(), tmp_path / "plan.json")
    words = ("topo", "show", "--plan", "plan.json")
    coloured = on_a_terminal(*words, folder=tmp_path, columns=80)
    without = on_a_terminal(*words, folder=tmp_path, columns=80, NO_COLOR="1")
    dumb = on_a_terminal(*words, folder=tmp_path, columns=80, TERM="dumb")
    piped = subprocess.run([sys.executable, "-m", "mapper", *words], capture_output=True, text=True, cwd=tmp_path,
                           env=os.environ | {"COLUMNS": "80"}, check=True).stdout  # fmt: skip
    assert "\x1b[" in coloured and re.search(r"\x1b\[[0-9;]*48;2;", coloured), "the ground of a stage"
    assert not re.search(r"\x1b\[[0-9;]*(38|48);", without), "NO_COLOR: bold and pale at most"
    assert "\x1b" not in dumb and "\x1b" not in piped
    assert ESCAPES.sub("", coloured) == ESCAPES.sub("", without) == dumb
    assert [line.rstrip() for line in dumb.splitlines()] == [line.rstrip() for line in piped.splitlines()]


def test_a_simulation_is_coloured_by_stage(tmp_path: Path) -> None:
    save_plan(pipeline(), tmp_path / "plan.json")
    coloured = on_a_terminal("simulate", "plan.json", "--items", "40", "--gantt", folder=tmp_path, columns=100)
    grounds = set(re.findall(r"48;2;\d+;\d+;\d+", coloured))
    assert len(grounds) == 3
    assert max(len(ESCAPES.sub("", line)) for line in coloured.splitlines()) <= 100
