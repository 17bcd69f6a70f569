"""Back ends whose library computes from given tensors into given tensors: results go straight to where they belong."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import torch

from mapper.backends.core import Core, core_of
from mapper.backends.registry import Loaded
from mapper.program.model import Program

Value = TypeVar("Value")


@dataclass(frozen=True)
class Engine(Generic[Value]):
    """A library with a stage's core loaded: the number of threads that it computes with, `make`, which gives its value
    that shares a contiguous tensor's memory, and `infer`, which computes the outputs of the core from its inputs, both
    as such values."""

    threads: int
    make: Callable[[torch.Tensor], Value]
    infer: Callable[[Sequence[Value], Sequence[Value]], None]


def loaded(
    program: Program,
    weights: Mapping[str, torch.Tensor],
    threads: int,
    artefact: Path | None,
    engine: Callable[[Path, int], Engine[Value]],
) -> Loaded:
    """The stage, ready in this process, its core computed by the `engine` of the folder that was compiled and so many
    threads. Inputs are read where they lie if they are contiguous, results are written where they belong."""
    assert artefact is not None, "a stage of this back end is compiled before it is loaded"
    torch.set_num_threads(1)  # for copies; a second team would only be in the way
    core = core_of(program)
    if not core.program.outputs:
        return Loaded(core.compute(weights, tuple), threads)
    return computed_by(engine(artefact, threads), core, weights)


def computed_by(engine: Engine[Value], core: Core, weights: Mapping[str, torch.Tensor]) -> Loaded:
    """The stage whose `core` the `engine` computes.

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
        known.update({id(tensor): (tensor, engine.make(tensor)) for tensor in tensors if tensor.is_contiguous()})

    def value(tensor: torch.Tensor) -> Value:
        found = known.get(id(tensor))
        return engine.make(tensor) if found is None else found[1]

    def buffer(i: int) -> torch.Tensor:
        if i not in own:
            own[i] = torch.zeros(kinds[i].shape, dtype=getattr(torch, kinds[i].dtype))
        return own[i]

    def into(given: Sequence[torch.Tensor], targets: Sequence[torch.Tensor | None]) -> Sequence[torch.Tensor]:
        # held until it is done: a value that shares memory may not hold it
        held = [given[i].contiguous() for i in core.inputs]
        wanted = (targets[i] for i in first)
        results = [buffer(i) if target is None else target for i, target in enumerate(wanted)]
        engine.infer([value(tensor) for tensor in held], [value(result) for result in results])
        places = {"input": given, "core": results, "constant": constants}
        return [places[kind][i] for kind, i in core.sources]

    return Loaded(lambda *given: tuple(into(given, nowhere)), engine.threads, into=into, prepare=prepare)
