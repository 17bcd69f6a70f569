"""The process that times parts of a program. Started by `profile` as `python -m mapper.measure.parts DESCRIPTORS`.

It imports torch once, with no thread pool, and maps the weights; each question is answered by children that it forks
(`forked`), one a team, all at work at the same time, as in production. A question is a line of JSON on stdin, the
answer one on stdout. It ends with its stdin.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch

from mapper import jsonio
from mapper.backends import eager
from mapper.backends.registry import Compute, backend_called
from mapper.measure.forked import Barrier, answers
from mapper.program.model import Program
from mapper.program.split import split
from mapper.program.views import views
from mapper.program.weights import map_weights

LEAST_PASSES = 2
"""Of a round, however long they take."""
WAITED = 0.02
"""Part of a call that the threads of a team may wait for a core: others had it then."""

T = TypeVar("T")
Tensors = dict[str, torch.Tensor]


def main() -> None:
    """Answers until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it too, and decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    torch.set_num_threads(1)
    whole = _Whole(*map(int, sys.argv[1:4]))
    _say({"ready": torch.__version__})
    for line in sys.stdin:
        try:
            question = json.loads(line)
            question.pop("ask")
            _say({"value": whole.timed(**question)})
        except Exception as error:
            _say({"error": f"{type(error).__name__}: {error}"})


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def parted(program: Program, parts: Sequence[Sequence[str]]) -> tuple[Program, ...]:
    """The programs of some disjoint parts of `program`, as they would be stages of it."""
    taken = {name for part in parts for name in part}
    stageless = views(program).stageless
    rest = [op.name for op in program.ops
            if op.name not in taken and op.name not in stageless and op.target != "getitem"]  # fmt: skip
    return split(program, [*parts, *([rest] if rest else [])])[: len(parts)]


class _Whole:
    """The program with its weights and one item."""

    def __init__(self, program: int, weights: int, item: int) -> None:
        self.program = jsonio.validated(Program, jsonio.parse_json(_text(program), "program"), "program")
        self.weights = map_weights(weights, "weights")
        self.item = map_weights(item, "item")
        self.sweep = torch.zeros(0)

    def timed(
        self, parts: list[list[str]], backend: str, threads: int, teams: list[list[int]], artefacts: list[str | None],
        alone: bool, sweep_bytes: int, rounds: int, seconds: float,
    ) -> list[list[list[float]]]:  # fmt: skip
        """Seconds a call, by team, round and part. With `alone` each part is called again and again, otherwise all of
        them in turn, with a read of `sweep_bytes` between two turns."""
        if sweep_bytes > 4 * self.sweep.numel():
            self.sweep = torch.ones(sweep_bytes // 4)  # read by all children, which share its pages
        programs = parted(self.program, parts)
        barrier = Barrier(len(teams))

        def of_team(number: int) -> Callable[[], list[list[float]]]:
            def measured() -> list[list[float]]:
                try:
                    values = self._values(programs, threads)
                    computes = [
                        backend_called(backend).load(p, self.weights, threads, Path(a) if a else None).compute
                        for p, a in zip(programs, artefacts, strict=True)
                    ]
                    team = _Team(programs, computes, values, self.sweep[: sweep_bytes // 4])
                    work = team.alone if alone else team.in_turn
                    return work(rounds, seconds, lambda: barrier.wait(number))
                finally:
                    barrier.leave(number)

            return measured

        return answers([(pus, of_team(i)) for i, pus in enumerate(teams)])

    def _values(self, programs: Sequence[Program], threads: int) -> Tensors:
        """Every tensor that enters a part, as the whole program computes it for the item."""
        entering = {given.name for program in programs for given in program.inputs}
        names = [op.name for op in self.program.ops if op.name in entering and op.name not in self.program.input]
        values = {given.name: self.item[given.name] for given in self.program.inputs}
        if names:
            wanted = self.program.model_copy(
                update={"outputs": tuple({"op": name} for name in names), "output_names": tuple(names)}
            )
            found = eager.prepare(wanted, self.weights, threads)(*(values[g.name] for g in self.program.inputs))
            values |= {name: tensor.clone() for name, tensor in zip(names, found, strict=True)}
        return values


class _Team:
    """The parts at work in one child."""

    def __init__(
        self, programs: Sequence[Program], computes: Sequence[Compute], values: Tensors, sweep: torch.Tensor
    ) -> None:
        self.programs, self.computes, self.values, self.sweep = programs, computes, values, sweep
        self.inputs = [[given.name for given in program.inputs] for program in programs]
        self.clock_ns = min(-(time.perf_counter_ns() - time.perf_counter_ns()) for _ in range(100))

    def in_turn(self, rounds: int, seconds: float, meet: Callable[[], None]) -> list[list[float]]:
        """By round and part: each part behind the others, with what these have computed."""
        self._turn()  # the first turn starts threads and fills caches
        found = []
        for _ in range(rounds):
            meet()
            turns = _undisturbed(self._swept_turn, seconds)
            found.append([statistics.median(column) / 1e9 for column in zip(*turns, strict=True)])
        return found

    def _swept_turn(self) -> list[int]:
        if self.sweep.numel():
            self.sweep.sum()
        return self._turn()

    def _turn(self) -> list[int]:
        """One call of every part, in nanoseconds, without what looking at the clock takes."""
        values, taken = dict(self.values), []
        for program, compute, names in zip(self.programs, self.computes, self.inputs, strict=True):
            given = [values[name] for name in names]
            began = time.perf_counter_ns()
            results = compute(*given)
            taken.append(max(1, time.perf_counter_ns() - began - self.clock_ns))
            values.update(zip(program.output_names, results, strict=True))
        return taken

    def alone(self, rounds: int, seconds: float, meet: Callable[[], None]) -> list[list[float]]:
        """By round and part: a part again and again, before the next."""
        found = []
        for _ in range(rounds):
            row = []
            for compute, names in zip(self.computes, self.inputs, strict=True):
                given = [self.values[name] for name in names]
                compute(*given)
                meet()
                calls = _undisturbed(partial(_nanoseconds, compute, given), seconds)
                row.append(statistics.median(calls) / 1e9)
            found.append(row)
        return found


def _nanoseconds(compute: Compute, given: Sequence[torch.Tensor]) -> int:
    began = time.perf_counter_ns()
    compute(*given)
    return max(1, time.perf_counter_ns() - began)


def _undisturbed(call: Callable[[], T], seconds: float) -> list[T]:
    """What `call` gives again and again for about `seconds`, at least twice: of those calls during which no thread of
    this process waited for a core; where all did, of the half that waited least."""
    found: list[tuple[float, T]] = []
    end = time.monotonic() + seconds
    while len(found) < LEAST_PASSES or time.monotonic() < end:
        before, began = waited_s(), time.monotonic()
        result = call()
        took = time.monotonic() - began
        found.append(((waited_s() - before) / took, result))
    quiet = [result for share, result in found if share <= WAITED]
    if quiet:
        return quiet
    found.sort(key=lambda pair: pair[0])
    return [result for _, result in found[: (len(found) + 1) // 2]]


def waited_s() -> float:
    """Seconds that the threads of this process were ready to run and had no core; 0 where the kernel does not say."""
    waits = 0
    for entry in Path("/proc/self/task").iterdir():
        try:
            waits += int((entry / "schedstat").read_text().split()[1])
        except (OSError, IndexError, ValueError):
            continue
    return waits / 1e9


def _text(fd: int) -> bytes:
    return os.pread(fd, os.fstat(fd).st_size, 0)


if __name__ == "__main__":
    main()
