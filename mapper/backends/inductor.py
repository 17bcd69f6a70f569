"""The inductor back end: AOTInductor with freezing. A stage becomes a shared library with its weights in it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from mapper.backends.core import core_of, exported, zeros
from mapper.backends.registry import FLOAT32, Loaded
from mapper.program.model import Program

LIBRARY = "stage.so"
_OPTIONS = {"freezing": True, "aot_inductor.precompile_headers": False}
"""Headers compiled beforehand would pay from the third stage on, and are rubbish afterwards."""


def compile(
    program: Program, weights: Mapping[str, torch.Tensor], threads: int, folder: Path, precision: str = FLOAT32
) -> None:
    """Compiles `program` for exactly `threads` threads, which the library's loops have as a constant."""
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"  # read when torch._inductor is imported; no pool of processes
    import torch._inductor

    torch.set_num_threads(threads)
    core = core_of(program).program
    if not core.outputs:
        return
    with torch.no_grad():
        module = exported(core, weights, precision).module()
        given = tuple(zeros(given.type) for given in core.inputs)
        made = torch._inductor.aot_compile(module, given, options=_OPTIONS)
    if not isinstance(made, str):
        raise RuntimeError(f"torch {torch.__version__} gave {type(made).__name__}, not the path of a library")
    Path(made).rename(folder / LIBRARY)


def load(
    program: Program, weights: Mapping[str, torch.Tensor], threads: int, artefact: Path | None, precision: str = FLOAT32
) -> Loaded:
    """The compiled stage, ready in this process. The library maps its weights from the file: replicas share them."""
    assert artefact is not None, "a stage of this back end is compiled before it is loaded"
    torch.set_num_threads(threads)
    core = core_of(program)
    if not core.program.outputs:
        return Loaded(core.compute(weights, tuple), threads)
    runner = torch._C._aoti.AOTIModelContainerRunnerCpu(str(artefact / LIBRARY), 1)

    def run(given: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
        return runner.run(list(given))

    return Loaded(core.compute(weights, run), torch.get_num_threads())
