"""The environment of processes that compute."""

from __future__ import annotations

import os

from mapper.child import search_path

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_BINDING = ("OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY", "OMP_THREAD_LIMIT")
_MALLOC = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40)}
"""glibc keeps what is freed: every item needs the same memory again, and getting it anew from the kernel, page by
page, can cost as much as the computation (MobileNetV2: 31 ms an item instead of 18, with 6,800 page faults)."""


def thread_variables(threads: int) -> dict[str, str]:
    """What gives `threads` threads to every library that starts its own."""
    return {name: str(threads) for name in _THREADS} | {"OMP_DYNAMIC": "FALSE", "MKL_DYNAMIC": "FALSE"}


def environment(threads: int) -> dict[str, str]:
    """The environment of a process that computes with `threads`: no binding of threads but ours, and memory that is
    kept (what the user says of malloc goes before)."""
    out = _MALLOC | {name: value for name, value in os.environ.items() if name not in _BINDING}
    out |= thread_variables(threads)
    out["PYTHONPATH"] = search_path()
    out["PYTHONUNBUFFERED"] = "1"
    return out
