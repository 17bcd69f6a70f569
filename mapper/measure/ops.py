"""The process that times PyTorch's ops. Started by `software` as `python -m mapper.measure.ops`.

It imports torch once, with no thread pool; each question is answered by children that it forks (`forked`).
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from mapper.measure.forked import answers
from mapper.measure.kernels import kernel
from mapper.measure.questions import serve

GRAIN = 32768
"""Elements below which an elementwise op stays on one thread: GRAIN_SIZE in aten/src/ATen/TensorIterator.h."""
BATCH_S = 0.001
"""About how long calls are timed together."""
SIDE = 128
"""Rows and columns of the product that shows how much slower a busy machine is: 192 KiB in all."""

Answer = dict[str, Any]


def main() -> None:
    """Answers until stdin ends."""
    serve(lambda: torch.__version__, _QUESTIONS)


def fork_join(pus: list[int], seconds: float) -> float:
    """Seconds to start and join a team of one thread a PU.

    An op on a grain for each member, less the same op on one grain by one thread: elementwise and on bytes, which is
    the least work that torch still shares out.
    """

    def measured() -> float:
        one, all_ = (torch.zeros(n * GRAIN, dtype=torch.uint8) for n in (1, len(pus)))
        torch.set_num_threads(1)
        alone = _usual(lambda: torch.ops.aten.bitwise_not_.default(one), seconds / 3)
        torch.set_num_threads(len(pus))
        together = _usual(lambda: torch.ops.aten.bitwise_not_.default(all_), seconds * 2 / 3)
        return max(0.0, together - alone)

    return float(answers([(pus, measured)])[0])


def dispatch(pus: list[int], seconds: float) -> float:
    """Seconds an op on next to nothing, called as the eager back end calls it: the mean of five common ones."""

    def measured() -> float:
        torch.set_num_threads(1)
        x, ops = torch.zeros(1, 1), torch.ops.aten
        calls: list[Callable[[], object]] = [
            lambda: ops.relu.default(x),
            lambda: ops.add.Tensor(x, x),
            lambda: ops.linear.default(x, x, x[0]),
            lambda: ops.layer_norm.default(x, [1], x[0], x[0]),
            lambda: ops.softmax.int(x, -1),
        ]
        return statistics.fmean(_usual(call, seconds / len(calls)) for call in calls)

    return float(answers([(pus, measured)])[0])


def busy(pus: list[int], alone: int, seconds: float) -> float:
    """How many times longer a product of small matrices takes a core while all PUs compute one (the median of them)
    than it takes the PU `alone` while the others rest."""
    quiet = time.monotonic() + 0.2 + 0.02 * len(pus)
    loud = quiet + seconds / 2
    taken = answers([([alone], _product(quiet, loud)), *(([pu], _product(loud, loud + seconds / 2)) for pu in pus)])
    return max(1.0, float(statistics.median(taken[1:]) / taken[0]))


def timed(pus: list[int], sort: str, sizes: list[int], seconds: float) -> float:
    """Seconds an op of `sort` with a team of one thread a PU."""

    def measured() -> float:
        torch.set_num_threads(len(pus))
        return _usual(kernel(sort, sizes), seconds)

    return float(answers([(pus, measured)])[0])


def _product(begin: float, end: float) -> Callable[[], float]:
    """Measures seconds for a product between two times of the monotonic clock, and computes a little before."""

    def measured() -> float:
        torch.set_num_threads(1)
        a, b = torch.rand(SIDE, SIDE), torch.rand(SIDE, SIDE)
        out = torch.mm(a, b)
        warm = min(0.05, (end - begin) / 4)
        time.sleep(max(0.0, begin - time.monotonic()))
        samples = _batches(lambda: torch.mm(a, b, out=out), end, begin + warm)
        return statistics.median(samples)

    return measured


def _usual(call: Callable[[], object], seconds: float) -> float:
    """Seconds a call in the median batch of about `seconds`, a fifth of it to warm up.

    Not the best one: where a neighbour on the same core or a clock that moves slows this machine half of the time, they
    do so to what is predicted, too.
    """
    began = time.monotonic()
    return statistics.median(_batches(call, began + seconds, began + seconds / 5))


def _batches(call: Callable[[], object], end: float, warm_until: float) -> list[float]:
    """Seconds a call in each batch of about 1 ms, those after `warm_until` only, at least one."""
    count, samples = 1, []
    while True:
        began = time.monotonic()
        for _ in itertools.repeat(None, count):
            call()
        ended = time.monotonic()
        if ended - began < BATCH_S / 2 and ended < warm_until:
            count *= 2
        elif began >= warm_until:
            samples.append((ended - began) / count)
        if ended >= end and samples:
            return samples


_QUESTIONS: dict[str, Callable[..., float]] = {
    "fork_join": fork_join, "dispatch": dispatch, "busy": busy, "timed": timed,
}  # fmt: skip


if __name__ == "__main__":
    main()
