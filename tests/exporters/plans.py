"""Plans for tests of exporters: small ones with the PUs that a test says, and one whose names are hostile."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from mapper.graph.measure import graph_of
from mapper.machine.model import Machine
from mapper.plans.model import Plan
from mapper.program.model import Program
from tests.execution.models import mlp
from tests.tracing import Traced, cuts, machine_of, plan_for

CANARY = "canary"
"""A file that injected text would make where it is run."""
HOSTILE = (
    "=cmd|'/C touch canary'!A1",
    '-n "$(touch canary)" `touch canary`',
    "it's; touch canary; '",
    "two words\nand touch canary\n#",
    "]]> */ <script>touch canary</script> <!-- -->",
    "\u202egnp.exe \u200b größe 模型 \U0001f600\U000e0001",
    '\\" \\n \\N %s {{x}} ${HOME} $((1)) !! \\',
    "\ttab\r|pipe\x07 &amp; ../../etc",
)
"""Names of ops: what shells, spreadsheets, Markdown, HTML, XML, DOT, YAML and C would take for something else."""
MODEL = 'model "$(touch canary)" `touch canary`\n]]> | */ \u202e'
MACHINE = "machine '; touch canary; '\n$(touch canary) \\"


def nodes_of(nodes: Sequence[Sequence[Sequence[int]]], hosts: Sequence[int] | None = None, smt: int = 1) -> Machine:
    """A machine of NUMA nodes with groups of cores, whose first PUs have the given numbers; with `smt`, PU n of a core
    has n + 1000 beside it. `hosts` are those of the nodes."""
    document = machine_of([[0]]).model_dump(mode="json", by_alias=True)
    given = list(hosts or [0] * len(nodes))
    places = [given[:n].count(host) for n, host in enumerate(given)]
    document["nodes"] = [
        {
            "host": host, "package": host, "os_index": place,
            "groups": [[",".join(str(pu + 1000 * k) for k in range(smt)) for pu in group] for group in groups],
        }
        for host, place, groups in zip(given, places, nodes, strict=True)
    ]  # fmt: skip
    document["links"] |= {"host": document["links"]["node"], "cluster": document["links"]["node"]}
    return Machine.model_validate(document)


def pinned(replicas: Sequence[int], threads: Sequence[int], machine: Machine | None = None, **changes: Any) -> Plan:
    """A plan of an MLP: as many stages as there are numbers, on the cores of `machine` in their order."""
    stages = cuts(mlp().graph, [1] * len(replicas))
    plan = plan_for(mlp(), stages, replicas=replicas, threads=threads, machine=machine, **changes)
    return at_home(plan)


def at_home(plan: Plan) -> Plan:
    """`plan` with the host of each replica, its weights on the nodes of its cores."""
    machine, document = plan.machine, plan.model_dump(mode="json", by_alias=True)
    for stage in document["stages"]:
        for replica in stage["replicas"]:
            nodes = sorted({machine.cores[core].node for core in replica["cores"]})
            replica["host"] = machine.nodes[nodes[0]].host
            replica["weights"] = {"policy": "node" if len(nodes) == 1 else "interleave", "nodes": nodes}
    return Plan.model_validate(document)


@cache
def hostile(replicas: int = 2) -> tuple[Traced, Plan]:
    """An MLP with hostile names, and its plan of three stages, the first with so many replicas, on six cores."""
    plain = mlp()
    names = dict(zip((op.name for op in plain.program.ops), HOSTILE, strict=True))
    names |= {given.name: "\u200fx\"$(touch canary)'`" for given in plain.program.inputs}
    document = renamed(plain.program.model_dump(mode="json", by_alias=True), names)
    program = Program.model_validate(document | {"name": MODEL})
    model = Traced(plain.module, program, plain.weights, graph_of(program))
    machine = machine_of([range(6)]).model_copy(update={"name": MACHINE})
    plan = plan_for(model, cuts(model.graph, [3, 3, 2]), replicas=[replicas, 1, 1], threads=[1, 1, 2], machine=machine)
    tensors = [(op.name,) for op in (model.graph.ops[-1], model.graph.ops[2], model.graph.ops[5])]
    edges = tuple(e.model_copy(update={"tensors": t}) for e, t in zip(plan.edges, [*tensors, *tensors], strict=False))
    return model, at_home(plan.model_copy(update={"edges": edges}))


def renamed(value: Any, names: dict[str, str]) -> Any:
    """A program's document with other names of ops and inputs."""
    if isinstance(value, list):
        return [renamed(inner, names) for inner in value]
    if isinstance(value, dict):
        return {
            key: names.get(inner, inner) if key in ("op", "input", "name") and isinstance(inner, str)
            else renamed(inner, names)
            for key, inner in value.items()
        }  # fmt: skip
    return value
