"""Malformed graph files: each gives its own message with the line or JSON pointer, and exit code 3."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from mapper.errors import BadInput
from mapper.graph.importers.load import load_graph
from mapper.jsonio import dumps, plain
from tests.cli.commands import mapper
from tests.failures.changes import Change, put
from tests.graph.files import DNN, PIPEDREAM


def edge(source: Any, target: Any, cost: Any = 0.0359) -> Change:
    return lambda d: d["edges"].append({"sourceId": source, "destId": target, "cost": cost, "size": 1.0})


JSON_CASES: dict[str, tuple[Change, str, str]] = {
    "cycle": (edge(4, 7), "", "the graph has a cycle: 7 → 3 → 4 → 7"),
    "unknown producer": (edge(99, 3), "/edges/4/sourceId", "there is no op 99"),
    "unknown reader": (edge(7, 99), "/edges/4/destId", "there is no op 99"),
    "duplicate op": (put(3, "nodes", 2, "id"), "/nodes/2", "op 3 is there twice, first at /nodes/1"),
    "negative time": (put(-1.0, "nodes", 1, "fpgaLatency"), "/nodes/1/fpgaLatency", "greater than or equal to 0"),
    "negative cost": (put(-1.0, "edges", 1, "cost"), "/edges/1/cost", "greater than or equal to 0"),
    "empty graph": (lambda d: d.update(nodes=[], edges=[]), "", "an empty graph"),
    "parallel edges that differ": (edge(7, 3, 9.0), "/edges/4/cost", "7 → 3 is there twice with another cost: 9"),
    "costs of one producer that differ": (edge(7, 4, 9.0), "/edges/4/cost", "leaves an op with another cost"),
    "loop": (edge(3, 3, 5.820766091346741e-08), "/edges/4", "op 3 reads its own output"),
    "text for a number": (put("1.0", "nodes", 0, "fpgaLatency"), "/nodes/0/fpgaLatency", "valid number"),
    "text for an id": (put("7", "nodes", 0, "id"), "/nodes/0/id", "valid integer"),
    "object for a list": (put({}, "edges"), "/edges", "valid"),
    "no time": (lambda d: d["nodes"][1].pop("fpgaLatency"), "/nodes/1/fpgaLatency", "Field required"),
    "no edges field": (lambda d: d.pop("edges"), "/edges", "Field required"),
    "no accelerator": (put(0, "nodes", 1, "supportedOnFpga"), "/nodes/1/supportedOnFpga", "cannot run"),
    "backward pass": (put(1, "nodes", 1, "isBackwardNode"), "/nodes/1/isBackwardNode", "backward pass"),
    "no graph": (lambda d: d.pop("nodes"), "", "no `schema`, no `nodes`"),
}


@pytest.mark.parametrize("case", JSON_CASES)
def test_dnn_partitioning_says_what_is_wrong_and_where(case: str, tmp_path: Path) -> None:
    change, place, message = JSON_CASES[case]
    document = copy.deepcopy(DNN)
    change(document)
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(document))
    with pytest.raises(BadInput) as error:
        load_graph(path)
    assert message in str(error.value) and error.value.place == place
    assert str(path) in str(error.value)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_not_finite_are_named_with_their_line(value: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(DNN, indent=1).replace("0.696", value))
    with pytest.raises(BadInput, match=f"{value} is no cost") as error:
        load_graph(path)
    line = json.dumps(DNN, indent=1).splitlines().index('   "fpgaLatency": 0.696,') + 1
    assert error.value.place.startswith(f"line {line}, column ")


TEXT_CASES: dict[str, tuple[str, str, str, str]] = {
    "cycle": ("\tnode1 -- node3", "\tnode3 -- node1", "", "a cycle: node2 → node3 → node1 → node2"),
    "unknown producer": ("\tnode1 -- node3", "\tnode9 -- node3", "line 6", "there is no op 'node9'"),
    "unknown reader": ("\tnode1 -- node3", "\tnode1 -- node9", "line 6", "there is no op 'node9'"),
    "duplicate op": ("node3 -- Add", "node2 -- Add", "line 3", "op node2 is there twice, first on line 1"),
    "NaN": ("=22.806", "=nan", "line 2", "forward_compute_time is nan: it must be finite and not negative"),
    "negative": ("=22.806", "=-1.0", "line 2", "forward_compute_time is -1.0: it must be finite and not negative"),
    "infinite": ("=1600.000", "=inf", "line 1", "activation_size is inf: it must be finite and not negative"),
    "text for a number": ("=22.806", "=fast", "line 2", "'fast', a number was expected"),
    "unknown value": ("backward_compute_time", "sideways", "line 1", "'sideways=13.000' was not expected"),
    "missing value": (", parameter_size=6912.000", "", "line 1", "parameter_size is missing: is the line cut off?"),
    "no description": ("Input -- ", "", "line 2", "is no op"),
    "edge of three": ("\tnode1 -- node3", "\tnode1 -- node3 -- node2", "line 6", "is no edge"),
    "edge without a tab": ("\tnode1 -- node3", "node1 -- node3", "line 6", "is no op"),
    "loop": ("\tnode1 -- node3", "\tnode3 -- node3", "line 6", "op node3 reads its own output"),
}


@pytest.mark.parametrize("case", TEXT_CASES)
def test_pipedream_says_what_is_wrong_and_where(case: str, tmp_path: Path) -> None:
    old, new, place, message = TEXT_CASES[case]
    assert old in PIPEDREAM
    path = tmp_path / "graph.txt"
    path.write_text(PIPEDREAM.replace(old, new, 1))
    with pytest.raises(BadInput) as error:
        load_graph(path)
    assert message in str(error.value) and error.value.place == place


@pytest.mark.parametrize("part", [0.2, 0.45, 0.6, 0.9])
def test_a_file_that_was_cut_off(part: float, tmp_path: Path) -> None:
    text = json.dumps(DNN, indent=1)
    path = tmp_path / "cut.json"
    path.write_text(text[: int(len(text) * part)])
    with pytest.raises(BadInput, match="not JSON") as error:
        load_graph(path)
    assert error.value.place.startswith("line ")
    path = tmp_path / "cut.txt"
    path.write_text(PIPEDREAM[: int(PIPEDREAM.index("\t") * part)])
    with pytest.raises(BadInput):
        load_graph(path)


def test_ops_without_any_edge_were_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "graph.txt"
    path.write_text(PIPEDREAM[: PIPEDREAM.index("\t")])
    with pytest.raises(BadInput, match="3 ops and no edge: is the file cut off"):
        load_graph(path)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("empty.json", "", "the file is empty"),
        ("empty.txt", " \n", "the file is empty"),
        ("graph.onnx", "some words", "unknown graph format"),
        ("list.json", "[1]", "no graph that is known"),
        ("other.json", '{"schema": "mapper-plan/1"}', "'mapper-graph/1' was expected"),
        ("later.json", '{"schema": "mapper-graph/2"}', "'mapper-graph/1' was expected"),
    ],
)
def test_other_files_are_told_what_is_known(name: str, text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(BadInput, match=message):
        load_graph(tmp_path / name)


def test_unknown_formats_name_the_known_ones(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"\xff\xfe\x00")
    for name in ("a.bin",):
        with pytest.raises(BadInput, match=r"PipeDream graph\.txt"):
            load_graph(tmp_path / name)
    with pytest.raises(BadInput, match="no such file"):
        load_graph(tmp_path / "absent.json")


OWN_CASES: dict[str, tuple[Change, str, str]] = {
    "duplicate op": (put("7", "ops", 1, "name"), "/ops", "two ops have one name, '7'"),
    "duplicate tensor": (put("7", "tensors", 1, "name"), "/tensors", "two tensors have one name, '7'"),
    "unknown op": (put(["x"], "tensors", 0, "readers"), "/tensors/0", "unknown op 'x'"),
    "cycle": (put(["7"], "tensors", 2, "readers"), "/tensors/2", "without cycles"),
    "negative time": (put(-1, "ops", 0, "proc_s"), "/ops/0/proc_s", "greater than or equal to 0"),
    "some times only": (lambda d: d["ops"][0].pop("proc_s"), "/ops", "some ops have proc_s and some have not"),
    "empty": (put([], "ops"), "/ops", "at least 1 item"),
    "unknown field": (put(1, "ops", 0, "speed"), "/ops/0/speed", "unknown field"),
}


@pytest.mark.parametrize("case", OWN_CASES)
def test_our_own_format_says_what_is_wrong_and_where(case: str, tmp_path: Path) -> None:
    change, place, message = OWN_CASES[case]
    good = tmp_path / "good.json"
    good.write_text(json.dumps(DNN))
    document = plain(load_graph(good))
    change(document)
    path = tmp_path / "bad.json"
    path.write_text(dumps(document))
    with pytest.raises(BadInput) as error:
        load_graph(path)
    assert message in str(error.value) and error.value.place == place


def test_the_command_ends_with_code_3_and_one_message(tmp_path: Path) -> None:
    path = tmp_path / "graph.txt"
    path.write_text(PIPEDREAM.replace("\tnode1 -- node3", "\tnode3 -- node1"))
    result = mapper("plan", "--graph", path, "--topo", "uniform:2")
    assert result.code == 3 and result.out == ""
    assert "cycle: node2 → node3 → node1 → node2" in result.err and "Traceback" not in result.err
