"""Where splitting a model pays and where not: the planner finds the kind of plan by itself."""

from __future__ import annotations

from functools import cache

import pytest

import mapper
from mapper.graph.model import Graph, Op, Tensor
from mapper.machine.files import load_machine
from mapper.plans.model import Plan
from mapper.plans.source import graph_of_source
from mapper.solver.problem import Limits


@cache
def graph(name: str) -> Graph:
    return graph_of_source(name)[0]


def rate(plan: Plan, alternative: str) -> float:
    """Items a second of one of the alternatives; of the plan itself where it is that one."""
    rates = (a.throughput_per_s for a in plan.alternatives if a.name.startswith(alternative))
    return next(rates, plan.predicted.throughput_per_s)


def test_divided_caches_that_hold_the_weights_together_make_a_pipeline() -> None:
    """Single-token decoding on a CPU whose L3 lies in chiplets: copies would read every weight from DRAM."""
    made = mapper.plan(graph("gpt2_decode"), load_machine("epyc-9684x"))
    cached = [stage for stage in made.stages if stage.residency == "L3"]
    assert len(made.stages) >= 3 and sum(s.weight_bytes for s in cached) > sum(s.weight_bytes for s in made.stages) / 2
    assert made.predicted.throughput_per_s > 2 * rate(made, "streams")
    assert made.solver.gap < 0.01


def test_work_enough_per_byte_makes_copies() -> None:
    made = mapper.plan(graph("vit"), load_machine("sg2042"))
    assert [len(stage.replicas) for stage in made.stages] == [64] and made.solver.status == "optimal"
    assert made.predicted.throughput_per_s > rate(made, "pipeline")


@pytest.mark.parametrize(("factor", "widest"), [(1.01, 64), (3.0, 16)])
def test_a_tight_latency_limit_makes_wide_teams(factor: float, widest: int) -> None:
    """At the least latency there is one process with every core; with three times as much a few, of different width."""
    machine = load_machine("sg2042")
    least = mapper.plan(graph("vit"), machine, objective="latency").predicted.latency_s
    made = mapper.plan(graph("vit"), machine, limits=Limits(max_latency_s=factor * least))
    teams = [replica.configuration.threads for stage in made.stages for replica in stage.replicas]
    assert max(teams) >= widest and made.solver.status == "optimal"
    assert made.predicted.throughput_per_s >= rate(made, "native") * (1 - 1e-9)


def test_short_memory_makes_a_pipeline() -> None:
    """Units with a memory of their own, each too small for the weights: a stage a unit. With room, a copy a unit."""
    ops = tuple(Op(name=f"op{v}", kind="other", proc_s=1.0, memory_bytes=100_000_000) for v in range(8))
    tensors = tuple(
        Tensor(name=f"t{v}", producer=f"op{v}", readers=(f"op{v + 1}",), bytes=0, comm_s=0.1) for v in range(7)
    )
    units, chain = load_machine("uniform:4"), Graph(name="chain", ops=ops, tensors=tensors)
    free, short = (mapper.plan(chain, units, limits=Limits(node_memory_bytes=size)) for size in (900e6, 300e6))
    assert [len(stage.replicas) for stage in free.stages] == [4] and free.solver.status == "optimal"
    assert [len(stage.ops) for stage in short.stages] == [2, 2, 2, 2] and short.solver.status == "optimal"
    assert max(short.predicted.node_memory_bytes) <= 300e6


def test_nodes_that_share_their_weights_need_no_pipeline_for_want_of_memory() -> None:
    """Half of the weights and one process fit a node: with weights on all nodes, once, two wide copies beat a pipeline
    and one process over all."""
    made = mapper.plan(graph("vit"), load_machine("sg2042"), limits=Limits(node_memory_bytes=342e6))
    assert max(made.predicted.node_memory_bytes) <= 342e6
    assert all(replica.weights.nodes == (0, 1, 2, 3) for stage in made.stages for replica in stage.replicas)
    assert made.predicted.throughput_per_s > 1.1 * rate(made, "native")
