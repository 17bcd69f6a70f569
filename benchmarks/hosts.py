"""Claims: what goes over a link is what the plan says crosses it, but for headers (at most 10 % more on the wire); two
hosts on a 1 Gbit link give a higher rate than one, as copies and as a pipeline.

    python benchmarks/hosts.py [--model mobilenetv2] [--items 200] [--rate 1gbit] [--rounds 3] [-o hosts.json]

Two hosts are two network namespaces of this machine, joined by a veth pair that tbf shapes in each direction; each has
one PU for agent and worker. Needs root, ip, tc and two PUs. `alone` is the whole model on the host that feeds,
`elsewhere` the same on the other one, `copies` a copy on each (every other item crosses), `split` two stages at the
border where, among those that leave each host 35 % of the FLOPs at least, fewest bytes cross. All in turn in each
round; the table has medians. `on the wire` is what the interfaces counted in the run, over all items, warm-up too.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mapper.execution.hosts.parts import cut
from mapper.graph.measure import graph_of
from mapper.graph.model import Graph
from mapper.jsonio import dumps
from mapper.plans.model import Plan
from mapper.program.realise import realise
from mapper.program.split import split
from mapper.program.trace import trace_program
from mapper.reports.table import table
from mapper.units import format_bytes, format_rate, format_seconds
from tests.execution.hosts.clusters import bundle_of, plan_over
from tests.execution.hosts.namespaces import PORT, Network
from tests.tracing import Traced

WARMUP = 8
LEAST_SHARE = 0.35
MOST_ON_WIRE = 1.1


@dataclass(frozen=True)
class Way:
    """A way to use the hosts: its plan and bundle, and what it says of the link."""

    name: str
    plan: Plan
    bundle: Path
    link_bytes: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mobilenetv2")
    parser.add_argument("--items", type=int, default=200)
    parser.add_argument("--rate", default="1gbit")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("-o", "--output", type=Path)
    args = parser.parse_args()
    pus = sorted(os.sched_getaffinity(0))[:2]
    if os.geteuid() != 0 or len(pus) < 2:
        sys.exit("two network namespaces need root, and two hosts need a PU each")
    with tempfile.TemporaryDirectory() as folder, Network(2, args.rate) as net:
        found = ways(args.model, Path(folder))
        measured: dict[str, list[dict[str, float]]] = {way.name: [] for way in found}
        for number, way in itertools.product(range(args.rounds), found):
            print(f"round {number + 1}: {way.name} ...", end="\r", file=sys.stderr, flush=True)
            measured[way.name].append(once(net, way, args.items, pus))
    results = {way.name: summed(way, measured[way.name]) for way in found}
    print("\n".join(shown(args.model, args.rate, results)))
    if args.output:
        args.output.write_text(dumps({"model": args.model, "rate": args.rate, "items": args.items, "ways": results}))
    return 0


def ways(name: str, folder: Path) -> list[Way]:
    """The plans that are compared, each in a bundle."""
    made = realise(name)
    program, weights = trace_program(made.module, made.args, made.kwargs, name=name)
    model = Traced(made.module, program, weights, graph_of(program))
    ops, border = [op.name for op in model.graph.ops], best_border(model.graph, model)
    named = {**dict(zip((x.name for x in program.inputs), made.args, strict=False)), **made.kwargs}
    item: list[torch.Tensor] = [named[x.name] for x in program.inputs]
    spread = {
        "alone": ([ops], [[0]]), "elsewhere": ([ops], [[1]]), "copies": ([ops], [[0, 1]]),
        "split": ([ops[:border], ops[border:]], [[0], [1]]),
    }  # fmt: skip
    found = []
    for way, (stages, hosts) in spread.items():
        plan = plan_over(model, stages, hosts)
        bundle = bundle_of(folder / f"{way}.bundle", plan, model, item)
        found.append(Way(way, plan, bundle, cut(plan, program).link_bytes_per_call))
    return found


def best_border(graph: Graph, model: Traced) -> int:
    """Before which op to split: few bytes, and enough to do on either side."""
    ops, whole = [op.name for op in graph.ops], sum(op.flop for op in graph.ops)
    before = list(itertools.accumulate(op.flop / whole for op in graph.ops))
    fitting = [i + 1 for i, share in enumerate(before[:-1]) if LEAST_SHARE <= share <= 1 - LEAST_SHARE]

    def crossing(border: int) -> int:
        first, second = split(model.program, [ops[:border], ops[border:]])
        return sum(x.type.bytes for x in second.inputs if x.name in first.output_names)

    return min(fitting, key=crossing)


def once(net: Network, way: Way, items: int, pus: Sequence[int]) -> dict[str, float]:
    """One run on all hosts that the plan needs."""
    hosts = cut_hosts(way)
    before = sum(net.sent_bytes(host) for host in range(2))
    options = ["--front", f"{net.address(0)}:{PORT}", "--items", items, "--warmup", WARMUP, "--json"]
    started = [net.start(host, "host", host, way.bundle, *options, pus=(pus[host],)) for host in hosts]
    out, err = started[0].communicate(timeout=600)
    for other in started[1:]:
        other.communicate(timeout=60)
    if started[0].returncode:
        raise subprocess.CalledProcessError(started[0].returncode, way.name, out, err)
    found: dict[str, Any] = json.loads(out)
    wire = sum(net.sent_bytes(host) for host in range(2)) - before
    return {
        "throughput_per_s": found["throughput_per_s"], "latency_s": found["latency_s"]["p50"],
        "sent_bytes": sum(host["sent_bytes"] for host in found["hosts"]), "wire_bytes": wire / (items + WARMUP),
    }  # fmt: skip


def cut_hosts(way: Way) -> tuple[int, ...]:
    """The hosts that a plan needs."""
    from mapper.plans.hosts import hosts_used

    return hosts_used(way.plan)


def summed(way: Way, runs: Sequence[dict[str, float]]) -> dict[str, float]:
    """The medians of all rounds, and what the plan says."""
    return {"plan_bytes": way.link_bytes} | {key: statistics.median(run[key] for run in runs) for key in runs[0]}


def shown(model: str, rate: str, results: dict[str, dict[str, float]]) -> list[str]:
    """The table, and what it says of the claims."""
    rows = [
        [
            name, f"{format_rate(seen['throughput_per_s'])}", format_seconds(seen["latency_s"]),
            format_bytes(seen["plan_bytes"]), format_bytes(seen["sent_bytes"]), format_bytes(seen["wire_bytes"]),
            f"{seen['throughput_per_s'] / results['alone']['throughput_per_s']:.2f}",
        ]
        for name, seen in results.items()
    ]  # fmt: skip
    head = [f"{model}, {rate}", "items/s", "latency", "plan says", "sent", "on the wire", "against alone"]
    exact = all(round(seen["plan_bytes"]) == round(seen["sent_bytes"]) for seen in results.values())
    crossing = [seen for seen in results.values() if seen["plan_bytes"]]
    wire = max(seen["wire_bytes"] / seen["plan_bytes"] for seen in crossing)
    faster = [name for name in ("copies", "split") if rows[list(results).index(name)][-1] > "1.00"]
    return [
        *table(head, rows, right="123456"),
        f"sent is what the plan says: {'yes' if exact else 'no'}; on the wire at most {wire - 1:.1%} more: "
        f"{'holds' if wire <= MOST_ON_WIRE else 'does not hold'}",
        f"faster than alone: {', '.join(faster) or 'none'}",
    ]


if __name__ == "__main__":
    sys.exit(main())
