"""One request of each kind, planned; as a program it prints the bytes of the plans, for other processes to compare."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

from mapper.cost.imported import given_costs
from mapper.graph.importers.draft import Output, assembled
from mapper.graph.model import Graph, Op, Tensor, WeightUse
from mapper.machine.files import load_machine
from mapper.machine.restrict import restrict
from mapper.plans.file import plan_text
from mapper.plans.problem_plan import problem_plan_text
from mapper.solver.plan import plan
from mapper.solver.problem import Limits, Objective
from mapper.solver.problem_plan import plan_problem

PROBLEM = Path(__file__).parents[1] / "golden" / "problem_small.json"
PART = restrict(load_machine("sg2042"), groups="0-7")


def branching(blocks: int) -> Graph:
    """Blocks of two branches that meet again, with weights of their own and one that all blocks share."""
    ops, tensors = [], []

    def add(name: str, kind: str, flop: int, weights: tuple[str, ...], readers: tuple[str, ...]) -> None:
        uses = tuple(WeightUse(name=w, bytes=4 * 10**5, touched_bytes=4 * 10**5) for w in weights)
        ops.append(Op(name=name, kind=kind, flop=flop, elements=10**5, read_bytes=4 * 10**5, write_bytes=4 * 10**5,
                      weights=uses))  # fmt: skip
        if readers:
            tensors.append(Tensor(name=f"t_{name}", producer=name, readers=readers, bytes=4 * 10**5))

    for b in range(blocks):
        after = (f"left{b + 1}", f"right{b + 1}") if b + 1 < blocks else ()
        add(f"left{b}", "matmul", 2 * 10**8, (f"w{b}", "shared"), (f"join{b}",))
        add(f"right{b}", "conv", 10**8 * (b + 1), (f"v{b}",), (f"join{b}",))
        add(f"join{b}", "elementwise", 10**5, (), after)
    return Graph(name="branching", ops=tuple(ops), tensors=tuple(tensors))


def timed(blocks: int) -> Graph:
    """The same shape with times of its own."""
    ops = [Op(name=op.name, kind="other", proc_s=0.001 + op.flop / 1e10) for op in branching(blocks).ops]
    readers = {tensor.producer: list(tensor.readers) for tensor in branching(blocks).tensors}
    return assembled("timed", "timed", ops, {name: Output(1e6, 0.002, {}, names) for name, names in readers.items()})


def _modelled(limits: Limits | None = None, objective: Objective = "throughput") -> str:
    return plan_text(plan(branching(3), PART, limits=limits, objective=objective))


def _timed(limits: Limits) -> str:
    graph = timed(4)
    machine = load_machine("uniform:4")
    return plan_text(plan(graph, machine, costs=given_costs(graph, 16e9), limits=limits, near_optimal=0.0))


REQUESTS: dict[str, Callable[[], str]] = {
    "free": _modelled,
    "one replica a stage": lambda: _modelled(Limits(max_replicas=1)),
    "latency": lambda: _modelled(Limits(max_latency_s=0.2)),
    "memory": lambda: _modelled(Limits(node_memory_bytes=2e9)),
    "least latency": lambda: _modelled(objective="latency"),
    "fewest cores": lambda: _modelled(Limits(min_throughput_per_s=20.0), "cores"),
    "a graph with times": lambda: _timed(Limits(max_replicas=1)),
    "copies of it": lambda: _timed(Limits()),
    "a problem file": lambda: problem_plan_text(plan_problem(PROBLEM)),
}


def main() -> None:
    """Prints the plans; with a number as argument, on so many cores of those that there are."""
    if len(sys.argv) > 1:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(sys.argv[1])])
    json.dump({name: request() for name, request in REQUESTS.items()}, sys.stdout)


if __name__ == "__main__":
    main()
