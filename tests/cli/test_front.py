"""`mapper plan --objective pareto`: what it prints and writes, and what it refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mapper.jsonio import dumps, plain
from mapper.plans.file import load_plan
from mapper.plans.front import load_front
from tests.cli.commands import mapper
from tests.graph.files import FOLDER
from tests.planning.test_machines import block_chain

SMALL = "numa:2 group:2 core:2"


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> tuple[object, ...]:
    """`plan --objective pareto` with a graph of four products on a small machine."""
    path = tmp_path_factory.mktemp("graph") / "chain.json"
    path.write_text(dumps(plain(block_chain(4))))
    return ("plan", "--graph", path, "--topo", SMALL, "--objective", "pareto")


def test_the_table(work: tuple[object, ...]) -> None:
    result = mapper(*work, "--max-stages", 2)
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    assert lines[0] == "chain, on numa:2 group:2 core:2 (8 cores)"
    assert lines[2].startswith("Trades of throughput, latency and cores with ≤ 2 stages: ")
    assert lines[3] == (
        "Proved: for every plan of this cost model there is one here with at most 10 % more period and latency, "
        "in no more cores"
    )
    assert lines[5].split() == ["items/s", "latency", "cores", "plan", "instead", "of", "--objective", "pareto"]
    assert "the whole model, 1 thread " in lines[-1] and lines[-1].endswith("--max-cores 1")
    rates = [float(line.split()[0]) for line in lines[6:]]
    assert rates == sorted(rates, reverse=True) and len(rates) == int(lines[2].split(": ")[1].split()[0])


def test_files_and_a_folder(work: tuple[object, ...], tmp_path: Path) -> None:
    told = json.loads(mapper(*work, "--json", "--precision", "20%", "-o", tmp_path / "front.json").out)
    assert told == json.loads((tmp_path / "front.json").read_text())
    assert (told["schema"], told["request"]["precision"]) == ("mapper-front/1", 0.2)
    assert mapper(*work, "--precision", "20%", "-o", tmp_path / "front.csv").code == 0
    assert len((tmp_path / "front.csv").read_text().splitlines()) == len(told["points"]) + 1
    folder = tmp_path / "front"
    assert mapper(*work, "--precision", "20%", "-o", folder).out.endswith(f"Written to {folder}\n")
    front = load_front(folder / "front.json")
    for i, point in enumerate(front.points, 1):
        assert load_plan(folder / f"plan.{i}.json").predicted.period_s == point.period_s
        assert mapper("check", folder / f"plan.{i}.json", "--graph", work[2]).code == 0
    assert len(list(folder.iterdir())) == len(front.points) + 1


def test_the_same_bytes_whatever_the_hashes(work: tuple[object, ...]) -> None:
    def printed(seed: str) -> bytes:
        return subprocess.run(
            [sys.executable, "-m", "mapper", *map(str, work), "--json"],
            env={**os.environ, "PYTHONHASHSEED": seed}, stdout=subprocess.PIPE, check=True,
        ).stdout  # fmt: skip

    assert printed("0") == printed("7")


@pytest.mark.skipif(not FOLDER.is_dir(), reason="the published graphs are not here")
def test_a_graph_with_times() -> None:
    result = mapper(
        "plan", "--graph", FOLDER / "pipedream" / "vgg16" / "graph.txt", "--topo", "uniform:4", "--objective", "pareto"
    )
    assert (result.code, result.err) == (0, "")
    assert "4 stages: 1 × 1, 1 × 1, 1 × 1, 1 × 1 threads" in result.out


def test_limits_that_nothing_keeps(work: tuple[object, ...]) -> None:
    result = mapper(*work, "--max-latency", "1ns", "--max-cores", 3)
    assert (result.code, result.out) == (4, "")
    assert "--max-latency" in result.err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--against", "all"), "--against does not go with --objective pareto"),
        (("--planner", "native", "--lengths", "1,2"), "--lengths, --planner do not go with --objective pareto"),
        (("--problem", "F"), "--max-latency, --max-cores"),
        (("--batch", "auto"), "takes no --batch"),
        (("--precision", "0"), "a precision of 0"),
        (("--precision", "much"), "'much' is not a fraction"),
        (("-o", "front.txt"), "written as .json or .csv"),
    ],
)
def test_what_does_not_go_with_it(work: tuple[object, ...], options: tuple[str, ...], told: str) -> None:
    result = mapper(*work, *options)
    assert (result.code, result.out) == (2, "")
    assert told in result.err


def test_a_precision_without_a_front(work: tuple[object, ...]) -> None:
    result = mapper(*work[:-2], "--precision", "5%")
    assert (result.code, result.out) == (2, "")
    assert "--precision is that of a front" in result.err
