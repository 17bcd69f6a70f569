"""What of a machine decides its plans: kinds of core, quotas, parts, measured fork and join, DRAM of a group."""

from __future__ import annotations

import itertools

import pytest

import mapper
from mapper.cost.configurations import Config
from mapper.cost.roofline import roofline
from mapper.graph.model import Graph
from mapper.machine.figures import Figure
from mapper.machine.files import load_machine
from mapper.machine.model import Machine
from mapper.machine.parts import CoreKind
from mapper.machine.restrict import restrict

SG2042 = load_machine("sg2042")


def block_chain(ops: int) -> Graph:
    """Products one behind the other, with weights."""
    names = [f"op{i}" for i in range(ops)]
    made = [
        {"name": name, "kind": "matmul", "flop": 1e8, "elements": 10**5, "read_bytes": 4 * 10**5,
         "write_bytes": 4 * 10**5, "weights": [{"name": f"w{name}", "bytes": 10**6, "touched_bytes": 10**6}]}
        for name in names
    ]  # fmt: skip
    tensors = [
        {"name": f"t{a}", "producer": a, "readers": [b], "bytes": 4 * 10**5} for a, b in itertools.pairwise(names)
    ]
    return Graph.model_validate({"name": "chain", "ops": made, "tensors": tensors})


def with_figure(machine: Machine, section: str, **figures: object) -> Machine:
    part = getattr(machine, section).model_copy(update=figures)
    return machine.model_copy(update={section: part})


def one(**op: object) -> Graph:
    return Graph.model_validate({"name": "g", "ops": [{"name": "a", **op}], "tensors": []})


def seconds(graph: Graph, machine: Machine, config: Config) -> float:
    """Of the first op with everything in DRAM."""
    return float(roofline(graph, machine, (config,)).seconds[0, 0, 2])


def test_every_core_counts_as_one_of_the_slowest_kind() -> None:
    kinds = (
        CoreKind(name="P", cores=tuple(range(32)), speed=Figure(value=1)),
        CoreKind(name="E", cores=tuple(range(32, 64)), speed=Figure(value=0.5)),
    )
    hybrid = SG2042.model_copy(update={"core_kinds": kinds})
    work = one(kind="matmul", flop=1e9, elements=10**6)
    fast, slow = (seconds(work, machine, Config(1, 1)) for machine in (SG2042, hybrid))
    assert slow == pytest.approx(2 * fast, rel=1e-3)
    assert seconds(work, restrict(hybrid, cores="0-31"), Config(1, 1)) == fast
    assumed = mapper.plan(block_chain(3), hybrid).solver.proved.assumptions
    assert "every core is as fast as the slowest kind" in assumed
    assert assumed[:-1] == mapper.plan(block_chain(3), SG2042).solver.proved.assumptions


def test_a_quota_limits_the_cores_of_plans() -> None:
    limited = SG2042.model_copy(update={"cpu_quota": Figure(value=2.5)})
    plan = mapper.plan(block_chain(3), limited)
    assert plan.predicted.cores_used <= 2
    assert plan.request.limits["max_cores"] == 2
    tiny = SG2042.model_copy(update={"cpu_quota": Figure(value=0.3)})
    assert mapper.plan(block_chain(3), tiny).predicted.cores_used == 1


def test_measured_fork_and_join_replace_the_formula() -> None:
    none = {f"fork_join_{name}": Figure(value=0) for name in ("base_s", "factor", "jitter_s")}
    table = {2: Figure(value=1e-6), 4: Figure(value=5e-6), 8: Figure(value=7e-6)}
    work = one(kind="matmul", flop=1e9, elements=10**6)
    free = with_figure(SG2042, "overheads", **none)
    measured = with_figure(SG2042, "overheads", fork_join_s=table)
    for config, cost in ((Config(1, 1), 0.0), (Config(1, 2), 1e-6), (Config(1, 4), 5e-6), (Config(2, 4), 7e-6)):
        assert seconds(work, measured, config) - seconds(work, free, config) == pytest.approx(cost, abs=1e-12)
    three, sixteen = Config(3, 4), Config(4, 4)
    for config, cost in ((three, 9e-6), (sixteen, 11e-6)):
        assert seconds(work, measured, config) - seconds(work, free, config) == pytest.approx(cost, abs=1e-12), config


def test_the_dram_of_a_group_limits_its_cores() -> None:
    weights = [{"name": "w", "bytes": 10**9, "touched_bytes": 10**9}]
    work = one(kind="matmul", flop=1e6, elements=1000, weights=weights)
    limited = with_figure(SG2042, "memory", group_bandwidth_bytes_per_s=Figure(value=6e9))
    assert SG2042.team_dram_bytes_per_s(4, 1) == 4 * 4.8e9 and limited.team_dram_bytes_per_s(4, 1) == 6e9
    assert limited.team_dram_bytes_per_s(1, 1) == 4.8e9 and limited.team_dram_bytes_per_s(64, 16) == 38.9e9
    assert seconds(work, limited, Config(1, 4)) > 3 * seconds(work, SG2042, Config(1, 4))


def test_a_part_is_planned_like_a_smaller_machine() -> None:
    whole, part = mapper.plan(block_chain(3), SG2042), mapper.plan(block_chain(3), restrict(SG2042, groups="8"))
    assert part.predicted.cores_used <= 32
    assert part.predicted.period_s >= whole.predicted.period_s
    assert part.machine.part_of is not None
