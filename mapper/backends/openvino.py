"""The openvino back end: a stage becomes an OpenVINO model (IR), which the CPU plugin compiles when it loads it."""

from __future__ import annotations

import contextlib
import ctypes
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch

from mapper.backends.core import core_of, exported
from mapper.backends.in_place import Engine, loaded
from mapper.backends.pools import with_windows_inside
from mapper.backends.registry import BFLOAT16, FLOAT32, Loaded
from mapper.program.model import Program

sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # it would write to HOME and send figures
import openvino as ov  # noqa: E402

MODEL = "stage.xml"


def compile(
    program: Program, weights: Mapping[str, torch.Tensor], threads: int, folder: Path, precision: str = FLOAT32
) -> None:
    """Writes `program` as IR, weights as they are, and loads it once: what the plugin cannot do is told here.

    Shapes are fixed, which the converter would leave open: the plugin has faster code for those that it knows.
    """
    core = core_of(program).program
    if not core.outputs:
        return
    with torch.no_grad(), tempfile.TemporaryDirectory() as work:
        if core.is_onnx:
            from mapper.backends.onnx_stage import write_onnx

            write_onnx(core, weights, Path(work) / "stage.onnx")
            model = ov.convert_model(Path(work) / "stage.onnx")
        else:
            model = ov.convert_model(exported(with_windows_inside(core), weights))
        model.reshape({i: list(given.type.shape) for i, given in enumerate(core.inputs)})
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
    with signal_stack_kept():
        made = ov.Core().compile_model(folder / MODEL, "CPU", settings)
    taken = made.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    if taken != wanted:
        raise RuntimeError(f"OpenVINO computes in {taken} here, {wanted} was asked for")
    return made


class _Stack(ctypes.Structure):
    """The C structure `stack_t`."""

    _fields_ = (("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@contextlib.contextmanager
def signal_stack_kept() -> Iterator[None]:
    """Leaves the calling thread with the signal stack that it had. The plugin puts one of its own in its place, which
    is gone with the model: where models do not end in the reverse order, the next signal meets freed memory."""
    libc, before = ctypes.CDLL(None), _Stack()
    known = libc.sigaltstack(None, ctypes.byref(before)) == 0
    try:
        yield
    finally:
        if known:
            libc.sigaltstack(ctypes.byref(before), None)


def load(
    program: Program, weights: Mapping[str, torch.Tensor], threads: int, artefact: Path | None, precision: str = FLOAT32
) -> Loaded:
    """The stage, ready in this process (`in_place.loaded`)."""
    return loaded(program, weights, threads, artefact, partial(_engine, precision))


def _engine(precision: str, folder: Path, threads: int) -> Engine[ov.Tensor]:
    compiled = _compiled(folder, threads, precision)
    request = compiled.create_infer_request()

    def value(tensor: torch.Tensor) -> ov.Tensor:
        return ov.Tensor(tensor.numpy(), shared_memory=True)

    def infer(given: Sequence[ov.Tensor], results: Sequence[ov.Tensor]) -> None:
        for i, one in enumerate(given):
            request.set_input_tensor(i, one)
        for i, one in enumerate(results):
            request.set_output_tensor(i, one)
        request.infer()

    return Engine(int(compiled.get_property("INFERENCE_NUM_THREADS")), value, infer)
