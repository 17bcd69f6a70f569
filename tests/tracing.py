"""Plans for tests: stages, cores and replicas as the test says, on the PUs of this machine; predictions are nominal."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from mapper.graph.measure import graph_of
from mapper.graph.model import Graph
from mapper.machine.model import Machine
from mapper.plans.model import Plan
from mapper.program.model import Program
from mapper.program.trace import trace_program


def machine_of(groups: Sequence[Sequence[int]]) -> Machine:
    """A machine of one node whose groups have cores of one PU each, with the given OS numbers."""
    return Machine.model_validate(
        {
            "name": "test", "cpu_model": "test",
            "nodes": [{"groups": [",".join(map(str, pus)) for pus in groups]}],
            "memory": {"package_bandwidth_bytes_per_s": 1e10, "core_bandwidth_bytes_per_s": 1e10},
            "compute": {
                "peak_flop_per_s": 1e10, "efficiency": {}, "seconds_per_element": {}, "busy_slowdown": 1,
                "imbalance": 0,
            },
            "overheads": {
                "dispatch_s": 0, "fork_join_base_s": 0, "fork_join_factor": 0, "fork_join_jitter_s": 0,
                "grain_elements": 0, "handoff_s": 0, "process_bytes": 0,
            },
            "links": {d: {"line_s": 1e-7, "bandwidth_bytes_per_s": 1e10} for d in ("group", "node", "package")},
        }
    )  # fmt: skip


def machine_here() -> Machine:
    """The PUs that this process may use, one group."""
    return machine_of([sorted(os.sched_getaffinity(0))])


@dataclass(frozen=True)
class Traced:
    """A model with what tests need of it."""

    module: torch.nn.Module
    program: Program
    weights: dict[str, torch.Tensor]
    graph: Graph


def traced(module: torch.nn.Module, *example: torch.Tensor, name: str = "test") -> Traced:
    """`module`, in eval mode, with its program and graph."""
    program, weights = trace_program(module.eval(), example, name=name)
    return Traced(module, program, weights, graph_of(program))


def cuts(graph: Graph, sizes: Sequence[int]) -> list[list[str]]:
    """The ops of `graph` in order, in stages of `sizes` ops; the last takes the rest."""
    names, out = [op.name for op in graph.ops], []
    for size in sizes[:-1]:
        out.append(names[:size])
        names = names[size:]
    return [*out, names]


def plan_for(
    model: Traced,
    stages: Sequence[Sequence[str]],
    *,
    replicas: Sequence[int] | None = None,
    threads: Sequence[int] | None = None,
    window: int | None = None,
    slots: int = 2,
    machine: Machine | None = None,
    source: str = "",
    **changes: Any,
) -> Plan:
    """A plan of `stages`, replica after replica on the cores of a machine that has as many as it takes."""
    counts = list(replicas or [1] * len(stages))
    teams = list(threads or [1] * len(stages))
    needed = sum(c * t for c, t in zip(counts, teams, strict=True))
    machine = machine or machine_of([range(needed)])
    free = iter(range(needed))
    return Plan.model_validate(
        {
            "model": {
                "name": model.program.name, "source": source, "graph_sha256": model.graph.sha256, "weights": "seed:0",
                "dtype": "float32", "torch": torch.__version__,
                "item": [
                    {"name": i.name, "shape": i.type.shape, "dtype": i.type.dtype, "high": 2}
                    for i in model.program.inputs
                ],
            },
            "machine": machine.model_dump(by_alias=True), "fingerprint": machine.fingerprint, "request": {},
            "solver": {
                "status": "feasible", "objective": 1, "best_objective": 1, "bound": 0, "gap": 1, "near_optimal": 0,
                "proved": {"space": "none"},
            },
            "predicted": {
                "period_s": 1, "throughput_per_s": 1, "latency_s": 1, "critical_path_s": 1,
                "window": window or 2 * sum(counts), "cores_used": needed, "dram_bytes_per_item": 0,
                "limited_by": "test",
            },
            "stages": [
                {
                    "id": s, "ops": list(ops), "inputs": [], "outputs": [], "residency": "DRAM", "weight_bytes": 0,
                    "touched_bytes": 0, "activation_bytes": 0, "flop": 0, "dram_bytes": 0,
                    "load": dict.fromkeys(("compute_s", "dispatch_s", "fork_join_s", "in_s", "out_s", "total_s"), 0.5),
                    "replicas": [
                        {
                            "configuration": {"name": "test", "groups": 1, "cores_per_group": team, "threads": team},
                            "cores": [next(free) for _ in range(team)], "weights": {"policy": "node", "nodes": [0]},
                        }
                        for _ in range(count)
                    ],
                }
                for s, (ops, count, team) in enumerate(zip(stages, counts, teams, strict=True))
            ],
            "edges": _edges(len(stages), slots),
            **changes,
        }
    )  # fmt: skip


def _edges(stages: int, slots: int) -> list[dict[str, Any]]:
    ends = [*((s, s + 1) for s in range(stages - 1)), ("feeder", 0), (stages - 1, "feeder")]
    return [{"from": a, "to": b, "tensors": ["x"], "bytes": 0, "slots": slots} for a, b in ends]
