"""From a torch module to a `Program`, by torch.export with an empty decomposition table (bit-equal to the module)."""

from __future__ import annotations

import contextlib
import inspect
import io
import logging
import sys
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, UnsupportedOperatorException
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

from mapper.errors import BadInput
from mapper.program.exported import Exported
from mapper.program.model import Program
from mapper.program.reader import TORCH, Tensors, read_exported

OWN = str(Path(__file__).parent) + "/"
_NUMBERS = {"__bool__": "bool()", "__int__": "int()", "__index__": "int()", "__float__": "float()"}
"""Where Python asks a tensor, or a number that torch.export knows by name only, for its value."""


def trace_program(
    model: torch.nn.Module, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, *, name: str = "model"
) -> tuple[Program, Tensors]:
    """The program of `model` called with `args` and `kwargs`, and its weights by name.

    Weights may be fake (a model on the meta device, see `without_weights`): the program is the same, the weights are
    then fake too. An `Exported` has been traced: `args` and `kwargs` are not looked at.

    Raises: BadInput when the model cannot be exported, mutates its inputs or buffers, or draws random numbers.
    """
    if model.training:
        raise BadInput(
            name, "the model is in training mode, where it draws random numbers", advice="Call model.eval() first."
        )
    _require_cpu(model, {**{str(i): given for i, given in enumerate(args)}, **(kwargs or {})}, name)
    exported = _export(model, tuple(args), dict(kwargs or {}), name)
    first_names = model.first_names() if isinstance(model, Exported) else _first_names(model)
    return read_exported(exported, first_names, name)


def without_weights(build: Any) -> torch.nn.Module:
    """The module that `build()` returns, with fake weights: shapes and dtypes, no memory.

    The module is built on the meta device, where nothing is allocated or initialised; its weights are then replaced
    by fake CPU tensors, so that the traced program is the one of the real module.
    """
    with torch.device("meta"):
        module: torch.nn.Module = build()
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    fakes: dict[int, torch.Tensor] = {}

    def fake(tensor: torch.Tensor) -> torch.Tensor:
        if id(tensor) not in fakes:
            with mode:
                made = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cpu")
            parameter = isinstance(tensor, torch.nn.Parameter)
            fakes[id(tensor)] = torch.nn.Parameter(made, requires_grad=False) if parameter else made
        return fakes[id(tensor)]

    for part in module.modules():
        for table in (part._parameters, part._buffers):
            for key, tensor in table.items():
                if tensor is not None:
                    table[key] = fake(tensor)  # type: ignore[assignment]
    return module.eval()


def _require_cpu(model: torch.nn.Module, inputs: Mapping[str, Any], name: str) -> None:
    """Refuses weights and inputs on another device."""
    for weight, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.device.type != "cpu":
            raise BadInput(
                name, f"the weight {weight!r} is on {tensor.device}, not on the CPU", advice="Call model.cpu() first."
            )
    for given, value in inputs.items():
        if isinstance(value, torch.Tensor) and value.device.type != "cpu":
            raise BadInput(
                name,
                f"the example input {given!r} is on {value.device}, not on the CPU",
                advice="Make it there, or call .cpu() on it.",
            )


def _first_names(model: torch.nn.Module) -> dict[str, str]:
    """For each parameter and buffer name the first name of the same tensor, so that shared weights count once."""
    first: dict[int, str] = {}
    named = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    return {name: first.setdefault(id(tensor), name) for name, tensor in named}


def _export(model: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], name: str) -> Any:
    modes = {t.fake_mode for t in (*model.parameters(), *model.buffers()) if isinstance(t, FakeTensor)}
    try:
        if isinstance(model, Exported):
            return model.program.run_decompositions({})
        with _quiet(), next(iter(modes), contextlib.nullcontext()):
            # a tensor given twice must become two inputs: each place gets a tensor object of its own
            own = torch.empty_like if modes else torch.Tensor.detach
            args, kwargs = torch.utils._pytree.tree_map_only(torch.Tensor, own, (args, kwargs))
            return torch.export.export(model, args, kwargs, strict=False).run_decompositions({})
    except Exception as error:  # torch.export raises whatever the model raises
        if (end := _end_behind(error)) is not None:
            raise end from error
        raise _refusal(error, name) from error


def _end_behind(error: BaseException | None) -> BaseException | None:
    """What ended the program (Ctrl-C, SIGTERM), where torch's clean-up after it failed with `error`."""
    while isinstance(error, Exception):
        error = error.__context__
    return error


def _refusal(error: Exception, name: str) -> BadInput:
    """What stopped torch.export, as a message that names the operator and the line of the model."""
    frames = list(traceback.walk_tb(error.__traceback__))
    own = [i for i, (frame, _) in enumerate(frames) if not frame.f_code.co_filename.startswith((TORCH, OWN))]
    inside = own[-1] if own else -1
    place = f"{frames[inside][0].f_code.co_filename}, line {frames[inside][1]}" if own else ""
    operator = _operator([frame for frame, _ in frames[inside + 1 :]])
    if isinstance(error, GuardOnDataDependentSymNode):
        return BadInput(
            name,
            f"torch.export cannot trace it: {operator or 'this'} makes what is computed depend on what a tensor holds",
            place=place,
            advice="Compute both sides and choose with torch.where, or fix the choice before tracing.",
        )
    lines = [line for line in str(error).splitlines() if line.strip()]
    what = lines[0] if lines else type(error).__name__
    if isinstance(error, UnsupportedOperatorException):
        what = "it is no operator of torch's own, or has no implementation for tensors without content"
    return BadInput(name, f"torch.export cannot trace {operator or 'it'}: {what}", place=place)


def _operator(frames: Sequence[FrameType]) -> str:
    """What the model called, from the frames of torch that its innermost line led to; empty where they do not tell."""
    called = [frame.f_locals.get("func") for frame in frames]
    for overload in called:
        if isinstance(overload, torch._ops.OpOverload):
            return str(overload)
    for frame, method in zip(frames, called, strict=True):
        if frame.f_code.co_name in _NUMBERS:
            return f"{_NUMBERS[frame.f_code.co_name]} of a number that a tensor held"
        if inspect.ismethoddescriptor(method):
            name = method.__name__
            return f"{_NUMBERS[name]} of a tensor" if name in _NUMBERS else f"Tensor.{name}"
    return ""


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps torch's own notes and dumps of graphs, which nobody here can act on, off the user's terminal, and what the
    model prints off stdout."""
    loggers = [logging.getLogger(name) for name in ("torch.export", "torch.fx.experimental.symbolic_shapes")]
    levels = [logger.level for logger in loggers]
    aside = contextlib.redirect_stdout(sys.stderr), contextlib.redirect_stderr(io.StringIO())
    with warnings.catch_warnings(), aside[0], aside[1]:
        warnings.filterwarnings("ignore", category=FutureWarning)
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=UserWarning, module="torch")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
