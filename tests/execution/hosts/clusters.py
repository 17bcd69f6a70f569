"""Plans over several hosts, made by hand: which replica of which stage is on which host."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from mapper.backends import eager
from mapper.machine.model import Machine
from mapper.plans.model import Plan
from mapper.sources.bundle import Sample, write_bundle
from tests.tracing import Traced, machine_of, plan_for


def cluster_of(cores: Sequence[int]) -> Machine:
    """A machine of hosts with so many cores each, one group a host, PUs numbered from 0 on each."""
    made = machine_of([[0]]).model_dump(by_alias=True)
    link = made["links"]["package"]
    made["nodes"] = [
        {"host": host, "package": host, "groups": [",".join(map(str, range(count)))]}
        for host, count in enumerate(cores)
    ]
    made["links"] = dict.fromkeys(("group", "node", "package", "host", "cluster"), link)
    return Machine.model_validate(made)


def plan_over(
    model: Traced, stages: Sequence[Sequence[str]], hosts: Sequence[Sequence[int]], *, window: int | None = None
) -> Plan:
    """A plan of `stages`; replica r of stage s is on host `hosts[s][r]`, with a core of its own there."""
    last = max(host for replicas in hosts for host in replicas)
    counts = [max(1, sum(replicas.count(host) for replicas in map(list, hosts))) for host in range(last + 1)]
    free = [list(range(sum(counts[:host]), sum(counts[: host + 1]))) for host in range(last + 1)]
    plan = plan_for(model, stages, replicas=[len(replicas) for replicas in hosts], window=window)
    machine = cluster_of(counts)
    placed = tuple(
        stage.model_copy(
            update={
                "replicas": tuple(
                    replica.model_copy(
                        update={
                            "host": host, "cores": (free[host].pop(0),),
                            "weights": replica.weights.model_copy(update={"nodes": (host,)}),
                        }
                    )
                    for replica, host in zip(stage.replicas, replicas, strict=True)
                )
            }
        )
        for stage, replicas in zip(plan.stages, hosts, strict=True)
    )  # fmt: skip
    return plan.model_copy(update={"machine": machine, "fingerprint": machine.fingerprint, "stages": placed})


def bundle_of(path: Path, plan: Plan, model: Traced, item: Sequence[torch.Tensor]) -> Path:
    """A bundle of `plan` at `path`."""
    with torch.inference_mode():
        outputs = eager.prepare(model.program, model.weights, 1)(*item)
    named = dict(zip((given.name for given in model.program.inputs), item, strict=True))
    write_bundle(path, model.program, model.weights, plan, Sample(named, tuple(outputs)))
    return path
