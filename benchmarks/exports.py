"""Claims: a C++ export is at least as fast as our executor where stages are small (under 1 ms an item); where stages
take longer, our executor is within 10 % of the C++ export.

    python benchmarks/exports.py [--models tiny,mobilenetv2,bert] [--plans NAME,...] [--backends eager,...]
                                 [--runtimes cpp,fastflow,...] [--rounds 9] [--seconds 2] [-o exports.json]

For each model and plan, our executor and every runtime whose export can be run here, with the same back end, sample
item and plan, in interleaved rounds. A round of an export is a process of its own, which loads, warms up, and then is
timed; it prints how fast it was and whether all outputs were those of the sample, which our executor compares, too.
Ratios are taken round by round; the median with its 95 % interval is shown. "!": others took more than 5 % of the
machine in too many rounds for an interval; the ratio is that of all rounds, and no claim rests on it.

`tiny` is a few products of a few µs each: what shows there is the cost of handing items on. With `-o`, results are
added to what the file has, and what it has is not measured again. FastFlow is where the environment variable
FASTFLOW_ROOT names it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mapper.exporters.registry import TARGETS
from mapper.reports.table import table

if TYPE_CHECKING:
    from mapper.execution.executor import Executor
    from mapper.exporters.registry import Export
    from mapper.plans.model import Plan

MODELS = ("tiny", "mobilenetv2", "bert")
PLANS = ("one core", "two stages", "two copies", "a team")
SOURCES = {"tiny": "exports:tiny"}
"""Models that are no cards, by what `graph_of_source` takes."""
OURS = "mapper run"
SMALL_S = 1e-3
"""Stages that take less are small."""
WITHIN = 0.9
BUSY = 0.05
CONFIDENCE = 0.95


def tiny() -> tuple[torch.nn.Module, torch.Tensor]:
    """Eight products and activations of a few µs."""
    torch.manual_seed(0)
    layers = (layer for _ in range(8) for layer in (torch.nn.Linear(64, 64), torch.nn.ReLU()))
    return torch.nn.Sequential(*layers), torch.zeros(8, 64)


@dataclass(frozen=True)
class Runtime:
    """How exports to a target are run here: `lack` says what is missing (empty: nothing); `command` is what runs the
    export in a folder and prints a document with `throughput_per_s`, `outputs` and `within_tolerance`, given `work`,
    a folder in which what serves every export is kept, such as a program that was built."""

    target: str
    lack: Callable[[], str]
    command: Callable[[Path, Path], list[str]]

    @property
    def backends(self) -> tuple[str, ...]:
        """The back ends that it computes with."""
        return TARGETS[self.target].backends


def cmake_lack() -> str:
    """What is missing to build C++ here."""
    compiler = shutil.which(os.environ.get("CXX", "c++"))
    return "" if compiler and shutil.which("cmake") else "cmake or a C++ compiler is missing"


def fastflow_lack() -> str:
    """What is missing to build FastFlow's exports here."""
    root = Path(os.environ.get("FASTFLOW_ROOT", "-"))
    return cmake_lack() or ("" if (root / "ff" / "ff.hpp").exists() else "FASTFLOW_ROOT does not name FastFlow")


def cpp_command(target: str) -> Callable[[Path, Path], list[str]]:
    """The program of exports to `target`, built for the first of them."""

    def command(folder: Path, work: Path) -> list[str]:
        build = work / target
        program = build / "pipeline"
        if not program.exists():
            print(f"building {target} ...", file=sys.stderr, flush=True)
            prefix = f"-DCMAKE_PREFIX_PATH={torch.utils.cmake_prefix_path}"
            for words in (["-S", str(folder), "-B", str(build), prefix], ["--build", str(build), "-j"]):
                subprocess.run(["cmake", *words], check=True, stdout=subprocess.DEVNULL)
        return [str(program), str(folder)]

    return command


def package_lack(name: str) -> Callable[[], str]:
    """What says that the package `name` is missing here."""
    return lambda: "" if find_spec(name) else f"the package {name} is missing"


def launcher_command(folder: Path, work: Path) -> list[str]:
    """The launcher in Python of an export."""
    return [sys.executable, str(folder / "run.py")]


