"""The onnxruntime back end: a stage becomes an ONNX model, which ONNX Runtime optimises when it loads it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnxruntime as ort
import torch

from mapper.backends.core import core_of, exported
from mapper.backends.in_place import Engine, loaded
from mapper.backends.registry import FLOAT32, INT8, Loaded
from mapper.program.model import Program

MODEL = "stage.onnx"


def compile(
    program: Program, weights: Mapping[str, torch.Tensor], threads: int, folder: Path, precision: str = FLOAT32
) -> None:
    """Writes `program` as ONNX, weights in a file beside it, and loads it once: what lacks a kernel is told here."""
    core = core_of(program).program
    if not core.outputs:
        return
    if core.is_onnx:
        from mapper.backends.onnx_stage import write_onnx

        write_onnx(core, weights, folder / MODEL)
    else:
        with torch.no_grad():
            made = torch.onnx.export(exported(core, weights), dynamo=True, verbose=False)
        assert made is not None, "what torch.onnx.export gives where it writes no file"
        made.save(str(folder / MODEL), external_data=True)
    if precision == INT8:
        _quantize(folder)
    _session(folder, threads)


def _quantize(folder: Path) -> None:
    """Turns products with weights into those of int8: weights are rounded here, channel by channel, what they are
    multiplied with at each call, as a whole tensor. (onnxruntime.ai/docs/performance/model-optimizations/quantization)

    Convolutions stay as they are: with scales found at each call they are slower than in float32.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(folder / MODEL)
    del model.graph.value_info[:]  # it transposes weights in place, and then takes their old shapes for an error
    for file in folder.iterdir():
        file.unlink()
    logging.getLogger().setLevel(logging.ERROR)  # it advises to clean the model up before, on the root logger
    quantize_dynamic(
        model, folder / MODEL, op_types_to_quantize=["MatMul"], per_channel=True, weight_type=QuantType.QInt8,
        use_external_data_format=True,
    )  # fmt: skip


def _session(folder: Path, threads: int) -> ort.InferenceSession:
    """A session with a team of exactly `threads`.

    Its threads inherit the process's PUs: with a stated number, ONNX Runtime binds none. Within a call they spin
    between ops, as the cores are the replica's own; between calls they do not, as the feeder may share a core.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "1")
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return ort.InferenceSession(str(folder / MODEL), options, providers=["CPUExecutionProvider"])


def load(
    program: Program, weights: Mapping[str, torch.Tensor], threads: int, artefact: Path | None, precision: str = FLOAT32
) -> Loaded:
    """The stage, ready in this process (`in_place.loaded`)."""
    return loaded(program, weights, threads, artefact, _engine)


def _engine(folder: Path, threads: int) -> Engine[ort.OrtValue]:
    session = _session(folder, threads)
    binding = session.io_binding()
    inputs, outputs = ([given.name for given in ends] for ends in (session.get_inputs(), session.get_outputs()))

    def value(tensor: torch.Tensor) -> ort.OrtValue:
        return ort.OrtValue.ortvalue_from_numpy(tensor.numpy())

    def infer(given: Sequence[ort.OrtValue], results: Sequence[ort.OrtValue]) -> None:
        for name, one in zip(inputs, given, strict=True):
            binding.bind_ortvalue_input(name, one)
        for name, one in zip(outputs, results, strict=True):
            binding.bind_ortvalue_output(name, one)
        session.run_with_iobinding(binding)

    return Engine(session.get_session_options().intra_op_num_threads, value, infer)
