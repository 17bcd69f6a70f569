"""The back end of a plan: another one for it, its stages compiled, and how far outputs may be from eager's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch

from mapper.backends.artefacts import Artefacts
from mapper.backends.compile import Team, artefacts
from mapper.backends.registry import BACKENDS, EAGER, FLOAT32, backend_called
from mapper.errors import BadInput
from mapper.plans.model import Plan
from mapper.program.model import Program

Say = Callable[[str], None]


def with_backend(plan: Plan, name: str | None) -> Plan:
    """`plan`, to be computed by the back end called `name` (None: by the one that it names).

    Raises: UsageError when no back end is called so, BadInput when the plan's own is none.
    """
    if name is None and plan.request.backend not in BACKENDS:
        raise BadInput("plan", f"no back end is called {plan.request.backend!r}", place="/request/backend",
                       advice=f"--backend takes another: {', '.join(BACKENDS)}.")  # fmt: skip
    backend = backend_called(plan.request.backend if name is None else name)
    if backend.name == plan.request.backend:
        return plan
    return plan.model_copy(update={"request": plan.request.model_copy(update={"backend": backend.name})})


def compiled(
    plan: Plan, programs: Sequence[Program], weights: Mapping[str, torch.Tensor], weights_fd: int, say: Say, note: Say
) -> Artefacts:
    """What the back end of `plan` needs beside the stages' `programs`: compiled stages, one for all replicas with as
    many threads. Nothing for eager. Raises: what `artefacts` raises."""
    teams = {
        (stage.id, replica.configuration.threads): Team(stage.id, replica.configuration.threads, programs[stage.id])
        for stage in plan.stages
        for replica in stage.replicas
    }
    return artefacts(backend_called(plan.request.backend), list(teams.values()), weights, weights_fd, say, note)


def bits_equal(plan: Plan) -> bool:
    """Whether outputs must be those of the unsplit model bit by bit."""
    return plan.request.backend == EAGER


def allowed(plan: Plan, expected: torch.Tensor, asked: float | None, noise: float = 0.0) -> float:
    """How far an output may be from `expected`, relative to the largest magnitude of that: what was `asked`, else what
    the back end of `plan` states for its dtype, and for a model with so much `noise` (`Backend.allowed`)."""
    if asked is not None:
        return asked
    return backend_called(plan.request.backend).allowed(str(expected.dtype).removeprefix("torch."), noise)


def rounding(plan: Plan) -> bool:
    """Whether the back end of `plan` computes with fewer bits than the program says."""
    return backend_called(plan.request.backend).precision != FLOAT32
