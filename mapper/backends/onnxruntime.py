"""The onnxruntime back end: a stage becomes an ONNX model, which ONNX Runtime optimises when it loads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import onnxruntime as ort
import torch

from mapper.backends.core import core_of, exported
from mapper.backends.registry import Loaded
from mapper.program.model import Program

MODEL = "stage.onnx"


def compile(program: Program, weights: Mapping[str, torch.Tensor], threads: int, folder: Path) -> None:
    """Writes `program` as ONNX, weights in a file beside it, and loads it once: what lacks a kernel is told here."""
    core = core_of(program).program
    if not core.outputs:
        return
    with torch.no_grad():
        made = torch.onnx.export(exported(core, weights), dynamo=True, verbose=False)
    assert made is not None, "what torch.onnx.export gives where it writes no file"
    made.save(str(folder / MODEL), external_data=True)
    _session(folder, threads)


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


def load(program: Program, weights: Mapping[str, torch.Tensor], threads: int, artefact: Path | None) -> Loaded:
    """The stage, ready in this process. Inputs are read where they lie if they are contiguous, results come into
    buffers of its own."""
    assert artefact is not None, "a stage of this back end is compiled before it is loaded"
    torch.set_num_threads(1)  # for copies; a second team would only be in the way
    core = core_of(program)
    if not core.program.outputs:
        return Loaded(core.compute(weights, tuple), threads)
    session = _session(artefact, threads)
    kinds = [core.program.type_of(output) for output in core.program.outputs]
    results = [torch.zeros(kind.shape, dtype=getattr(torch, kind.dtype)) for kind in kinds]
    binding = session.io_binding()
    for given, result in zip(session.get_outputs(), results, strict=True):
        binding.bind_ortvalue_output(given.name, ort.OrtValue.ortvalue_from_numpy(result.numpy()))
    names = [given.name for given in session.get_inputs()]

    def run(given: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
        held = [tensor.contiguous() for tensor in given]  # until it is done: a value that shares memory may not hold it
        for name, tensor in zip(names, held, strict=True):
            binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(tensor.numpy()))
        session.run_with_iobinding(binding)
        return results

    return Loaded(core.compute(weights, run), session.get_session_options().intra_op_num_threads)
