"""What the launchers share: the pipeline as pipeline.json describes it, PUs, the command line and its report.

Needs nothing but Python's own library, and Linux.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

FILE = "pipeline.json"
SCHEMA = "mapper-pipeline/1"
DONE, UNFIT, FAILED, MISSING, DIFFERS, INTERRUPTED = 0, 6, 7, 8, 9, 130
"""Exit codes: done, the PUs are not there, a stage failed, a library is not installed, outputs differ, Ctrl-C."""


@dataclass(frozen=True)
class Tensor:
    """A tensor of an item: what the model calls it, its shape and torch's name of its dtype."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Worker:
    """A replica of a stage: which PUs of which host it has (the OS's numbers), and how many threads."""

    rank: int
    stage: int
    replica: int
    host: int
    pus: tuple[int, ...]
    threads: int


@dataclass(frozen=True)
class Stage:
    """A stage: its file (empty where it computes nothing), numbers of the tensors that it takes and gives, of those
    that nobody reads after it, how many items may wait for each of its workers, and these."""

    id: int
    file: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    drops: tuple[int, ...]
    slots: int
    workers: tuple[Worker, ...]


@dataclass(frozen=True)
class Description:
    """The pipeline in `folder`. `tolerance` is for each output relative to the largest magnitude of the sample's."""

    folder: Path
    backend: str
    window: int
    tensors: tuple[Tensor, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    constants: tuple[int, ...]
    tolerance: tuple[float, ...]
    stages: tuple[Stage, ...]

    @property
    def workers(self) -> list[Worker]:
        """All workers in the order of their ranks."""
        return [worker for stage in self.stages for worker in stage.workers]

    @property
    def computed(self) -> list[int]:
        """Each output once that is no constant, in the order of the outputs."""
        return [number for number in dict.fromkeys(self.outputs) if number not in self.constants]

    def entering(self, stage: int) -> list[int]:
        """The tensors of an item that `stage`, one after it, or who takes the outputs needs of what was before."""
        wanted = {number for later in self.stages[stage:] for number in later.inputs} | set(self.computed)
        known = [*self.inputs, *(number for earlier in self.stages[:stage] for number in earlier.outputs)]
        return [number for number in dict.fromkeys(known) if number in wanted]

    def file(self, number: int) -> Path:
        """Where the elements of a tensor of the sample, or of a constant, are."""
        return self.folder / "tensors" / f"{number}.bin"


def read(folder: Path) -> Description:
    """The pipeline in `folder`. Raises: OSError, ValueError when it is none."""
    given = json.loads((folder / FILE).read_text(encoding="utf-8"))
    if given.get("schema") != SCHEMA:
        raise ValueError(f"{folder / FILE} is no {SCHEMA}")
    numbers = ("inputs", "outputs", "drops")
    stages = tuple(
        Stage(
            id=stage["id"], file=stage["file"], slots=stage["slots"], workers=tuple(map(_worker, stage["workers"])),
            **{key: tuple(stage[key]) for key in numbers},
        )
        for stage in given["stages"]
    )  # fmt: skip
    return Description(
        folder=folder, backend=given["backend"], window=given["window"], stages=stages,
        tensors=tuple(Tensor(tensor["name"], tuple(tensor["shape"]), tensor["dtype"]) for tensor in given["tensors"]),
        **{key: tuple(given[key]) for key in ("inputs", "outputs", "constants", "tolerance")},
    )  # fmt: skip


def _worker(given: dict[str, Any]) -> Worker:
    keys = ("rank", "stage", "replica", "host", "threads")
    return Worker(pus=tuple(given["pus"]), **{key: given[key] for key in keys})


class Unfit(Exception):
    """This machine has not what the plan needs."""


def require_pus(workers: Iterable[Worker]) -> None:
    """Raises: Unfit naming the PUs of `workers` that this process may not use."""
    missing = sorted({pu for worker in workers for pu in worker.pus} - os.sched_getaffinity(0))
    if missing:
        here = ", ".join(map(str, sorted(os.sched_getaffinity(0))))
        raise Unfit(f"PU {', '.join(map(str, missing))} may not be used by this process, only {here}")


def oversubscribed(description: Description) -> Description:
    """`description` with its workers on PUs that this process may use, several on one where there are too few."""
    here = sorted(os.sched_getaffinity(0))

    def moved(worker: Worker) -> Worker:
        return replace(worker, pus=tuple(sorted({here[pu % len(here)] for pu in worker.pus})))

    stages = tuple(replace(stage, workers=tuple(map(moved, stage.workers))) for stage in description.stages)
    return replace(description, stages=stages)


def bind(pus: Iterable[int]) -> None:
    """Binds the calling thread, and those that it starts from now on, to `pus`. Raises: Unfit."""
    wanted = set(pus)
    try:
        os.sched_setaffinity(0, wanted)
    except OSError as error:
        raise Unfit(f"binding to PU {sorted(wanted)} was refused: {error.strerror}") from error
    if os.sched_getaffinity(0) != wanted:
        raise Unfit(f"asked for PU {sorted(wanted)}, bound to {sorted(os.sched_getaffinity(0))}")


def threads_here() -> set[int]:
    """The OS's numbers of this process's threads."""
    return {int(name) for name in os.listdir("/proc/self/task")}


def pus_of(threads: Iterable[int]) -> dict[str, Any]:
    """What `threads` may use, for a report: the PUs of each, and of any; one that has ended meanwhile has none."""
    found = []
    for thread in sorted(threads):
        with contextlib.suppress(ProcessLookupError):
            found.append(sorted(os.sched_getaffinity(thread)))
    return {"pus": sorted({pu for pus in found for pu in pus}), "thread_pus": found}


@dataclass
class Difference:
    """How far outputs were from the sample's at worst, relative to the largest magnitude; `wrong` says of those that
    were further than allowed which and how far."""

    identical: bool = True
    largest: float = 0.0
    wrong: dict[int, str] = field(default_factory=dict)

    def add(self, output: int, relative: float, allowed: float) -> None:
        """Notes that an output, by its position, had other bits than the sample's."""
        self.identical = False
        self.largest = max(self.largest, relative)
        if allowed == 0 or not relative <= allowed:
            self.wrong.setdefault(
                output, f"output {output} is {relative:.2g} from the sample's, {allowed:g} is allowed"
            )


@dataclass(frozen=True)
class Report:
    """A run: items, the seconds that they took, how far outputs were off, and what each worker really had."""

    items: int
    seconds: float
    difference: Difference
    workers: Sequence[dict[str, Any]]

    def code(self) -> int:
        """The exit code."""
        return DIFFERS if self.difference.wrong else DONE

    def tell(self, as_json: bool) -> None:
        """Prints it, in words or as one JSON document."""
        rate = self.items / self.seconds if self.seconds else 0.0
        off = self.difference
        if as_json:
            relative = off.largest if math.isfinite(off.largest) else None
            document = {
                "items": self.items, "seconds": self.seconds, "throughput_per_s": rate,
                "outputs": "identical" if off.identical else relative, "within_tolerance": not off.wrong,
                "workers": list(self.workers),
            }  # fmt: skip
            print(json.dumps(document, indent=1))
        else:
            print(f"{rate:.4g} items/s ({self.items} items in {self.seconds:.3g} s)")
            print("outputs: " + ("identical" if off.identical else f"at most {off.largest:.2g} from the sample's"))
            for worker in self.workers:
                pus = ",".join(map(str, worker["pus"]))
                print(f"stage {worker['stage']} replica {worker['replica']}: PU {pus}, {worker['threads']} thread(s)")
        for line in off.wrong.values():
            print(line, file=sys.stderr)


@dataclass(frozen=True)
class Asked:
    """What the command line says."""

    items: int
    warmup: int
    json: bool
    oversubscribe: bool


def asked(arguments: Sequence[str], window: int) -> Asked:
    """The command line. Ends the program where it is wrong."""
    parser = argparse.ArgumentParser(description="Runs the sample item through the pipeline, and checks all outputs.")
    parser.add_argument("--items", type=_at_least(1), default=100, help="items to measure [100]")
    parser.add_argument("--warmup", type=_at_least(0), default=window + 4, help=f"items before these [{window + 4}]")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument(
        "--oversubscribe", action="store_true",
        help="wrap around the PUs that are there: results are right, times mean nothing",
    )  # fmt: skip
    given = parser.parse_args(arguments)
    return Asked(given.items, given.warmup, given.json, given.oversubscribe)


def _at_least(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        value = int(text)
        if value < least:
            raise ValueError(text)
        return value

    return number


def guarded(run: Callable[[], int]) -> int:
    """The exit code of `run`; what this machine lacks is said in one line."""
    try:
        return run()
    except Unfit as error:
        print(f"{error}. Plan for this machine (--topo host) and export that, or --oversubscribe.", file=sys.stderr)
        return UNFIT
    except Exception:
        traceback.print_exc()
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