RUNTIMES = {
    runtime.target: runtime
    for runtime in (
        Runtime("cpp", cmake_lack, cpp_command("cpp")), Runtime("fastflow", fastflow_lack, cpp_command("fastflow")),
        Runtime("onnxruntime", package_lack("onnxruntime"), launcher_command),
        Runtime("openvino", package_lack("openvino"), launcher_command),
        Runtime("torch-pipelining", package_lack("torch"), launcher_command),
    )
}  # fmt: skip
"""Exports that compute, by their targets."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--plans", default=",".join(PLANS))
    parser.add_argument("--backends", default="eager")
    parser.add_argument("--runtimes", default=",".join(RUNTIMES))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--one", nargs=3, metavar=("MODEL", "PLAN", "BACKEND"), help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    wanted = args.runtimes.split(",")
    if args.one:
        model, plan, backend = args.one
        print(json.dumps(compared(model, plan, backend, wanted, args.rounds, args.seconds, args.work)))
        return
    for name in wanted:
        if lack := RUNTIMES[name].lack():
            print(f"{name}: untested here: {lack}", file=sys.stderr)
    wanted = [name for name in wanted if not RUNTIMES[name].lack()]
    results = json.loads(args.output.read_text()) if args.output and args.output.exists() else []
    known = {(r["model"], r["plan"], r["backend"]) for r in results}
    with tempfile.TemporaryDirectory() as work:
        for case in cases(args):
            if case not in known:
                results.append(measured(case, wanted, args, work))
            if args.output:
                args.output.write_text(json.dumps(results, indent=1) + "\n")
    print("\n".join(report(results)))


def cases(args: argparse.Namespace) -> Iterator[tuple[str, str, str]]:
    """What is to be measured: model, plan and back end."""
    for model in args.models.split(","):
        for plan in args.plans.split(","):
            for backend in args.backends.split(","):
                yield model, plan, backend


def measured(case: tuple[str, str, str], wanted: Sequence[str], args: argparse.Namespace, work: str) -> dict[str, Any]:
    """One case, in a process of its own."""
    print(", ".join(case), "...", file=sys.stderr, flush=True)
    words = [sys.executable, __file__, "--one", *case, "--runtimes", ",".join(wanted), "--work", work]
    words += ["--rounds", str(args.rounds), "--seconds", str(args.seconds)]
    out = subprocess.run(words, stdout=subprocess.PIPE, check=True).stdout
    return json.loads(out)  # type: ignore[no-any-return]


def compared(
    model: str, title: str, backend: str, wanted: Sequence[str], rounds: int, seconds: float, work: Path
) -> dict[str, Any]:
    """Rates of our executor and of each runtime in each round."""
    from mapper.backends.threads import torch_threads
    from mapper.execution.executor import Executor
    from mapper.execution.run import sampled
    from mapper.exporters.registry import Export
    from mapper.machine.discover import discover
    from mapper.sources.backend import with_backend
    from mapper.sources.source import realised_source

    machine = discover()
    found = plan_called(title, model, machine)
    result: dict[str, Any] = {"model": model, "plan": title, "backend": backend, "rows": {}}
    if found is None:
        return result | {"left_out": "this machine has too few cores for it"}
    plan = with_backend(found, backend)
    source = realised_source(plan)
    export = Export(plan, source, sampled(plan, source))
    with tempfile.TemporaryDirectory() as folder:
        commands = commands_of(export, wanted, Path(folder), work)
        with torch_threads(1), Executor(plan, source, machine=machine) as executor:
            _, rough = ours(executor, export, 8)
            items = max(8, round(seconds * rough["throughput_per_s"]))
            runs: dict[str, Callable[[], dict[str, Any]]] = {OURS: lambda: ours(executor, export, items)[1]}
            runs |= {name: (lambda words=words: theirs(words, items)) for name, words in commands.items()}  # type: ignore[misc]
            rows: dict[str, list[dict[str, Any]]] = {name: [] for name in runs}
            pus = [pu for core in machine.cores for pu in core.pus]
            pids = [worker.pid for worker in executor.statistics().workers]
            for number in range(rounds + 1):
                print(f"round {number} of {rounds} ...", file=sys.stderr, flush=True)
                for i in range(len(runs)):
                    name = list(runs)[(i + number) % len(runs)]
                    rows[name].append(watched(runs[name], pus, pids))
            stage_s, _ = ours(executor, export, items)
    return result | {"items": items, "stage_s": stage_s, "rows": {name: row[1:] for name, row in rows.items()}}


def plan_called(title: str, model: str, machine: Any) -> Plan | None:
    """The plan of `model` called `title`; None where there are too few cores for it."""
    from mapper.cost.configurations import configurations
    from mapper.errors import Infeasible
    from mapper.plans.source import graph_of_source
    from mapper.solver.plan import plan
    from mapper.solver.problem import Limits

    graph, reference = graph_of_source(SOURCES.get(model, model))
    one, *wider = configurations(machine)
    single = Limits(stages=1, max_replicas=1, configurations=(one,))
    if title == "one core":
        limits = single
    elif title == "two stages":
        limits = replace(single, stages=2)
    elif title == "two copies":
        limits = replace(single, max_replicas=2, max_cores=2)
    elif wider:
        limits = replace(single, configurations=(wider[0],))
    else:
        return None
    try:
        found = plan(graph, machine, model=reference, limits=limits)
    except Infeasible:
        return None
    return found if title != "two copies" or len(found.stages[0].replicas) == 2 else None


def commands_of(export: Export, wanted: Sequence[str], folder: Path, work: Path) -> dict[str, list[str]]:
    """What runs the exports that compute with the plan's back end, each written and built now."""
    from mapper.exporters.export import export as write

    found = {}
    for name in wanted:
        if export.plan.request.backend in RUNTIMES[name].backends:
            path = write(export.plan, name, folder / name, *export.model)
            found[name] = RUNTIMES[name].command(path, work)
    return found


