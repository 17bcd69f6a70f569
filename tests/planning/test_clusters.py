"""Plans for several hosts, from models and graphs: memory, alternatives, options, and what is said about them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import mapper as api
from mapper.cost.configurations import configurations
from mapper.cost.roofline import roofline
from mapper.errors import Infeasible
from mapper.graph.model import Graph
from mapper.jsonio import plain
from mapper.machine.hosts import on_host
from mapper.machine.model import Machine
from mapper.plans.check import check
from mapper.plans.hosts import traffic
from mapper.plans.model import Plan
from mapper.solver.problem import Limits
from tests.cli.commands import TINY, mapper
from tests.solver.clusters import clustered

HOSTS = ("pack:1 numa:1 group:2 core:2*2", "1Gbit,20us")


def layers(count: int, *, weights: int = 10**6, between: int = 4000, inputs: int = 4000) -> Graph:
    """A chain of equal layers with weights of their own."""
    ops = [
        {"name": f"layer{v}", "kind": "matmul", "flop": 2 * 10**7, "elements": 1000, "read_bytes": 4000,
         "write_bytes": 4000, "weights": [{"name": f"w{v}", "bytes": weights, "touched_bytes": weights}]}
        for v in range(count)
    ]  # fmt: skip
    tensors = [
        {"name": f"t{v}", "producer": f"layer{v}", "readers": [f"layer{v + 1}"], "bytes": between}
        for v in range(count - 1)
    ]  # fmt: skip
    return Graph.model_validate({
        "name": "layers", "ops": ops, "tensors": tensors,
        "inputs": [{"name": "x", "ops": ["layer0"], "bytes": inputs}],
        "outputs": [{"name": "y", "ops": [f"layer{count - 1}"], "bytes": 4000}],
    })  # fmt: skip


def hosts_of(plan: Plan) -> list[set[int]]:
    """The hosts of each stage."""
    return [{replica.host for replica in stage.replicas} for stage in plan.stages]


def test_a_model_too_large_for_one_host_is_split_over_hosts() -> None:
    graph, machine = layers(6, weights=10**9), clustered(2, 1, 4, rate=1e8)
    limits = Limits(node_memory_bytes=4.2e9)
    with pytest.raises(Infeasible):
        api.plan(graph, on_host(machine, 0), limits=limits)
    plan = api.plan(graph, machine, limits=limits)
    assert len(plan.stages) > 1 and set().union(*hosts_of(plan)) == {0, 1}
    assert max(plan.predicted.node_memory_bytes) <= 4.2e9
    assert all(len(set(replica.weights.nodes)) == 1 for stage in plan.stages for replica in stage.replicas)


@pytest.mark.parametrize(("rate", "hosts"), [(1e9, {0, 1}), (1e4, {0})])
def test_the_network_decides_whether_another_host_is_used(rate: float, hosts: set[int]) -> None:
    plan = api.plan(layers(4, inputs=10**6), clustered(2, 1, 2, rate=rate))
    assert set().union(*hosts_of(plan)) == hosts


def test_a_large_input_stays_and_a_small_tensor_travels() -> None:
    """The layers that read the input are on the feeder's host; what goes to the other one is what is small there."""
    plan = api.plan(layers(4, inputs=10**7), clustered(2, 1, 2, rate=1e7), near_optimal=0.0)
    assert set().union(*hosts_of(plan)) == {0, 1} and hosts_of(plan)[0] == {0}
    moved = traffic(plan.stages, plan.edges, plan.machine)
    assert 0 < moved[1].in_bytes < 10**5


def test_what_people_do_with_several_hosts_stands_beside_the_plan() -> None:
    machine = clustered(2, 1, 2, rate=1e7)
    plan = api.plan(layers(4, inputs=10**6), machine, near_optimal=0.0)
    rows = {row.name: row for row in plan.alternatives}
    own = {"all on one host", "a copy on each host", "an equal part on each host"}
    assert own & set(rows), "those that are not the plan itself"
    assert all(row.throughput_per_s <= plan.predicted.throughput_per_s * (1 + 1e-4) for row in rows.values())
    native = [row for name, row in rows.items() if name.startswith("native")]
    assert all(row.cores_used <= 2 for row in native), "one team never spans hosts"


def test_plans_are_the_same_twice_and_pass_their_check() -> None:
    graph, machine = layers(5), clustered(3, 1, 2, rate=1e8)
    first, second = api.plan(graph, machine), api.plan(graph, machine)
    assert plain(first) == plain(second)
    assert check(first, graph, roofline(graph, machine, configurations(machine))).violations == ()
    assert any("hosts" in assumption for assumption in first.solver.proved.assumptions)


@pytest.mark.parametrize("options", [{"max_latency_s": 1.0}, {"max_cores": 3}, {"max_stages": 1}, {"max_replicas": 2}])
def test_limits_are_kept_over_hosts(options: dict[str, float]) -> None:
    plan = api.plan(layers(4), clustered(2, 1, 2, rate=1e8), limits=Limits(**options))  # type: ignore[arg-type]
    assert plan.predicted.cores_used <= options.get("max_cores", 4)
    assert max(len(stage.replicas) for stage in plan.stages) <= options.get("max_replicas", 4)


def test_the_least_latency_and_the_fewest_cores_are_those_of_one_host() -> None:
    graph, machine = layers(3), clustered(2, 1, 2, rate=1e8)
    alone = api.plan(graph, on_host(machine, 0), objective="latency")
    both = api.plan(graph, machine, objective="latency")
    assert both.predicted.latency_s <= alone.predicted.latency_s * (1 + 1e-9)
    fewest = api.plan(graph, machine, objective="cores", limits=Limits(min_throughput_per_s=1.0))
    assert fewest.predicted.cores_used == 1 and set().union(*hosts_of(fewest)) == {0}


def test_commands_plan_check_simulate_and_explain_over_hosts(tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    made = mapper("plan", "--model", TINY, "--topo", HOSTS[0], "--link", HOSTS[1], "-o", file, "--json")
    assert made.code == 0, made.err
    plan = json.loads(made.out)
    assert plan["machine"]["links"]["cluster"]["bandwidth_bytes_per_s"]["value"] == 1.25e8
    assert mapper("check", file, "--trust").code == 0
    simulated = mapper("simulate", file)
    assert simulated.code == 0 and "Network in use: host 0" in simulated.out
    told = mapper("explain", file, "--trust", "--only", "binding")
    assert told.code == 0 and "link into host 1" in told.out, told.err
    explained = mapper("explain", file, "--trust", "--only", "binding", "--json")
    assert len(json.loads(explained.out)["binding"]["links"]) == 4
    only = mapper("plan", "--model", TINY, "--topo", HOSTS[0], "--link", HOSTS[1], "--hosts", "1", "--json")
    assert {r["host"] for s in json.loads(only.out)["stages"] for r in s["replicas"]} == {1}
    assert mapper("plan", "--model", TINY, "--topo", HOSTS[0]).code == 2
    rows = mapper("explore", "--model", TINY, "--vary", f"topo=core:4,{HOSTS[0]}", "--link", HOSTS[1], "--json", "-q")
    assert rows.code == 0, rows.err


def test_one_host_is_planned_as_it_always_was() -> None:
    machine: Machine = clustered(2, 1, 2)
    alone = on_host(machine, 0)
    plan = api.plan(layers(3), alone)
    assert "hosts" not in json.dumps(plain(plan)["solver"])
    assert not any(row.name.endswith("host") for row in plan.alternatives)
