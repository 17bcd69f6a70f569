"""The process that finds out how PyTorch's ops use a team. Started by `software` as
`python -m mapper.measure.worked [passive] [aten]`.

`passive`: members of a team that wait for others sleep, so that their CPU time is work; without it they spin for a
while, as they do by default, and only times mean something. `aten`: without oneDNN and NNPACK, which torch has neither
of on RISC-V.

It imports torch once, with no thread pool; each question is answered by a child that it forks (`forked`), bound to its
PUs.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from mapper.host.memory import Mode, bind
from mapper.measure.questions import serve

PASSIVE, ATEN = "passive", "aten"
SMALLEST_S = 0.05
"""Shortest time over which threads are compared."""

Answer = dict[str, Any]


def main() -> None:
    """Answers until stdin ends."""
    serve(_ready, _QUESTIONS)


def _ready() -> str:
    """Torch as the arguments want it."""
    if PASSIVE in sys.argv[1:]:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # read when torch loads its OpenMP runtime
    import torch

    if ATEN in sys.argv[1:]:
        torch.backends.mkldnn.set_flags(False)  # type: ignore[no-untyped-call]
        torch.backends.nnpack.set_flags(False)  # type: ignore[no-untyped-call]
    return torch.__version__


def build() -> Answer:
    """How this torch was built: what it computes with, without paths or flags."""
    import torch

    return read_build(torch.__version__, torch.__config__.show(), torch.__config__.parallel_info())


def read_build(version: str, shown: str, parallel: str) -> Answer:
    """The facts in what `torch.__config__` shows of itself."""
    settings = dict(re.findall(r"\b(BLAS_INFO|LAPACK_INFO|USE_\w+)=(\w+)", shown))

    def has(name: str) -> bool:
        return settings.get(name, "OFF").upper() in ("ON", "1", "TRUE")

    capability = re.search(r"CPU capability usage: ([\w ]+)", shown)
    pool = re.search(r"ATen parallel backend: ([\w ]+)", parallel)
    return {
        "torch": version, "openmp": has("USE_OPENMP"), "onednn": has("USE_MKLDNN"), "mkl": has("USE_MKL"),
        "nnpack": has("USE_NNPACK"), "blas": settings.get("BLAS_INFO", ""),
        "capability": capability[1].strip() if capability else "", "pool": pool[1].strip() if pool else "",
    }  # fmt: skip


def worked(pus: list[int], sort: str, sizes: list[int], seconds: float) -> Answer:
    """`seconds` of an op of `sort` with a team of one thread a PU (the best call), and `busy_cores`: CPU seconds of all
    threads over those of the busiest, which others on the same cores do not change."""
    from mapper.measure.forked import answers

    def measured() -> Answer:
        import torch

        from mapper.measure.kernels import kernel

        torch.set_num_threads(len(pus))
        return _timed(kernel(sort, sizes), seconds)

    return dict(answers([(pus, measured)])[0])


def read(pus: list[int], nodes: list[int], size: int, seconds: float) -> float:
    """Bytes a second that a team of one thread a PU reads, by a sum, from `size` bytes that lie on `nodes` (OS numbers;
    over several page by page; wherever they are touched first for none).

    Raises: RuntimeError where the system does not put them there.
    """
    from mapper.measure.forked import answers

    def measured() -> float:
        import torch

        torch.set_num_threads(len(pus))
        memory = mmap.mmap(-1, size)
        if nodes:
            start = ctypes.c_char.from_buffer(memory)
            refused = bind(ctypes.addressof(start), size, nodes, Mode.INTERLEAVE if len(nodes) > 1 else Mode.BIND)
            del start
            if refused is not None:
                raise OSError(f"memory cannot be put on chosen nodes: {refused}")
        values = torch.frombuffer(memory, dtype=torch.float32)
        values.fill_(1.0)
        return float(size / _timed(values.sum, seconds)["seconds"])

    return float(answers([(pus, measured)])[0])


def _timed(call: Callable[[], object], seconds: float) -> Answer:
    """The best of the calls of about `seconds`, at least two behind one that warms up, and the cores that were busy
    over all of them."""
    call()
    best, count, before = float("inf"), 0, thread_seconds()
    end = time.perf_counter() + max(seconds, SMALLEST_S)
    while count < 2 or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        best, count = min(best, time.perf_counter() - start), count + 1
    used = [after - before.get(thread, 0.0) for thread, after in thread_seconds().items()]
    return {"seconds": best, "busy_cores": sum(used) / max(used) if max(used) > 0 else 1.0}


def thread_seconds() -> dict[int, float]:
    """CPU seconds of each thread of this process, by its number. The kernel's clocks of threads are numbered so
    (MAKE_THREAD_CPUCLOCK in include/linux/posix-timers.h), and count in nanoseconds."""
    found: dict[int, float] = {}
    for entry in os.scandir("/proc/self/task"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            found[int(entry.name)] = time.clock_gettime((~int(entry.name) << 3) | 6)
    return found


def arguments(*, passive: bool, aten: bool) -> Sequence[str]:
    """What the process is started with."""
    return [*([PASSIVE] if passive else []), *([ATEN] if aten else [])]


_QUESTIONS: dict[str, Callable[..., Any]] = {"build": build, "worked": worked, "read": read}


if __name__ == "__main__":
    main()
