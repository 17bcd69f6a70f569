"""Back ends whose library computes from given tensors into given tensors: results go straight to where they belong."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

import torch

from mapper.backends.core import Core
from mapper.backends.registry import Loaded

Value = TypeVar("Value")


def loaded(
    core: Core,
    weights: Mapping[str, torch.Tensor],
    threads: int,
    make: Callable[[torch.Tensor], Value],
    infer: Callable[[Sequence[Value], Sequence[Value]], None],
) -> Loaded:
    """The stage, where `make` gives the library's value that shares a contiguous tensor's memory, and `infer` computes
    the outputs of the core from its inputs, both as such values.

    Results without a target, and all of `compute`, come into buffers that are made when they are first needed. What is
    an input handed through, depends on weights alone, or is an output for the second time, is for the caller to copy.
    """
    kinds = [core.program.type_of(output) for output in core.program.outputs]
    own: dict[int, torch.Tensor] = {}
    known: dict[int, tuple[torch.Tensor, Value]] = {}  # the tensors too: none of them may lose its id to another
    constants = core.constant_results(weights)
    first = [core.sources.index(("core", i)) for i in range(len(kinds))]
    nowhere: list[torch.Tensor | None] = [None] * len(core.sources)

    def prepare(tensors: Iterable[torch.Tensor]) -> None:
        known.update({id(tensor): (tensor, make(tensor)) for tensor in tensors if tensor.is_contiguous()})

    def value(tensor: torch.Tensor) -> Value:
        found = known.get(id(tensor))
        return make(tensor) if found is None else found[1]

    def buffer(i: int) -> torch.Tensor:
        if i not in own:
            own[i] = torch.zeros(kinds[i].shape, dtype=getattr(torch, kinds[i].dtype))
        return own[i]

    def into(given: Sequence[torch.Tensor], targets: Sequence[torch.Tensor | None]) -> Sequence[torch.Tensor]:
        # held until it is done: a value that shares memory may not hold it
        held = [given[i].contiguous() for i in core.inputs]
        wanted = (targets[i] for i in first)
        results = [buffer(i) if target is None else target for i, target in enumerate(wanted)]
        infer([value(tensor) for tensor in held], [value(result) for result in results])
        places = {"input": given, "core": results, "constant": constants}
        return [places[kind][i] for kind, i in core.sources]

    return Loaded(lambda *given: tuple(into(given, nowhere)), threads, into=into, prepare=prepare)
