"""What is explained is what is in the table."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mapper.cost.configurations import configurations
from mapper.cost.explain import explain
from mapper.cost.residency import DRAM, GROUP, PACKAGE
from mapper.cost.roofline import roofline
from mapper.errors import UsageError
from mapper.graph.model import Graph, Op
from mapper.machine.figures import Figure
from mapper.machine.files import load_machine
from mapper.machine.model import Machine
from mapper.machine.parts import Rate
from tests.cli.commands import TINY, mapper
from tests.planning.graphs import graphs, machines

SG2042 = load_machine("sg2042")
RATES = {
    "matmul": Rate(start_s=Figure(value=3e-6), unit_s=Figure(value=1e-11), speedup={2: Figure(value=1.9)}),
    "conv": Rate(start_s=Figure(value=9e-6), unit_s=Figure(value=2e-11), weight_byte_s=Figure(value=1e-10)),
    "none": Rate(start_s=Figure(value=2e-6), unit_s=Figure(value=0)),
}


def rated(machine: Machine) -> Machine:
    return machine.model_copy(update={"compute": machine.compute.model_copy(update={"rates": RATES})})


@settings(max_examples=60, deadline=None)
@given(graphs(most_ops=4), machines(), st.booleans(), st.sampled_from(["onednn", "native-aten"]))
def test_terms_sum_up_to_the_table_to_the_bit(graph: Graph, machine: Machine, measured: bool, path: str) -> None:
    machine = rated(machine) if measured else machine
    table = roofline(graph, machine, path=path)  # type: ignore[arg-type]
    for c, config in enumerate(configurations(machine)):
        for v, op in enumerate(graph.ops):
            found = explain(graph, machine, op.name, config, path)  # type: ignore[arg-type]
            terms = found.terms
            for rho in (GROUP, PACKAGE, DRAM):
                assert terms.total_s(rho) == table.seconds[v, c, rho]
                assert terms.compute_s(rho) == table.compute_s[v, c, rho]
                told = found.as_json()["residencies"][rho]
                assert terms.busy * max(terms.work_s, told["weights_s"] + terms.activations_s) == told["compute_s"]
            assert terms.dispatch_s == table.dispatch_s[v]
            assert terms.fork_join_s == table.fork_join_s[v, c]


def test_a_measured_rate_says_start_work_and_gain() -> None:
    """1e9 FLOP · 1e-11 on one core, 1.9 times faster on two; 3 µs to begin and 2 µs for the view that runs for it."""
    graph = Graph(name="g", ops=(Op(name="a", kind="matmul", flop=1e9, elements=10, nodes=2),), tensors=())
    machine = rated(SG2042)
    one, two = (explain(graph, machine, "a", config).terms for config in configurations(machine)[:2])
    assert one.dispatch_s == pytest.approx(3e-6 + 2e-6)
    assert one.work_s == pytest.approx(1e-2)
    assert two.work_s == pytest.approx(1e-2 / 1.9)
    assert (one.rate, two.rate) == ("matmul", "matmul")


def test_weights_that_are_laid_out_anew_cost_by_the_byte() -> None:
    weights = [{"name": "w", "bytes": 1000, "touched_bytes": 1000}]
    graph = Graph.model_validate({"name": "g", "ops": [{"name": "a", "kind": "conv", "flop": 1e6, "weights": weights}],
                                  "tensors": []})  # fmt: skip
    terms = explain(graph, rated(SG2042), "a", configurations(SG2042)[0]).terms
    assert terms.work_s == pytest.approx(1e6 * 2e-11 + 1000 * 1e-10)


def test_weights_in_dram_are_read_no_faster_than_measured() -> None:
    """1e-9 s a byte on one core; two cores of the SG2042 draw twice what one does."""
    rate = RATES["matmul"].model_copy(update={"dram_byte_s": Figure(value=1e-9)})
    compute = SG2042.compute.model_copy(update={"rates": {"matmul": rate}})
    weights = [{"name": "w", "bytes": 10**6, "touched_bytes": 10**6}]
    op = {"name": "a", "kind": "matmul", "flop": 1e6, "weights": weights}
    graph = Graph.model_validate({"name": "g", "ops": [op], "tensors": []})
    machine = SG2042.model_copy(update={"compute": compute})
    one, two = (explain(graph, machine, "a", config).terms for config in configurations(SG2042)[:2])
    assert one.weights_s[DRAM] == pytest.approx(1e-3)
    assert two.weights_s[DRAM] == pytest.approx(0.5e-3)
    assert one.weights_s[PACKAGE] < 1e-3


def test_alone_a_replica_has_all_caches_and_is_not_slowed_down() -> None:
    graph = Graph(name="g", ops=(Op(name="a", kind="matmul", flop=1e9, read_bytes=10**6, elements=10),), tensors=())
    shared, alone = roofline(graph, SG2042), roofline(graph, SG2042, alone=True)
    assert shared.compute_s[0, 0, GROUP] == pytest.approx(1.25 * alone.compute_s[0, 0, GROUP])


def test_unknown_ops_and_graphs_with_times_are_refused() -> None:
    graph = Graph(name="g", ops=(Op(name="conv_1", kind="conv", flop=1),), tensors=())
    config = configurations(SG2042)[0]
    with pytest.raises(UsageError, match="g has no op 'conv'") as raised:
        explain(graph, SG2042, "conv", config)
    assert "conv_1" in raised.value.advice
    costed = Graph(name="g", ops=(Op(name="a", kind="other", proc_s=1),), tensors=())
    with pytest.raises(UsageError, match="brings its own times"):
        explain(costed, SG2042, "a", config)


def test_the_command_shows_the_costliest_and_explains_one() -> None:
    shown = mapper("model", "cost", TINY, "--topo", "sg2042", "--json")
    assert shown.code == 0, shown.err
    document = json.loads(shown.out)
    assert document["configurations"] == ["1x1", "1x4"]
    assert document["path"] == "native-aten"
    op = max(document["ops"], key=lambda row: row["seconds"][1][2])
    told = mapper("model", "cost", TINY, "--topo", "sg2042", "--op", op["name"], "--json")
    assert [r["total_s"] for r in json.loads(told.out)["residencies"]] == op["seconds"][1]
    text = mapper("model", "cost", TINY, "--topo", "sg2042")
    assert text.code == 0 and "costliest ops" in text.out
    told = mapper("model", "cost", TINY, "--topo", "sg2042", "--op", op["name"], "--configuration", "2x4")
    assert told.code == 0 and "native-aten" in told.out and "of 8 cores" in told.out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--op", "nothing"), "has no op 'nothing'"),
        (("--path", "magic"), "there is no path 'magic'"),
        (("--configuration", "7x7"), "'7x7' is no configuration"),
    ],
)
def test_what_the_command_refuses(options: tuple[str, ...], words: str) -> None:
    done = mapper("model", "cost", TINY, "--topo", "sg2042", *options)
    assert done.code == 2
    assert words in done.err
