"""Graphs from files: what each field becomes, and that files come back as they were."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings

from mapper.cost.imported import given_costs, priced
from mapper.errors import UsageError
from mapper.graph.exporters import dnn_partitioning, export_text, format_of, milliseconds, pipedream
from mapper.graph.importers.load import is_graph_file, load_graph
from mapper.graph.model import Graph
from mapper.jsonio import dumps, plain
from tests.graph.files import DNN, FOLDER, OPTIMA, PIPEDREAM, costed_graphs


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_dnn_partitioning_fields(tmp_path: Path) -> None:
    graph = load_graph(written(tmp_path, "tiny.json", json.dumps(DNN)))
    assert graph.name == "tiny" and graph.costed
    assert [op.name for op in graph.ops] == ["7", "3", "5", "4"], "an order in which they can run, near the file's"
    first = graph.ops[0]
    assert (first.proc_s, first.module, first.together, first.memory_bytes) == (0.000696, "in", "1", 0.125)
    assert first.given == {"supportedOnFpga": 1, "isBackwardNode": 0, "cpuLatency": 3.5}
    tensor = graph.tensors[0]
    assert (tensor.producer, tensor.readers, tensor.bytes, tensor.comm_s) == ("7", ("3", "5"), 77070336, 0.0359 / 1000)
    assert graph.tensors[1].bytes == 1 and graph.tensors[1].given == {"size": 0.125}
    assert graph.given == {"maxSizePerFPGA": 1e9, "maxFPGAs": 6, "maxCPUs": 1}


def test_pipedream_fields(tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    folder.mkdir()
    graph = load_graph(written(folder, "graph.txt", PIPEDREAM))
    assert graph.name == "tiny", "files called graph.txt are known by their folder"
    assert [op.name for op in graph.ops] == ["node1", "node2", "node3"]
    source, product, total = graph.ops
    assert (source.proc_s, source.write_bytes, source.given) == (0.022806, 825, {"activation_size": 824.5})
    assert (product.backward_s, product.touched_bytes) == (0.013, 6912)
    assert total.target == "Add(a -- b)" and total.given == {"stage_id": 1}
    assert [(t.producer, t.readers, t.bytes, t.comm_s) for t in graph.tensors] == [
        ("node1", ("node2", "node3"), 825, None),
        ("node2", ("node3",), 1600, None),
    ]


def test_bandwidth_prices_bytes_and_leaves_given_costs_alone(tmp_path: Path) -> None:
    bytes_only = load_graph(written(tmp_path, "a.txt", PIPEDREAM))
    assert given_costs(bytes_only, 1e6).comm_s == {"node1": 825e-6, "node2": 1600e-6}
    assert given_costs(bytes_only, 1e6).options == {"bandwidth_bytes_per_s": "1000000.0"}
    with pytest.raises(UsageError, match="--bandwidth"):
        given_costs(bytes_only)
    with_costs = load_graph(written(tmp_path, "b.json", json.dumps(DNN)))
    assert given_costs(with_costs, 1.0).comm_s == given_costs(with_costs).comm_s
    assert given_costs(with_costs, 1.0).options == {}


def test_files_come_back_as_they_were(tmp_path: Path) -> None:
    once = dnn_partitioning(load_graph(written(tmp_path, "a.json", json.dumps(DNN))))
    assert json.loads(once) == DNN, "here the order of the file is one in which the ops can run"
    again = pipedream(load_graph(written(tmp_path, "a.txt", PIPEDREAM)))
    assert pipedream(load_graph(written(tmp_path, "a.txt", again))) == again


@pytest.mark.skipif(not OPTIMA, reason="the published workloads are not beside this checkout")
@pytest.mark.parametrize("name", sorted(OPTIMA))
def test_published_files_re_export_to_an_equal_graph(name: str, tmp_path: Path) -> None:
    path = FOLDER / name
    folder = tmp_path / path.parent.name
    folder.mkdir()
    graph = load_graph(path)
    assert len(graph.ops) == OPTIMA[name]["ops"]
    assert sum(len(tensor.readers) for tensor in graph.tensors) == OPTIMA[name]["edges"]
    text = export_text(graph, OPTIMA[name]["format"])
    assert load_graph(written(folder, path.name, text)) == graph
    if path.suffix == ".json":
        ours, theirs = json.loads(text), json.loads(path.read_text())
        for key, ids in (("nodes", ("id",)), ("edges", ("sourceId", "destId"))):
            by_id = [{tuple(x[i] for i in ids): x for x in document[key]} for document in (ours, theirs)]
            assert by_id[0] == by_id[1], "every field, at every op and edge"
    else:
        assert sorted(text.splitlines()) == sorted(path.read_text().splitlines()), "the same lines in another order"


@settings(deadline=None)
@given(costed_graphs())
def test_any_graph_with_times_comes_back(tmp_path_factory: pytest.TempPathFactory, graph: Graph) -> None:
    folder = tmp_path_factory.mktemp("graphs")
    assert load_graph(written(folder, "random.json", dumps(plain(graph)))) == graph
    assert graph.sha256 == load_graph(folder / "random.json").sha256
    back = load_graph(written(folder, "random.json", dnn_partitioning(graph)))
    assert [(op.name, op.proc_s, op.together) for op in back.ops] == [
        (op.name, op.proc_s, op.together) for op in graph.ops
    ]
    assert [(t.producer, t.readers, t.comm_s) for t in back.tensors] == [
        (t.producer, t.readers, t.comm_s) for t in graph.tensors
    ]


def test_milliseconds_are_the_shortest_that_read_back() -> None:
    for value in (0.0, 2.211, 11.68412990625, 7.2784423828125, 1e-7, 5.820766091346741e-08, 1 / 3):
        assert milliseconds(value / 1000) / 1000 == value / 1000
    assert milliseconds(2.211 / 1000) == 2.211


def test_formats_by_name_or_by_option() -> None:
    assert format_of(".json", None) == "mapper" and format_of(".json", "dnn-partitioning") == "dnn-partitioning"
    for suffix, wanted in ((".pdf", None), (".json", "onnx")):
        with pytest.raises(UsageError, match="dnn-partitioning"):
            format_of(suffix, wanted)


def test_foreign_formats_need_times(tmp_path: Path) -> None:
    graph = load_graph(written(tmp_path, "a.txt", PIPEDREAM))
    with pytest.raises(UsageError, match="--bandwidth"):
        dnn_partitioning(graph)
    costs = {e["sourceId"]: e["cost"] for e in json.loads(dnn_partitioning(priced(graph, 1e6)))["edges"]}
    assert costs == {0: 0.825, 1: 1.6}
    bare = graph.model_copy(update={"ops": tuple(op.model_copy(update={"proc_s": None}) for op in graph.ops)})
    with pytest.raises(UsageError, match="--topo"):
        export_text(bare, "pipedream")


def test_dot_and_graphml_hold_what_names_hold(tmp_path: Path) -> None:
    import networkx as nx

    text = PIPEDREAM.replace("Input", 'In"put<&>')
    graph = load_graph(written(tmp_path, "a.txt", text))
    assert '\\"put<&>' in export_text(graph, "dot")
    back = nx.read_graphml(written(tmp_path, "a.graphml", export_text(graph, "graphml")))
    assert set(back.edges) == {("node1", "node2"), ("node1", "node3"), ("node2", "node3")}
    assert back.nodes["node1"]["target"] == 'In"put<&>' and back.edges["node2", "node3"]["bytes"] == 1600


def test_a_graph_file_is_told_from_a_model(tmp_path: Path) -> None:
    path = written(tmp_path, "a.txt", PIPEDREAM)
    assert is_graph_file(str(path))
    assert not is_graph_file("vit") and not is_graph_file(str(tmp_path / "absent.json"))
