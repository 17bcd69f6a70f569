"""Claim: 10,000 ops, 1,024 groups of 4 cores and 64 stages are each planned in under a minute of one core and 4 GB.

    python benchmarks/scale.py [--only ops,groups,both,stages] [--limit SECONDS] [-o scale.json]

What grows is doubled or tripled while the rest stays: the ops of three families of graphs, once with times of their own
on 16 equal units and once with computed costs on 16 groups of 4 cores; the groups of the machine; ops and groups both;
the stages asked for. Ops have six shapes, as the layers of a model repeat; costs are computed once a shape.
Each plan is made in a process of its own, whose seconds (of the clock, and of the processor) are those of `mapper.plan`
alone and whose memory is the most that it held, imports included. The exponent is the slope of a least-squares line
through the logarithms of size and processor seconds, or size and memory; `last` is that between the two largest sizes,
where what is small has stopped to matter. `searched` is what the search went over: all chains of ideals of the ops,
some of them, or those of so many blocks of ops.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from mapper.graph.model import Graph, Op, Tensor, WeightUse
from mapper.reports.table import table
from mapper.units import format_bytes, format_seconds

LIMIT_S, LIMIT_BYTES = 60.0, 4e9
"""Of the claim: processor seconds, so that it can be tested beside other work."""
ADDRESS_SPACE = 12 * 2**30
"""What a child may ask the system for, so that a case that is too large ends by itself."""
OPS = (100, 300, 1000, 3000, 10000)
GROUPS = (64, 128, 256, 512, 1024)
STAGES = (4, 8, 16, 32, 64)
MACHINE = "numa:4 group:4 core:4(flops=16G)"

Case = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="ops,groups,both,stages")
    parser.add_argument("--limit", type=float, default=300.0, help="processor seconds after which a case is given up")
    parser.add_argument("--largest", type=int, default=10**9, help="leave out larger sizes")
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--case", help="plan this case in this process (JSON)")
    args = parser.parse_args()
    if args.case:
        print(json.dumps(planned(json.loads(args.case), args.limit)))
        return
    found: dict[str, list[Case]] = {}
    for series, cases in series_of(args.only.split(",")):
        for case in cases:
            if case["size"] <= args.largest:
                found.setdefault(series, []).append(in_a_child(case, args.limit))
                print(f"  {series}, {case['size']}: {told(found[series][-1])}", file=sys.stderr)
    print("\n".join(report(found)))
    if args.output:
        fits = {name: {what: fit(rows, what) for what in ("cpu_s", "bytes")} for name, rows in found.items()}
        args.output.write_text(json.dumps({"series": found, "exponents": fits}, indent=1) + "\n")


def series_of(only: list[str]) -> Iterator[tuple[str, list[Case]]]:
    """Every series by name: cases that differ in one size."""
    if "ops" in only:
        for family in FAMILIES:
            for costs, topo in (("given", "uniform:16"), ("roofline", MACHINE)):
                yield (
                    f"ops, {family}, {costs}",
                    [{"size": n, "family": family, "ops": n, "costs": costs, "topo": topo} for n in OPS],
                )
    if "groups" in only:
        yield (
            "groups of 4",
            [{"size": n, "family": "blocks", "ops": 120, "costs": "roofline", "topo": f"numa:4 group:{n // 4} core:4"}
             for n in GROUPS],
        )  # fmt: skip
        yield (
            "units",
            [{"size": n, "family": "blocks", "ops": 1000, "costs": "given", "topo": f"uniform:{n}"} for n in GROUPS],
        )
    if "both" in only:
        yield (
            "ops and groups",
            [{"size": n, "family": "blocks", "ops": n, "costs": "roofline", "topo": f"numa:4 group:{n // 4} core:4"}
             for n in GROUPS],
        )  # fmt: skip
    if "stages" in only:
        for costs, topo in (("given", "uniform:64"), ("roofline", "numa:4 group:16 core:4")):
            yield (
                f"stages, {costs}",
                [{"size": n, "family": "blocks", "ops": 240, "costs": costs, "topo": topo, "stages": n}
                 for n in STAGES],
            )  # fmt: skip


# graphs


def chain(ops: int) -> Iterator[tuple[int, list[int]]]:
    """One op after the other: (op, its readers)."""
    for v in range(ops):
        yield v, [v + 1]


def blocks(ops: int) -> Iterator[tuple[int, list[int]]]:
    """Blocks of ten ops like a transformer's: three projections side by side, two residuals."""
    for v in range(ops):
        first, at = v - v % 10, v % 10
        readers = {0: [1, 2, 3, 6], 1: [4], 2: [4], 3: [4], 4: [5], 5: [6], 6: [7, 9], 7: [8], 8: [9], 9: [10]}[at]
        yield v, [first + r for r in readers]


def wide(ops: int) -> Iterator[tuple[int, list[int]]]:
    """Cells of sixteen ops like Inception's: four branches of one to five ops between a split and a join."""
    for v in range(ops):
        first, at = v - v % 16, v % 16
        readers = {0: [1, 2, 5, 10], 1: [15], 4: [15], 9: [15], 14: [15], 15: [16]}.get(at, [at + 1])
        yield v, [first + r for r in readers]


FAMILIES = {"chain": chain, "blocks": blocks, "wide": wide}


