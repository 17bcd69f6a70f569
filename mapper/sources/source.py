"""What can be run: a torch module, a program with its weights, or a bundle; and the items that it takes."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mapper import jsonio
from mapper.errors import BadInput, SystemRefused
from mapper.host.anonymous import anonymous_file
from mapper.plans.model import Plan
from mapper.program.columns import with_columns
from mapper.program.model import Program
from mapper.program.realise import COLUMNS, Options
from mapper.program.weights import laid_out, write_weights
from mapper.sources.bundle import Bundle, open_bundle
from mapper.sources.onnx import is_onnx, realised_onnx
from mapper.sources.stages import made_with_torch

Tensors = Mapping[str, torch.Tensor]
Item = torch.Tensor | Sequence[torch.Tensor] | Mapping[str, torch.Tensor]
"""A tensor, tensors in the order of the program's inputs, or tensors by input name."""
Runnable = torch.nn.Module | tuple[Program, Tensors] | Bundle | str | Path
"""A module, a program with its weights, a bundle or its folder, or an ONNX file."""


@dataclass
class Source:
    """A program with its weights; `module` is the model that it was traced from, where that is at hand, and
    `by_name` says that items are handed to it as keyword arguments."""

    program: Program
    weights: Tensors
    module: torch.nn.Module | None = None
    by_name: bool = False
    bundle: Bundle | None = None

    def weights_fd(self) -> int:
        """A new descriptor of a safetensors file with the weights, for workers to map. Raises: SystemRefused."""
        if self.bundle is not None:
            return os.dup(self.bundle.weights_file.fileno())
        fd = anonymous_file("mapper-weights")
        try:
            with os.fdopen(os.dup(fd), "wb") as out:
                write_weights(out, laid_out(self.program, self.weights))
        except OSError as error:
            os.close(fd)
            raise SystemRefused(f"the weights cannot be put into shared memory: {error.strerror}") from error
        return fd

    def call(self, item: Sequence[torch.Tensor]) -> object:
        """What the module returns for `item`, whose tensors are in the order of the program's inputs."""
        assert self.module is not None, "asked only where there is a module"
        if self.by_name:
            return self.module(**{given.name: tensor for given, tensor in zip(self.program.inputs, item, strict=True)})
        return self.module(*item)


def source_of(plan: Plan, model: Runnable) -> Source:
    """What `plan` maps, from `model`.

    Raises: BadInput when the model's graph is not the one that was planned.
    """
    if isinstance(model, str | Path):
        if str(model).endswith(".onnx"):
            named = plan.model.model_copy(update={"source": str(model)})
            return realised_source(plan.model_copy(update={"model": named}))
        model = open_bundle(model)
    if isinstance(model, Bundle):
        found = Source(model.program, model.weights, bundle=model)
    elif isinstance(model, torch.nn.Module):
        found = _traced(plan, model)
    else:
        found = Source(*model)
    return _planned(plan, found)


def realised_source(plan: Plan) -> Source:
    """The model that `plan` names, built again.

    Raises: BadInput when there is none, or it is not the one that was planned; MissingFeature when its library is
    not installed here.
    """
    from mapper.program.realise import realise
    from mapper.program.trace import trace_program

    if not plan.model.source:
        raise BadInput(plan.model.name, "the plan does not say where its model comes from",
                       advice="Run a bundle, or pass the model to mapper.Executor.")  # fmt: skip
    if is_onnx(plan):
        program, tensors, module = realised_onnx(plan)
        return _planned(plan, Source(program, tensors, module))
    made = realise(plan.model.source, plan.model.options)
    whole, weights = trace_program(made.module, made.args, made.kwargs, name=plan.model.name)
    return _planned(plan, Source(_as_planned(plan, whole), weights, made.module, by_name=bool(made.kwargs)))


def _as_planned(plan: Plan, program: Program) -> Program:
    """`program` with the ops split that `plan` has split."""
    asked = {COLUMNS: plan.model.options.get(COLUMNS, {})}
    return with_columns(program, jsonio.validated(Options, asked, "options of the model").columns)


def _planned(plan: Plan, found: Source) -> Source:
    """`found`, if it is what `plan` maps."""
    if found.program.sha256 != plan.model.graph_sha256:
        raise BadInput(
            plan.model.name,
            f"the model at hand is not the one that was planned: its graph is {found.program.sha256[:12]}, "
            f"the plan's is {plan.model.graph_sha256[:12]}",
            advice=f"{made_with_torch(plan)}This is torch {torch.__version__}. Plan again, or run a bundle, which "
            "carries its graph along.",
        )
    return found


def _traced(plan: Plan, module: torch.nn.Module) -> Source:
    """`module` traced as it was for `plan`: positional arguments or keywords, whichever gives the planned graph."""
    from mapper.program.trace import trace_program

    example = {
        spec.name: torch.zeros(spec.shape, dtype=getattr(torch, spec.dtype)) for spec in plan.model.item
    }  # only shapes and dtypes matter to a trace
    parameters = list(inspect.signature(module.forward).parameters)
    leading = parameters[: len(example)] == list(example)
    named = set(example) <= set(parameters)
    attempts = [True] if named and not leading else [False, True] if named else [False]
    found = None
    for by_name in attempts:
        args, kwargs = ((), example) if by_name else (tuple(example.values()), {})
        whole, weights = trace_program(module, args, kwargs, name=plan.model.name)
        program = _as_planned(plan, whole)
        found = Source(program, weights, module, by_name)
        if program.sha256 == plan.model.graph_sha256:
            break
    assert found is not None, "there is at least one attempt"
    return found


def tensors_of(program: Program, item: Any, calls: int = 1) -> list[torch.Tensor]:
    """The tensors of `item`, which so many `calls` of `program` take, in the order of its inputs, each checked.

    Raises: BadInput naming the tensor that is missing, or whose shape or dtype is another.
    """
    names = [given.name for given in program.inputs]
    if isinstance(item, torch.Tensor):
        item = (item,)
    if isinstance(item, Mapping):
        if set(item) != set(names):
            raise BadInput("item", f"its tensors are {sorted(map(str, item))}, {names} were expected")
        item = [item[name] for name in names]
    if not isinstance(item, Sequence) or len(item) != len(names):
        raise BadInput(
            "item",
            f"{len(names)} tensor(s) were expected: {', '.join(names)}",
            advice="An item is a tensor, a tuple in the order of the inputs, or a dict by input name.",
        )
    for given, tensor in zip(program.inputs, item, strict=True):
        shape = given.type.shape if calls == 1 else (given.type.shape[0] * calls, *given.type.shape[1:])
        expected = f"{given.type.dtype}{list(shape)}"
        if not isinstance(tensor, torch.Tensor):
            raise BadInput("item", f"{given.name} is {type(tensor).__name__}, a tensor {expected} was expected")
        if tuple(tensor.shape) != shape or tensor.dtype != getattr(torch, given.type.dtype):
            found = f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"
            raise BadInput("item", f"{given.name} is {found}, {expected} was planned for",
                           advice="Shapes are fixed by the plan; batch or pad items to it, or plan again.")  # fmt: skip
    return [tensor.detach() if tensor.requires_grad else tensor for tensor in item]
