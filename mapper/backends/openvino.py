"""The openvino back end: a stage becomes an OpenVINO model (IR), which the CPU plugin compiles when it loads it."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from mapper.backends.core import core_of, exported
from mapper.backends.in_place import loaded
from mapper.backends.registry import BFLOAT16, FLOAT32, Loaded
from mapper.program.model import Program

sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # it would write to HOME and send figures
import openvino as ov  # noqa: E402

MODEL = "stage.xml"


def compile(
    program: Program, weights: Mapping[str, torch.Tensor], threads: int, folder: Path, precision: str = FLOAT32
) -> None:
    """Writes `program` as IR, weights as they are, and loads it once: what the plugin cannot do is told here."""
    core = core_of(program).program
    if not core.outputs:
        return
    with torch.no_grad(), tempfile.TemporaryDirectory() as given:
        if core.is_onnx:
            from mapper.backends.onnx_stage import write_onnx

            write_onnx(core, weights, Path(given) / "stage.onnx")
            model = ov.convert_model(Path(given) / "stage.onnx")
        else:
            model = ov.convert_model(exported(core, weights))
        ov.save_model(model, folder / MODEL, compress_to_fp16=False)
    _compiled(folder, threads, precision)


def _compiled(folder: Path, threads: int, precision: str) -> ov.CompiledModel:
    """The model with one stream of exactly `threads` threads, in float32 where the CPU would rather take fewer bits,
    or in bfloat16 if that is the `precision`. Threads inherit the process's PUs; the plugin binds none."""
    wanted = "bf16" if precision == BFLOAT16 else "f32"
    settings = {
        "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "ENABLE_CPU_PINNING": False,
        "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": wanted, "CPU_DENORMALS_OPTIMIZATION": False,
    }  # fmt: skip
    made = ov.Core().compile_model(folder / MODEL, "CPU", settings)
    taken = made.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    if taken != wanted:
        raise RuntimeError(f"OpenVINO computes in {taken} here, {wanted} was asked for")
    return made


def load(
    program: Program, weights: Mapping[str, torch.Tensor], threads: int, artefact: Path | None, precision: str = FLOAT32
) -> Loaded:
    """The stage, ready in this process. Inputs are read where they lie if they are contiguous, results are written
    where they belong."""
    assert artefact is not None, "a stage of this back end is compiled before it is loaded"
    torch.set_num_threads(1)  # for copies; a second team would only be in the way
    core = core_of(program)
    if not core.program.outputs:
        return Loaded(core.compute(weights, tuple), threads)
    compiled = _compiled(artefact, threads, precision)
    request = compiled.create_infer_request()

    def value(tensor: torch.Tensor) -> ov.Tensor:
        return ov.Tensor(tensor.numpy(), shared_memory=True)

    def infer(given: Sequence[ov.Tensor], results: Sequence[ov.Tensor]) -> None:
        for i, one in enumerate(given):
            request.set_input_tensor(i, one)
        for i, one in enumerate(results):
            request.set_output_tensor(i, one)
        request.infer()

    return loaded(core, weights, int(compiled.get_property("INFERENCE_NUM_THREADS")), value, infer)
