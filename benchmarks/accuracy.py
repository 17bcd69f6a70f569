"""Claim: predicted times of whole models and of random convex pieces, one process, 1 and 2 threads, calibrated: median
absolute error at most 30 %, rank correlation over pieces at least 0.9.

    mapper calibrate -o host.json
    python benchmarks/accuracy.py --topo host.json [--pieces 4] [--rounds 5] [--by-kind] [-o accuracy.json] [model ...]

Each model is cut into 2 to 8 pieces, contiguous in a random order in which its ops can run. The model and its pieces
are measured in pinned processes of their own, started as workers are, with the eager back end and made-up weights
(their shapes matter, their values do not): the median of interleaved rounds after a warm-up. Both predictions are for
one replica alone on the machine: `analytic` from what the kernel shows and defaults, `calibrated` from the file.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import random
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mapper.cost.configurations import Config
from mapper.cost.residency import DRAM, GROUP, PACKAGE
from mapper.cost.roofline import roofline
from mapper.errors import MapperError
from mapper.execution.workers.environment import environment
from mapper.graph.model import Graph
from mapper.machine.discover import discover
from mapper.machine.files import load_machine
from mapper.machine.model import Machine
from mapper.plans.source import graph_of_source
from mapper.program.cards import card_names
from mapper.program.model import TensorType
from mapper.program.split import split
from mapper.reports.table import table

TARGET_ERROR, TARGET_RANK = 0.3, 0.9
MOST_CALLS = 200
WAITED = 0.02
"""Part of a call that its threads may wait for a core."""
ANALYTIC, CALIBRATED = "analytic", "calibrated"


@dataclass
class Sample:
    """A model or a piece of it, measured and predicted with so many threads. `kind` has most of the predicted time."""

    model: str
    ops: int
    whole: bool
    threads: int
    kind: str
    measured_s: float
    predicted_s: dict[str, float]

    def error(self, how: str) -> float:
        """Predicted over measured, less one."""
        return self.predicted_s[how] / self.measured_s - 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help="models [all cards]")
    parser.add_argument("--topo", help="a calibrated description of this machine")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.1, help="how long a round of one piece takes")
    parser.add_argument("--most-gb", type=float, default=1.5, help="models with more weights are left out")
    parser.add_argument("--most-gflop", type=float, default=80, help="models with more arithmetic are left out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--by-kind", action="store_true", help="the error by the kind of op that dominates a piece")
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(timed(json.loads(args.child))))
        return
    machines = {ANALYTIC: discover()} | ({CALIBRATED: load_machine(args.topo)} if args.topo else {})
    samples: list[Sample] = []
    for name in args.models or card_names():
        samples += sampled(name, machines, args)
    print("\n".join(report(samples, list(machines), args.by_kind)))
    if args.output:
        args.output.write_text(json.dumps([asdict(s) for s in samples], indent=1) + "\n")


def sampled(name: str, machines: dict[str, Machine], args: argparse.Namespace) -> list[Sample]:
    """The samples of one model; none where it is too large or cannot be traced here."""
    try:
        graph, _ = graph_of_source(name)
    except MapperError as error:
        print(f"{name}: left out, {error}", file=sys.stderr)
        return []
    if graph.weight_bytes > args.most_gb * 1e9 or graph.flop > args.most_gflop * 1e9:
        print(f"{name}: left out, {graph.weight_bytes / 1e9:.2g} GB, {graph.flop / 1e9:.3g} GFLOP", file=sys.stderr)
        return []
    parts = [tuple(op.name for op in graph.ops), *pieces(graph, random.Random(f"{args.seed} {name}"))]
    pus = [core.pus[0] for core in machines[ANALYTIC].cores]
    out = []
    for threads in (t for t in args.threads if t <= len(pus)):
        given = {"model": name, "parts": parts, "threads": threads, "rounds": args.rounds, "seconds": args.seconds,
                 "pus": pus[:threads]}  # fmt: skip
        began = time.monotonic()
        done = subprocess.run([sys.executable, __file__, "--child", json.dumps(given)], stdout=subprocess.PIPE,
                              env=environment(threads), check=True)  # fmt: skip
        for i, (names, seconds) in enumerate(zip(parts, json.loads(done.stdout), strict=True)):
            foreseen = {how: predicted(graph, machine, names, threads) for how, machine in machines.items()}
            kind = max(foreseen[next(reversed(foreseen))][1].items(), key=lambda item: item[1])[0]
            out.append(Sample(name, len(names), i == 0, threads, kind, seconds, {h: p[0] for h, p in foreseen.items()}))
        print(f"{name}, {threads} threads: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return out


def pieces(graph: Graph, rng: random.Random) -> list[tuple[str, ...]]:
    """2 to 8 pieces: a random order in which the ops can run, cut at random places."""
    waiting = {op.name: set(graph.digraph.predecessors(op.name)) for op in graph.ops}
    ready = [name for name, before in waiting.items() if not before]
    order = []
    while ready:
        name = ready.pop(rng.randrange(len(ready)))
        order.append(name)
        for reader in graph.digraph.successors(name):
            waiting[reader].discard(name)
            if not waiting[reader]:
                ready.append(reader)
    count = min(len(order), rng.randint(2, 8))
    cuts = [0, *sorted(rng.sample(range(1, len(order)), count - 1)), len(order)]
    return [tuple(order[a:b]) for a, b in itertools.pairwise(cuts)]


def predicted(graph: Graph, machine: Machine, names: tuple[str, ...], threads: int) -> tuple[float, dict[str, float]]:
    """Seconds of the ops `names` run over and over by one process alone, and by kind of op."""
    config = Config(1, threads) if threads <= machine.cores_per_group else Config(threads, 1)
    costs = roofline(graph, machine, (config,), alone=True)
    rows = [graph.position[name] for name in names]
    ops = [graph.ops[v] for v in rows]
    touched = sum({w.name: w.touched_bytes for op in ops for w in op.weights}.values())
    private = max(op.footprint_bytes for op in ops)
    near, far = costs.caches.group_bytes * config.groups, costs.caches.package_bytes
    residency = GROUP if touched + private <= near else PACKAGE if touched + private <= far else DRAM
    by_kind: dict[str, float] = {}
    for v, op in zip(rows, ops, strict=True):
        by_kind[op.kind] = by_kind.get(op.kind, 0.0) + float(costs.seconds[v, 0, residency])
    return sum(by_kind.values()), by_kind


def timed(given: dict[str, Any]) -> list[float]:
    """In a process of its own: seconds of each part, the median of interleaved rounds."""
    from mapper.host.affinity import pin

    pin(set(given["pus"]))
    import torch

    from mapper.backends import eager

    torch.set_num_threads(given["threads"])
    program = graph_of_source(given["model"])[0].program
    assert program is not None
    parts = [program, *split(program, given["parts"][1:])]
    weights = {weight.name: made(weight.type) for weight in program.weights}
    calls = []
    with torch.inference_mode():
        for part in parts:
            compute = eager.prepare(part, weights, given["threads"])
            calls.append((compute, [made(i.type) for i in part.inputs]))
            compute(*calls[-1][1])
        rounds = [[seconds(c, x, given["seconds"]) for c, x in calls] for _ in range(given["rounds"])]
    del program
    return [statistics.median(column) for column in zip(*rounds, strict=True)]


def seconds(compute: Any, item: list[Any], budget: float) -> float:
    """Seconds a call, the median of some calls within `budget`, after one to warm up.

    Calls in which a thread had to wait for a core do not count, as long as there are others within five times that.
    """
    compute(*item)
    taken: list[float] = []
    disturbed: list[float] = []
    until = time.perf_counter() + budget
    while len(taken) < MOST_CALLS:
        waited = waited_s()
        began = time.perf_counter()
        compute(*item)
        ended = time.perf_counter()
        quiet = waited_s() - waited < WAITED * (ended - began)
        (taken if quiet else disturbed).append(ended - began)
        if (ended > until and len(taken) > 1) or ended > until + 4 * budget:
            break
    return statistics.median(taken) if taken else min(disturbed)


def waited_s() -> float:
    """Seconds that the threads of this process were ready to run and had no core."""
    waits = 0
    for entry in Path("/proc/self/task").iterdir():
        try:
            waits += int((entry / "schedstat").read_text().split()[1])
        except (OSError, IndexError):
            continue
    return waits / 1e9


def made(kind: TensorType) -> Any:
    """A tensor of made-up values that stay of one size through the layers: no infinities, no subnormal numbers."""
    import torch

    dtype = getattr(torch, kind.dtype)
    count = max(1, kind.extent_bytes // kind.item_bytes)
    if not dtype.is_floating_point:
        values = torch.zeros(count, dtype=dtype)
    elif len(kind.shape) < 2:
        values = torch.ones(count, dtype=dtype)
    else:
        fan_in = max(1, kind.elements // kind.shape[0])
        values = torch.empty(count, dtype=dtype).uniform_(-1, 1).mul_(math.sqrt(3 / fan_in))
    return values.as_strided(kind.shape, kind.strides)


def report(samples: list[Sample], ways: list[str], by_kind: bool) -> list[str]:
    """Models, then pieces by threads, then the verdict."""
    out = [*_models(samples, ways), ""]
    groups: list[tuple[str, list[Sample]]] = []
    for threads in sorted({s.threads for s in samples}):
        mine = [s for s in samples if s.threads == threads]
        groups += [(f"models, {threads} threads", [s for s in mine if s.whole]),
                   (f"pieces, {threads} threads", [s for s in mine if not s.whole])]  # fmt: skip
    groups.append(("pieces", [s for s in samples if not s.whole]))
    if by_kind:
        kinds = sorted({s.kind for s in samples})
        groups += [(f"pieces, mostly {k}", [s for s in samples if s.kind == k and not s.whole]) for k in kinds]
    rows = [[name, how, *summary(mine, how)] for name, mine in groups if mine for how in ways]
    out += table(["samples", "costs", "n", "median |error|", "90th", "bias", "rank"], rows, right="23456", indent="")
    judged = [s for s in samples if not s.whole]
    for how in ways:
        error, rank = statistics.median(abs(s.error(how)) for s in judged), spearman(judged, how)
        held = error <= TARGET_ERROR and rank >= TARGET_RANK
        verdict = "met" if held else "missed"
        out.append(f"{how}: median error {error:.0%}, rank correlation {rank:.3f}: target {verdict}")
    return out


def _models(samples: list[Sample], ways: list[str]) -> list[str]:
    """One line a model and number of threads."""
    rows = []
    for whole in (s for s in samples if s.whole):
        mine = [s for s in samples if s.model == whole.model and s.threads == whole.threads and not s.whole]
        rows.append([
            whole.model, str(whole.threads), f"{whole.measured_s * 1e3:.4g}",
            *(f"{whole.predicted_s[how] * 1e3:.4g} ({whole.error(how):+.0%})" for how in ways),
            *(f"{statistics.median(abs(s.error(how)) for s in mine):.0%}" for how in ways), str(len(mine)),
        ])  # fmt: skip
    head = ["model", "threads", "measured ms", *ways, *(f"pieces {how}" for how in ways), "n"]
    return table(head, rows, right="12345678", indent="")


def summary(samples: list[Sample], how: str) -> list[str]:
    """Number, median and 90th percentile of the absolute error, median error, rank correlation."""
    errors = sorted(abs(s.error(how)) for s in samples)
    bias = statistics.median(s.error(how) for s in samples)
    ninth = errors[min(len(errors) - 1, math.ceil(0.9 * len(errors)) - 1)]
    rank = f"{spearman(samples, how):.3f}" if len(samples) > 2 else ""
    return [str(len(samples)), f"{statistics.median(errors):.0%}", f"{ninth:.0%}", f"{bias:+.0%}", rank]


def spearman(samples: list[Sample], how: str) -> float:
    """The correlation of the ranks of predicted and measured times."""
    ranks = []
    for values in ([s.measured_s for s in samples], [s.predicted_s[how] for s in samples]):
        order = sorted(range(len(values)), key=values.__getitem__)
        ranks.append([float(order.index(i)) for i in range(len(values))])
    return statistics.correlation(*ranks) if len(samples) > 1 else 1.0


if __name__ == "__main__":
    main()
