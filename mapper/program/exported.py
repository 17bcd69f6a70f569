"""Programs that torch.export.save wrote (`.pt2`)."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch

from mapper.errors import BadInput


class Exported(torch.nn.Module):
    """A program of torch.export as a module: called with its input tensors in order, it returns what the model did."""

    def __init__(self, program: torch.export.ExportedProgram) -> None:
        super().__init__()
        self.program = program
        # in a list, so that torch.nn does not see it: its .eval() refuses, and it names weights its own way
        self._module = [program.module()]
        for parameter in self._module[0].parameters():
            parameter.requires_grad_(False)  # products take another path for what requires gradients
        self.eval()

    def forward(self, *tensors: torch.Tensor) -> Any:
        """What the model returns for `tensors`."""
        spec = self.program.call_spec.in_spec
        args, kwargs = torch.utils._pytree.tree_unflatten(list(tensors), spec)
        return self._module[0](*args, **kwargs)

    def first_names(self) -> dict[str, str]:
        """For each weight's name the first name of the same memory, so that shared weights count once."""
        first: dict[Any, str] = {}
        tensors = {**self.program.state_dict, **self.program.constants}
        named = {name: tensor for name, tensor in tensors.items() if isinstance(tensor, torch.Tensor)}
        return {name: first.setdefault(_memory(name, tensor), name) for name, tensor in named.items()}


def _memory(name: str, tensor: torch.Tensor) -> Any:
    """What two tensors have in common that are one; an empty one is like no other."""
    if tensor.numel() == 0:
        return name
    return tensor.data_ptr(), tuple(tensor.shape), tuple(tensor.stride()), tensor.dtype


def load_exported(path: Path) -> tuple[Exported, dict[str, torch.Tensor]]:
    """The program in the file `path`, and an example of its inputs, by name, in their order.

    Opening such a file can run code that its maker put into it: the caller has made sure that it may.

    Raises: BadInput when it is no such file, cannot be read by this torch, has inputs that are no tensors, or was
    exported without an example or for another device.
    """
    if not path.is_file():
        raise BadInput(str(path), "no such file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.load(path)
    except Exception as error:  # a damaged file makes torch.export.load raise whatever it likes
        lines = str(error).strip().splitlines()
        raise BadInput(
            str(path),
            f"torch {torch.__version__} cannot load it: {lines[0] if lines else type(error).__name__}",
            advice="It must be a file that torch.export.save wrote, with this version of torch or an older one.",
        ) from error
    _require_cpu(program, str(path))
    return Exported(program), _example(program, str(path))


def _require_cpu(program: torch.export.ExportedProgram, source: str) -> None:
    for name, tensor in {**program.constants, **program.state_dict}.items():
        if isinstance(tensor, torch.Tensor) and tensor.device.type != "cpu":
            raise BadInput(source, f"its weight {name!r} is on {tensor.device}", advice="Export the model on the CPU.")


def _example(program: torch.export.ExportedProgram, source: str) -> dict[str, torch.Tensor]:
    """The example inputs that the program was exported with."""
    if program.example_inputs is None:
        raise BadInput(source, "it has no example inputs", advice="Export the model with example inputs.")
    leaves = torch.utils._pytree.tree_leaves(program.example_inputs)
    inputs = [s.arg for s in program.graph_signature.input_specs if s.kind.name == "USER_INPUT"]
    for spec, leaf in zip(inputs, leaves, strict=True):
        if not isinstance(leaf, torch.Tensor):
            raise BadInput(
                source,
                f"the input {spec.name!r} is a {type(leaf).__name__}, no tensor",
                advice="Bind other arguments before exporting (functools.partial or a small module).",
            )
    return {spec.name: leaf.detach() for spec, leaf in zip(inputs, leaves, strict=True)}
