"""The eager back end: torch's own kernels, op by op, bit-equal to the unsplit model at the same number of threads;
`eager:bfloat16` computes products and convolutions in bfloat16, `eager:aten` convolutions without oneDNN and NNPACK."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from mapper.backends.lowered import lowered
from mapper.backends.registry import BFLOAT16, FLOAT32, Compute, Loaded
from mapper.program.model import Program
from mapper.program.rebuild import rebuild
from mapper.program.weights import laid_out


def prepare(program: Program, weights: Mapping[str, torch.Tensor], threads: int, precision: str = FLOAT32) -> Compute:
    """What computes `program` with `threads` threads in this process. `weights` may hold more than it reads.

    Raises: BadInput when a weight is missing or of another type, or this torch lacks an op.
    """
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    module = rebuild(program, laid_out(program, weights))
    if precision == BFLOAT16:
        module = lowered(module, program)
    compute: Compute = module.forward  # not module(...): hooks and tracing are looked for there at every call
    return compute


def load(
    program: Program, weights: Mapping[str, torch.Tensor], threads: int, artefact: Path | None, precision: str = FLOAT32
) -> Loaded:
    """The stage `program`, ready in this process; nothing is compiled for it. Raises: what `prepare` does."""
    compute = prepare(program, weights, threads, precision)
    return Loaded(compute, torch.get_num_threads())


def load_aten(program: Program, weights: Mapping[str, torch.Tensor], threads: int, artefact: Path | None) -> Loaded:
    """The stage `program` by ATen's own kernels and the BLAS alone, as where torch has neither oneDNN nor NNPACK, such
    as on RISC-V. For the whole process from here on. Raises: what `prepare` does."""
    torch.backends.mkldnn.set_flags(False)  # type: ignore[no-untyped-call]
    torch.backends.nnpack.set_flags(False)  # type: ignore[no-untyped-call]
    return load(program, weights, threads, artefact)
