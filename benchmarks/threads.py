"""Claim: no back end computes faster with its replicas in threads of one process than with a process each.

    python benchmarks/threads.py [--rounds 15] [--seconds 0.5] [--backend onnxruntime ...] [-o threads.json] [model ...]

As many replicas of a model as there are cores, one thread each, bound to a core, compute without rings between them:
once in a process each, once in threads of one process. Both are started first, then rounds are interleaved (A B, B A).
Printed is the rate of threads over that of processes, with the 95 % interval of the paired ratio, and the memory that
each takes (proportional set size). So it is decided how an executor runs replicas: in processes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from mapper.backends.compile import Team, artefacts
from mapper.backends.registry import BACKENDS, backend_called
from mapper.execution.workers.environment import environment
from mapper.host.affinity import allowed_pus, pin
from mapper.plans.source import graph_of_source
from mapper.program.items import random_items
from mapper.program.realise import realise
from mapper.program.trace import trace_program
from mapper.reports.table import table
from mapper.study.statistics import median_interval

MODELS = ("mobilenetv2", "bert")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help=f"models [{' '.join(MODELS)}]")
    parser.add_argument("--backend", action="append", help="back ends [all that are installed]")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        serve(**json.loads(args.child))
        return
    backends = args.backend or [name for name, backend in BACKENDS.items() if backend.available() is None]
    results = [compared(model, name, args) for model in args.models or MODELS for name in backends]
    rows = [
        [r["model"], r["backend"], f"{r['ratio']:.3f}", f"{r['low']:.3f} to {r['high']:.3f}",
         f"{r['threads_bytes'] / 2**20:.0f} MiB", f"{r['processes_bytes'] / 2**20:.0f} MiB"]
        for r in results
    ]  # fmt: skip
    print("\n".join(table(["model", "back end", "threads / processes", "interval", "threads", "processes"], rows)))
    faster = [f"{r['model']} with {r['backend']}" for r in results if r["low"] > 1]
    print(f"Claim {'refuted' if faster else 'supported'}: faster in threads: {', '.join(faster) or 'none'}")
    if args.output:
        args.output.write_text(json.dumps(results, indent=1) + "\n")


def compared(model: str, backend: str, args: argparse.Namespace) -> dict[str, Any]:
    """Rates of threads over those of processes."""
    print(f"{model} with {backend} ...", file=sys.stderr)
    pus = list(allowed_pus())
    layouts = {"threads": [pus], "processes": [[pu] for pu in pus]}
    children = {name: [start(model, backend, group) for group in groups] for name, groups in layouts.items()}
    try:
        for group in children.values():
            for child in group:
                line(child)
        ratios = []
        for number in range(args.rounds + 1):
            order = ["threads", "processes"] if number % 2 else ["processes", "threads"]
            rates = {name: measured(children[name], args.seconds) for name in order}
            if number:
                ratios.append(rates["threads"] / rates["processes"])
        memory = {name: sum(pss_bytes(child.pid) for child in group) for name, group in children.items()}
    finally:
        for group in children.values():
            for child in group:
                child.kill()
                child.wait()
    interval = median_interval(ratios)
    return {"model": model, "backend": backend, "ratio": interval.median, "low": interval.low, "high": interval.high,
            "threads_bytes": memory["threads"], "processes_bytes": memory["processes"]}  # fmt: skip


def start(model: str, backend: str, pus: Sequence[int]) -> subprocess.Popen[str]:
    words = [sys.executable, __file__, "--child", json.dumps({"model": model, "backend": backend, "pus": pus})]
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(1))


def line(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    if not (said := child.stdout.readline()):
        raise RuntimeError(f"process {child.pid} has ended")
    return said


def measured(children: Sequence[subprocess.Popen[str]], seconds: float) -> float:
    """Items a second of all `children` together."""
    for child in children:
        assert child.stdin is not None
        child.stdin.write(f"{seconds}\n")
        child.stdin.flush()
    return sum(float(line(child)) for child in children)


def pss_bytes(pid: int) -> int:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return 1024 * int(text.partition("\nPss:")[2].split()[0])


def serve(model: str, backend: str, pus: Sequence[int]) -> None:
    """A replica on each of `pus`, in a thread each; for every line on stdin, that many seconds of computing."""
    pin(pus)
    made = realise(model, {})
    program, weights = trace_program(made.module, made.args, made.kwargs, name=model)
    found = backend_called(backend)
    with open(os.memfd_create("weights"), "w+b") as file:
        from mapper.program.weights import laid_out, write_weights

        write_weights(file, laid_out(program, weights))
        file.flush()
        folder = artefacts(found, [Team(0, 1, program)], weights, file.fileno()).get((0, 1))
    drawn = random_items(graph_of_source(model)[1].item, 1, 0)[0]
    item = [drawn[given.name] for given in program.inputs]
    print("ready", flush=True)
    ready, counts = threading.Barrier(len(pus) + 1), [0.0] * len(pus)
    until = [0.0]

    def replica(number: int) -> None:
        pin([pus[number]])
        with torch.inference_mode():
            compute = found.load(program, weights, 1, folder).compute
            compute(*item)
            while True:
                ready.wait()
                began, count = time.monotonic(), 0
                while (now := time.monotonic()) < until[0]:
                    compute(*item)
                    count += 1
                counts[number] = count / (now - began)
                ready.wait()

    for number in range(len(pus)):
        threading.Thread(target=replica, args=(number,), daemon=True).start()
    for said in sys.stdin:
        until[0] = time.monotonic() + float(said)
        ready.wait()
        ready.wait()
        print(sum(counts), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
