"""Claim: with bfloat16 or int8 a back end is faster than the same one in float32, and its outputs are within the
tolerance that it states.

    python benchmarks/precision.py [--backends NAME,...] [--items 4] [--rounds 7] [-o precision.json] [card ...]

Each model card is computed whole, in this process, with one thread, by a back end in float32 and with fewer bits, in
interleaved rounds: the median of each. Outputs for random items are compared with those of eager in float32, tensor by
tensor: the largest difference over the tensor's largest magnitude (what `tolerance` is of), the mean difference over
its mean magnitude, the cosine between them, and how many rows of scores are largest in the same column (top-1).
`allowed` is the tolerance: some times what rounding to bfloat16 by eager does to this model, on the same items.
Weights are the cards' random ones: scores lie close together, so that top-1 is harder to keep than for a trained model.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from mapper.backends.eager import prepare
from mapper.backends.registry import BACKENDS, BFLOAT16, FLOAT32, Backend, Loaded
from mapper.errors import MapperError
from mapper.execution.measurement import Accuracy
from mapper.execution.reference import Outputs, accuracy_of
from mapper.program.cards import card_names
from mapper.program.items import random_items
from mapper.program.model import Program
from mapper.program.realise import realise
from mapper.program.trace import trace_program
from mapper.reports.table import table

Weights = dict[str, torch.Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cards", nargs="*", help="model cards [all]")
    parser.add_argument("--backends", default=",".join(n for n, b in BACKENDS.items() if b.precision != FLOAT32))
    parser.add_argument("--items", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("-o", "--output", type=Path)
    args = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    found: list[dict[str, Any]] = []
    for card in args.cards or card_names():
        found += measured(card, args.backends.split(","), args.items, args.rounds)
        if args.output:
            args.output.write_text(json.dumps(found, indent=1) + "\n")
    print("\n".join(rows(found)))
    print("\n".join(worst(found)))


def measured(card: str, names: Sequence[str], items: int, rounds: int) -> list[dict[str, Any]]:
    """A row for each back end of `names` that can compute the card."""
    made = realise(card)
    program, weights = trace_program(made.module, made.args, made.kwargs, name=card)
    drawn = random_items(made.inputs, items, seed=0)
    given = [[item[name.name] for name in program.inputs] for item in drawn]
    del made
    with torch.inference_mode():
        expected = outputs(prepare(program, weights, 1), given)
        rounded = outputs(prepare(program, weights, 1, BFLOAT16), given)
        noise = accuracy_of(rounded, expected).max_relative_difference or 0.0
        del rounded
        found = []
        for name in names:
            print(f"{card} {name} ...", file=sys.stderr, flush=True)
            try:
                row = compared(BACKENDS[name], program, weights, given, expected, rounds)
                found.append({"card": card, **row, "allowed": BACKENDS[name].allowed(FLOAT32, noise)})
            except (MapperError, RuntimeError) as error:
                found.append({"card": card, "backend": name, "error": str(error).splitlines()[0][:60]})
            gc.collect()
    return found


def compared(
    backend: Backend, program: Program, weights: Weights, given: Sequence[Sequence[torch.Tensor]],
    expected: Sequence[Outputs], rounds: int,
) -> dict[str, Any]:  # fmt: skip
    """Accuracy of `backend`, and its time against that of its family in float32."""
    with tempfile.TemporaryDirectory() as folder:
        both = [loaded(b, program, weights, Path(folder)) for b in (BACKENDS[backend.family], backend)]
        accuracy: Accuracy = accuracy_of(outputs(both[1].compute, given), expected)
        times: list[list[float]] = [[], []]
        for number in range(rounds):
            for i in (0, 1) if number % 2 else (1, 0):
                times[i].append(timed(lambda i=i: both[i].compute(*given[0])))  # type: ignore[misc]
    wide_s, s = map(statistics.median, times)
    return {"backend": backend.name, "float32_s": wide_s, "s": s, "speed": wide_s / s, **accuracy.model_dump()}


def loaded(backend: Backend, program: Program, weights: Weights, folder: Path) -> Loaded:
    """`backend` ready for the whole `program`."""
    backend.require()
    backend.require_dtypes(program, 0)
    if backend.compile is None:
        return backend.load(program, weights, 1, None)
    own = folder / backend.precision
    own.mkdir()
    backend.compile(program, weights, 1, own)
    return backend.load(program, weights, 1, own)


def outputs(compute: Callable[..., Outputs], given: Sequence[Sequence[torch.Tensor]]) -> list[Outputs]:
    """The outputs of all items, each copied: a back end may use its buffers again."""
    return [tuple(tensor.clone() for tensor in compute(*item)) for item in given]


def timed(call: Callable[[], object], least_s: float = 0.1) -> float:
    """Seconds a call, of as many calls as take at least so long; one before them warms up."""
    call()
    began, calls = time.perf_counter(), 0
    while time.perf_counter() - began < least_s:
        call()
        calls += 1
    return (time.perf_counter() - began) / calls


def rows(found: Sequence[dict[str, Any]]) -> list[str]:
    """The table, a row a card and back end."""
    lines = []
    for r in found:
        if "error" in r:
            lines.append([r["card"], r["backend"], r["error"], "", "", "", "", "", ""])
            continue
        numbers = [r[key] for key in ("max_relative_difference", "mean_relative_difference")]
        lines.append([
            r["card"], r["backend"], f"{r['float32_s'] * 1e3:.1f} ms", f"{r['speed']:.2f}",
            *("" if n is None else f"{n:.1e}" for n in numbers), f"{r['allowed']:.1e}", f"{r['cosine_similarity']:.5f}",
            "" if r["top1_agreement"] is None else f"{r['top1_agreement']:.1%}",
        ])  # fmt: skip
    return table(
        ["card", "back end", "float32", "times faster", "largest", "mean", "allowed", "cosine", "top-1"], lines
    )


def worst(found: Sequence[dict[str, Any]]) -> list[str]:
    """For each back end the largest difference of all cards as a part of what is allowed, and the mean gain."""
    lines = []
    for name in dict.fromkeys(r["backend"] for r in found):
        good = [r for r in found if r["backend"] == name and "error" not in r]
        if good:
            most = max(good, key=lambda r: (r["max_relative_difference"] or 0.0) / r["allowed"])
            gain = statistics.geometric_mean(r["speed"] for r in good)
            nearest = f"{most['card']}, {most['max_relative_difference']:.1e} of {most['allowed']:.1e}"
            lines.append(f"{name}: {gain:.2f} times as fast over {len(good)} cards; nearest to its limit: {nearest}")
    return lines


if __name__ == "__main__":
    main()