def graph_of(case: Case) -> Graph:
    """The graph of a case; costs vary by op, always in the same way."""
    draw, count, given = Random(0), case["ops"], case["costs"] == "given"
    ops, tensors = [], []
    for v, readers in FAMILIES[case["family"]](count):
        heavy = draw.choice((1, 4, 20))
        size = draw.choice((100_000, 400_000))
        weight = WeightUse(name=f"w{v}", bytes=heavy * 200_000, touched_bytes=heavy * 200_000)
        ops.append(
            Op(name=f"op{v}", kind="other", proc_s=heavy * 1e-4) if given
            else Op(name=f"op{v}", kind="matmul", flop=heavy * 1e7, elements=size // 4, read_bytes=size,
                    write_bytes=size, weights=(weight,))
        )  # fmt: skip
        there = tuple(f"op{r}" for r in readers if r < count)
        if there:
            seconds = size / 16e9 if given else None
            tensors.append(Tensor(name=f"t{v}", producer=f"op{v}", readers=there, bytes=size, comm_s=seconds))
    return Graph(name=case["family"], ops=tuple(ops), tensors=tuple(tensors))


# one case


def planned(case: Case, limit: float) -> Case:
    """Plans `case` here, in at most `limit` processor seconds: seconds of the clock and of the processor, the most
    memory held, what came of it."""
    from mapper.machine.files import load_machine
    from mapper.solver.plan import plan
    from mapper.solver.problem import Limits

    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(limit), math.ceil(limit) + 1))
    graph, machine = graph_of(case), load_machine(case["topo"])
    before = resource.getrusage(resource.RUSAGE_SELF)
    limits = Limits(stages=case.get("stages"), max_replicas=1 if case["costs"] == "given" else None)
    began = time.monotonic()
    made = plan(graph, machine, limits=limits, near_optimal=0.0 if case["costs"] == "given" else 0.01)
    seconds = time.monotonic() - began
    after = resource.getrusage(resource.RUSAGE_SELF)
    return {
        **case, "seconds": seconds, "cpu_s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "bytes": after.ru_maxrss * 1024, "bytes_before": before.ru_maxrss * 1024, "status": made.solver.status,
        "gap": made.solver.gap, "stages_found": len(made.stages), "space": made.solver.proved.space,
    }  # fmt: skip


def in_a_child(case: Case, limit: float) -> Case:
    """`planned` in a process of its own; what went wrong where it does not end well."""
    command = [sys.executable, __file__, "--case", json.dumps(case), "--limit", str(limit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == -signal.SIGXCPU:
        return {**case, "failed": f"over {limit:g} s"}
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        return {**case, "failed": last[0][:80]}
    found: Case = json.loads(done.stdout)
    return found


# figures


def fit(rows: list[Case], what: str) -> dict[str, float] | None:
    """Slope of log(`what`) over log(size), with the slope between the last two; None below three points."""
    points = [(math.log(row["size"]), math.log(row[what])) for row in rows if what in row]
    if len(points) < 3:
        return None
    mean_x, mean_y = (sum(values) / len(points) for values in zip(*points, strict=True))
    across = sum((x - mean_x) ** 2 for x, _ in points)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / across
    (x0, y0), (x1, y1) = points[-2:]
    return {"exponent": slope, "last": (y1 - y0) / (x1 - x0)}


def told(row: Case) -> str:
    if "failed" in row:
        return str(row["failed"])
    return f"{format_seconds(row['cpu_s'])}, {format_bytes(row['bytes'])}, {row['status']}"


def report(found: dict[str, list[Case]]) -> list[str]:
    """A table of everything, the exponents, and whether the claim holds."""
    rows = []
    for name, cases in found.items():
        for case in cases:
            if "failed" in case:
                rows.append([name, str(case["size"]), case["failed"], "", "", "", "", "", ""])
                continue
            rows.append([
                name, str(case["size"]), format_seconds(case["seconds"]), format_seconds(case["cpu_s"]),
                format_bytes(case["bytes"]), case["status"], f"{case['gap']:.1e}", str(case["stages_found"]),
                _searched(case),
            ])  # fmt: skip
    head = ["what grows", "size", "clock", "processor", "memory", "status", "gap", "stages", "searched"]
    fits = []
    for name, cases in found.items():
        cells = [name]
        for what in ("cpu_s", "bytes"):
            slope = fit(cases, what)
            cells += [f"{slope['exponent']:.2f}", f"{slope['last']:.2f}"] if slope else ["-", "-"]
        fits.append(cells)
    worst = [case for case in itertools.chain(*found.values()) if _breaks(case)]
    verdict = "holds" if not worst else "does not hold: " + "; ".join(
        f"{case['costs']}, {case['family']}, {case['ops']} ops, {case['topo']}, "
        f"{case.get('stages', 'any')} stages: {told(case)}" for case in worst)  # fmt: skip
    return [
        *table(head, rows, right="12346", indent=""), "",
        *table(["exponents", "processor", "last", "memory", "last"], fits, right="1234", indent=""), "",
        f"Under {LIMIT_S:g} s and {format_bytes(LIMIT_BYTES)}: {verdict}.",
    ]  # fmt: skip


def _searched(case: Case) -> str:
    """Over what the search went: all chains of ideals, some of them, or those of so many blocks of ops."""
    blocks = re.search(r"of (\d+) blocks", case["space"])
    return f"{blocks[1]} blocks" if blocks else str(case["space"]).split(" of ")[0].removesuffix(" chains")


def _breaks(case: Case) -> bool:
    return "failed" in case or case["cpu_s"] > LIMIT_S or case["bytes"] > LIMIT_BYTES


if __name__ == "__main__":
    main()
