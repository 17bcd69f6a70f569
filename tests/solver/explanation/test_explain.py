"""Explanations of plans whose cause is known."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import pytest

from mapper.cost.configurations import Config
from mapper.cost.imported import given_costs
from mapper.cost.pipedream import training_costs
from mapper.cost.roofline import roofline
from mapper.errors import PromiseBroken, UsageError
from mapper.graph.model import Graph
from mapper.machine.files import load_machine
from mapper.machine.model import Machine
from mapper.plans.model import Plan
from mapper.solver.explanation import explain as module
from mapper.solver.explanation.explain import ALL, SECTIONS, Explanation, Trial, explain, relaxations
from mapper.solver.explanation.levers import levers
from mapper.solver.explanation.resolve import NOTICED, Case, compared, limits_of, on_machine, solved
from mapper.solver.plan import plan
from mapper.solver.problem import Limits


def machine_of(groups: int, size: int, **changes: Any) -> Machine:
    """One node, cores of 1 GFLOP/s, no caches, software that costs nothing, 1 GB/s of DRAM; `changes` by section."""
    free = dict.fromkeys(
        ("dispatch_s", "fork_join_base_s", "fork_join_factor", "fork_join_jitter_s", "handoff_s", "process_bytes"), 0.0
    )
    link = {"line_s": 1e-7, "bandwidth_bytes_per_s": 1e12}
    cores = iter(range(groups * size))
    document: dict[str, Any] = {
        "name": "hand", "nodes": [{"groups": [",".join(str(next(cores)) for _ in range(size)) for _ in range(groups)]}],
        "memory": {"package_bandwidth_bytes_per_s": 1e9, "core_bandwidth_bytes_per_s": 1e9},
        "compute": {"peak_flop_per_s": 1e9, "efficiency": {"matmul": 1}, "seconds_per_element": {"elementwise": 1e-9},
                    "busy_slowdown": 1, "imbalance": 0},
        "overheads": {**free, "grain_elements": 0},
        "links": {"group": link, "node": link},
    }  # fmt: skip
    for section, figures in changes.items():
        document[section] = document[section] | figures if section in document else figures
    return Machine.model_validate(document)


def chain(ops: int, flop: float, weight_bytes: int, tensor_bytes: int = 8) -> Graph:
    """Products one behind the other."""
    names = [f"op{i}" for i in range(ops)]
    weights = [{"name": "w", "bytes": weight_bytes, "touched_bytes": weight_bytes}]
    made = [
        {"name": name, "kind": "matmul", "flop": flop, "elements": 10**6,
         "weights": [weights[0] | {"name": f"w{name}"}] if weight_bytes else []}
        for name in names
    ]  # fmt: skip
    tensors = [
        {"name": f"t{a}", "producer": a, "readers": [b], "bytes": tensor_bytes} for a, b in itertools.pairwise(names)
    ]
    return Graph.model_validate({"name": "chain", "ops": made, "tensors": tensors})


def explained(graph: Graph, machine: Machine, limits: Limits | None = None, **more: Any) -> Explanation:
    return explain(plan(graph, machine, limits=limits, near_optimal=0.0), graph, **more)


def trial(found: Explanation, name: str) -> Trial:
    return next(t for t in found.marginal if t.name == name)


def change(found: Explanation, name: str) -> float:
    at = trial(found, name).change
    assert at is not None, trial(found, name).why
    return at.change


# known causes


def test_dram_binds_and_a_gigabyte_a_second_more_doubles_the_rate() -> None:
    """Four weights of 1 MB from DRAM at 1 GB/s: 4 ms an item, however many cores."""
    found = explained(chain(4, 10.0, 10**6), machine_of(4, 1), only=("binding", "marginal"))
    assert "DRAM of the package" in found.binding.names
    (memory,) = found.binding.memory
    assert memory.bytes == 4e6 and memory.period_s == pytest.approx(4e-3) == found.binding.period_s
    assert sum(stage.dram_bytes for stage in found.binding.stages) == 4e6
    parts = found.binding.stages[0].parts
    assert max(parts, key=lambda part: parts[part]) == "weights"
    assert change(found, "package_dram+1GB/s") == pytest.approx(-0.5, abs=1e-3)
    assert change(found, "core_dram+1GB/s") == pytest.approx(0, abs=NOTICED)
    assert change(found, "peak+10%") == pytest.approx(0, abs=NOTICED)
    assert "no such cache" in trial(found, "group_cache+1MiB").why
    assert "one more core is one more group" in trial(found, "cores+1").why


def test_copies_are_slower_than_caches_that_hold_a_stage_each() -> None:
    """Four groups with a cache for one weight each: a pipeline reads no DRAM, copies read 4 MB of it an item."""
    cache = {"name": "L2", "level": 2, "shared_by": "group", "bytes": 1.5e6, "fill": 1,
             "core_bandwidth_bytes_per_s": 4e9}  # fmt: skip
    found = explained(chain(4, 10.0, 10**6), machine_of(4, 1, caches=[cache]))
    assert len(found.plan.stages) == 4
    assert set(found.binding.names) == {f"stage {s}" for s in range(4)}
    assert found.binding.memory[0].bytes == 0
    streams = next(a for a in found.alternatives if a.name.startswith("streams"))
    assert streams.reason.startswith("DRAM of the package binds: it serves 4.00 MB an item (weights most of all)")
    assert streams.period_s == pytest.approx(4e-3)


def test_a_tensor_that_is_handed_over_binds() -> None:
    """a (1 ms) ─3 ms─▶ b (1 ms) on two units, in two stages: 4 ms each, three quarters of them the tensor."""
    graph = imported({"a": 1e-3, "b": 1e-3}, 3e-3)
    machine, table = load_machine("uniform:2"), given_costs(graph)
    found = explain(plan(graph, machine, costs=table, limits=Limits(stages=2, max_replicas=1)), graph, table)
    assert found.binding.names == ("stage 0", "stage 1")
    for stage, into in zip(found.binding.stages, (False, True), strict=True):
        assert stage.parts == pytest.approx({"ops": 1e-3, "transfers": 3e-3})
        (tensor,) = stage.tensors
        assert (tensor.tensor, tensor.into, tensor.stages) == ("t", into, (1 - stage.id,))
    assert change(found, "transfers+10%") == pytest.approx((1 + 3 / 1.1) / 4 - 1, abs=1e-6)
    assert change(found, "units+1") == 0
    assert trial(found, "units-1").why == "no plan keeps the limits"
    stages = next(limit for limit in found.limits if limit.name == "stages")
    free = stages.trials[-1]
    assert stages.binds and free.what == "left out" and free.period_s == pytest.approx(2e-3)


def imported(times: dict[str, float], comm_s: float) -> Graph:
    names = list(times)
    tensors = [
        {"name": "t" * (i + 1), "producer": a, "readers": [b], "bytes": 1, "comm_s": comm_s}
        for i, (a, b) in enumerate(itertools.pairwise(names))
    ]
    ops = [{"name": name, "kind": "other", "proc_s": seconds} for name, seconds in times.items()]
    return Graph.model_validate({"name": "hand", "ops": ops, "tensors": tensors})


def test_plans_under_pipedreams_objective() -> None:
    """Two ops of 8 ms, forward and backward, with 1 MB of weights each: four units, and more bandwidth to exchange."""
    ops = [
        {"name": name, "kind": "other", "proc_s": 3e-3, "backward_s": 5e-3,
         "weights": [{"name": f"w{name}", "bytes": 10**6, "touched_bytes": 10**6}]}
        for name in ("a", "b")
    ]  # fmt: skip
    tensors = [{"name": "t", "producer": "a", "readers": ["b"], "bytes": 1}]
    graph = Graph.model_validate({"name": "training", "ops": ops, "tensors": tensors})
    table = training_costs(graph, 4, 1e9)
    made = plan(graph, load_machine("uniform:4"), costs=table, limits=Limits(max_replicas=1), near_optimal=0.0)
    found = explain(made, graph)
    assert found.binding.stages[0].parts.keys() == {"ops"}
    assert change(found, "transfers+10%") < 0 and change(found, "units+1") < 0 < change(found, "units-1")
    faster = plan(graph, load_machine("uniform:4"), costs=training_costs(graph, 4, 1.1e9),
                  limits=Limits(max_replicas=1), near_optimal=0.0)  # fmt: skip
    ratio = faster.predicted.period_s / made.predicted.period_s
    assert change(found, "transfers+10%") == pytest.approx(ratio - 1, abs=1e-3)


def test_the_uneven_stage_binds_and_the_others_have_slack() -> None:
    graph = imported({"a": 1e-3, "b": 4e-3, "c": 2e-3}, 0.0)
    machine, table = load_machine("uniform:3"), given_costs(graph)
    found = explain(plan(graph, machine, costs=table, limits=Limits(stages=3, max_replicas=1)), graph, table)
    binding = found.binding
    assert binding.names == ("stage 1",)
    assert [binding.slack(stage) for stage in binding.stages] == pytest.approx([0.75, 0.0, 0.5])
    assert binding.core_seconds == pytest.approx({"ops": 7e-3, "waiting": 5e-3, "unused": 0.0})


def forked() -> Machine:
    """Four cores; a fork and join costs 1 ms, as long as an op on one core."""
    return machine_of(1, 4, overheads={"fork_join_base_s": 1e-3}, memory={"core_bandwidth_bytes_per_s": 1e12})


def test_fork_and_join_make_native_slower() -> None:
    found = explained(chain(3, 1e6, 0), forked(), only=("alternatives", "marginal"))
    assert found.plan.stages[0].replicas[0].configuration.cores == 1
    (native,) = (a for a in found.alternatives if a.name.startswith("native"))
    assert native.reason.startswith("fork and join of 4 threads takes 80% of the machine's time (here 0%)")
    assert native.core_seconds["fork_join"] == pytest.approx(4 * 3e-3)
    assert change(found, "fork_join/2") == 0, "the plan forks nothing"


def test_a_latency_limit_binds_where_copies_of_one_core_miss_it() -> None:
    graph, machine = chain(3, 1e6, 0), machine_of(1, 4, overheads={"fork_join_base_s": 1e-4})
    free = plan(graph, machine, near_optimal=0.0)
    limit = free.predicted.latency_s * 0.6
    found = explained(graph, machine, Limits(max_latency_s=limit, max_stages=3), only=("binding", "limits"))
    latency, stages, both = found.limits
    assert (latency.name, stages.name, both.name) == ("max_latency_s", "max_stages", ALL)
    assert latency.binds and both.binds and not stages.binds
    assert latency.trials[-1].period_s == pytest.approx(free.predicted.period_s, rel=1e-3)
    wider = plan(graph, machine, limits=Limits(max_latency_s=limit * 1.1, max_stages=3), near_optimal=0.0)
    assert latency.trials[0].what == relaxations("max_latency_s", limit)[0][0]
    assert latency.trials[0].period_s == pytest.approx(wider.predicted.period_s, rel=1e-3)


def test_alternatives_that_break_a_limit_say_which() -> None:
    graph, machine = chain(3, 1e6, 0), machine_of(1, 4, overheads={"fork_join_base_s": 1e-4})
    limit = plan(graph, machine).predicted.latency_s * 0.6
    found = explained(graph, machine, Limits(max_latency_s=limit), only=("alternatives",))
    reasons = {a.name: a.reason for a in found.alternatives}
    streams = next(reasons[name] for name in reasons if name.startswith("streams"))
    assert "faster, but its latency is 3.00 ms, the limit 1.80 ms" in streams


@pytest.mark.parametrize("objective", ["latency", "cores"])
def test_other_objectives_are_planned_again_as_such(objective: Any) -> None:
    graph, machine = chain(3, 1e6, 0), machine_of(1, 4)
    limits = Limits(min_throughput_per_s=400.0)
    made = plan(graph, machine, objective=objective, limits=limits, near_optimal=0.0)
    found = explain(made, graph, only=("marginal", "limits"))
    assert found.best is not None
    values = {"latency": made.predicted.latency_s, "cores": made.predicted.cores_used}
    assert found.best.value == pytest.approx(values[objective], rel=1e-3)
    # 3 ms on one core: two cores for 400 a second, four for the least latency
    expected = {"latency": {"peak+10%": 1 / 1.1 - 1}, "cores": {"peak+10%": 0.0, "cores+1": 0.0}}[objective]
    assert {name: change(found, name) for name in expected} == pytest.approx(expected, abs=1e-3)
    rate = next(limit for limit in found.limits if limit.name == "min_throughput_per_s")
    assert rate.binds == (objective == "cores")
    if objective == "cores":
        assert rate.trials[-1].cores == 1


def test_a_change_lies_between_what_plans_and_bounds_allow() -> None:
    graph, machine = chain(3, 1e6, 10**5), machine_of(2, 2)
    before = solved(Case(graph, machine, roofline(graph, machine), Limits(), "throughput"))
    assert before is not None
    worse = dataclasses.replace(before, value=before.value * 1.1, bound=before.value * 1.05)
    found = compared(worse, before)
    assert found.low == pytest.approx(0.05, abs=1e-3) and found.change == pytest.approx(0.1) and found.certain
    loose = dataclasses.replace(worse, bound=before.value * 0.9)
    assert compared(loose, before).noticed and not compared(loose, before).certain
    assert compared(worse, before, monotone=True).change == 0


# what is refused, and what ends early


def test_limits_come_back_from_a_plan() -> None:
    graph, machine = chain(4, 1e6, 0), machine_of(2, 2)
    limits = Limits(
        max_latency_s=1.0, max_stages=3, max_cores=4, configurations=(Config(1, 1), Config(1, 2)),
        together=(("op0", "op1"),), apart=(("op0", "op3"),),
    )  # fmt: skip
    made = plan(graph, machine, limits=limits)
    assert limits_of(made, roofline(graph, machine).configs) == limits
    newer = made.model_copy(update={"request": made.request.model_copy(update={"limits": {"max_power_w": 5}})})
    with pytest.raises(UsageError, match="max_power_w"):
        limits_of(newer, roofline(graph, machine).configs)


def test_configurations_of_whole_groups_stay_whole_groups() -> None:
    graph, machine = chain(4, 1e6, 0), machine_of(3, 2)
    case = Case(graph, machine, roofline(graph, machine), Limits(configurations=(Config(3, 2), Config(1, 2))), "cores")
    by_name = {lever.name: lever for lever in levers(machine, 0.0)}
    assert on_machine(case, by_name["cores+1"].change(machine)).limits.configurations == (Config(3, 3), Config(1, 3))
    assert on_machine(case, by_name["groups-1"].change(machine)).limits.configurations == (Config(1, 2),)
    only = dataclasses.replace(case, limits=Limits(configurations=(Config(3, 2),)))
    with pytest.raises(UsageError, match="allows 3x2 only"):
        on_machine(only, by_name["groups-1"].change(machine))


def test_an_edited_plan_is_not_explained() -> None:
    graph = chain(3, 1e6, 0)
    made = plan(graph, machine_of(1, 2))
    other = made.predicted.model_copy(update={"latency_s": made.predicted.latency_s / 2})
    with pytest.raises(PromiseBroken, match="mapper check"):
        explain(made.model_copy(update={"predicted": other}), graph)


def test_what_binds_needs_no_planning(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = chain(3, 1e6, 0)
    made = plan(graph, machine_of(1, 2))
    monkeypatch.setattr(module, "solved", _refuse)
    assert explain(made, graph, only=("binding",)).best is None
    with pytest.raises(RuntimeError):
        explain(made, graph, only=("marginal",))


def test_a_request_that_is_not_solved_again_is_measured_against_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = chain(3, 1e6, 0)
    made = plan(graph, machine_of(1, 2))
    monkeypatch.setattr(module, "solved", lambda *_: None)
    monkeypatch.setattr(module, "unchanged", lambda *_: False)
    found = explain(made, graph, only=("marginal",))
    assert found.best is not None and found.best.value == made.predicted.period_s
    assert trial(found, "peak+10%").why == "no plan keeps the limits"


def _refuse(*_: object) -> None:
    raise RuntimeError("planned")


@pytest.mark.parametrize("after", [0, 1, 4, 9])
def test_an_interruption_keeps_what_was_found(after: int) -> None:
    graph = chain(3, 1e6, 0)
    made = plan(graph, machine_of(1, 4), limits=Limits(max_stages=2))
    found = explain(made, graph, progress=_interrupting(after))
    assert not found.complete and found.binding.names
    whole = explain(made, graph)
    assert whole.complete
    for section in SECTIONS[1:]:
        kept, everything = getattr(found, section), getattr(whole, section)
        assert kept == everything[: len(kept)]


def _interrupting(after: int) -> Callable[[str], None]:
    calls = itertools.count()

    def progress(message: str) -> None:
        if next(calls) == after:
            raise KeyboardInterrupt

    return progress


def test_the_same_plan_gives_the_same_explanation() -> None:
    graph = chain(4, 1e6, 10**5)
    made: Plan = plan(graph, machine_of(2, 2), limits=Limits(max_latency_s=3e-3))
    assert explain(made, graph) == explain(made, graph)
