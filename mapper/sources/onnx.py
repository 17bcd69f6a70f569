"""The ONNX model of a plan, ready to be run: its program and weights, and the whole of it in ONNX Runtime to compare
with."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mapper.errors import BadInput, MissingFeature, UsageError
from mapper.plans.model import Plan
from mapper.program.model import Program

BACKENDS = ("onnxruntime", "openvino")
"""The back ends that compute ONNX ops."""
Model = tuple[Program, dict[str, torch.Tensor], torch.nn.Module]


def is_onnx(plan: Plan) -> bool:
    """Whether `plan` is of an ONNX model."""
    return plan.model.source.endswith(".onnx")


def realised_onnx(plan: Plan) -> Model:
    """The program, the weights and the whole model that `plan` names, from its file.

    Raises: UsageError when the plan's back end computes no ONNX ops; BadInput when the file is not the one that was
    planned, or its ops cannot be split; MissingFeature when ONNX Runtime is not installed.
    """
    from mapper.graph.importers.onnx_model import load_onnx

    family = plan.request.backend.partition(":")[0]
    if family not in BACKENDS:
        raise UsageError(f"{plan.model.source} is an ONNX model, which the back end {family} does not compute",
                         advice=f"Take one that does: --backend {' or '.join(BACKENDS)}.")  # fmt: skip
    path = Path(plan.model.source)
    made = load_onnx(path, plan.model.options)
    if f"sha256:{made.sha256}" != plan.model.weights:
        raise BadInput(str(path), "not the file that was planned: its SHA-256 is another", advice="Plan again.")
    if isinstance(made.program, BadInput):
        raise made.program
    program, constants = made.program.program, made.program.constants
    weights = {
        weight.name: _tensor(constants[weight.name], weight.type.dtype, path).reshape(weight.type.shape)
        for weight in program.weights
    }
    return program, weights, Whole(path, [given.name for given in program.inputs])


def _tensor(given: Any, dtype: str, path: Path) -> torch.Tensor:
    """A constant of an ONNX model: a TensorProto, maybe in a file beside the model at `path`, or plain numbers."""
    from onnx import TensorProto, numpy_helper

    if not isinstance(given, TensorProto):
        return torch.tensor(given, dtype=getattr(torch, dtype))
    try:
        return torch.from_numpy(np.array(numpy_helper.to_array(given, base_dir=str(path.parent))))
    except Exception as error:  # onnx raises what it likes
        raise BadInput(str(path), f"the weight {given.name!r} cannot be read: {error}") from None


def whole_of(program: Program, weights: Mapping[str, torch.Tensor]) -> torch.nn.Module:
    """The whole of `program` in ONNX Runtime, where its file is not at hand. Raises: as `Whole`."""
    try:
        from mapper.backends.onnx_stage import write_onnx
    except ModuleNotFoundError:
        raise MissingFeature("ONNX models need the package onnx, which is not installed",
                             advice="python -m pip install onnx") from None  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "whole.onnx"
        write_onnx(program, weights, path)
        return Whole(path, [f"input:{given.name}" for given in program.inputs])


class Whole(torch.nn.Module):
    """The unsplit model at `path` in ONNX Runtime, called with tensors in the order of `names`, its inputs.

    Raises: MissingFeature when that is not installed, BadInput when it does not take the model.
    """

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        super().__init__()
        try:
            import onnxruntime
        except ModuleNotFoundError:
            what = "outputs of an ONNX model are compared with those of ONNX Runtime, which is not installed"
            raise MissingFeature(what, advice="python -m pip install 'mapper[onnxruntime]'") from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        self.names = names
        try:
            self.session: Any = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # it raises what it likes
            raise BadInput(str(path), f"ONNX Runtime does not take the model: {str(error)[:500]}") from None

    def forward(self, *given: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """All outputs of the model."""
        feed: Mapping[str, Any] = {name: tensor.numpy() for name, tensor in zip(self.names, given, strict=True)}
        return tuple(torch.from_numpy(np.array(found)) for found in self.session.run(None, feed))
