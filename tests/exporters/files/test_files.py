"""The targets for people's own: JSON, CSV and DOT of small plans, letter by letter where that is the point."""

from __future__ import annotations

import json
from pathlib import Path

from mapper.exporters.export import export
from mapper.exporters.workers import hosts_of, workers_of
from tests.exporters.plans import nodes_of, pinned

TWO_NODES = nodes_of([[[0, 1], [2, 3]], [[8, 9], [4, 5]]])


def test_workers_have_the_numbers_of_the_system() -> None:
    plan = pinned([2, 1], [2, 4], TWO_NODES)
    assert [(w.rank, w.stage, w.replica, w.pus, w.nodes, w.threads) for w in workers_of(plan)] == [
        (0, 0, 0, (0, 1), (0,), 2), (1, 0, 1, (2, 3), (0,), 2), (2, 1, 0, (8, 9, 4, 5), (1,), 4),
    ]  # fmt: skip


def test_nodes_are_those_of_the_host_of_a_worker() -> None:
    machine = nodes_of([[[0, 1]], [[0, 1]], [[2, 3]]], hosts=[0, 1, 1])
    plan = pinned([3], [2], machine)
    spread = plan.model_dump(mode="json", by_alias=True)
    for replica in spread["stages"][0]["replicas"]:
        replica["weights"] = {"policy": "interleave", "nodes": [0, 1, 2]}
    plan = type(plan).model_validate(spread)
    assert [(w.host, w.pus, w.nodes) for w in workers_of(plan)] == [
        (0, (0, 1), (0,)), (1, (0, 1), (0, 1)), (1, (2, 3), (0, 1)),
    ]  # fmt: skip
    assert {host: [w.rank for w in workers] for host, workers in hosts_of(plan).items()} == {0: [0], 1: [1, 2]}


def test_csv(tmp_path: Path) -> None:
    path = export(pinned([2, 1], [2, 1], TWO_NODES), "csv", tmp_path / "plan.csv")
    head, *rows = path.read_bytes().decode().split("\r\n")
    assert head == "row,stage,op,replica,host,threads,cores,pus,weights"
    assert rows[0] == "op,0,linear,,,,,,"
    assert rows[-4:] == ["worker,0,,0,0,2,0 1,0 1,own", "worker,0,,1,0,2,2 3,2 3,own", "worker,1,,0,0,1,4,8,own", ""]


def test_json(tmp_path: Path) -> None:
    plan = pinned([2, 1], [2, 1], TWO_NODES)
    document = json.loads(export(plan, "json", tmp_path / "plan.json").read_text())
    assert document["schema"] == "mapper-mapping/1"
    assert [stage["ops"] for stage in document["stages"]] == [list(stage.ops) for stage in plan.stages]
    assert document["workers"][1] == {
        "rank": 1, "stage": 0, "replica": 1, "host": 0, "cores": [2, 3], "pus": [2, 3], "nodes": [0], "threads": 2,
    }  # fmt: skip
    assert [(edge["from"], edge["to"]) for edge in document["edges"]] == [(0, 1), ("feeder", 0), (1, "feeder")]
    assert (document["period_s"], document["window"]) == (plan.predicted.period_s, plan.predicted.window)


def test_dot(tmp_path: Path) -> None:
    edges = [
        {"from": a, "to": b, "tensors": ["x"], "bytes": 2000, "slots": 2} for a, b in (("feeder", 0), (0, "feeder"))
    ]
    text = export(pinned([2], [2], TWO_NODES, edges=edges), "dot", tmp_path / "plan.dot").read_text()
    assert 'feeder -> stage0 [label="2.00 kB"];' in text and 'stage0 -> feeder [label="2.00 kB"];' in text
    assert "8 ops: linear … relu_3\\n" in text and "cores 0-1, 2 threads\\ncores 2-3, 2 threads" in text
