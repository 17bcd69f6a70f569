"""What OpenVINO does to the process that loads it."""

from __future__ import annotations

import ctypes
import os
import signal
from pathlib import Path

import pytest
import torch

from mapper.backends.registry import backend_called
from mapper.sources.backend import compiled, with_backend
from mapper.sources.stages import stage_programs
from tests.backends.stages import need, two_stages
from tests.execution.models import mlp

MLP = mlp()


def signal_stack() -> bytes:
    """Start, flags and size of this thread's signal stack, as they lie in `stack_t`."""
    found = ctypes.create_string_buffer(24)
    assert ctypes.CDLL(None).sigaltstack(None, found) == 0
    return found.raw


def test_models_that_end_in_any_order_leave_signals_a_stack() -> None:
    need("openvino")
    plan = with_backend(two_stages(), "openvino")
    programs = stage_programs(plan, MLP.program)
    with open(os.memfd_create("weights"), "w+b") as file:
        from mapper.program.weights import laid_out, write_weights

        write_weights(file, laid_out(MLP.program, MLP.weights))
        file.flush()
        made = compiled(plan, programs, MLP.weights, file.fileno(), print, print)
    before = signal_stack()
    backend, folders = backend_called("openvino"), [Path(made[stage, 1]) for stage in (0, 1)]
    loaded = [backend.load(program, MLP.weights, 1, folder) for program, folder in zip(programs, folders, strict=True)]
    with torch.inference_mode():
        loaded[0].compute(torch.ones(8, 64))
    assert signal_stack() == before
    del loaded[0]
    del loaded[0]
    assert signal_stack() == before
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
