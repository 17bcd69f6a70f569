"""`mapper model show` and `mapper model trace` on graph files and on a model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mapper.graph.importers.load import load_graph
from tests.cli.commands import TINY, mapper
from tests.graph.files import DNN, PIPEDREAM


def test_show_says_what_the_shape_of_a_graph_file_is(tmp_path: Path) -> None:
    path = tmp_path / "tiny.json"
    path.write_text(json.dumps(DNN))
    text = mapper("model", "show", path).out
    assert "tiny: 4 ops, 14.4 ms an item" in text and "FLOP" not in text
    assert "Critical path: 3 of 4 ops, 86.1% of the work" in text and "factor of 1.16 at most" in text
    assert "Classes of ops that must share a stage: 1, with 2 ops" in text
    shown = json.loads(mapper("model", "show", path, "--json").out)
    assert shown["live_bytes"] == [77070336, 77070337, 11]
    assert shown["critical_path"]["ops"] == ["7", "3", "4"] and shown["skip_edges"] == []


def test_show_of_a_model_counts_flop(tmp_path: Path) -> None:
    text = mapper("model", "show", TINY).out
    assert "FLOP an item" in text and "cheapest cuts" in text and "Critical path" in text


@pytest.mark.parametrize("name", ["g.json", "g.txt", "g.dot", "g.graphml"])
def test_trace_writes_by_the_files_name(name: str, tmp_path: Path) -> None:
    path = tmp_path / "graph.txt"
    path.write_text(PIPEDREAM)
    result = mapper("model", "trace", path, "-o", tmp_path / name)
    assert result.code == 0 and "3 ops, 2 tensors written" in result.out
    if name in ("g.json", "g.txt"):
        assert load_graph(tmp_path / name).ops == load_graph(path).ops


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("-o", "g.pdf"), "the suffix '.pdf' names no format"),
        (("-o", "g.json", "--format", "onnx"), "unknown format 'onnx'"),
        (("-o", "g.json", "--topo", "sg2042"), "brings times of its own"),
        (("-o", "g.json", "--batch", "2"), "--batch is for models"),
    ],
)
def test_trace_refuses_what_makes_no_sense(options: tuple[str, ...], message: str, tmp_path: Path) -> None:
    path = tmp_path / "graph.txt"
    path.write_text(PIPEDREAM)
    result = mapper("model", "trace", path, *options)
    assert result.code == 2 and message in result.err


def test_bandwidth_is_for_graphs_with_times(tmp_path: Path) -> None:
    result = mapper("model", "trace", TINY, "-o", tmp_path / "g.json", "--bandwidth", "1GB/s")
    assert result.code == 2 and "--bandwidth is for graphs with times" in result.err