def ours(executor: Executor, export: Export, items: int) -> tuple[float, dict[str, Any]]:
    """Seconds that the slowest stage computes an item, and the row of a round of our executor."""
    from mapper.execution.measured import MeasuredStream
    from mapper.execution.reference import Reference

    source, sample = export.model
    given = [sample.inputs[one.name] for one in source.program.inputs]
    reference = Reference((sample.outputs,), "the sample")
    stream = MeasuredStream(executor, [given], reference, None, endless=True)
    with executor.beside():
        stream.run(export.plan.predicted.window + 4, items, lambda done, total: None, lambda outputs: None)
    seen = stream.measurement(export.plan, False, False)
    row = {"throughput_per_s": seen.throughput_per_s, "identical": seen.outputs_identical,
           "within_tolerance": seen.outputs_within_tolerance}  # fmt: skip
    return max(stage.compute_s for stage in seen.stages), row


def theirs(words: Sequence[str], items: int) -> dict[str, Any]:
    """The row of a round of an export."""
    done = subprocess.run([*words, "--items", str(items), "--json"], stdout=subprocess.PIPE, check=False)
    document = json.loads(done.stdout)
    return {"throughput_per_s": document["throughput_per_s"], "identical": document["outputs"] == "identical",
            "within_tolerance": document["within_tolerance"]}  # fmt: skip


def watched(run: Callable[[], dict[str, Any]], pus: Sequence[int], pids: Sequence[int]) -> dict[str, Any]:
    """The row of a round, with what others took of `pus` meanwhile: neither this process, nor those that it has waited
    for, nor our workers, `pids`."""
    from mapper.host.load import busy_between, cpu_s, snapshot

    def own_s() -> float:
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(one.ru_utime + one.ru_stime for one in used) + sum(map(cpu_s, pids))

    before, own = snapshot(), own_s()
    row = run()
    return row | {"others": busy_between(before, snapshot(), pus, own_s() - own)}


def report(results: Sequence[dict[str, Any]]) -> list[str]:
    """The table, and which claims hold."""
    head = ["model", "plan", "back end", "runtime", "outputs", "items/s", "to our executor", "slowest stage"]
    rows = [row for result in results for row in rows_of(result)]
    return [*table(head, rows, right="567", indent=""), "", *claims(results)]


def rows_of(result: dict[str, Any]) -> Iterator[list[str]]:
    """A row for each runtime."""
    from mapper.study.statistics import median

    case = [result["model"], result["plan"], result["backend"]]
    if "left_out" in result:
        yield [*case, "-", result["left_out"], "", "", ""]
    for name, rounds in result["rows"].items():
        same, near = (all(one[key] for one in rounds) for key in ("identical", "within_tolerance"))
        outputs = "identical" if same else "within the tolerance" if near else "DIFFER"
        rate = median([one["throughput_per_s"] for one in rounds])
        ratio = "" if name == OURS else shown(ratio_of(result, name))
        yield [*case, name, outputs, f"{rate:.4g}", ratio, f"{1e3 * result['stage_s']:.3g} ms"]


def ratio_of(result: dict[str, Any], name: str) -> Any:
    """The interval of the rates of `name` over those of our executor, of rounds that others left alone."""
    from mapper.study.statistics import median_interval

    pairs = list(zip(result["rows"][name], result["rows"][OURS], strict=True))
    every = [a["throughput_per_s"] / b["throughput_per_s"] for a, b in pairs]
    clean = [one for one, pair in zip(every, pairs, strict=True) if all(x["others"] <= BUSY for x in pair)]
    if clean and (found := median_interval(clean, CONFIDENCE)).level >= CONFIDENCE:
        return found
    return replace(median_interval(every, CONFIDENCE), level=0.0)


def shown(interval: Any) -> str:
    few = " !" if interval.level < CONFIDENCE else ""
    return f"{interval.median:.3f} ({interval.low:.3f} to {interval.high:.3f}){few}"


def claims(results: Sequence[dict[str, Any]]) -> Iterator[str]:
    """What the rows say of the claims."""
    for result in results:
        for name in ("cpp", "fastflow"):
            if name not in result["rows"]:
                continue
            ratio, where = ratio_of(result, name), f"{result['model']}, {result['plan']}, {result['backend']}, {name}"
            if result["stage_s"] < SMALL_S:
                words, ends = "at least as fast as our executor on small stages", (ratio.low >= 1, ratio.high >= 1)
            else:
                words = "our executor is within 10 % of it on stages over 1 ms"
                ends = (1 / ratio.high >= WITHIN, 1 / ratio.low >= WITHIN)
            verdict = "supported" if all(ends) else "refuted" if not any(ends) else "undecided"
            yield f"{verdict if ratio.level else 'not measured quietly enough'}: {where}: {words}"


if __name__ == "__main__":
    main()
