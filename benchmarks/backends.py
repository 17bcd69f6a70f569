"""Claims: with the best of the back ends, the plan that mapper chooses is at least 2 times as fast as native eager in
the geometric mean over the models; and with OpenVINO and ONNX Runtime it is not slower beyond the noise than what these
libraries do by themselves (OpenVINO's throughput mode; ONNX Runtime's default options or one session that a thread a
core share, whichever is faster).

    python benchmarks/backends.py [--models bert,vit] [--backends eager,openvino] [--rounds 15] [--seconds 1.5]
                                  [--plans FOLDER] [-o backends.json]

One comparison for each model and back end, in a process of its own: the chosen plan and one thread with the back end,
the library's own ways, native eager with all threads and with one, all in interleaved rounds. Ratios are taken round by
round; the median with its 95 % interval is shown. Where the best of several is meant (the best back end, the best
setting of a library), it is picked in the warm-up, whose rounds are not in the interval.

"!": too few rounds that others left alone; the ratio is that of all rounds, and no claim rests on it.

With `-o`, results are added to what the file has, so that it can be run in parts. `--plans` has plans to measure in
place of the chosen ones, such as those of `mapper tune`: FOLDER/MODEL.BACKEND.json where there is one.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from mapper.reports.table import table

MODELS = ("bert", "gpt2", "mobilenetv2", "resnet50", "vgg16", "vit")
BACKENDS = ("eager", "inductor", "onnxruntime", "openvino")
CHOSEN, ONE = "chosen", "one thread"
EAGER_ALL, EAGER_ONE = "native eager", "native eager, one thread"
LEAST_GAIN = 2.0
CONFIDENCE = 0.95


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--backends", default=",".join(BACKENDS))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--plans", type=Path)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--one", nargs=2, metavar=("MODEL", "BACKEND"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        model, backend = args.one
        print(json.dumps(compared(model, backend, args.rounds, args.seconds, args.plans)))
        return
    known = json.loads(args.output.read_text()) if args.output and args.output.exists() else []
    results = {(r["model"], r["backend"]): r for r in known}
    for model in args.models.split(","):
        for backend in args.backends.split(","):
            results[model, backend] = measured(model, backend, args)
            if args.output:
                args.output.write_text(json.dumps(list(results.values()), indent=1) + "\n")
    print("\n".join(report(list(results.values()))))


def measured(model: str, backend: str, args: argparse.Namespace) -> dict[str, Any]:
    """One comparison, in a process of its own."""
    print(f"{model}, {backend} ...", file=sys.stderr, flush=True)
    command = [sys.executable, __file__, "--one", model, backend]
    command += ["--rounds", str(args.rounds), "--seconds", str(args.seconds)]
    command += ["--plans", str(args.plans)] if args.plans else []
    out = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    return json.loads(out)  # type: ignore[no-any-return]


def compared(model: str, backend: str, rounds: int, seconds: float, folder: Path | None) -> dict[str, Any]:
    """Rates of each contender in the warm-up and in each round, and which rounds others disturbed."""
    from mapper.backends.threads import torch_threads
    from mapper.cli.machine import machine_of
    from mapper.execution.place import Claim
    from mapper.sources.source import realised_source
    from mapper.study.bench import starters_of
    from mapper.study.rounds import watched
    from mapper.study.seating import Course, measured

    machine = machine_of("host", None, None, None)
    field = field_of(model, backend, machine, folder)
    source = realised_source(field.plans[0][1])
    pus = [pu for core in machine.cores for pu in core.pus]
    with torch_threads(1), Claim(pus):
        starters = starters_of(field, machine, source, lambda message: None)
        seats, notes = measured(starters, Course(rounds, seconds), watched(pus))
    names = [*(" = ".join(titles) for titles, _ in field.plans), *(set_up.name for set_up, _ in field.outside)]
    found = {seat.series.name: seat.series for seat in seats if seat.chosen is seats[0].series}
    return {
        "model": model, "backend": backend, "libraries": [set_up.name for set_up, _ in field.outside],
        "left_out": [name for name in names if name not in found], "notes": notes,
        "warm": {name: one.warm for name, one in found.items()},
        "steady": {name: one.steady for name, one in found.items()},
        "rates_per_s": {name: [r.timed.rate_per_s for r in one.rounds] for name, one in found.items()},
        "disturbed": {name: [r.disturbed for r in one.rounds] for name, one in found.items()},
    }  # fmt: skip


def field_of(model: str, backend: str, machine: Any, folder: Path | None) -> Any:
    """Who takes part."""
    from mapper.cost.configurations import configurations
    from mapper.plans.file import load_plan
    from mapper.plans.source import graph_of_source
    from mapper.solver.plan import plan
    from mapper.solver.problem import Limits
    from mapper.sources.backend import with_backend
    from mapper.study.contenders import Field, library_set_ups

    graph, reference = graph_of_source(model)
    known = configurations(machine)

    def native(config: Any) -> Any:
        return plan(graph, machine, model=reference,
                    limits=Limits(stages=1, max_replicas=1, configurations=(config,)))  # fmt: skip

    one, whole = native(known[0]), native(known[-1])
    file = folder / f"{model}.{backend}.json" if folder else None
    chosen = load_plan(file) if file and file.exists() else plan(graph, machine, model=reference)
    field = Field([([CHOSEN], with_backend(chosen, backend))])
    field.add(ONE, with_backend(one, backend))
    field.add(EAGER_ALL, with_backend(whole, "eager"))
    field.add(EAGER_ONE, with_backend(one, "eager"))
    for set_up in library_set_ups(machine, backend, False):
        field.outside.append((set_up, with_backend(whole, set_up.backend)))
    return field


def report(results: list[dict[str, Any]]) -> list[str]:
    """The tables, and which claims hold."""
    head = ["model", "back end", "one thread / eager", "plan / native eager", "plan / eager, one thread",
            "plan / library's own way", "which"]  # fmt: skip
    lines = table(head, [row(r) for r in results], indent="")
    return [*lines, "", *one_thread_means(results), "", *gain(results), *against_libraries(results)]


def row(result: dict[str, Any]) -> list[str]:
    """One comparison."""
    library = best_of(result, result["libraries"])
    eager = best_of(result, [name_with(result, EAGER_ALL), name_with(result, EAGER_ONE)])
    pairs = [(ONE, EAGER_ONE), (CHOSEN, eager), (CHOSEN, EAGER_ONE), (CHOSEN, library)]
    return [result["model"], result["backend"], *(shown(ratio(result, a, b)) for a, b in pairs), library or ""]


def name_with(result: dict[str, Any], title: str) -> str | None:
    """The contender that has `title` among its names (equal plans are one)."""
    return next((name for name in result["rates_per_s"] if title in name.split(" = ")), None)


def best_of(result: dict[str, Any], names: list[Any]) -> str | None:
    """The fastest of `names` in the last three rounds of the warm-up."""
    there = [name for name in names if name in result["warm"]]
    return max(there, key=lambda name: sorted(result["warm"][name][-3:])[1], default=None)


def ratio(result: dict[str, Any], a: str | None, b: str | None) -> Any:
    """The interval of the rates of `a` over those of `b`, both by any of their names; None where it is not known.

    Of rounds that others did not disturb; where these are too few, of all, with no confidence in it (level 0).
    """
    from dataclasses import replace

    from mapper.study.statistics import median_interval

    first, second = (name_with(result, t) if t and t not in result["rates_per_s"] else t for t in (a, b))
    if first is None or second is None:
        return None
    rates, disturbed = result["rates_per_s"], result["disturbed"]
    every = [x / y for x, y in zip(rates[first], rates[second], strict=True)]
    marks = [x or y for x, y in zip(disturbed[first], disturbed[second], strict=True)]
    clean = [value for value, mark in zip(every, marks, strict=True) if not mark]
    if clean and (found := median_interval(clean, CONFIDENCE)).level >= CONFIDENCE:
        return found
    return replace(median_interval(every, CONFIDENCE), level=0.0)


def shown(interval: Any) -> str:
    if interval is None:
        return "-"
    few = " !" if interval.level < CONFIDENCE else ""
    return f"{interval.median:.3f} ({interval.low:.3f} to {interval.high:.3f}){few}"


def one_thread_means(results: list[dict[str, Any]]) -> list[str]:
    """One thread against one thread, eager = 1: the geometric mean of each back end."""
    from mapper.study.statistics import geometric_mean

    lines = []
    for backend in dict.fromkeys(r["backend"] for r in results):
        found = [i.median for r in results if r["backend"] == backend and (i := ratio(r, ONE, EAGER_ONE))]
        if found:
            span = f"{min(found):.2f} to {max(found):.2f}"
            lines.append(f"One thread, eager = 1: {backend} {geometric_mean(found):.2f} ({span}, {len(found)} models)")
    return lines


def gain(results: list[dict[str, Any]]) -> list[str]:
    """The first claim: the best back end of each model, as the warm-up says, against native eager."""
    from mapper.study.statistics import geometric_mean

    best: dict[str, tuple[float, Any, str]] = {}
    for r in results:
        eager = best_of(r, [name_with(r, EAGER_ALL), name_with(r, EAGER_ONE)])
        chosen = name_with(r, CHOSEN)
        interval = ratio(r, chosen, eager)
        if eager is None or chosen is None or interval is None or interval.level < CONFIDENCE:
            continue
        warm = sorted(r["warm"][chosen][-3:])[1] / sorted(r["warm"][eager][-3:])[1]
        if r["model"] not in best or warm > best[r["model"]][0]:
            best[r["model"]] = (warm, interval, r["backend"])
    if not best:
        return ["Plan against native eager: not enough undisturbed rounds."]
    mean = geometric_mean([interval.median for _, interval, _ in best.values()])
    low = geometric_mean([interval.low for _, interval, _ in best.values()])
    each = ", ".join(f"{model} {i.median:.2f} ({backend})" for model, (_, i, backend) in best.items())
    holds = "holds" if low >= LEAST_GAIN else "holds in the median only" if mean >= LEAST_GAIN else "does NOT hold"
    return [f"Best plan and back end against native eager at its best: {mean:.2f} in the geometric mean, {low:.2f} by "
            f"lower ends: 'at least {LEAST_GAIN:g}' {holds}. {each}."]  # fmt: skip


def against_libraries(results: list[dict[str, Any]]) -> list[str]:
    """The second claim, for each back end that has ways of its own."""
    lines = []
    for backend in dict.fromkeys(r["backend"] for r in results if r["libraries"]):
        found = [(r["model"], best_of(r, r["libraries"]), r) for r in results if r["backend"] == backend]
        told = [(model, i) for model, library, r in found if (i := ratio(r, CHOSEN, library)) is not None]
        enough = [(model, i) for model, i in told if i.level >= CONFIDENCE]
        below = [f"{model} {shown(i)}" for model, i in enough if i.high < 1]
        open_ = [model for model, library, _ in found if model not in [m for m, _ in enough]]
        words = f"does NOT hold for {'; '.join(below)}" if below else f"holds for {len(enough)} of {len(found)} models"
        more = f"; too few undisturbed rounds for {', '.join(open_)}" if open_ else ""
        lines.append(f"Plan with {backend} against its own way: 'not below 1 beyond the noise' {words}{more}.")
    return lines


if __name__ == "__main__":
    main()
