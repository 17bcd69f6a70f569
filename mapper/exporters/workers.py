"""The workers of a plan as any runtime sees them: a rank, a host, PUs by the OS's own numbers, NUMA nodes, threads."""

from __future__ import annotations

from mapper.errors import UsageError
from mapper.jsonio import Record
from mapper.machine.model import Machine
from mapper.plans.model import Plan, Replica


class Worker(Record):
    """A replica of a stage. `rank` counts all workers, stage by stage; `pus` has one PU a core, and both `pus` and
    `nodes` (those of its weights, on its host) are numbers of the OS on `host`, as the machine of the plan states them;
    `cores` are logical numbers."""

    rank: int
    stage: int
    replica: int
    host: int
    cores: tuple[int, ...]
    pus: tuple[int, ...]
    nodes: tuple[int, ...]
    threads: int


def workers_of(plan: Plan) -> tuple[Worker, ...]:
    """The workers of `plan` in the order of their ranks."""
    pairs = [(stage.id, r, replica) for stage in plan.stages for r, replica in enumerate(stage.replicas)]
    return tuple(_worker(plan, rank, *pair) for rank, pair in enumerate(pairs))


def hosts_of(plan: Plan) -> dict[int, tuple[Worker, ...]]:
    """The workers of each host that has any, by the number of the host."""
    workers = workers_of(plan)
    return {
        host: tuple(worker for worker in workers if worker.host == host) for host in sorted({w.host for w in workers})
    }


def os_nodes(machine: Machine, host: int) -> dict[int, int]:
    """What the OS of `host` calls each of its nodes, by the node's number in `machine`: its place on the host where
    nothing else is known."""
    numbers = [n for n, node in enumerate(machine.nodes) if node.host == host]
    known = {n: machine.nodes[n].os_index for n in numbers}
    return {n: numbers.index(n) if name is None else name for n, name in known.items()}


def _worker(plan: Plan, rank: int, stage: int, number: int, replica: Replica) -> Worker:
    names, cores = os_nodes(plan.machine, replica.host), plan.machine.cores
    homes = set(replica.weights.nodes) & names.keys() or {cores[core].node for core in replica.cores}
    return Worker(
        rank=rank, stage=stage, replica=number, host=replica.host, cores=replica.cores,
        pus=tuple(cores[core].pus[0] for core in replica.cores),
        nodes=tuple(sorted({names[node] for node in homes})),
        threads=replica.configuration.threads,
    )  # fmt: skip


def require_one_host(plan: Plan, target: str) -> None:
    """Raises: UsageError when `plan` is for several hosts."""
    count = len(hosts_of(plan))
    if count > 1:
        raise UsageError(f"the plan is for {count} hosts, and an export to {target} runs on one",
                         advice="--to torch-pipelining runs on several, or plan for one machine.")  # fmt: skip
