"""The openvino back end: a stage becomes an OpenVINO model (IR), which the CPU plugin compiles when it loads it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from mapper.backends.core import core_of, exported
from mapper.backends.registry import Loaded
from mapper.program.model import Program

sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # it would write to HOME and send figures
import openvino as ov  # noqa: E402

MODEL = "stage.xml"


def compile(program: Program, weights: Mapping[str, torch.Tensor], threads: int, folder: Path) -> None:
    """Writes `program` as IR, weights as they are, and loads it once: what the plugin cannot do is told here."""
    core = core_of(program).program
    if not core.outputs:
        return
    with torch.no_grad():
        model = ov.convert_model(exported(core, weights))
    ov.save_model(model, folder / MODEL, compress_to_fp16=False)
    _compiled(folder, threads)


def _compiled(folder: Path, threads: int) -> ov.CompiledModel:
    """The model with one stream of exactly `threads` threads, in float32 where the CPU would rather take fewer bits.
    Threads inherit the process's PUs; the plugin binds none."""
    settings = {
        "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "ENABLE_CPU_PINNING": False,
        "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32", "CPU_DENORMALS_OPTIMIZATION": False,
    }  # fmt: skip
    return ov.Core().compile_model(folder / MODEL, "CPU", settings)


def load(program: Program, weights: Mapping[str, torch.Tensor], threads: int, artefact: Path | None) -> Loaded:
    """The stage, ready in this process. Inputs are read where they lie if they are contiguous, results come into
    buffers of its own."""
    assert artefact is not None, "a stage of this back end is compiled before it is loaded"
    torch.set_num_threads(1)  # for copies; a second team would only be in the way
    core = core_of(program)
    if not core.program.outputs:
        return Loaded(core.compute(weights, tuple), threads)
    compiled = _compiled(artefact, threads)
    request = compiled.create_infer_request()
    kinds = [core.program.type_of(output) for output in core.program.outputs]
    results = [torch.zeros(kind.shape, dtype=getattr(torch, kind.dtype)) for kind in kinds]
    for i, result in enumerate(results):
        request.set_output_tensor(i, ov.Tensor(result.numpy(), shared_memory=True))

    def run(given: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
        held = [tensor.contiguous() for tensor in given]  # until it is done: what shares memory does not hold it
        for i, tensor in enumerate(held):
            request.set_input_tensor(i, ov.Tensor(tensor.numpy(), shared_memory=True))
        request.infer()
        return results

    return Loaded(core.compute(weights, run), int(compiled.get_property("INFERENCE_NUM_THREADS")))
