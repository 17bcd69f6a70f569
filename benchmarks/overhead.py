"""Claim: running a single-stage plan costs at most 2 % more than calling the model's prepared program in a plain loop,
with an upper 95 % bound of at most 5 %, for a small model (MobileNetV2) and a large one (ViT).

    python benchmarks/overhead.py [--rounds 15] [--seconds 2] [-o overhead.json] [model ...]

The loop is one process bound to the PUs of the plan's worker, with as many threads, the same environment (malloc
settings with it), program, weights and items; it calls what the eager back end prepares, and drops what it returns. The
executor is fed by this process, which takes every output. Both take turns (A B A B); each round of either is so many
items as take about `--seconds`. The overhead is the median over rounds of executor over loop, with its 95 % interval.

Two rows a model: one thread on one core, with the process that feeds bound to another core; and a thread on every core,
where that process shares one of them with the worker, so that its work shows in full.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from mapper.backends.eager import prepare
from mapper.backends.threads import torch_threads
from mapper.cost.configurations import configurations
from mapper.errors import Infeasible
from mapper.execution.executor import Executor
from mapper.execution.place import resolve_pus
from mapper.execution.run import drawn_items
from mapper.execution.workers.environment import environment
from mapper.host.affinity import allowed_pus, pin
from mapper.host.load import Others
from mapper.machine.discover import discover
from mapper.machine.model import Machine
from mapper.plans.file import load_plan, save_plan
from mapper.plans.model import Plan
from mapper.plans.source import graph_of_source
from mapper.reports.table import table
from mapper.solver.plan import plan
from mapper.solver.problem import Limits
from mapper.sources.source import realised_source
from mapper.study.statistics import Interval, median_interval

MODELS = ("mobilenetv2", "vit")
ITEMS = 2
"""Different items, in turn."""
MEDIAN, BOUND = 1.02, 1.05
WARM_UP = 2
"""Rounds before those that count."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help=f"models [{' '.join(MODELS)}]")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--loop", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--pus", type=json.loads, help=argparse.SUPPRESS)
    parser.add_argument("-o", "--output", type=Path)
    args = parser.parse_args()
    if args.loop:
        return loop(load_plan(args.loop), args.pus)
    machine, results = discover(), []
    for model in args.models or MODELS:
        for title, found in plans(model, machine).items():
            print(f"{model}, {title} ...", file=sys.stderr, flush=True)
            results.append({"model": model, "plan": title, **compared(found, machine, args.rounds, args.seconds)})
    print("\n".join(lines(results)))
    for result in results:
        print(
            f"{result['verdict']}: {result['model']}, {result['plan']}: at most 2 % in the median, 5 % at the upper end"
        )
    if args.output:
        args.output.write_text(json.dumps(results, indent=1) + "\n")
    return None


def plans(model: str, machine: Machine) -> dict[str, Plan]:
    """The single-stage plans with one copy, by what they are called."""
    graph, reference = graph_of_source(model)
    known = configurations(machine)
    wanted = {"one core of its own": known[0], "all cores": known[-1]}
    if len(machine.cores) == 1:
        del wanted["one core of its own"]
    found = {}
    for title, configuration in wanted.items():
        limits = Limits(stages=1, max_replicas=1, configurations=(configuration,))
        with contextlib.suppress(Infeasible):
            found[title] = plan(graph, machine, model=reference, limits=limits)
    return found


def compared(found: Plan, machine: Machine, rounds: int, seconds: float) -> dict[str, Any]:
    """Seconds an item in each round, of both, and what follows."""
    ((pus,),) = resolve_pus(found, machine)
    threads = found.stages[0].replicas[0].configuration.threads
    source = realised_source(found)
    items = drawn_items(found, source, ITEMS)
    elsewhere = sorted(set(allowed_pus()) - set(pus))[:1]
    with (
        torch_threads(1), looping(found, pus, threads) as child, Executor(found, source, machine=machine) as executor,
        apart(elsewhere),
    ):  # fmt: skip
        count = max(4, round(seconds / (asked(child, 4) / 4)))
        others = Others(pus, [child.pid, *(worker.pid for worker in executor.statistics().workers)])
        pairs = []
        for number in range(WARM_UP + rounds):
            print(f"round {number + 1 - WARM_UP} of {rounds} ...", file=sys.stderr, flush=True)
            pairs.append((streamed(executor, items, count) / count, asked(child, count) / count))
        taken = others.taken().share
    return judged(pairs[WARM_UP:]) | {"items": count, "pus": pus, "threads": threads, "others": taken}


def streamed(executor: Executor, items: Sequence[Any], count: int) -> float:
    """Seconds that the executor takes for `count` items."""
    began = time.perf_counter()
    for _ in executor.map(items[n % ITEMS] for n in range(count)):
        pass
    return time.perf_counter() - began


def asked(child: subprocess.Popen[str], count: int) -> float:
    """Seconds that the loop takes for `count` items."""
    assert child.stdin is not None and child.stdout is not None
    print(count, file=child.stdin, flush=True)
    return float(child.stdout.readline())


@contextlib.contextmanager
def looping(found: Plan, pus: Sequence[int], threads: int) -> Iterator[subprocess.Popen[str]]:
    """The process of the loop."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "plan.json"
        save_plan(found, path)
        words = [sys.executable, __file__, "--loop", str(path), "--pus", json.dumps(list(pus))]
        with subprocess.Popen(
            words, env=environment(threads), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as child:
            yield child
            assert child.stdin is not None
            child.stdin.close()


def loop(found: Plan, pus: Sequence[int]) -> None:
    """The process of the loop: reads how many items to compute, and prints how many seconds they took."""
    pin(pus)
    torch.set_num_interop_threads(1)
    source = realised_source(found)
    items = drawn_items(found, source, ITEMS)
    compute = prepare(source.program, source.weights, found.stages[0].replicas[0].configuration.threads)
    with torch.inference_mode():
        for line in sys.stdin:
            began = time.perf_counter()
            for number in range(int(line)):
                compute(*items[number % ITEMS])
            print(time.perf_counter() - began, flush=True)


@contextlib.contextmanager
def apart(pus: Sequence[int]) -> Iterator[None]:
    """Binds this process to `pus`, if there are any, and lets it go again. Workers are bound already."""
    before = allowed_pus()
    if pus:
        pin(pus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def judged(pairs: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """What the rounds say of the claim."""
    ratio = median_interval([executor / loop for executor, loop in pairs])
    kept = ratio.median <= MEDIAN and ratio.high <= BOUND
    verdict = "supported" if kept else "refuted" if ratio.low > MEDIAN or ratio.low > BOUND else "undecided"
    return {
        "verdict": verdict, "ratio": vars(ratio), "executor_s": [a for a, _ in pairs], "loop_s": [b for _, b in pairs],
    }  # fmt: skip


def lines(results: Sequence[dict[str, Any]]) -> list[str]:
    """The table."""
    rows = []
    for result in results:
        ratio = Interval(**result["ratio"])
        loop_ms, executor_ms = (1e3 * median_interval(result[name]).median for name in ("loop_s", "executor_s"))
        rows.append([
            result["model"], result["plan"], f"{loop_ms:.2f}", f"{executor_ms:.2f}", f"{ratio.median - 1:+.1%}",
            f"{ratio.low - 1:+.1%} to {ratio.high - 1:+.1%}", f"{result['others']:.0%}",
        ])  # fmt: skip
    head = ["model", "plan", "loop, ms an item", "executor, ms", "overhead", "95 %", "others took"]
    return table(head, rows, right="23456")


if __name__ == "__main__":
    main()
